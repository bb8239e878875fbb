/* A JSON document of somebody else's: a server's answer, an item's metadata. Jansson stays behind it; a build without it
 * returns LK_EUNSUPPORTED. */
#ifndef LK_TRAINER_DOCUMENT_H
#define LK_TRAINER_DOCUMENT_H

#include <stddef.h>

struct lk_document;

/* An object; LK_EFORMAT says where it is none. */
int lk_document_open(struct lk_document **out, const void *text, size_t n);
void lk_document_close(struct lk_document *d); /* NULL is fine */

/* The member `name` of the object, or of its member `in` (NULL: none) when that is an object. NULL or 0 when it is not there
 * or of another kind. A text lives until the document is closed. */
const char *lk_document_text(const struct lk_document *d, const char *in, const char *name);
int lk_document_number(const struct lk_document *d, const char *in, const char *name, double *out); /* 1 when there */
/* A text, or a whole number or truth value as text: a label. *out: an owned copy, NULL when there is none. */
int lk_document_label(const struct lk_document *d, const char *in, const char *name, char **out);

#endif
