#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

int lk_buf_reserve(struct lk_buf *b, size_t capacity) {
    if (capacity <= b->capacity)
        return 0;
    size_t grown = b->capacity < SIZE_MAX / 2 ? b->capacity * 2 : SIZE_MAX;
    size_t wanted = capacity > grown ? capacity : grown;
    if (wanted < 64)
        wanted = 64;
    uint8_t *data = realloc(b->data, wanted);
    if (data == NULL && wanted > capacity) {
        wanted = capacity; /* doubling was a wish */
        data = realloc(b->data, wanted);
    }
    if (data == NULL)
        return lk_err(LK_ENOMEM, "out of memory for a buffer of %zu bytes", capacity);
    b->data = data;
    b->capacity = wanted;
    return 0;
}

int lk_buf_append(struct lk_buf *b, const void *bytes, size_t n) {
    if (n == 0)
        return 0;
    if (n > SIZE_MAX - b->size)
        return lk_err(LK_ENOMEM, "a buffer of %zu bytes cannot grow by %zu", b->size, n);
    int rc = lk_buf_reserve(b, b->size + n);
    if (rc != 0)
        return rc;
    memcpy(b->data + b->size, bytes, n);
    b->size += n;
    return 0;
}

int lk_buf_printf(struct lk_buf *b, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (n < 0)
        return lk_err(LK_EINVAL, "text cannot be formatted as \"%s\"", format);
    if ((size_t)n + 1 > SIZE_MAX - b->size)
        return lk_err(LK_ENOMEM, "a buffer of %zu bytes cannot grow by %d", b->size, n);
    int rc = lk_buf_reserve(b, b->size + (size_t)n + 1);
    if (rc != 0)
        return rc;
    va_start(arguments, format);
    vsnprintf((char *)b->data + b->size, (size_t)n + 1, format, arguments);
    va_end(arguments);
    b->size += (size_t)n; /* the NUL lies behind the content and is not part of it */
    return 0;
}

void lk_buf_clear(struct lk_buf *b) { b->size = 0; }

void lk_buf_free(struct lk_buf *b) {
    free(b->data);
    *b = (struct lk_buf){0};
}

void *lk_calloc(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size ? size : 1);
    if (p == NULL)
        lk_err(LK_ENOMEM, "out of memory for %zu x %zu bytes", n, size);
    return p;
}

void *lk_calloc_aligned(size_t n, size_t size) {
    enum { ALIGNMENT = 64 };
    void *p = NULL;
    if (size == 0 || n <= (SIZE_MAX - ALIGNMENT) / size) {
        size_t bytes = n * size;
        bytes = bytes == 0 ? ALIGNMENT : (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        p = aligned_alloc(ALIGNMENT, bytes);
        if (p != NULL)
            memset(p, 0, bytes);
    }
    if (p == NULL)
        lk_err(LK_ENOMEM, "out of memory for %zu x %zu bytes", n, size);
    return p;
}

char *lk_strdup(const char *s) {
    size_t n = strlen(s) + 1;
    char *copy = lk_calloc(n, 1);
    if (copy != NULL)
        memcpy(copy, s, n);
    return copy;
}
