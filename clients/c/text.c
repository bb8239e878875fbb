#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local struct likeness_error last_error;

const struct likeness_error *likeness_error(void) { return &last_error; }

static void set_error(int status, int http, const char *code, const char *format, va_list arguments) {
    last_error.status = status;
    last_error.http = http;
    snprintf(last_error.code, sizeof last_error.code, "%s", code);
    vsnprintf(last_error.message, sizeof last_error.message, format, arguments);
}

int likeness__fail(int status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    set_error(status, 0, "", format, arguments);
    va_end(arguments);
    return status;
}

int likeness__fail_http(int status, int http, const char *code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    set_error(status, http, code, format, arguments);
    va_end(arguments);
    return status;
}

int likeness__no_memory(void) { return likeness__fail(LIKENESS_ENOMEM, "memory ran out"); }

int likeness__buf_append(struct likeness__buf *b, const void *bytes, size_t n) {
    if (n >= SIZE_MAX / 2 - b->size) {
        return likeness__no_memory();
    }
    if (b->size + n + 1 > b->capacity) {
        size_t capacity = b->capacity ? b->capacity : 256;
        while (capacity < b->size + n + 1) {
            capacity *= 2;
        }
        char *data = realloc(b->data, capacity);
        if (!data) {
            return likeness__no_memory();
        }
        b->data = data;
        b->capacity = capacity;
    }
    if (n > 0) {
        memcpy(b->data + b->size, bytes, n);
    }
    b->size += n;
    b->data[b->size] = '\0';
    return 0;
}

int likeness__buf_puts(struct likeness__buf *b, const char *s) { return likeness__buf_append(b, s, strlen(s)); }

void likeness__buf_free(struct likeness__buf *b) {
    free(b->data);
    memset(b, 0, sizeof *b);
}

char *likeness__buf_take(struct likeness__buf *b) {
    char *data = b->data;
    memset(b, 0, sizeof *b);
    return data;
}

static int is_unreserved(unsigned char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_' || c == '~';
}

int likeness__buf_encode(struct likeness__buf *b, const char *s) {
    static const char hex[] = "0123456789ABCDEF";
    /* A path segment that is only dots means another path, encoded or not (RFC 3986, 5.2.4): nothing can be done about
     * it here, and libcurl is told not to squash them. */
    for (; *s; s++) {
        const unsigned char c = (unsigned char)*s;
        const char coded[3] = {'%', hex[c >> 4], hex[c & 15]};
        const int rc = is_unreserved(c) ? likeness__buf_append(b, s, 1) : likeness__buf_append(b, coded, 3);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

/* Length of the valid UTF-8 sequence at s (RFC 3629: shortest form, no surrogates, up to U+10FFFF), or 0. */
static size_t utf8_sequence(const unsigned char *s) {
    if (s[0] < 0x80) {
        return 1;
    }
    size_t n = 0;
    unsigned low = 0x80, high = 0xBF; /* bounds of the second byte */
    if (s[0] >= 0xC2 && s[0] <= 0xDF) {
        n = 2;
    } else if (s[0] >= 0xE0 && s[0] <= 0xEF) {
        n = 3;
        low = s[0] == 0xE0 ? 0xA0 : 0x80;
        high = s[0] == 0xED ? 0x9F : 0xBF;
    } else if (s[0] >= 0xF0 && s[0] <= 0xF4) {
        n = 4;
        low = s[0] == 0xF0 ? 0x90 : 0x80;
        high = s[0] == 0xF4 ? 0x8F : 0xBF;
    }
    if (n == 0 || s[1] < low || s[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return n;
}

int likeness__check_id(const char *s) {
    if (!s || !*s) {
        return likeness__fail(LIKENESS_EINVAL, "an id may not be empty");
    }
    const size_t size = strlen(s);
    if (size > 255) {
        return likeness__fail(LIKENESS_EINVAL, "the id '%.40s...' has %zu bytes; 255 is the limit", s, size);
    }
    for (const unsigned char *p = (const unsigned char *)s; *p;) {
        const size_t n = utf8_sequence(p);
        if (n == 0) {
            return likeness__fail(LIKENESS_EINVAL, "the id '%.80s' is not valid UTF-8", s);
        }
        if (*p < 0x20 || *p == 0x7F || (*p == 0xC2 && p[1] < 0xA0)) {
            return likeness__fail(LIKENESS_EINVAL, "the id '%.80s' has a control character", s);
        }
        p += n;
    }
    return 0;
}
