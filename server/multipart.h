/* multipart/form-data (RFC 7578), parsed as it arrives: the body may be fed in pieces of any size, and pictures are
 * binary. What is kept is bounded by LK_MULTIPART_HEADER_MAX; the content of a part goes straight to the callbacks.
 *
 * Written by hand because libmicrohttpd's post processor decodes fields for people and knows the connection; this one
 * needs neither, so that tests can cut a body at every offset. */
#ifndef LK_SERVER_MULTIPART_H
#define LK_SERVER_MULTIPART_H

#include <stddef.h>

#include "base/buf.h"

#define LK_MULTIPART_HEADER_MAX 8192 /* bytes of one part's headers */

struct lk_part {
    const char *name;      /* of the form field; "" when missing; valid during the callback */
    const char *file_name; /* NULL when there is none */
    const char *type;      /* Content-Type; NULL when there is none */
};

/* A non-zero return of a callback stops the parser; feed() returns it. */
struct lk_multipart_events {
    int (*begin)(void *arg, const struct lk_part *part);
    int (*data)(void *arg, const void *bytes, size_t n);
    int (*end)(void *arg);
    void *arg;
};

struct lk_multipart {
    struct lk_multipart_events events;
    char delimiter[80]; /* CR LF - - boundary */
    size_t delimiter_size, matched;
    int state;
    struct lk_buf header;
};

/* content_type: the header's value. LK_EINVAL: not multipart/form-data, or no boundary of 1..70 characters. */
int lk_multipart_open(struct lk_multipart *m, const char *content_type, const struct lk_multipart_events *events);
/* LK_EFORMAT with the reason, a callback's return, or 0. */
int lk_multipart_feed(struct lk_multipart *m, const void *bytes, size_t n);
/* After the last piece: LK_EFORMAT when the closing delimiter is missing. */
int lk_multipart_finish(struct lk_multipart *m);
void lk_multipart_close(struct lk_multipart *m); /* accepts a zeroed one */

#endif
