/* The batcher: one thread that owns the engine and turns single pictures from many connections into batches. A batch
 * closes at max_batch, or max_delay after its first entry when the engine is idle; while places are reserved (their
 * pictures are being decoded) it waits for those too, but never longer than a batch takes. Entries whose client left or
 * whose deadline passed are dropped before computing, and counted.
 *
 * On a device that computes beside the host a second batch begins behind the one that is computed, if it is full early
 * enough, so that the device finds it there when the first has ended. One that is not full waits for that end, and so
 * for more to come. It costs a single entry one batch at most: a full one of bulk that began before the entry came.
 *
 * Fairness: bulk entries never fill a batch while single ones wait: at most half of each batch is bulk then. Within
 * either kind the flows (requests, and so connections) that wait take turns, an entry each. */
#ifndef LK_SERVER_BATCHER_H
#define LK_SERVER_BATCHER_H

#include <stdint.h>

#include "cores.h"
#include "engine.h"
#include "metrics.h"

struct lk_batcher;

struct lk_batcher_options {
    int max_batch;              /* 0: the engine's */
    int max_delay_us;           /* 0..100000; default 500 */
    int queue;                  /* places for entries of either kind that wait or are on their way; default 1024 */
    struct lk_metrics *metrics; /* may be NULL */
    struct lk_cores *cores;     /* NULL, or: the engine takes engine_cores of them while it computes */
    int engine_cores;
};

struct
    lk_batch_flow { /* one client's entries, in their order; the batcher's while any of them waits; zeroed at first */
    struct lk_batch_entry *head, **tail;
    struct lk_batch_flow *next;
};

struct lk_batch_entry {    /* owned by the caller, untouched by it until done() */
    const uint8_t *pixels; /* [S][S][3] */
    float *vector;         /* out: [dim] */
    int bulk;
    int reserved;                         /* 1: takes a place of lk_batcher_reserve */
    struct lk_batch_flow *flow;           /* outlives its entries; NULL: this entry alone */
    int64_t deadline_ns;                  /* CLOCK_MONOTONIC; 0: none */
    int (*gone)(struct lk_batch_entry *); /* NULL, or: 1 when the client has left (called from the batcher thread) */
    void (*done)(struct lk_batch_entry *, int status,
                 const char *error); /* exactly once, on the batcher thread; short */
    void *arg;
    struct lk_stages *stages;    /* NULL, or: of its request, where its times are added */
    int64_t submitted_ns;        /* the batcher's, as all below */
    struct lk_batch_entry *next; /* the batcher's */
    struct lk_batch_flow own;
};

struct lk_batcher_stats {
    uint64_t entries, batches, dropped_gone, dropped_late, refused;
    int waiting; /* entries, and places reserved */
    double
        images_per_second; /* measured service rate: while entries wait, from the end of a batch to the end of the next */
};

int lk_batcher_open(struct lk_batcher **out, struct lk_engine *engine, const struct lk_batcher_options *options);
/* Takes n places of the queue for pictures that come after they are decoded, so that work which will be refused is
 * refused before it begins. LK_ELIMIT (not so many are free), LK_ECANCELLED (closing), LK_EFAIL (engine out of service).
 * Each place is used by a submit with `reserved`, successful or not, or given back. */
int lk_batcher_reserve(struct lk_batcher *batcher, int n, int bulk);
void lk_batcher_give_back(struct lk_batcher *batcher, int n, int bulk);
/* LK_ELIMIT (queue full, without a reserved place), LK_ECANCELLED, LK_EFAIL as above. A status given to done() is one of
 * LK_ECANCELLED (gone or late), LK_EFAIL (the engine), LK_EINVAL (no finite unit vector comes of this picture). */
int lk_batcher_submit(struct lk_batcher *batcher, struct lk_batch_entry *entry);
/* For who was refused by a full queue and may wait: 1 after a moment, or at once 0 when the deadline (0: none) has passed. */
int lk_batcher_wait_for_room(int64_t deadline_ns);
/* Submits and waits, for a place in a full queue too; LK_ELIMIT or LK_ECANCELLED when the deadline (0: none) passed before
 * it was computed. */
int lk_batcher_embed(struct lk_batcher *batcher, const uint8_t *pixels, float *vector, int64_t deadline_ns);
void lk_batcher_stats(struct lk_batcher *batcher, struct lk_batcher_stats *out);
/* Computes what waits, then stops the thread. Does not close the engine. */
void lk_batcher_close(struct lk_batcher *batcher);

#endif
