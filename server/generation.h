/* A generation: one model at work. Its number is never used twice; its engine, the batcher that owns it, and an index of
 * the vectors that it made belong together, and vectors of two generations are never compared. References are counted: a
 * request holds the one that serves when it begins until its answer was sent, so a switch to another never tears one
 * apart, and the last to let go frees it. Knows no HTTP.
 *
 * All fields but the counter are constant once the generation serves; what they point to locks for itself. */
#ifndef LK_SERVER_GENERATION_H
#define LK_SERVER_GENERATION_H

#include "batcher.h"
#include "engine.h"
#include "index.h"
#include "store/store.h"
#include "work.h"

struct lk_generation {
    struct lk_store_serving serving; /* as recorded: number, space, model name, precision class, hash of the file */
    struct lk_engine *engine;
    struct lk_batcher *batcher;
    struct lk_index *index;
    struct lk_work *work;
    int dim, side, resize;
    int holders; /* changed atomically */
};

/* Loads and warms the model, starts its batcher, and opens the index in the model's space, empty or with what its file
 * holds, for the caller to load (index.h). The number is 0. The caller holds it. What lk_engine_open and lk_index_open may
 * return. `work` outlives it. */
int lk_generation_open(struct lk_generation **out, const char *model_path, const struct lk_engine_options *engine,
                       const struct lk_batcher_options *batcher, const struct lk_index_options *index,
                       struct lk_work *work);
void lk_generation_hold(struct lk_generation *g);
/* The last one frees it, on the work pool, since a batcher cannot be closed by its own thread. NULL is fine. */
void lk_generation_release(struct lk_generation *g);

/* The canary: some picture, pixels[side][side][3]. A plain one could hide a broken layer. */
void lk_generation_canary(const struct lk_generation *g, uint8_t *pixels);
/* 0 when the canary comes back as a unit vector, else why not. Waits. */
int lk_generation_check(struct lk_generation *g);

#endif
