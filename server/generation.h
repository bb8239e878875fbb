/* A generation: one model in service, with the engine and batcher that compute in its space and the index over the
 * vectors of that space. Vectors and scores of different generations must never meet, so whoever needs more than one
 * field pins one generation and takes everything from it: a request from its first use until its answer was sent, a
 * canary, a write while it is embedded. The fields are constant from the moment the collection publishes it.
 *
 * Pins are counted under the mutex of the collection's gate; a generation that no longer serves is closed by the
 * collection when its last pin is gone. Knows no HTTP. */
#ifndef LK_SERVER_GENERATION_H
#define LK_SERVER_GENERATION_H

#include <pthread.h>
#include <stdint.h>

#include "batcher.h"
#include "embedding.h"
#include "engine.h"
#include "index.h"

struct lk_generation_gate { /* shared by the generations of a collection */
    pthread_mutex_t mutex;
    pthread_cond_t released; /* a generation lost its last pin */
};
int lk_generation_gate_open(struct lk_generation_gate *gate);
void lk_generation_gate_close(struct lk_generation_gate *gate);

struct lk_generation {
    int64_t number;       /* never reused; 0 until the catalogue has recorded it */
    char space[65];       /* of its vectors */
    char model[128];      /* the stable name in every answer */
    char precision[8];    /* class: "f32", "bf16" */
    char file_sha256[65]; /* of the model file */
    struct lk_engine *engine;
    struct lk_batcher *batcher;
    struct lk_index *index;
    int dim, side, resize;
    /* internal */
    struct lk_generation_gate *gate;
    int pins; /* guarded by the gate */
};

/* Loads and warms the model, starts the batcher, and opens the index in the model's space: empty, or with what its file
 * holds, for the caller to load (index.h). The number is the caller's to set.
 * A batcher's engine_cores are set to 0 when the engine computes on a device of its own. */
int lk_generation_open(struct lk_generation **out, struct lk_generation_gate *gate, const char *model_path,
                       const char *file_sha256, const struct lk_engine_options *engine,
                       const struct lk_batcher_options *batcher, const struct lk_index_options *index);
/* Waits for what the batcher has; nobody may hold a pin. NULL is fine. */
void lk_generation_close(struct lk_generation *g);

/* One more pin; with the gate's mutex held, or by somebody who holds one already. */
void lk_generation_pin_locked(struct lk_generation *g);
void lk_generation_pin(struct lk_generation *g);
void lk_generation_release(struct lk_generation *g); /* any thread; NULL is fine */

/* An embedding of `count` pictures by this generation, which the caller keeps pinned; the caller adds pictures, deadline
 * and callbacks. LK_ENOMEM. */
int lk_generation_embedding(struct lk_generation *g, struct lk_work *work, struct lk_embedding *e, size_t count);

#endif
