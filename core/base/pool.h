/* A fixed pool of threads: parallel loops for a caller that waits, and a bounded queue of jobs for one that does not.
 * Waits block on condition variables and never spin. */
#ifndef LK_BASE_POOL_H
#define LK_BASE_POOL_H

#include <stddef.h>

struct lk_pool;

/* threads 0: as many as lk_cpu_count(). queue: jobs that may wait (lk_pool_submit returns LK_EBUSY past it). */
int lk_pool_open(struct lk_pool **out, int threads, size_t queue);
int lk_pool_threads(const struct lk_pool *pool);

/* Runs body(arg, i) for every i in 0..n-1 on the pool and the calling thread; returns when all are done. */
void lk_pool_for(struct lk_pool *pool, size_t n, void (*body)(void *arg, size_t i), void *arg);

/* Queues job(arg); it runs exactly once, unless LK_EBUSY (full) or LK_ECANCELLED (closing) was returned. */
int lk_pool_submit(struct lk_pool *pool, void (*job)(void *arg), void *arg);

/* Waits for queued jobs to end, then frees. NULL is fine. */
void lk_pool_close(struct lk_pool *pool);

/* Cores this process may run on (affinity mask and cgroup quota respected), at least 1. */
int lk_cpu_count(void);

#endif
