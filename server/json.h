/* JSON for the routes. Writing is our own, straight into a buffer; reading is Jansson's, bounded before it begins: a
 * value of Jansson's takes tens of bytes for as little as two in the text, so the number of values is limited too.
 * Vectors are taken out before (json_vectors.h). Route files and index_file.c include Jansson's header through this one;
 * nobody else does. */
#ifndef LK_SERVER_JSON_H
#define LK_SERVER_JSON_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/buf.h"
#include "errors.h"

/* Writing: each appends and returns 0 or LK_ENOMEM. */
int lk_json_raw(struct lk_buf *out, const char *text);
int lk_json_text(struct lk_buf *out, const char *text); /* quoted and escaped; bytes that are no UTF-8 become U+FFFD */
int lk_json_text_n(struct lk_buf *out, const char *text, size_t n);
int lk_json_int(struct lk_buf *out, int64_t value);
/* A float that reads back as the same float; not finite: null. Faster than printf, because an answer holds thousands. */
int lk_json_float(struct lk_buf *out, float value);
int lk_json_floats(struct lk_buf *out, const float *values, size_t n); /* [..] */
/* Milliseconds since 1970 as "2024-01-31T12:00:00.000Z". */
int lk_json_time(struct lk_buf *out, int64_t unix_ms);

/* Reading. *out is a new reference. Faults: invalid_json with the place, for double keys too; a text with more than
 * max_values values. `param` may be NULL. */
int lk_json_parse(json_t **out, const void *text, size_t n, size_t max_values, const char *param, struct lk_fault *f);
/* The same, and it has to be an object. */
int lk_json_parse_object(json_t **out, const void *text, size_t n, size_t max_values, const char *param,
                         struct lk_fault *f);
/* Compact text of a value, appended. */
int lk_json_dump(struct lk_buf *out, const json_t *value);
/* invalid_argument naming the first member of `object` that is not among the n names. */
int lk_json_only(const json_t *object, const char *const *names, size_t n, struct lk_fault *f);

#endif
