/* Weights from a file, on a device, ready to embed: what `knn` and `embed` share. */
#ifndef LK_TRAINER_WEIGHTS_H
#define LK_TRAINER_WEIGHTS_H

#include "embedder.h"
#include "model/model.h"

struct lk_weights {
    struct lk_model model;
    struct lk_backend *device;
    struct lk_backend_info info;
    enum lk_precision precision;
    float *params, *stats; /* on the device */
    struct lk_pool *pool;
    struct lk_embedder embedder;
};

struct lk_weights_options {
    const char *model, *device, *precision; /* as in the command line; precision "auto", "fp32", "bf16" */
    int image_size, batch, threads;         /* image_size 0: the file's */
};

int lk_weights_open(struct lk_weights *out, const struct lk_weights_options *options);
void lk_weights_close(struct lk_weights *w); /* accepts a zeroed or half-open one */

#endif
