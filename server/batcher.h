/* The batcher: one thread that owns the engine and turns single pictures from many connections into batches. A batch
 * closes at max_batch, or max_delay after its first entry when the engine is idle; while pictures are announced by
 * lk_batcher_expect (they are being decoded) it waits for those too, but never longer than a batch takes. Entries whose client left or whose
 * deadline passed are dropped before computing, and counted. Bulk entries never fill a batch while single ones wait:
 * at most half of each batch is bulk then. */
#ifndef LK_SERVER_BATCHER_H
#define LK_SERVER_BATCHER_H

#include <stdint.h>

#include "cores.h"
#include "engine.h"

struct lk_batcher;

struct lk_batcher_options {
    int max_batch;    /* 0: the engine's */
    int max_delay_us; /* 0..100000; default 500 */
    int queue; /* entries of either kind that may wait; default 1024; past it lk_batcher_submit returns LK_ELIMIT */
    struct lk_cores *cores; /* NULL, or: the engine takes engine_cores of them while it computes */
    int engine_cores;
};

struct lk_batch_entry {    /* owned by the caller, untouched by it until done() */
    const uint8_t *pixels; /* [S][S][3] */
    float *vector;         /* out: [dim] */
    int bulk;
    int64_t deadline_ns;                  /* CLOCK_MONOTONIC; 0: none */
    int (*gone)(struct lk_batch_entry *); /* NULL, or: 1 when the client has left (called from the batcher thread) */
    void (*done)(struct lk_batch_entry *, int status,
                 const char *error); /* exactly once, on the batcher thread; short */
    void *arg;
    struct lk_batch_entry *next; /* the batcher's */
};

struct lk_batcher_stats {
    uint64_t entries, batches, dropped_gone, dropped_late, refused;
    int waiting;
    double images_per_second; /* measured service rate over the last batches */
};

int lk_batcher_open(struct lk_batcher **out, struct lk_engine *engine, const struct lk_batcher_options *options);
/* LK_ELIMIT (queue full), LK_ECANCELLED (closing), LK_EFAIL (engine out of service). A status given to done() is one of
 * LK_ECANCELLED (gone or late), LK_EFAIL (the engine), LK_EINVAL (no finite unit vector comes of this picture). */
int lk_batcher_submit(struct lk_batcher *batcher, struct lk_batch_entry *entry);
/* n more pictures are on their way to lk_batcher_submit, or -n are no longer: each announced one is taken back after it
 * was submitted, or when it will not be. */
void lk_batcher_expect(struct lk_batcher *batcher, int n);
/* Submits and waits: for the canary, tools and tests. */
int lk_batcher_embed(struct lk_batcher *batcher, const uint8_t *pixels, float *vector);
void lk_batcher_stats(struct lk_batcher *batcher, struct lk_batcher_stats *out);
/* Computes what waits, then stops the thread. Does not close the engine. */
void lk_batcher_close(struct lk_batcher *batcher);

#endif
