/* What computes: the work pool, the cores that it shares with the engine, and the bytes that may be decoded at once.
 * One per process; collections and routes point to it. */
#ifndef LK_SERVER_WORK_H
#define LK_SERVER_WORK_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/pool.h"
#include "budget.h"
#include "cores.h"
#include "metrics.h"

struct lk_scratch;

struct lk_work {
    struct lk_pool *pool;
    struct lk_cores *cores;
    int engine_cores; /* cores that a batch takes; 0: the engine computes on a device of its own */
    struct lk_budget decode;
    uint64_t max_pixels;
    int scaled_jpeg;            /* see --scaled-jpeg */
    struct lk_metrics *metrics; /* not the work's own; NULL: nobody counts */
    pthread_mutex_t mutex;
    struct lk_scratch *scratch; /* list, of those that nobody uses */
};

/* threads: the pool's. queue: jobs that may wait; more than there can be requests, so that no job is ever refused. */
int lk_work_open(struct lk_work *work, int cores, int engine_cores, int threads, size_t queue, uint64_t decode_bytes,
                 uint64_t max_pixels);
void lk_work_close(struct lk_work *work); /* accepts a zeroed one; waits for what is queued */

/* Runs job(arg) on the pool; on the calling thread if the pool does not take it. */
void lk_work_do(struct lk_work *work, void (*job)(void *arg), void *arg);

/* Memory for what a thread needs while it decodes a picture, for whoever has taken a core, so that there are never more of
 * them than cores. NULL: there is none, and an arena is optional. Given back, it keeps what usual pictures need. */
struct lk_arena *lk_work_scratch(struct lk_work *work);
void lk_work_scratch_back(struct lk_work *work, struct lk_arena *arena);

int64_t lk_now_ns(void); /* CLOCK_MONOTONIC */

#endif
