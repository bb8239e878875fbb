/* The log. A message comes from anywhere, clients included, so control characters are escaped: one line stays one. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

enum { LINE_SIZE = 4096 };

static atomic_int log_level = LK_LOG_INFO;

static const char *const level_names[] = {"error", "warn", "info", "debug"};

void lk_log_set_level(enum lk_log_level level) { atomic_store_explicit(&log_level, (int)level, memory_order_relaxed); }

int lk_log_level_from_name(const char *name) {
    for (int i = 0; i < (int)(sizeof level_names / sizeof *level_names); i++)
        if (name != NULL && strcmp(name, level_names[i]) == 0)
            return i;
    return lk_err(LK_EINVAL, "log level is one of error, warn, info, debug, not \"%s\"", name ? name : "");
}

static size_t write_time(char *out, size_t size) {
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    size_t n = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &parts);
    return n + (size_t)snprintf(out + n, size - n, ".%03dZ", (int)(now.tv_nsec / 1000000));
}

/* Copies text with control characters escaped; returns the bytes written, at most size. */
static size_t copy_clean(char *out, size_t size, const char *text) {
    size_t n = 0;
    for (; *text != '\0' && n + 4 <= size; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '\n' || c == '\r' || c == '\t') {
            out[n++] = '\\';
            out[n++] = c == '\n' ? 'n' : c == '\r' ? 'r' : 't';
        } else if (c < 0x20 || c == 0x7F) {
            n += (size_t)snprintf(out + n, size - n, "\\%02x", (unsigned)c); /* three bytes and the NUL: they fit */
        } else {
            out[n++] = (char)c;
        }
    }
    return n;
}

void lk_log(enum lk_log_level level, const char *format, ...) {
    if ((int)level > atomic_load_explicit(&log_level, memory_order_relaxed) || level > LK_LOG_DEBUG)
        return;
    char message[LINE_SIZE / 2], line[LINE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    size_t n = write_time(line, 64);
    n += (size_t)snprintf(line + n, sizeof line - n, " %-5s ", level_names[level]);
    size_t end = 0;
    while (message[end] == '\n')
        end++; /* a leading newline is dropped, a trailing one below */
    size_t length = strlen(message);
    while (length > end && message[length - 1] == '\n')
        message[--length] = '\0';
    n += copy_clean(line + n, sizeof line - n - 5, message + end);
    if (wanted >= (int)sizeof message) {
        for (int i = 0; i < 3; i++)
            line[n++] = '.';
    }
    line[n++] = '\n';
    for (size_t done = 0; done < n;) {
        ssize_t got = write(STDERR_FILENO, line + done, n - done);
        if (got < 0 && errno != EINTR)
            return; /* nowhere to complain */
        done += got > 0 ? (size_t)got : 0;
    }
}
