#include "console.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

double lk_console_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void lk_console_init(struct lk_console *c) {
    c->terminal = isatty(STDERR_FILENO);
    c->drawn = 0;
    c->every = c->terminal ? .2 : 60;
    c->last = c->terminal ? 0 : lk_console_now(); /* the first plain line after a minute: short runs stay quiet */
}

void lk_console_clear(struct lk_console *c) {
    if (c->drawn)
        fputs("\r\033[K", stderr);
    c->drawn = 0;
}

void lk_console_line(struct lk_console *c, const char *format, ...) {
    lk_console_clear(c);
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

int lk_console_due(const struct lk_console *c) { return lk_console_now() - c->last >= c->every; }

void lk_console_progress(struct lk_console *c, const char *format, ...) {
    va_list args;
    va_start(args, format);
    c->last = lk_console_now();
    if (c->terminal) {
        fputs("\r\033[K", stderr);
        vfprintf(stderr, format, args);
        fflush(stderr);
        c->drawn = 1;
    } else {
        vprintf(format, args);
        putchar('\n');
        fflush(stdout);
    }
    va_end(args);
}

void lk_console_bytes(void *console, uint64_t bytes) {
    if (bytes > 0 && lk_console_due(console))
        lk_console_progress(console, "transferred %.1f MB", (double)bytes / 1e6);
}

void lk_console_duration(char text[32], double seconds) {
    long long s = seconds > 0 && seconds < 1e12 ? (long long)(seconds + .5) : 0;
    if (s < 60)
        snprintf(text, 32, "%lld s", s);
    else if (s < 3600)
        snprintf(text, 32, "%lld min", (s + 30) / 60);
    else if (s < 86400)
        snprintf(text, 32, "%lld h %02lld min", s / 3600, s % 3600 / 60);
    else
        snprintf(text, 32, "%lld d %lld h", s / 86400, s % 86400 / 3600);
}

int lk_wrong_usage(const char *command) {
    fprintf(stderr, "likeness-trainer %s: %s\n", command, lk_error());
    return 2;
}
