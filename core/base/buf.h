/* A growable byte buffer. Zero-initialise it; lk_buf_free() accepts a zeroed one. On LK_ENOMEM the content stays. */
#ifndef LK_BASE_BUF_H
#define LK_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

struct lk_buf {
    uint8_t *data; /* owned; not NUL-terminated unless lk_buf_printf wrote last */
    size_t size, capacity;
};

int lk_buf_reserve(struct lk_buf *b, size_t capacity);
int lk_buf_append(struct lk_buf *b, const void *bytes, size_t n);
int lk_buf_printf(struct lk_buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void lk_buf_clear(struct lk_buf *b); /* size 0, memory kept */
void lk_buf_free(struct lk_buf *b);

/* n * size with a check for overflow; NULL and lk_err(LK_ENOMEM) on failure. Zeroed memory. Free with free(). */
void *lk_calloc(size_t n, size_t size);
/* The same, 64-byte aligned, for tensors. Free with free(). */
void *lk_calloc_aligned(size_t n, size_t size);
char *lk_strdup(const char *s); /* NULL and lk_err(LK_ENOMEM) on failure */

#endif
