# How a room, a program and a test are declared. Each room's CMakeLists.txt is a few lines of these.
#
# A room is one static library with one include folder that holds that room alone, so a target sees exactly the rooms
# that it links, and a wrong include fails to compile:
#
#   # core/image/CMakeLists.txt
#   lk_room(lk_image
#       SOURCES      decode.c resize.c              # headers need not be listed
#       PUBLIC_DEPS  lk_base                        # rooms that our headers include
#       PRIVATE_DEPS PNG::PNG JPEG::JPEG)           # what only our sources use
#
# Whoever links lk_image writes  #include "image/decode.h"  (the room's folder name, or NAME when that is given, then the
# file). So do core's own sources; those of cpu, cuda, trainer and server name their own headers plainly: "engine.h".
#
#   # server/CMakeLists.txt: a room, and a program over it
#   lk_room(lk_server SOURCES engine.c ... PUBLIC_DEPS lk_model lk_store PRIVATE_DEPS PkgConfig::MHD FaissC::faiss_c)
#   lk_program(likeness-server SOURCES main.c DEPS lk_server lk_devices)     # -> build/bin/likeness-server
#
#   # tests/unit/CMakeLists.txt
#   lk_test(test_philox SOURCES test_philox.c DEPS lk_base LABELS unit [ARGS --quick] [TIMEOUT 60] [ENV A=1 B=2])
#   lk_test(bench_engine SOURCES bench_engine.c DEPS lk_server lk_devices NO_RUN)    # built, not run by ctest
#   lk_script_test(api_items COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/items.sh LABELS api [ENV ...] [TIMEOUT 120] [SERIAL])
#
# A test passes with exit status 0 and is skipped with 77 (no GPU, no data). Tests run in the source folder of their
# CMakeLists.txt, get LK_SOURCE_DIR and LK_BIN_DIR in the environment, and are compiled with assert() on.
# SERIAL keeps other tests from running beside it (a benchmark, a load test); TIMEOUT is in seconds, 120 by default, and
# longer under sanitizers.
#
# lk_devices (cmake/Devices.cmake) is the list of backends. Programs and tests that open a device by name link it
# DIRECTLY; rooms never do.

function(lk_room target)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "NAME" "SOURCES;PUBLIC_DEPS;PRIVATE_DEPS")
    if(arg_UNPARSED_ARGUMENTS OR NOT arg_SOURCES)
        message(FATAL_ERROR "lk_room(${target}): needs SOURCES; does not know '${arg_UNPARSED_ARGUMENTS}'")
    endif()
    if(arg_NAME)
        set(room "${arg_NAME}")
    else()
        get_filename_component(room "${CMAKE_CURRENT_SOURCE_DIR}" NAME)
    endif()
    set(view "${CMAKE_BINARY_DIR}/include/${target}")
    file(MAKE_DIRECTORY "${view}")
    file(CREATE_LINK "${CMAKE_CURRENT_SOURCE_DIR}" "${view}/${room}" SYMBOLIC)
    add_library(${target} STATIC ${arg_SOURCES})
    target_include_directories(${target} PUBLIC "${view}")
    target_link_libraries(${target} PUBLIC ${arg_PUBLIC_DEPS} PRIVATE ${arg_PRIVATE_DEPS} lk_flags)
endfunction()

function(lk_program name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;DEPS")
    if(arg_UNPARSED_ARGUMENTS OR NOT arg_SOURCES)
        message(FATAL_ERROR "lk_program(${name}): needs SOURCES; does not know '${arg_UNPARSED_ARGUMENTS}'")
    endif()
    add_executable(${name} ${arg_SOURCES})
    target_link_libraries(${name} PRIVATE ${arg_DEPS} lk_flags)
    install(TARGETS ${name} RUNTIME)
endfunction()

# Everything that ctest must know about one test.
function(lk_test_properties name labels timeout env)
    if(NOT labels)
        message(FATAL_ERROR "${name}: a test needs LABELS (unit, parity, train, api, fuzz, headers, bench)")
    endif()
    if(NOT timeout)
        set(timeout 120)
    endif()
    # Tests share the cores: OpenMP's threads must not spin for a core that another test holds (base/spin.h).
    list(APPEND env "LK_SOURCE_DIR=${CMAKE_SOURCE_DIR}" "LK_BIN_DIR=${CMAKE_BINARY_DIR}/bin" GOMP_SPINCOUNT=1000)
    if(LK_SANITIZE MATCHES "thread")
        # gcc's OpenMP synchronises in ways that TSan cannot see: one thread there, and the rest of it suppressed.
        list(APPEND env OMP_NUM_THREADS=1
            "TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/tsan.supp:halt_on_error=1:second_deadlock_stack=1")
        math(EXPR timeout "${timeout} * 5")
    elseif(LK_SANITIZE)
        list(APPEND env "ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1" "UBSAN_OPTIONS=print_stacktrace=1"
            "LSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/lsan.supp:print_suppressions=0")
        math(EXPR timeout "${timeout} * 3")
    endif()
    set_tests_properties(${name} PROPERTIES LABELS "${labels}" TIMEOUT ${timeout} ENVIRONMENT "${env}"
        SKIP_RETURN_CODE 77)
endfunction()

function(lk_test name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "NO_RUN;SERIAL" "TIMEOUT" "SOURCES;DEPS;LABELS;ARGS;ENV")
    if(arg_UNPARSED_ARGUMENTS OR NOT arg_SOURCES)
        message(FATAL_ERROR "lk_test(${name}): needs SOURCES; does not know '${arg_UNPARSED_ARGUMENTS}'")
    endif()
    add_executable(${name} ${arg_SOURCES})
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
    target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:C,CXX>:-UNDEBUG>)
    target_include_directories(${name} PRIVATE "${CMAKE_SOURCE_DIR}/tests")     # "check.h"
    target_link_libraries(${name} PRIVATE ${arg_DEPS} lk_flags)
    if(NOT arg_NO_RUN)
        add_test(NAME ${name} COMMAND ${name} ${arg_ARGS} WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}")
        lk_test_properties(${name} "${arg_LABELS}" "${arg_TIMEOUT}" "${arg_ENV}")
        set_tests_properties(${name} PROPERTIES RUN_SERIAL ${arg_SERIAL})
    endif()
endfunction()

function(lk_script_test name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "SERIAL" "TIMEOUT" "COMMAND;LABELS;ENV")
    if(arg_UNPARSED_ARGUMENTS OR NOT arg_COMMAND)
        message(FATAL_ERROR "lk_script_test(${name}): needs COMMAND; does not know '${arg_UNPARSED_ARGUMENTS}'")
    endif()
    add_test(NAME ${name} COMMAND ${arg_COMMAND} WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}")
    lk_test_properties(${name} "${arg_LABELS}" "${arg_TIMEOUT}" "${arg_ENV}")
    set_tests_properties(${name} PROPERTIES RUN_SERIAL ${arg_SERIAL})
endfunction()
