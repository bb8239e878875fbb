/* A collection: one catalogue, the generation that serves it, and its writer. Functions that search or change take a
 * collection; nothing assumes that there is one. Knows no HTTP. */
#ifndef LK_SERVER_COLLECTION_H
#define LK_SERVER_COLLECTION_H

#include "generation.h"
#include "store/store.h"
#include "work.h"
#include "writer.h"

struct lk_collection_options {
    const char *model_path;
    const char *catalogue_path;
    struct lk_engine_options engine;
    struct lk_batcher_options batcher;
    struct lk_index_options index; /* without path and space: the file lies beside the catalogue, "photos.db.hnsw" */
};

struct lk_collection {
    struct lk_work *work;
    struct lk_store *store;
    struct lk_writer *writer;
    /* internal */
    struct lk_generation_gate gate;
    int gate_open;
    struct lk_generation *current; /* guarded by the gate */
};

/* Opens catalogue and model; embeds what has no vector in the model's space; loads the index; records the generation (a
 * new one when the space changed). Logs its progress. `work` outlives the collection. */
int lk_collection_open(struct lk_collection **out, const struct lk_collection_options *options, struct lk_work *work);
/* Finishes what waits; nobody may hold a pin. NULL is fine. */
void lk_collection_close(struct lk_collection *c);

/* The generation that serves now; the caller releases it. Never NULL. */
struct lk_generation *lk_collection_pin(struct lk_collection *c);

/* Seconds until a request that was refused may come again: what waits, by the measured rate; at least 1. */
int lk_collection_retry_after(struct lk_collection *c);

#endif
