#include "work.h"

#include <time.h>

int lk_work_open(struct lk_work *work, int cores, int engine_cores, int threads, size_t queue, uint64_t decode_bytes,
                 uint64_t max_pixels) {
    *work = (struct lk_work){.engine_cores = engine_cores, .max_pixels = max_pixels};
    lk_budget_init(&work->decode, decode_bytes);
    int rc;
    if ((rc = lk_cores_open(&work->cores, cores)) || (rc = lk_pool_open(&work->pool, threads, queue)))
        lk_work_close(work);
    return rc;
}

void lk_work_close(struct lk_work *work) {
    if (work->pool)
        lk_pool_close(work->pool);
    if (work->cores || work->pool)
        lk_budget_destroy(&work->decode);
    lk_cores_close(work->cores);
    *work = (struct lk_work){0};
}

void lk_work_do(struct lk_work *work, void (*job)(void *arg), void *arg) {
    if (lk_pool_submit(work->pool, job, arg))
        job(arg);
}

int64_t lk_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
