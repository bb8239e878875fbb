# cuDNN, from the CUDA folder, the system, or PyPI's nvidia-cudnn-cu13 / -cu12 wheel, which holds headers and only
# versioned libraries (libcudnn.so.9). Hint with cuDNN_ROOT. Defines cuDNN::cudnn and cuDNN_VERSION.
set(wheel_hints "")
foreach(prefix IN ITEMS "$ENV{VIRTUAL_ENV}" "${LK_DEPS_CACHE}/cudnn" /usr/local /usr)
    if(prefix)
        file(GLOB found "${prefix}/lib/python3*/site-packages/nvidia/cudnn"
            "${prefix}/lib/python3*/dist-packages/nvidia/cudnn")
        list(APPEND wheel_hints ${found})
    endif()
endforeach()

find_path(cuDNN_INCLUDE_DIR cudnn_version.h
    HINTS ${CUDAToolkit_INCLUDE_DIRS} ${CUDAToolkit_LIBRARY_ROOT} ${wheel_hints} PATH_SUFFIXES include)
# The library beside those headers first, so that two installations are not mixed.
get_filename_component(beside "${cuDNN_INCLUDE_DIR}" DIRECTORY)
find_library(cuDNN_LIBRARY NAMES cudnn libcudnn.so.9 NAMES_PER_DIR
    HINTS "${beside}" PATH_SUFFIXES lib lib64 NO_DEFAULT_PATH)
find_library(cuDNN_LIBRARY NAMES cudnn libcudnn.so.9 NAMES_PER_DIR
    HINTS ${CUDAToolkit_LIBRARY_DIR} ${CUDAToolkit_LIBRARY_ROOT} ${wheel_hints} PATH_SUFFIXES lib lib64)
mark_as_advanced(cuDNN_INCLUDE_DIR cuDNN_LIBRARY)

if(cuDNN_INCLUDE_DIR)
    file(STRINGS "${cuDNN_INCLUDE_DIR}/cudnn_version.h" lines REGEX "#define CUDNN_(MAJOR|MINOR|PATCHLEVEL) ")
    string(REGEX REPLACE "[^0-9;]" "" numbers "${lines}")
    list(JOIN numbers "." cuDNN_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(cuDNN REQUIRED_VARS cuDNN_LIBRARY cuDNN_INCLUDE_DIR VERSION_VAR cuDNN_VERSION)

if(cuDNN_FOUND AND NOT TARGET cuDNN::cudnn)
    add_library(cuDNN::cudnn UNKNOWN IMPORTED)
    set_target_properties(cuDNN::cudnn PROPERTIES
        IMPORTED_LOCATION "${cuDNN_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${cuDNN_INCLUDE_DIR}")
endif()
