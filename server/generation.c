#include "generation.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"

#define CHECK_NS 60000000000 /* the canary may wait behind what others ask of the generation */

static void close_generation(void *arg) {
    struct lk_generation *g = arg;
    if (g->batcher)
        lk_batcher_close(g->batcher);
    lk_index_close(g->index);
    lk_engine_close(g->engine);
    free(g);
#if defined(__GLIBC__)
    malloc_trim(0); /* what was too small to be mapped by itself (main.c) lies in heaps between other things */
#endif
}

int lk_generation_open(struct lk_generation **out, const char *model_path, const struct lk_engine_options *engine,
                       const struct lk_batcher_options *batcher, const struct lk_index_options *index,
                       struct lk_work *work) {
    *out = NULL;
    struct lk_generation *g = lk_calloc(1, sizeof *g);
    if (!g)
        return LK_ENOMEM;
    g->work = work;
    g->holders = 1;
    int rc;
    if ((rc = lk_fs_sha256(g->serving.model_file_sha256, model_path)) ||
        (rc = lk_engine_open(&g->engine, model_path, engine)))
        goto fail;
    g->dim = lk_engine_dim(g->engine);
    g->side = lk_engine_side(g->engine);
    g->resize = lk_engine_model(g->engine)->resize;
    lk_engine_space(g->engine, g->serving.space);
    snprintf(g->serving.model_name, sizeof g->serving.model_name, "%s", lk_engine_model(g->engine)->name);
    snprintf(g->serving.precision, sizeof g->serving.precision, "%s", lk_engine_precision_class(g->engine));
    struct lk_batcher_options own = *batcher;
    struct lk_index_options indexed = *index;
    indexed.space = g->serving.space;
    if (!lk_engine_on_cpu(g->engine))
        own.engine_cores = 0;
    if ((rc = lk_index_open(&g->index, g->dim, &indexed)) || (rc = lk_batcher_open(&g->batcher, g->engine, &own)))
        goto fail;
    *out = g;
    return 0;
fail:
    close_generation(g);
    return rc;
}

void lk_generation_hold(struct lk_generation *g) { __atomic_add_fetch(&g->holders, 1, __ATOMIC_RELAXED); }

void lk_generation_release(struct lk_generation *g) {
    if (g && __atomic_sub_fetch(&g->holders, 1, __ATOMIC_ACQ_REL) == 0)
        lk_work_do(g->work, close_generation, g);
}

void lk_generation_canary(const struct lk_generation *g, uint8_t *pixels) {
    size_t n = (size_t)g->side * (size_t)g->side * 3;
    for (size_t i = 0; i < n; i++)
        pixels[i] = (uint8_t)(i * 37 + i / 96 * 11);
}

int lk_generation_check(struct lk_generation *g) {
    uint8_t *pixels = lk_calloc((size_t)g->side * (size_t)g->side, 3);
    float *vector = lk_calloc((size_t)g->dim, sizeof *vector);
    int rc = pixels && vector ? 0 : LK_ENOMEM;
    if (rc == 0) {
        lk_generation_canary(g, pixels);
        rc = lk_batcher_embed(g->batcher, pixels, vector, lk_now_ns() + CHECK_NS);
    }
    free(pixels);
    free(vector);
    return rc;
}
