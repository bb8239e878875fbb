# The language, warnings and sanitizers of our own code: one interface target that every room, program and test links
# privately. Nothing here reaches a third-party header as a warning, because those are system includes.

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release, RelWithDebInfo or MinSizeRel" FORCE)
endif()

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON)

find_program(LK_CCACHE ccache DOC "Compiler cache, used when found")
mark_as_advanced(LK_CCACHE)
if(LK_CCACHE AND NOT CMAKE_C_COMPILER_LAUNCHER)
    set(CMAKE_C_COMPILER_LAUNCHER "${LK_CCACHE}")
    set(CMAKE_CXX_COMPILER_LAUNCHER "${LK_CCACHE}")
    set(CMAKE_CUDA_COMPILER_LAUNCHER "${LK_CCACHE}")
endif()

add_library(lk_flags INTERFACE)
target_compile_definitions(lk_flags INTERFACE _POSIX_C_SOURCE=200809L _GNU_SOURCE)

# A fused multiply-add gives other bits than the two operations it replaces. Host and device share bodies whose results
# are compared for equality, so contraction is off everywhere and a kernel that wants an fma says so.
set(contract -ffp-contract=off)
set(common -Wall -Wextra)
set(c_only -Wpedantic -Wshadow -Wconversion -Wvla -Wmissing-prototypes -Wstrict-prototypes)
if(LK_WERROR)
    list(APPEND common -Werror)
endif()
target_compile_options(lk_flags INTERFACE
    $<$<COMPILE_LANGUAGE:C>:${contract};${common};${c_only}>
    $<$<COMPILE_LANGUAGE:CXX>:${contract};${common}>
    "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Xcompiler=-ffp-contract=off,-Wall,-Wextra>"
    $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${LK_WERROR}>>:-Werror=all-warnings>)

if(LK_FUZZ)
    if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
        message(FATAL_ERROR "LK_FUZZ needs clang: scripts/fuzz, or cmake --preset fuzz")
    endif()
    set(LK_SANITIZE "address,undefined")
    target_compile_options(lk_flags INTERFACE $<$<COMPILE_LANGUAGE:C>:-fsanitize=fuzzer-no-link>)
endif()
if(LK_SANITIZE)
    set(sanitize -fsanitize=${LK_SANITIZE} -fno-omit-frame-pointer -g)
    if(LK_SANITIZE MATCHES "undefined")
        list(APPEND sanitize -fno-sanitize-recover=undefined)
    endif()
    target_compile_options(lk_flags INTERFACE
        $<$<COMPILE_LANGUAGE:C>:${sanitize}> $<$<COMPILE_LANGUAGE:CXX>:${sanitize}>)
    target_link_options(lk_flags INTERFACE -fsanitize=${LK_SANITIZE})
endif()
