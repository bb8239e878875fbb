# lk_devices: the one file that names the backends. It is an object library, so whoever links it gets its object whole,
# and lk_model may use the list without a cycle between libraries: binaries link it directly, rooms never do.
if(EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/core/model/backend_list.c" AND TARGET lk_model)
    add_library(lk_devices OBJECT core/model/backend_list.c)
    target_link_libraries(lk_devices PUBLIC lk_model PRIVATE lk_flags)
    foreach(backend cpu cuda)
        if(TARGET lk_${backend})
            string(TOUPPER ${backend} upper)
            target_compile_definitions(lk_devices PRIVATE LK_HAVE_${upper}=1)
            target_link_libraries(lk_devices PRIVATE lk_${backend})
        endif()
    endforeach()
endif()
