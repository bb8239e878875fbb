#include "generation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"

int lk_generation_gate_open(struct lk_generation_gate *gate) {
    if (pthread_mutex_init(&gate->mutex, NULL))
        return lk_err(LK_EFAIL, "a mutex cannot be made");
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    int failed = pthread_cond_init(&gate->released, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (!failed)
        return 0;
    pthread_mutex_destroy(&gate->mutex);
    return lk_err(LK_EFAIL, "a condition cannot be made");
}

void lk_generation_gate_close(struct lk_generation_gate *gate) {
    pthread_cond_destroy(&gate->released);
    pthread_mutex_destroy(&gate->mutex);
}

int lk_generation_open(struct lk_generation **out, struct lk_generation_gate *gate, const char *model_path,
                       const char *file_sha256, const struct lk_engine_options *engine,
                       const struct lk_batcher_options *batcher, const struct lk_index_options *index) {
    *out = NULL;
    struct lk_generation *g = lk_calloc(1, sizeof *g);
    if (!g)
        return LK_ENOMEM;
    g->gate = gate;
    struct lk_batcher_options mine = *batcher;
    struct lk_index_options indexed = *index;
    int rc;
    if ((rc = lk_engine_open(&g->engine, model_path, engine)))
        goto fail;
    const struct lk_model *model = lk_engine_model(g->engine);
    g->dim = lk_engine_dim(g->engine);
    g->side = lk_engine_side(g->engine);
    g->resize = model->resize;
    lk_engine_space(g->engine, g->space);
    snprintf(g->model, sizeof g->model, "%s", model->name);
    snprintf(g->precision, sizeof g->precision, "%s", lk_engine_precision_class(g->engine));
    snprintf(g->file_sha256, sizeof g->file_sha256, "%s", file_sha256);
    indexed.space = g->space;
    if (!lk_engine_on_cpu(g->engine))
        mine.engine_cores = 0;
    if ((rc = lk_batcher_open(&g->batcher, g->engine, &mine)) || (rc = lk_index_open(&g->index, g->dim, &indexed)))
        goto fail;
    *out = g;
    return 0;
fail:
    lk_generation_close(g);
    return rc;
}

void lk_generation_close(struct lk_generation *g) {
    if (!g)
        return;
    lk_batcher_close(g->batcher);
    lk_index_close(g->index);
    lk_engine_close(g->engine);
    free(g);
}

void lk_generation_pin_locked(struct lk_generation *g) { g->pins++; }

void lk_generation_pin(struct lk_generation *g) {
    pthread_mutex_lock(&g->gate->mutex);
    lk_generation_pin_locked(g);
    pthread_mutex_unlock(&g->gate->mutex);
}

void lk_generation_release(struct lk_generation *g) {
    if (!g)
        return;
    struct lk_generation_gate *gate = g->gate; /* g may be gone after the mutex is */
    pthread_mutex_lock(&gate->mutex);
    if (--g->pins == 0)
        pthread_cond_broadcast(&gate->released);
    pthread_mutex_unlock(&gate->mutex);
}

int lk_generation_embedding(struct lk_generation *g, struct lk_work *work, struct lk_embedding *e, size_t count) {
    *e = (struct lk_embedding){
        .work = work, .batcher = g->batcher, .side = g->side, .resize = g->resize, .dim = g->dim};
    return lk_embedding_open(e, count);
}
