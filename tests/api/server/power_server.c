/* The real server (its main.c is linked unchanged) over the disk of tests/power/power_vfs.h, whose control block is the file
 * that LK_POWER names. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "power/power_vfs.h"

__attribute__((constructor)) static void install(void) {
    const char *path = getenv("LK_POWER");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *control = fd >= 0 ? mmap(NULL, sizeof(struct power_control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                            : MAP_FAILED;
    if (control == MAP_FAILED) {
        fprintf(stderr, "power_server: LK_POWER has to name the control file\n");
        exit(2);
    }
    power_vfs_install(control);
}
