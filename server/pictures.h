/* The pictures of a request body, in every form that a client may send them: shared by the routes that embed. */
#ifndef LK_SERVER_PICTURES_H
#define LK_SERVER_PICTURES_H

#include "routes.h"

struct lk_pictures {
    struct lk_buf bytes; /* all of them, one after another; owned */
    struct {
        size_t offset, size;
        struct lk_fault fault; /* known before decoding: bad base64 */
    } * list;
    size_t count, capacity;
};

void lk_pictures_free(struct lk_pictures *p);
/* Adds one from base64 text or a data URI. `param` is named in its fault. Negative only when memory ran out. */
int lk_pictures_add_text(struct lk_pictures *p, const char *text, size_t n, const char *param);
/* The body {"images":[base64 or data URI, ...]}, at least one and at most max_images. The body is freed as
 * soon as it was read, before the pictures take memory. */
int lk_pictures_json(struct lk_pictures *p, struct lk_buf *body, size_t max_values, size_t max_images,
                     struct lk_fault *f);
/* All parts of a multipart body. */
int lk_pictures_multipart(struct lk_pictures *p, struct lk_request *r, struct lk_fault *f);
/* Opens an embedding over them; they have to outlive it. Deadline and gone() are the request's. LK_ENOMEM. */
int lk_pictures_embedding(struct lk_pictures *p, struct lk_request *r, struct lk_embedding *e);
/* The same over the one picture that the request's body is; writes: what comes of it will be stored. */
int lk_body_embedding(struct lk_request *r, struct lk_embedding *e, int writes);

#endif
