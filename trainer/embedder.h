/* Pictures to unit vectors with the backbone and its running statistics, exactly as the server sees them: short side to
 * `resize`, centre crop, normalise, forward, unit length. One thread at a time; the pool prepares pixels. Borrows the
 * device, the net and the pool. */
#ifndef LK_TRAINER_EMBEDDER_H
#define LK_TRAINER_EMBEDDER_H

#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"
#include "image/image.h"
#include "model/backend.h"
#include "source.h"
#include "staging.h"

struct lk_embedder {
    struct lk_backend *device;
    const struct lk_net *net;
    struct lk_plan *plan;
    struct lk_pass *pass;
    struct lk_pool *pool;
    size_t batch, dim;
    int size, resize;
    float mean[3], std[3];
    uint8_t *pixels;         /* [batch][size][size][3] */
    const uint8_t **view_of; /* [batch], for augmented views */
    int *width, *height;
    uint64_t *id;
    uint32_t *which; /* [batch] */
    struct lk_staging staging;
};

int lk_embedder_open(struct lk_embedder *out, struct lk_backend *device, const struct lk_net *net, size_t batch,
                     enum lk_precision precision, int resize, const float mean[3], const float std[3],
                     struct lk_pool *pool);
void lk_embedder_close(struct lk_embedder *e); /* accepts a zeroed or half-built one */

/* Takes over weights and running statistics from device arenas. */
int lk_embedder_weights(struct lk_embedder *e, const float *params, const float *stats);

/* out[n][dim] for pictures which[n] of a set (NULL: the first n). stop: as in lk_read_options. */
int lk_embedder_dataset(struct lk_embedder *e, float *out, const struct lk_dataset *d, const uint32_t *which, size_t n,
                        int (*stop)(void));

/* The same into device memory, where the device can keep vectors (ops->embed_begin). */
int lk_embedder_dataset_kept(struct lk_embedder *e, float *device, const struct lk_dataset *d, const uint32_t *which,
                             size_t n, int (*stop)(void));

/* out[n][dim] for n <= batch pictures in memory. */
int lk_embedder_images(struct lk_embedder *e, float *out, const struct lk_image *images, size_t n);

/* out[n][dim] for one random view of pictures which[n] of a set whose pixels lie at base (device or host, as
 * backend.h's augment wants), or, base NULL, wherever they are. */
int lk_embedder_views(struct lk_embedder *e, float *out, const struct lk_dataset *d, const uint8_t *base,
                      const uint32_t *which, size_t n, const struct lk_augment *a, uint64_t seed, uint32_t epoch,
                      int view);

#endif
