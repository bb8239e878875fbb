#include "work.h"

#include <stdlib.h>
#include <time.h>

#include "base/buf.h"

enum { KEPT_SCRATCH = 1 << 20 }; /* bytes: of a picture of 256 x 256 pixels, and of what resizing it takes */

struct lk_scratch {
    struct lk_arena arena; /* first */
    struct lk_scratch *next;
};

int lk_work_open(struct lk_work *work, int cores, int engine_cores, int threads, size_t queue, uint64_t decode_bytes,
                 uint64_t max_pixels) {
    *work = (struct lk_work){.engine_cores = engine_cores, .max_pixels = max_pixels};
    lk_budget_init(&work->decode, decode_bytes);
    pthread_mutex_init(&work->mutex, NULL);
    int rc;
    if ((rc = lk_cores_open(&work->cores, cores)) || (rc = lk_pool_open(&work->pool, threads, queue)))
        lk_work_close(work);
    return rc;
}

void lk_work_close(struct lk_work *work) {
    if (work->pool)
        lk_pool_close(work->pool);
    if (work->cores || work->pool) {
        lk_budget_destroy(&work->decode);
        pthread_mutex_destroy(&work->mutex);
    }
    while (work->scratch) {
        struct lk_scratch *s = work->scratch;
        work->scratch = s->next;
        lk_arena_close(&s->arena);
        free(s);
    }
    lk_cores_close(work->cores);
    *work = (struct lk_work){0};
}

void lk_work_do(struct lk_work *work, void (*job)(void *arg), void *arg) {
    if (lk_pool_submit(work->pool, job, arg))
        job(arg);
}

struct lk_arena *lk_work_scratch(struct lk_work *work) {
    pthread_mutex_lock(&work->mutex);
    struct lk_scratch *s = work->scratch;
    if (s)
        work->scratch = s->next;
    pthread_mutex_unlock(&work->mutex);
    if (!s)
        s = lk_calloc(1, sizeof *s);
    return s ? &s->arena : NULL;
}

void lk_work_scratch_back(struct lk_work *work, struct lk_arena *arena) {
    if (!arena)
        return;
    struct lk_scratch *s = (struct lk_scratch *)arena;
    lk_arena_reset(arena, KEPT_SCRATCH);
    pthread_mutex_lock(&work->mutex);
    s->next = work->scratch;
    work->scratch = s;
    pthread_mutex_unlock(&work->mutex);
}

int64_t lk_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
