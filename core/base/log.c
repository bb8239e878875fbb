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

static atomic_int log_level = LK_LOG_INFO, log_json;

static const char *const level_names[] = {"error", "warn", "info", "debug"};

void lk_log_set_level(enum lk_log_level level) { atomic_store_explicit(&log_level, (int)level, memory_order_relaxed); }

void lk_log_set_json(int on) { atomic_store_explicit(&log_json, on, memory_order_relaxed); }

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

/* As copy_clean, for the inside of a JSON string (RFC 8259, section 7); what is no UTF-8 becomes '?'. */
static size_t copy_json(char *out, size_t size, const char *text) {
    size_t n = 0;
    while (*text != '\0' && n + 7 <= size) {
        unsigned char c = (unsigned char)*text;
        size_t length = c < 0x80                ? 1
                        : c >= 0xC2 && c < 0xE0 ? 2
                        : c >= 0xE0 && c < 0xF0 ? 3
                        : c >= 0xF0 && c < 0xF5 ? 4
                                                : 0;
        for (size_t i = 1; i < length; i++)
            if (((unsigned char)text[i] & 0xC0) != 0x80)
                length = 0;
        if (c == '"' || c == '\\') {
            out[n++] = '\\';
            out[n++] = (char)c;
        } else if (c < 0x20 || c == 0x7F) {
            n += (size_t)snprintf(out + n, size - n, "\\u%04x", (unsigned)c);
        } else if (length == 0) {
            out[n++] = '?';
        } else {
            memcpy(out + n, text, length);
            n += length;
        }
        text += length ? length : 1;
    }
    return n;
}

/* A line that is being made; there is always room for its end. */
struct line {
    char text[LINE_SIZE];
    size_t n;
    int json;
};

enum { LINE_END = 8 };

static size_t room(const struct line *l) { return sizeof l->text - LINE_END - l->n; }

static void put(struct line *l, const char *text) {
    size_t n = strlen(text);
    if (n <= room(l)) {
        memcpy(l->text + l->n, text, n);
        l->n += n;
    }
}

static void put_clean(struct line *l, const char *text) {
    l->n += (l->json ? copy_json : copy_clean)(l->text + l->n, room(l), text);
}

static int is_shown(enum lk_log_level level) {
    return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed) && level <= LK_LOG_DEBUG;
}

static void begin(struct line *l, enum lk_log_level level) {
    char when[64], head[128];
    write_time(when, sizeof when);
    l->n = 0;
    l->json = atomic_load_explicit(&log_json, memory_order_relaxed);
    snprintf(head, sizeof head, l->json ? "{\"time\":\"%s\",\"level\":\"%s\",\"message\":\"" : "%s %-5s ", when,
             level_names[level]);
    put(l, head);
}

static void end(struct line *l, const char *last) {
    size_t n = l->n + strlen(last);
    memcpy(l->text + l->n, last, n - l->n);
    l->text[n++] = '\n';
    for (size_t done = 0; done < n;) {
        ssize_t got = write(STDERR_FILENO, l->text + done, n - done);
        if (got < 0 && errno != EINTR)
            return; /* nowhere to complain */
        done += got > 0 ? (size_t)got : 0;
    }
}

void lk_log(enum lk_log_level level, const char *format, ...) {
    if (!is_shown(level))
        return;
    char message[LINE_SIZE / 2];
    struct line line;
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    size_t start = 0, length = strlen(message);
    while (message[start] == '\n')
        start++; /* a leading newline is dropped, a trailing one below */
    while (length > start && message[length - 1] == '\n')
        message[--length] = '\0';
    begin(&line, level);
    put_clean(&line, message + start);
    int cut = wanted >= (int)sizeof message;
    end(&line, line.json ? (cut ? "...\"}" : "\"}") : cut ? "..." : "");
}

static void put_field(struct line *l, const struct lk_log_field *f) {
    static const char bare[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    char number[64];
    put(l, l->json ? ",\"" : " ");
    put(l, f->name);
    put(l, l->json ? "\":" : "=");
    if (!f->text) {
        snprintf(number, sizeof number, "%.*f", f->decimals, f->number);
        put(l, number);
        return;
    }
    int quoted = l->json || !f->text[0] || f->text[strspn(f->text, bare)];
    put(l, quoted ? "\"" : "");
    put_clean(l, f->text);
    put(l, quoted ? "\"" : "");
}

void lk_log_fields(enum lk_log_level level, const char *message, const struct lk_log_field *fields, size_t n) {
    if (!is_shown(level))
        return;
    struct line line;
    begin(&line, level);
    put_clean(&line, message);
    put(&line, line.json ? "\"" : "");
    for (size_t i = 0; i < n; i++)
        put_field(&line, &fields[i]);
    end(&line, line.json ? "}" : "");
}
