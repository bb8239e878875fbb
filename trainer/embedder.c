#include "embedder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "image/preprocess.h"
#include "model/walk.h"

int lk_embedder_open(struct lk_embedder *out, struct lk_backend *device, const struct lk_net *net, size_t batch,
                     enum lk_precision precision, int resize, const float mean[3], const float std[3],
                     struct lk_pool *pool) {
    struct lk_embedder *e = out;
    memset(e, 0, sizeof *e);
    e->device = device, e->net = net, e->pool = pool;
    e->batch = batch, e->dim = (size_t)net->feature_dim;
    e->size = net->image_size, e->resize = resize;
    memcpy(e->mean, mean, sizeof e->mean);
    memcpy(e->std, std, sizeof e->std);
    e->pixels = lk_calloc(batch, (size_t)e->size * (size_t)e->size * 3);
    e->view_of = lk_calloc(batch, sizeof *e->view_of);
    e->width = lk_calloc(batch, sizeof *e->width);
    e->height = lk_calloc(batch, sizeof *e->height);
    e->id = lk_calloc(batch, sizeof *e->id);
    e->which = lk_calloc(batch, sizeof *e->which);
    int rc = e->pixels == NULL || e->view_of == NULL || e->width == NULL || e->height == NULL || e->id == NULL ||
                     e->which == NULL
                 ? LK_ENOMEM
                 : 0;
    if (rc || (rc = lk_staging_open(&e->staging, device, batch)) ||
        (rc = lk_ops(device)->plan(device, net, net->backbone_nodes, (int)batch, precision, LK_INFERENCE, NULL,
                                   &e->plan)) ||
        (rc = lk_ops(device)->pass(e->plan, &e->pass)))
        lk_embedder_close(e);
    return rc;
}

void lk_embedder_close(struct lk_embedder *e) {
    if (e->pass != NULL)
        lk_ops(e->device)->pass_free(e->pass);
    if (e->plan != NULL)
        lk_ops(e->device)->plan_free(e->plan);
    free(e->pixels);
    free(e->view_of);
    free(e->width);
    free(e->height);
    free(e->id);
    free(e->which);
    lk_staging_close(&e->staging);
    memset(e, 0, sizeof *e);
}

int lk_embedder_weights(struct lk_embedder *e, const float *params, const float *stats) {
    return lk_ops(e->device)->set_weights(e->plan, params, stats);
}

struct prepare {
    struct lk_embedder *e;
    const struct lk_dataset *d; /* pictures which[..] or first.. of this set, or */
    const uint32_t *which;
    size_t first;
    const struct lk_image *images; /* these */
    int *rc;
    char **errors; /* owned texts */
};

/* A picture of a set that is streamed is read for this moment. */
static int prepare(struct prepare *p, size_t i) {
    size_t bytes = (size_t)p->e->size * (size_t)p->e->size * 3;
    uint8_t *to = p->e->pixels + i * bytes;
    if (p->images != NULL)
        return lk_preprocess(to, &p->images[i], p->e->resize, p->e->size);
    size_t at = p->which != NULL ? p->which[p->first + i] : p->first + i;
    struct lk_image image = {.width = p->d->width[at], .height = p->d->height[at]}, own = {0};
    int rc = 0;
    if (!p->d->streamed)
        image.pixels = p->d->pixels + p->d->offset[at];
    else if ((rc = lk_image_alloc(&own, image.width, image.height)) == 0 &&
             (rc = lk_dataset_load(p->d, at, own.pixels)) == 0)
        image = own;
    if (rc == 0)
        rc = lk_preprocess(to, &image, p->e->resize, p->e->size);
    lk_image_free(&own);
    return rc;
}

static void prepare_one(void *arg, size_t i) {
    struct prepare *p = arg;
    p->rc[i] = prepare(p, i);
    if (p->rc[i] != 0)
        p->errors[i] = lk_strdup(lk_error());
}

static int forward(struct lk_embedder *e, float *out, size_t n) {
    const struct lk_backend_ops *ops = lk_ops(e->device);
    int rc = lk_walk_forward(ops, e->net, e->net->backbone_nodes, LK_INFERENCE, e->pass, NULL, 1);
    return rc ? rc : ops->output(e->pass, e->net->backbone_nodes, (int)n, 1, out);
}

/* Pictures into e->pixels. */
static int prepare_all(struct lk_embedder *e, struct prepare *p, size_t n) {
    p->rc = lk_calloc(n, sizeof *p->rc);
    p->errors = lk_calloc(n, sizeof *p->errors);
    int rc = p->rc == NULL || p->errors == NULL ? LK_ENOMEM : 0;
    if (rc == 0)
        lk_pool_for(e->pool, n, prepare_one, p);
    for (size_t i = 0; i < n && p->rc != NULL && p->errors != NULL; i++) {
        if (rc == 0 && p->rc[i] != 0)
            rc = lk_err(p->rc[i], "picture %zu cannot be brought to %d pixels: %s", p->first + i, e->size,
                        p->errors[i] != NULL ? p->errors[i] : "out of memory");
        free(p->errors[i]);
    }
    free(p->rc);
    free(p->errors);
    return rc;
}

/* Vectors of e->pixels: begun now, or whole where the device cannot begin. kept: out is device memory. */
static int begin(struct lk_embedder *e, float *out, size_t n, int kept) {
    const struct lk_backend_ops *ops = lk_ops(e->device);
    if (ops->embed_begin != NULL)
        return ops->embed_begin(e->pass, e->pixels, (int)n, e->mean, e->std, kept ? out : NULL);
    int rc = ops->input_u8(e->pass, e->pixels, (int)n, e->mean, e->std);
    return rc ? rc : forward(e, out, n);
}

static int end(struct lk_embedder *e, float *out) {
    const struct lk_backend_ops *ops = lk_ops(e->device);
    return ops->embed_end != NULL ? ops->embed_end(e->pass, out) : 0;
}

/* While a batch is on the device the next is prepared. */
static int embed(struct lk_embedder *e, float *out, int kept, const struct lk_dataset *d, const uint32_t *which,
                 size_t n, int (*stop)(void)) {
    float *begun = NULL; /* where the vectors of the batch go that has begun and not ended */
    int rc = 0;
    for (size_t at = 0; at < n && rc == 0; at += e->batch) {
        size_t count = n - at < e->batch ? n - at : e->batch;
        float *to = out + at * e->dim;
        struct prepare p = {.e = e, .d = d, .which = which, .first = at};
        if ((rc = prepare_all(e, &p, count)) || (rc = begin(e, to, count, kept)))
            break;
        float *before = begun;
        begun = to;
        if (before != NULL)
            rc = end(e, before);
        if (rc == 0 && stop != NULL && stop())
            rc = lk_err(LK_ECANCELLED, "stopped while embedding");
    }
    if (begun != NULL) { /* after a failure too, so that the next use finds none */
        char why[256];
        snprintf(why, sizeof why, "%s", lk_error());
        int ended = end(e, begun);
        rc = rc != 0 ? lk_err(rc, "%s", why) : ended;
    }
    return rc;
}

int lk_embedder_dataset(struct lk_embedder *e, float *out, const struct lk_dataset *d, const uint32_t *which, size_t n,
                        int (*stop)(void)) {
    return embed(e, out, 0, d, which, n, stop);
}

int lk_embedder_dataset_kept(struct lk_embedder *e, float *device, const struct lk_dataset *d, const uint32_t *which,
                             size_t n, int (*stop)(void)) {
    return embed(e, device, 1, d, which, n, stop);
}

int lk_embedder_images(struct lk_embedder *e, float *out, const struct lk_image *images, size_t n) {
    struct prepare p = {.e = e, .images = images};
    int rc = n > e->batch ? lk_err(LK_EINVAL, "%zu pictures in a batch of %zu", n, e->batch) : prepare_all(e, &p, n);
    return rc || (rc = begin(e, out, n, 0)) ? rc : end(e, out);
}

int lk_embedder_views(struct lk_embedder *e, float *out, const struct lk_dataset *d, const uint8_t *base,
                      const uint32_t *which, size_t n, const struct lk_augment *a, uint64_t seed, uint32_t epoch,
                      int view) {
    for (size_t at = 0; at < n; at += e->batch) {
        size_t count = n - at < e->batch ? n - at : e->batch;
        for (size_t i = 0; i < e->batch; i++) { /* a short last batch repeats its last picture */
            size_t from = which[at + (i < count ? i : count - 1)];
            e->view_of[i] = base != NULL ? base + d->offset[from] : NULL;
            e->which[i] = (uint32_t)from;
            e->width[i] = d->width[from], e->height[i] = d->height[from];
            e->id[i] = from;
        }
        int rc = base == NULL ? lk_staging_fill(&e->staging, d, e->which, e->view_of, e->pool) : 0;
        if (rc != 0)
            return rc;
        rc = lk_ops(e->device)->augment(e->pass, a, seed, epoch, view, e->view_of, e->width, e->height, e->id);
        if (rc || (rc = forward(e, out + at * e->dim, count)))
            return rc;
    }
    return 0;
}
