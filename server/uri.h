/* Request targets: percent-decoding, query strings, and the names of files in an export. Pure functions. */
#ifndef LK_SERVER_URI_H
#define LK_SERVER_URI_H

#include <stddef.h>

#include "base/arena.h"
#include "base/buf.h"

struct lk_text { /* bytes with a length and a NUL after them; may hold NULs too */
    char *data;  /* the arena's that it was decoded into */
    size_t size;
};

/* Decodes %XX; plus_is_space: '+' is a blank, as in query strings. Without an arena the caller frees out->data.
 * LK_EINVAL: a '%' without two hex digits. */
int lk_uri_decode(struct lk_text *out, const char *text, size_t n, int plus_is_space, struct lk_arena *arena);

struct lk_query {
    struct lk_text *names, *values; /* the arena's */
    size_t count;
};
/* Parses "a=1&b=2" (no leading '?') into memory of the arena. LK_EINVAL for bad escapes, a name given twice, NUL bytes or
 * more than 64 pairs. */
int lk_query_parse(struct lk_query *out, const char *text, size_t n, struct lk_arena *arena);
const char *lk_query_get(const struct lk_query *q, const char *name); /* NULL: not there */

/* Appends the id as a file name: every byte other than A-Z a-z 0-9 . _ - as %XX, and the dots of "." and ".." too. */
int lk_uri_encode_name(struct lk_buf *out, const char *id, size_t n);

#endif
