/* The inference engine: one model on one device. Pictures as uint8 squares in, unit vectors out. Owned by one thread at
 * a time (the batcher's). Plans are kept for batch buckets 1, 2, 4, 8, 16, 32 ... max_batch, sharing weights; a batch
 * runs in the smallest bucket that holds it. */
#ifndef LK_SERVER_ENGINE_H
#define LK_SERVER_ENGINE_H

#include "model/backend.h"
#include "model/model.h"

struct lk_engine;

struct lk_engine_options {
    const char *device;    /* "auto", "cpu", "cuda:0" */
    const char *precision; /* "auto" (the device's best), "fp32", "bf16" */
    int max_batch;         /* 1..512; 0: 32 */
    int threads;           /* 0: all cores */
    int image_size;        /* 0: the model's */
};

/* Loads the model file, opens the device, prepares and warms every bucket. */
int lk_engine_open(struct lk_engine **out, const char *model_path, const struct lk_engine_options *options);
void lk_engine_close(struct lk_engine *engine); /* NULL is fine */

const struct lk_model *lk_engine_model(const struct lk_engine *engine);
int lk_engine_dim(const struct lk_engine *engine);
int lk_engine_side(const struct lk_engine *engine); /* input side S */
int lk_engine_max_batch(const struct lk_engine *engine);
const char *lk_engine_precision(const struct lk_engine *engine);       /* "fp32", "bf16" */
const char *lk_engine_precision_class(const struct lk_engine *engine); /* "f32", "bf16" */
const char *lk_engine_device(const struct lk_engine *engine);          /* lk_backend_info.device */
int lk_engine_on_cpu(const struct lk_engine *engine);                  /* 0: it computes on a device of its own */
void lk_engine_space(const struct lk_engine *engine, char hex[65]);

/* pixels[n][S][S][3] (from lk_preprocess) -> vectors[n][dim], 1 <= n <= max_batch, in two halves: begin takes the pictures
 * over, end waits for the oldest batch and writes its vectors. A device that computes beside the host has two batches on
 * their way (lk_engine_slots), the CPU one; one more is LK_EBUSY. LK_EFAIL when the device failed: the engine is then out
 * of service and takes no batch any more, for the same reason; one that had begun is still ended, with its own result. */
int lk_engine_slots(const struct lk_engine *engine);
int lk_engine_begin(struct lk_engine *engine, const uint8_t *pixels, int n);
int lk_engine_end(struct lk_engine *engine, float *vectors);
/* Both, while no batch is on its way. */
int lk_engine_embed(struct lk_engine *engine, const uint8_t *pixels, int n, float *vectors);

#endif
