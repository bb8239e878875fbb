/* A collection: one catalogue, its writer, the generation that serves it, and while a model is published the one that is
 * about to (publish.h). Functions that search or change take a collection; nothing assumes that there is one. Knows no
 * HTTP.
 *
 * What a start serves: the catalogue records the hash of the --model file that it was last started with, and what it
 * served. The same file again serves what was published since; another file is served itself. */
#ifndef LK_SERVER_COLLECTION_H
#define LK_SERVER_COLLECTION_H

#include <pthread.h>

#include "embedding.h"
#include "generation.h"
#include "writer.h"

struct lk_publisher;

struct lk_collection_options {
    const char *model_path;
    const char *catalogue_path;
    size_t max_metadata; /* bytes of an item's, that a patch may make; 0: no limit */
    struct lk_engine_options engine;
    struct lk_batcher_options batcher;
    struct lk_index_options index; /* without path and space: the file lies beside the catalogue, "photos.db.hnsw" */
    int (*stop)(void);             /* asked while items are embedded at the start: whether to give up; NULL: never */
    double publish_share; /* of the time, that embedding again may take while another model serves; 0 < share <= 1 */
};

struct lk_collection {
    struct lk_collection_options options;
    struct lk_work *work;
    struct lk_store *store;
    struct lk_writer *writer;
    struct lk_publisher *publisher;
    char *index_path;      /* owned */
    pthread_mutex_t mutex; /* of the two pointers */
    struct lk_generation *current, *coming;
};

/* Opens catalogue and model; loads the index; embeds what has no vector in the model's space; records the generation (a
 * new one when the space changed). Logs its progress. LK_ECANCELLED: told to stop; what was embedded stays. `work` and the
 * strings outlive the collection. */
int lk_collection_open(struct lk_collection **out, const struct lk_collection_options *options, struct lk_work *work);
/* Gives up a publication that runs, finishes what waits. NULL is fine. */
void lk_collection_close(struct lk_collection *c);

/* The generation that serves, held for the caller. */
struct lk_generation *lk_collection_pin(struct lk_collection *c);
/* And the coming one, or NULL. */
void lk_collection_pin_both(struct lk_collection *c, struct lk_generation **current, struct lk_generation **coming);

/* An embedding of `count` pictures in zeroed memory but for its arena, in generation g; with `writes` also in the coming
 * one. The caller adds pictures, deadline and callbacks. LK_ENOMEM. */
int lk_collection_embedding(struct lk_collection *c, struct lk_generation *g, struct lk_embedding *e, size_t count,
                            int writes);

/* Seconds until a request that was refused may come again: what waits (of the batcher's queue or `asking`, whichever is
 * more), by the measured rate; at least 1. */
int lk_collection_retry_after(struct lk_collection *c, int asking);

/* --- what a publication changes; by its thread, or at the start ---------------------------------------------------- */

/* From now on writes are made in g too (NULL: no longer). */
void lk_collection_expect(struct lk_collection *c, struct lk_generation *g);
/* Opens a generation of this collection. fresh: its index does not begin with what the index file holds. */
int lk_collection_open_generation(struct lk_collection *c, struct lk_generation **out, const char *model_path,
                                  const struct lk_engine_options *engine, int fresh);
/* Fills g's index with the vectors of its space that the catalogue holds. g is expected; at_start: and no writes come. */
int lk_collection_load(struct lk_collection *c, struct lk_generation *g, int at_start);
/* Records g as the generation that serves, started_with as it says, and makes it serve; takes over the caller's hold. */
int lk_collection_switch(struct lk_collection *c, struct lk_generation *g);
/* The options of an engine for this collection: "auto" is the precision that its vectors have, where there are any. */
struct lk_engine_options lk_collection_engine_options(const struct lk_collection *c,
                                                      const struct lk_store_serving *serving);

#endif
