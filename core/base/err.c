/* The thread's error text. It is the only state of this file, and no two threads share it. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { TEXT_SIZE = 1024 };

static _Thread_local char error_text[TEXT_SIZE];

/* A sentence is one line: it goes into logs and JSON. */
static void end_line(char *text) {
    size_t n = strlen(text);
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
        text[--n] = '\0';
}

int lk_err(int code, const char *format, ...) {
    char text[TEXT_SIZE]; /* apart from error_text, which may be among the arguments */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    end_line(text);
    memcpy(error_text, text, strlen(text) + 1);
    return code;
}

int lk_err_prefix(int code, const char *format, ...) {
    char text[TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    size_t used = strlen(text);
    const char *rest[] = {": ", error_text};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) {
        size_t n = strlen(rest[i]), room = sizeof text - 1 - used;
        if (n > room)
            n = room;
        memcpy(text + used, rest[i], n);
        used += n;
    }
    text[used] = '\0';
    memcpy(error_text, text, used + 1);
    return code;
}

const char *lk_error(void) { return error_text; }

const char *lk_status_name(int code) {
    switch (code) {
    case LK_OK: return "ok";
    case LK_EFAIL: return "failure";
    case LK_ENOMEM: return "out of memory";
    case LK_EINVAL: return "invalid argument";
    case LK_ENOTFOUND: return "not found";
    case LK_EEXISTS: return "exists already";
    case LK_ELIMIT: return "limit exceeded";
    case LK_EFORMAT: return "malformed data";
    case LK_EUNSUPPORTED: return "unsupported";
    case LK_EIO: return "input/output error";
    case LK_ENOSPACE: return "disk full";
    case LK_EBUSY: return "busy";
    case LK_ECANCELLED: return "cancelled";
    case LK_ECONFLICT: return "conflict";
    default: return "unknown status";
    }
}
