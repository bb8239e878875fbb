/* The thread pool. One mutex guards the queue and the list of running loops; a loop's indices are handed out by an
 * atomic counter, so that the mutex is taken once a thread and loop, not once an index. A caller works on its own loop,
 * so a loop inside a job or inside another loop cannot wait for a thread that never comes. */
#include "base/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"

struct job {
    void (*run)(void *arg);
    void *arg;
};

struct loop { /* lives on the stack of lk_pool_for's caller */
    void (*body)(void *arg, size_t i);
    void *arg;
    size_t n;
    atomic_size_t next;
    int helpers; /* pool threads inside; under the mutex */
    struct loop *link;
};

struct lk_pool {
    pthread_mutex_t mutex;
    pthread_cond_t work;  /* a job, a loop, or closing */
    pthread_cond_t leave; /* a helper left its loop */
    pthread_t *threads;
    int n_threads, n_started;
    struct job *ring; /* jobs waiting: ring[head], ring[head + 1], ... */
    size_t ring_size, head, n_jobs;
    struct loop *loops;
    int closing;
};

static void run_loop(struct loop *l) {
    for (;;) {
        size_t i = atomic_fetch_add_explicit(&l->next, 1, memory_order_relaxed);
        if (i >= l->n)
            return;
        l->body(l->arg, i);
    }
}

/* A loop with indices left and room for one more thread: its caller is one of pool->n_threads. */
static struct loop *find_loop(struct lk_pool *pool) {
    for (struct loop *l = pool->loops; l != NULL; l = l->link)
        if (l->helpers < pool->n_threads - 1 && atomic_load_explicit(&l->next, memory_order_relaxed) < l->n)
            return l;
    return NULL;
}

static void *worker(void *arg) {
    struct lk_pool *pool = arg;
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        struct loop *l = find_loop(pool);
        if (l != NULL) {
            l->helpers++;
            pthread_mutex_unlock(&pool->mutex);
            run_loop(l);
            pthread_mutex_lock(&pool->mutex);
            if (--l->helpers == 0)
                pthread_cond_broadcast(&pool->leave);
        } else if (pool->n_jobs > 0) {
            struct job job = pool->ring[pool->head];
            pool->head = (pool->head + 1) % pool->ring_size;
            pool->n_jobs--;
            pthread_mutex_unlock(&pool->mutex);
            job.run(job.arg);
            pthread_mutex_lock(&pool->mutex);
        } else if (pool->closing) {
            break;
        } else {
            pthread_cond_wait(&pool->work, &pool->mutex);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

int lk_pool_open(struct lk_pool **out, int threads, size_t queue) {
    *out = NULL;
    if (threads < 0 || threads > 4096)
        return lk_err(LK_EINVAL, "a thread pool has 1 to 4096 threads, not %d", threads);
    struct lk_pool *pool = lk_calloc(1, sizeof *pool);
    if (pool == NULL)
        return LK_ENOMEM;
    pthread_mutex_init(&pool->mutex, NULL); /* these three cannot fail with default attributes on Linux */
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->leave, NULL);
    pool->n_threads = threads ? threads : lk_cpu_count();
    pool->ring_size = queue;
    int rc = LK_ENOMEM;
    pool->threads = lk_calloc((size_t)pool->n_threads, sizeof *pool->threads);
    pool->ring = lk_calloc(queue, sizeof *pool->ring);
    if (pool->threads == NULL || pool->ring == NULL)
        goto fail;
    for (; pool->n_started < pool->n_threads; pool->n_started++) {
        int number = pthread_create(&pool->threads[pool->n_started], NULL, worker, pool);
        if (number != 0) {
            char text[128];
            rc = lk_err(LK_EFAIL, "cannot start thread %d of %d: %s", pool->n_started + 1, pool->n_threads,
                        strerror_r(number, text, sizeof text));
            goto fail;
        }
    }
    *out = pool;
    return 0;
fail:
    lk_pool_close(pool);
    return rc;
}

int lk_pool_threads(const struct lk_pool *pool) { return pool->n_threads; }

void lk_pool_for(struct lk_pool *pool, size_t n, void (*body)(void *arg, size_t i), void *arg) {
    struct loop l = {.body = body, .arg = arg, .n = n};
    if (n < 2 || pool->n_threads < 2) {
        run_loop(&l);
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    l.link = pool->loops;
    pool->loops = &l;
    if (n > 2)
        pthread_cond_broadcast(&pool->work);
    else
        pthread_cond_signal(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    run_loop(&l);
    pthread_mutex_lock(&pool->mutex);
    struct loop **p = &pool->loops;
    while (*p != &l)
        p = &(*p)->link;
    *p = l.link; /* from here no thread finds it; those inside are counted */
    while (l.helpers > 0)
        pthread_cond_wait(&pool->leave, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}

int lk_pool_submit(struct lk_pool *pool, void (*job)(void *arg), void *arg) {
    int rc = 0;
    pthread_mutex_lock(&pool->mutex);
    if (pool->closing) {
        rc = lk_err(LK_ECANCELLED, "the thread pool is closing");
    } else if (pool->n_jobs == pool->ring_size) {
        rc = lk_err(LK_EBUSY, "%zu jobs are waiting, the queue is full", pool->n_jobs);
    } else {
        pool->ring[(pool->head + pool->n_jobs) % pool->ring_size] = (struct job){job, arg};
        pool->n_jobs++;
    }
    pthread_mutex_unlock(&pool->mutex);
    if (rc == 0) /* without the mutex, which the thread that wakes up takes at once */
        pthread_cond_signal(&pool->work);
    return rc;
}

void lk_pool_close(struct lk_pool *pool) {
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->mutex);
    pool->closing = 1;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 0; i < pool->n_started; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->leave);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->threads);
    free(pool->ring);
    free(pool);
}
