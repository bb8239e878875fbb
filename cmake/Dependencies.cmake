# Every third-party library, looked up only when an enabled room needs it. Sets LK_HAVE_STORE, LK_HAVE_CPU, LK_HAVE_CUDA
# and LK_HAVE_CODECS for the rooms. scripts/install-deps installs all of it.

macro(lk_append_if list condition)
    if(${condition})
        list(APPEND ${list} ${ARGN})
    endif()
endmacro()

# Where scripts/install-deps keeps what a distribution does not package: see there.
if(DEFINED ENV{LIKENESS_CACHE})
    set(default_cache "$ENV{LIKENESS_CACHE}")
else()
    set(default_cache "$ENV{HOME}/.cache/likeness")
endif()
set(LK_DEPS_CACHE "${default_cache}" CACHE PATH "Folder where scripts/install-deps puts FAISS and oneDNN")

macro(lk_require package option)
    find_package(${package} ${ARGN})
    if(NOT ${package}_FOUND)
        message(FATAL_ERROR "${package} was not found and ${option} needs it: run scripts/install-deps, "
            "or configure with -D${option}=OFF")
    endif()
endmacro()

if(LK_STATIC)   # CUDA and cuDNN, at the end, are found as they are; a static BLAS would bring a Fortran runtime
    set(shared_suffixes ${CMAKE_FIND_LIBRARY_SUFFIXES})
    set(CMAKE_FIND_LIBRARY_SUFFIXES .a)
    set(LK_CBLAS_LIBRARY "" CACHE FILEPATH "")
    add_link_options(-static-libgcc $<$<LINK_LANGUAGE:CXX,CUDA>:-static-libstdc++>)
endif()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(PkgConfig QUIET)

set(LK_HAVE_CODECS ${LK_CODECS})
if(LK_CODECS)
    lk_require(PNG LK_CODECS)
    lk_require(JPEG LK_CODECS)
endif()

if(LK_SERVER)
    lk_require(SQLite3 LK_SERVER)
    lk_require(FaissC LK_SERVER)
    find_package(OpenMP REQUIRED COMPONENTS C)      # to tell FAISS how many threads a search may take
    lk_require(PkgConfig LK_SERVER)
    pkg_check_modules(MHD REQUIRED IMPORTED_TARGET libmicrohttpd>=0.9.75)
elseif(NOT LK_STATIC)
    find_package(SQLite3 QUIET)     # the trainer reads a catalogue where it can
endif()
if(LK_TRAINER AND NOT LK_STATIC AND PkgConfig_FOUND)    # and a server's export, from a file or from the server itself
    pkg_check_modules(ARCHIVE QUIET IMPORTED_TARGET libarchive>=3.4)
    pkg_check_modules(JANSSON QUIET IMPORTED_TARGET jansson>=2.13)
    find_package(CURL QUIET)
endif()
set(LK_HAVE_STORE ${SQLite3_FOUND})

if(LK_SERVER OR LK_CLIENTS)
    lk_require(PkgConfig LK_CLIENTS)
    pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson>=2.13)
endif()
if(LK_CLIENTS)
    lk_require(CURL LK_CLIENTS)
endif()

set(LK_HAVE_CPU ${LK_CPU})
if(LK_CPU)
    find_package(OpenMP COMPONENTS C)
    find_package(dnnl 3.2 CONFIG HINTS "${LK_DEPS_CACHE}/onednn-2023.2.0")
    if(NOT dnnl_FOUND)
        message(FATAL_ERROR "oneDNN 3.2 or later was not found and LK_CPU needs it: run scripts/install-deps, "
            "or configure with -DLK_CPU=OFF")
    endif()
endif()

if(LK_STATIC)
    set(CMAKE_FIND_LIBRARY_SUFFIXES ${shared_suffixes})
endif()
include(Cuda)
