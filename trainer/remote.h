/* A server of ours, as the trainer speaks to it: its catalogue's export and its weights come here, new weights go there.
 * libcurl stays behind it; a build without it returns LK_EUNSUPPORTED from open. One thread at a time. Errors name the
 * address and repeat the server's own sentence. */
#ifndef LK_TRAINER_REMOTE_H
#define LK_TRAINER_REMOTE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct lk_remote;

struct lk_remote_options {
    const char *key_file;                        /* the first line is sent as bearer key; NULL: none */
    void (*progress)(void *arg, uint64_t bytes); /* received or sent so far; NULL: silent */
    void *arg;
    int (*stop)(void); /* non-zero: LK_ECANCELLED; NULL: never */
};

int lk_remote_is_url(const char *text); /* 1: begins with http:// or https:// */

/* Nothing is sent yet. LK_EINVAL: no URL of a server, or a key file that holds no key. */
int lk_remote_open(struct lk_remote **out, const char *url, const struct lk_remote_options *options);
void lk_remote_close(struct lk_remote *r); /* NULL is fine */
const char *lk_remote_url(const struct lk_remote *r);

/* target: "/model". An answer of 2xx, whole, of at most 16 MB.
 * LK_EIO: the server cannot be reached, or is gone in the middle, or answers something else than HTTP; LK_EBUSY: 409, 429
 * or 503; LK_ENOTFOUND: 404; LK_EINVAL: any other refusal, 401 and 403 with what to do about it; LK_ECANCELLED. */
int lk_remote_get(struct lk_remote *r, const char *target, struct lk_buf *out);
/* The same into a file, which is there whole or not at all. sha256: of what was received, or NULL; the answer's ETag, when it
 * is a SHA-256, has to be that too. */
int lk_remote_fetch(struct lk_remote *r, const char *target, const char *path, char sha256[65]);
/* PUT of a file's bytes; the answer in out. */
int lk_remote_put(struct lk_remote *r, const char *target, const char *path, struct lk_buf *out);

#endif
