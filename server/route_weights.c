/* GET /model/weights: the file of the model that serves, for a trainer that learns on from it. The file is hashed as it is
 * read, and the answer is cut when it is not the one that was loaded, since somebody may have written over it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/sha256.h"
#include "publish.h"
#include "routes.h"

#define PIECE ((size_t)256 << 10)

struct weights {
    int fd;
    struct lk_sha256 hash;
    char expected[65];
};

static void weights_free(void *state) {
    struct weights *w = state;
    if (w->fd >= 0)
        close(w->fd);
    free(w);
}

/* A published model lies under its hash; the one of --model where that says. */
static int open_weights(struct weights *w, const struct lk_collection *c) {
    char *path = lk_publish_path(c, w->expected);
    if (!path)
        return LK_ENOMEM;
    const char *from = lk_fs_exists(path) ? path : c->options.model_path;
    w->fd = open(from, O_RDONLY | O_CLOEXEC);
    int rc = w->fd >= 0 ? 0 : lk_err(LK_EIO, "the file of the model that serves cannot be read: %s", strerror(errno));
    free(path);
    return rc;
}

static int check_hash(struct weights *w) {
    uint8_t digest[32];
    char hex[65];
    lk_sha256_final(&w->hash, digest);
    lk_sha256_hex(digest, hex);
    return strcmp(hex, w->expected) == 0
               ? 0
               : lk_err(LK_EIO, "the file of the model was written over since it was loaded: its hash is %s, not %s",
                        hex, w->expected);
}

static int fill(struct lk_request *r, struct lk_buf *out, int *end) {
    struct weights *w = r->state;
    int rc = lk_buf_reserve(out, PIECE);
    if (rc)
        return rc;
    ssize_t got;
    do {
        got = read(w->fd, out->data, PIECE);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return lk_err(LK_EIO, "the file of the model cannot be read: %s", strerror(errno));
    if (got == 0) {
        *end = 1;
        return check_hash(w);
    }
    lk_sha256_update(&w->hash, out->data, (size_t)got);
    out->size = (size_t)got;
    return 0;
}

void lk_route_model_weights(struct lk_request *r) {
    struct lk_fault f = {0};
    if (lk_query_only(r, NULL, 0, &f)) {
        lk_reply_fault(r, &f);
        return;
    }
    struct weights *w = r->state = lk_calloc(1, sizeof *w);
    if (!w) {
        lk_reply_failed(r, LK_ENOMEM);
        return;
    }
    r->state_free = weights_free;
    w->fd = -1;
    lk_sha256_init(&w->hash);
    const struct lk_generation *g = lk_request_generation(r);
    memcpy(w->expected, g->serving.model_file_sha256, sizeof w->expected);
    int rc = open_weights(w, lk_request_collection(r));
    if (rc) {
        lk_reply_failed(r, rc);
        return;
    }
    char etag[68];
    snprintf(etag, sizeof etag, "\"%s\"", w->expected);
    lk_reply_header(r, "ETag", etag);
    lk_reply_generation_header(r);
    lk_reply_stream(r, 200, "application/octet-stream", fill);
}
