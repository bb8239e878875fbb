#include "prober.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "work.h"

/* Shared with the batcher, which may hold it longer than we wait. */
struct canary {
    struct lk_batch_entry entry;
    struct lk_prober *prober;
    struct lk_generation *generation; /* held */
    atomic_int holders;
    int done, status;
    char error[256];
    uint8_t *pixels;
    float *vector;
};

struct lk_prober {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_t thread;
    int thread_runs, closing;
    struct lk_collection *collection;
    int64_t timeout_ns;
    struct lk_probe *waiting;
    int out; /* canaries that the batcher still holds */
};

static void let_go(struct canary *c) {
    if (atomic_fetch_sub(&c->holders, 1) != 1)
        return;
    lk_generation_release(c->generation);
    free(c->pixels);
    free(c->vector);
    free(c);
}

static void came_back(struct lk_batch_entry *entry, int status, const char *error) {
    struct canary *c = entry->arg;
    struct lk_prober *p = c->prober;
    pthread_mutex_lock(&p->mutex);
    c->status = status;
    snprintf(c->error, sizeof c->error, "%s", error ? error : "");
    c->done = 1;
    p->out--;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->mutex);
    let_go(c);
}

/* 0 when a canary came back in time, else the reason in text. */
static int probe(struct lk_prober *p, char *text, size_t size) {
    struct canary *c = lk_calloc(1, sizeof *c);
    size_t picture = 0;
    if (c) {
        c->generation = lk_collection_pin(p->collection);
        picture = (size_t)c->generation->side * (size_t)c->generation->side * 3;
        c->pixels = lk_calloc(picture, 1);
        c->vector = lk_calloc((size_t)c->generation->dim, sizeof(float));
    }
    if (!c || !c->pixels || !c->vector) {
        if (c) {
            atomic_store(&c->holders, 1);
            let_go(c);
        }
        snprintf(text, size, "memory ran out");
        return LK_ENOMEM;
    }
    lk_generation_canary(c->generation, c->pixels);
    c->prober = p;
    atomic_store(&c->holders, 2);
    c->entry = (struct lk_batch_entry){.pixels = c->pixels, .vector = c->vector, .done = came_back, .arg = c};
    pthread_mutex_lock(&p->mutex);
    p->out++;
    pthread_mutex_unlock(&p->mutex);
    int64_t end = lk_now_ns() + p->timeout_ns;
    int rc = lk_batcher_submit(c->generation->batcher, &c->entry);
    if (rc) {
        snprintf(text, size, "%s", lk_error());
        pthread_mutex_lock(&p->mutex);
        p->out--;
        pthread_mutex_unlock(&p->mutex);
        atomic_store(&c->holders, 1); /* the batcher did not take it */
    } else {
        pthread_mutex_lock(&p->mutex);
        struct timespec t = {.tv_sec = end / 1000000000, .tv_nsec = end % 1000000000};
        while (!c->done && lk_now_ns() < end)
            pthread_cond_timedwait(&p->changed, &p->mutex, &t);
        rc = c->done ? c->status : LK_EBUSY;
        if (rc)
            snprintf(text, size, "%s", c->done ? c->error : "the canary picture did not come back in time");
        pthread_mutex_unlock(&p->mutex);
    }
    let_go(c);
    return rc;
}

static void *run(void *arg) {
    struct lk_prober *p = arg;
    pthread_mutex_lock(&p->mutex);
    for (;;) {
        while (!p->waiting && !p->closing)
            pthread_cond_wait(&p->changed, &p->mutex);
        struct lk_probe *asked = p->waiting;
        if (!asked)
            break;
        p->waiting = NULL;
        pthread_mutex_unlock(&p->mutex);
        char text[256];
        int64_t start = lk_now_ns();
        int rc = probe(p, text, sizeof text);
        double milliseconds = (double)(lk_now_ns() - start) * 1e-6;
        while (asked) {
            struct lk_probe *next = asked->next;
            asked->done(asked, milliseconds, rc ? text : NULL);
            asked = next;
        }
        pthread_mutex_lock(&p->mutex);
    }
    while (p->out) /* the batcher tells each of its entries */
        pthread_cond_wait(&p->changed, &p->mutex);
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

int lk_prober_open(struct lk_prober **out, struct lk_collection *collection, double timeout_seconds) {
    *out = NULL;
    struct lk_prober *p = lk_calloc(1, sizeof *p);
    if (!p)
        return LK_ENOMEM;
    p->collection = collection;
    p->timeout_ns = (int64_t)(timeout_seconds * 1e9);
    pthread_mutex_init(&p->mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&p->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    p->thread_runs = pthread_create(&p->thread, NULL, run, p) == 0;
    if (!p->thread_runs) {
        lk_prober_close(p);
        return lk_err(LK_EFAIL, "the prober's thread cannot be started");
    }
    *out = p;
    return 0;
}

void lk_prober_ask(struct lk_prober *prober, struct lk_probe *asked) {
    pthread_mutex_lock(&prober->mutex);
    asked->next = prober->waiting;
    prober->waiting = asked;
    pthread_cond_broadcast(&prober->changed);
    pthread_mutex_unlock(&prober->mutex);
}

void lk_prober_close(struct lk_prober *prober) {
    if (!prober)
        return;
    if (prober->thread_runs) {
        pthread_mutex_lock(&prober->mutex);
        prober->closing = 1;
        pthread_cond_broadcast(&prober->changed);
        pthread_mutex_unlock(&prober->mutex);
        pthread_join(prober->thread, NULL);
    }
    pthread_cond_destroy(&prober->changed);
    pthread_mutex_destroy(&prober->mutex);
    free(prober);
}
