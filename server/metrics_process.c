/* The process's own numbers, from /proc (proc(5)). */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/fs.h"
#include "metrics.h"

/* A file of /proc as a string; NULL when it cannot be read. */
static const char *read_text(struct lk_buf *text, const char *path) {
    return lk_fs_read(text, path, 0) == 0 && lk_buf_append(text, "", 1) == 0 ? (const char *)text->data : NULL;
}

static double resident_bytes(void) {
    struct lk_buf buffer = {0};
    const char *text = read_text(&buffer, "/proc/self/statm"), *second = text ? strchr(text, ' ') : NULL;
    double pages = second ? (double)strtoull(second, NULL, 10) : 0;
    lk_buf_free(&buffer);
    return pages * (double)sysconf(_SC_PAGESIZE);
}

static double open_descriptors(void) {
    DIR *folder = opendir("/proc/self/fd");
    double n = 0;
    if (!folder)
        return 0;
    for (const struct dirent *entry; (entry = readdir(folder));)
        n += entry->d_name[0] != '.';
    closedir(folder);
    return n - 1; /* the folder's own */
}

/* Field 22 of /proc/self/stat, in ticks since the machine's start; fields are counted behind the program's name. */
static double start_seconds(void) {
    static const char boot[] = "\nbtime ";
    struct lk_buf buffers[2] = {{0}, {0}};
    const char *stat = read_text(&buffers[0], "/proc/self/stat"), *machine = read_text(&buffers[1], "/proc/stat");
    const char *field = stat ? strrchr(stat, ')') : NULL, *booted = machine ? strstr(machine, boot) : NULL;
    double seconds = 0;
    for (int i = 2; field && i < 22; i++)
        field = strchr(field + 1, ' ');
    if (field && booted)
        seconds = (double)strtoull(booted + strlen(boot), NULL, 10) +
                  (double)strtoull(field, NULL, 10) / (double)sysconf(_SC_CLK_TCK);
    lk_buf_free(&buffers[0]);
    lk_buf_free(&buffers[1]);
    return seconds;
}

int lk_metrics_write_process(struct lk_buf *out) {
    struct rusage usage = {0};
    struct rlimit limit = {0};
    getrusage(RUSAGE_SELF, &usage);
    getrlimit(RLIMIT_NOFILE, &limit);
    double processor = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
    int rc;
    if ((rc = lk_metrics_write_one(out, "process_resident_memory_bytes", "gauge", "Resident memory", NULL,
                                   resident_bytes())) ||
        (rc = lk_metrics_write_one(out, "process_cpu_seconds_total", "counter", "Processor time used", NULL,
                                   processor)) ||
        (rc = lk_metrics_write_one(out, "process_open_fds", "gauge", "Open descriptors", NULL, open_descriptors())) ||
        (rc = lk_metrics_write_one(out, "process_max_fds", "gauge", "Descriptors that the system allows", NULL,
                                   (double)limit.rlim_cur)) ||
        (rc = lk_metrics_write_one(out, "process_start_time_seconds", "gauge", "When it was started, in Unix time",
                                   NULL, start_seconds())))
        return rc;
    return 0;
}
