/* How many cores this process may use: the affinity mask, then the CPU quota of its control groups, version 2 or 1. */
#include "base/pool.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int count_affinity(void) {
    for (int size = 1024; size <= 1 << 16; size *= 2) { /* the kernel refuses a mask smaller than its own */
        cpu_set_t *set = CPU_ALLOC((size_t)size);
        if (set == NULL)
            return 1;
        size_t bytes = CPU_ALLOC_SIZE((size_t)size);
        int n = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
        CPU_FREE(set);
        if (n > 0)
            return n;
    }
    return 1;
}

/* The first line of a small file of the kernel's; 0 when there is none. */
static int read_line(char *line, int size, const char *path) {
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return 0;
    int ok = fgets(line, size, f) != NULL;
    fclose(f);
    return ok;
}

/* Cores for a quota of microseconds a period, rounded up; `most` when there is no quota. */
static int cores(double quota, double period, int most) {
    if (quota <= 0 || period <= 0 || quota / period >= most)
        return most;
    int n = (int)(quota / period);
    return n < quota / period ? n + 1 : n;
}

/* The number in a group's file; 0 when there is no file or no number ("max"). *next: what follows in `line`. */
static double read_number(char *line, int size, const char *path, char **next) {
    *next = line;
    return read_line(line, size, path) ? strtod(line, next) : 0;
}

/* A quota may stand in the group itself or in any group above it: `path` is shortened part by part. */
static int limit_by_groups(int n, char *path, int version2) {
    for (;;) {
        char file[1200], line[128], *next;
        double quota, period;
        if (version2) { /* one file holds both */
            snprintf(file, sizeof file, "/sys/fs/cgroup%.1000s/cpu.max", path);
            quota = read_number(line, sizeof line, file, &next);
            period = quota > 0 ? strtod(next, NULL) : 0;
        } else {
            snprintf(file, sizeof file, "/sys/fs/cgroup/cpu%.1000s/cpu.cfs_quota_us", path);
            quota = read_number(line, sizeof line, file, &next); /* -1: none */
            snprintf(file, sizeof file, "/sys/fs/cgroup/cpu%.1000s/cpu.cfs_period_us", path);
            period = quota > 0 ? read_number(line, sizeof line, file, &next) : 0;
        }
        n = cores(quota, period, n);
        char *slash = strrchr(path, '/');
        if (slash == NULL)
            return n;
        *slash = '\0';
    }
}

int lk_cpu_count(void) {
    int n = count_affinity();
    FILE *f = fopen("/proc/self/cgroup", "re"); /* lines "0::/path" and "4:cpu,cpuacct:/path" */
    if (f == NULL)
        return n;
    char line[1100];
    while (fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (path == NULL)
            continue;
        *path++ = '\0';
        controllers++;
        if (controllers[0] == '\0')
            n = limit_by_groups(n, path, 1);
        else if (strcmp(controllers, "cpu") == 0 || strncmp(controllers, "cpu,", 4) == 0 ||
                 strstr(controllers, ",cpu") != NULL)
            n = limit_by_groups(n, path, 0);
    }
    fclose(f);
    return n > 0 ? n : 1;
}
