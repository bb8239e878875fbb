# FAISS's C API: a system libfaiss_c when there is one, else the build that scripts/install-deps keeps in LK_DEPS_CACHE
# (faiss-<version>-<distribution><release>[-avx2]; the AVX2 build is taken only where the processor has AVX2).
# Defines FaissC::faiss_c (headers by bare name: #include <Index_c.h>) and FaissC_VERSION when it is known.
cmake_host_system_information(RESULT distro QUERY DISTRIB_ID)
cmake_host_system_information(RESULT release QUERY DISTRIB_VERSION_ID)
file(GLOB plain "${LK_DEPS_CACHE}/faiss-*-${distro}${release}")
file(GLOB avx2 "${LK_DEPS_CACHE}/faiss-*-${distro}${release}-avx2")
file(STRINGS /proc/cpuinfo flags REGEX "^flags.* avx2 " LIMIT_COUNT 1)
if(flags)
    set(cached ${avx2} ${plain})
else()
    set(cached ${plain})
endif()

find_library(FaissC_LIBRARY faiss_c PATHS ${cached} PATH_SUFFIXES lib)      # PATHS: after the system's folders
# The headers beside that library first: Debian's libfaiss-dev has headers without a library.
get_filename_component(beside "${FaissC_LIBRARY}" DIRECTORY)
find_path(FaissC_INCLUDE_DIR Index_c.h HINTS "${beside}/.." PATH_SUFFIXES include/faiss/c_api faiss/c_api)
mark_as_advanced(FaissC_INCLUDE_DIR FaissC_LIBRARY)
if(FaissC_LIBRARY MATCHES "/faiss-([0-9.]+)-")
    set(FaissC_VERSION "${CMAKE_MATCH_1}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(FaissC REQUIRED_VARS FaissC_LIBRARY FaissC_INCLUDE_DIR
    VERSION_VAR FaissC_VERSION)

if(FaissC_FOUND AND NOT TARGET FaissC::faiss_c)
    add_library(FaissC::faiss_c UNKNOWN IMPORTED)
    set_target_properties(FaissC::faiss_c PROPERTIES
        IMPORTED_LOCATION "${FaissC_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${FaissC_INCLUDE_DIR}")
endif()
