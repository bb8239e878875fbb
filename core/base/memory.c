/* The machine's memory, then the limits of the control groups, version 2 or 1. */
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A group's own file; `most` when there is none or it says "max". */
static uint64_t limit_of(const char *file, uint64_t most) {
    char line[64];
    FILE *f = fopen(file, "re");
    if (f == NULL)
        return most;
    unsigned long long bytes = fgets(line, sizeof line, f) != NULL ? strtoull(line, NULL, 10) : 0;
    fclose(f);
    return bytes > 0 && bytes < most ? bytes : most;
}

/* A limit may stand in the group itself or in any group above it: `path` is shortened part by part. */
static uint64_t limit_by_groups(uint64_t bytes, char *path, const char *root, const char *name) {
    for (;;) {
        char file[1200];
        snprintf(file, sizeof file, "%s%.1000s/%s", root, path, name);
        bytes = limit_of(file, bytes);
        char *slash = strrchr(path, '/');
        if (slash == NULL)
            return bytes;
        *slash = '\0';
    }
}

uint64_t lk_memory_total(void) {
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t bytes = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : UINT64_C(1) << 30;
    FILE *f = fopen("/proc/self/cgroup", "re"); /* lines "0::/path" and "9:memory:/path" */
    if (f == NULL)
        return bytes;
    char line[1100];
    while (fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':'), *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (path == NULL)
            continue;
        *path++ = '\0';
        controllers++;
        if (controllers[0] == '\0')
            bytes = limit_by_groups(bytes, path, "/sys/fs/cgroup", "memory.max");
        else if (strcmp(controllers, "memory") == 0)
            bytes = limit_by_groups(bytes, path, "/sys/fs/cgroup/memory", "memory.limit_in_bytes");
    }
    fclose(f);
    return bytes;
}
