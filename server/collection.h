/* A collection: one catalogue, the generation that serves it (engine, batcher, index), and its writer. Functions that
 * search or change take a collection; nothing assumes that there is one. Knows no HTTP. */
#ifndef LK_SERVER_COLLECTION_H
#define LK_SERVER_COLLECTION_H

#include "batcher.h"
#include "embedding.h"
#include "engine.h"
#include "index.h"
#include "store/store.h"
#include "work.h"
#include "writer.h"

struct lk_collection_options {
    const char *model_path;
    const char *catalogue_path;
    struct lk_engine_options engine;
    struct lk_batcher_options batcher;
};

struct lk_collection {
    struct lk_work *work;
    struct lk_store *store;
    struct lk_engine *engine;
    struct lk_index *index;
    struct lk_batcher *batcher;
    struct lk_writer *writer;
    struct lk_store_serving serving; /* what is recorded: generation, space, model name, precision class */
    int dim, side, resize;
};

/* Opens catalogue and model; embeds what has no vector in the model's space; loads the index; records the generation (a
 * new one when the space changed). Logs its progress. `work` outlives the collection. */
int lk_collection_open(struct lk_collection **out, const struct lk_collection_options *options, struct lk_work *work);
/* Finishes what waits. NULL is fine. */
void lk_collection_close(struct lk_collection *c);

/* An embedding of `count` pictures with this collection's model; the caller adds pictures, deadline and callbacks. */
int lk_collection_embedding(struct lk_collection *c, struct lk_embedding *e, size_t count);

/* Seconds until a request that was refused may come again: what waits, by the measured rate; at least 1. */
int lk_collection_retry_after(struct lk_collection *c);

#endif
