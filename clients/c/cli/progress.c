#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TERMINAL_EVERY 0.1
#define PLAIN_EVERY 10.0

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void progress_begin(struct progress *p, size_t total) {
    memset(p, 0, sizeof *p);
    p->total = total;
    p->began = p->shown = now();
    p->is_terminal = isatty(STDERR_FILENO);
}

double progress_seconds(const struct progress *p) { return now() - p->began; }

void progress_step(struct progress *p, size_t n) {
    p->done += n;
    const double t = now(), seconds = t - p->began;
    if (t - p->shown < (p->is_terminal ? TERMINAL_EVERY : PLAIN_EVERY)) {
        return;
    }
    p->shown = t;
    const double rate = (double)p->done / (seconds > 0 ? seconds : 1e-9);
    const double left = rate > 0 ? (double)(p->total - p->done) / rate : 0;
    const long whole = (long)(left + 0.5);
    char hours[24] = "";
    if (whole >= 3600) {
        snprintf(hours, sizeof hours, "%ld:", whole / 3600);
    }
    fprintf(stderr, "%s%zu of %zu (%zu %%), %.1f pictures/s, ETA %s%02ld:%02ld%s", p->is_terminal ? "\r\033[K" : "",
            p->done, p->total, p->total ? 100 * p->done / p->total : 100, rate, hours, whole / 60 % 60, whole % 60,
            p->is_terminal ? "" : "\n");
    p->is_drawn = p->is_terminal;
    fflush(stderr);
}

void progress_clear(struct progress *p) {
    if (p->is_drawn) {
        fputs("\r\033[K", stderr);
        p->is_drawn = 0;
    }
}
