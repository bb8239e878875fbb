/* Writing JSON into a buffer, and reading numbers back out of our own lines. Reading anything else is not its job. */
#ifndef LK_TRAINER_JSON_H
#define LK_TRAINER_JSON_H

#include <stddef.h>

#include "base/buf.h"

/* A JSON string with its quotes; bytes that are no UTF-8 become U+FFFD. */
int lk_json_string(struct lk_buf *out, const char *text);

/* Members of an object: `"name": value`, with a comma in front unless the last byte is an opening bracket (newlines and
 * spaces after it aside). Numbers that are not finite become null. */
int lk_json_member(struct lk_buf *out, const char *name);
int lk_json_text(struct lk_buf *out, const char *name, const char *value);
int lk_json_number(struct lk_buf *out, const char *name, double value); /* shortest that reads back equal */
int lk_json_float(struct lk_buf *out, const char *name, float value);   /* likewise, as float */

/* The number after "name": in a flat line of ours; 1 when it is there. */
int lk_json_find(double *out, const char *line, const char *name);

#endif
