/* Inside the client library: growable text, percent-encoding, and the thread's last error. Knows neither libcurl nor
 * Jansson. */
#ifndef LIKENESS_TEXT_H
#define LIKENESS_TEXT_H

#include <stddef.h>

#include "likeness.h"

/* Bytes that grow. Zero-initialise; a NUL always follows data[size] once anything was appended. */
struct likeness__buf {
    char *data; /* owned */
    size_t size, capacity;
};
int likeness__buf_append(struct likeness__buf *b, const void *bytes, size_t n);
int likeness__buf_puts(struct likeness__buf *b, const char *s);
void likeness__buf_free(struct likeness__buf *b);
char *likeness__buf_take(struct likeness__buf *b); /* the text, the caller's to free; NULL when nothing was appended */

/* Appends s percent-encoded, all but RFC 3986's unreserved characters: fit for a path segment and for a query value. */
int likeness__buf_encode(struct likeness__buf *b, const char *s);

/* LIKENESS_EINVAL with a sentence unless s is 1..255 bytes of UTF-8 without control characters. */
int likeness__check_id(const char *s);

/* Sets the thread's error and returns status. */
int likeness__fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
int likeness__fail_http(int status, int http, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
int likeness__no_memory(void);

#endif
