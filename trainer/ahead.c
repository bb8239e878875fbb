#include "ahead.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/rng.h"
#include "staging.h"

/* Batches are numbered through all epochs: number % LK_AHEAD_BATCHES is a batch's slot. */
struct slot {
    uint32_t *which; /* [batch] */
    struct lk_staging staging;
    size_t next, done; /* pictures begun, and read */
    int rc;            /* of the picture `failed`, with its sentence */
    size_t failed;
    char error[1024];
};

struct lk_ahead {
    const struct lk_dataset *data;
    size_t batch, steps;
    uint64_t seed, end; /* end: the number of the first batch that is never needed; 0: none */
    pthread_mutex_t mutex;
    pthread_cond_t work, ready; /* a picture to read; a batch is whole, or nothing is being read */
    pthread_t *threads;
    int n_threads, n_started, closing;
    size_t reading; /* pictures being read now */
    /* Batches first..last - 1 have slots; the consumer holds `first`, once it took one. */
    uint64_t first, last;
    int begun;       /* the consumer took one */
    uint32_t *order; /* of order_epoch; -1: none yet */
    int64_t order_epoch;
    struct slot slot[LK_AHEAD_BATCHES];
};

static struct slot *slot_of(struct lk_ahead *a, uint64_t number) { return &a->slot[number % LK_AHEAD_BATCHES]; }

/* Gives the next batch a slot. Under the mutex. */
static void assign(struct lk_ahead *a) {
    struct slot *s = slot_of(a, a->last);
    const uint32_t epoch = (uint32_t)(a->last / a->steps);
    const size_t step = (size_t)(a->last % a->steps);
    if (a->order_epoch != (int64_t)epoch) {
        lk_rng_shuffle(a->order, (uint32_t)a->data->n, a->seed, epoch);
        a->order_epoch = (int64_t)epoch;
    }
    memcpy(s->which, a->order + step * a->batch, a->batch * sizeof *s->which);
    s->next = s->done = 0;
    s->rc = lk_staging_reserve(&s->staging, a->data, s->which);
    if (s->rc != 0) { /* nothing of it can be read */
        s->failed = 0;
        s->next = s->done = a->batch;
        snprintf(s->error, sizeof s->error, "%s", lk_error());
        pthread_cond_signal(&a->ready);
    }
    a->last++;
}

/* A batch with pictures that nobody reads yet, or NULL. Under the mutex. */
static struct slot *find_work(struct lk_ahead *a) {
    if (!a->begun)
        return NULL;
    for (;;) {
        for (uint64_t b = a->first; b < a->last; b++)
            if (slot_of(a, b)->next < a->batch)
                return slot_of(a, b);
        if (a->last == a->first + LK_AHEAD_BATCHES || (a->end > 0 && a->last >= a->end))
            return NULL;
        assign(a);
    }
}

static void *reader(void *arg) {
    struct lk_ahead *a = arg;
    pthread_mutex_lock(&a->mutex);
    while (!a->closing) {
        struct slot *s = find_work(a);
        if (s == NULL) {
            pthread_cond_wait(&a->work, &a->mutex);
            continue;
        }
        size_t i = s->next++;
        a->reading++;
        pthread_mutex_unlock(&a->mutex);
        int rc = lk_staging_load(&s->staging, a->data, s->which, i);
        pthread_mutex_lock(&a->mutex);
        if (rc != 0 && (s->rc == 0 || i < s->failed)) {
            s->rc = rc, s->failed = i;
            snprintf(s->error, sizeof s->error, "%s", lk_error());
        }
        a->reading--;
        if (++s->done == a->batch || a->reading == 0)
            pthread_cond_signal(&a->ready);
    }
    pthread_mutex_unlock(&a->mutex);
    return NULL;
}

int lk_ahead_open(struct lk_ahead **out, const struct lk_dataset *data, struct lk_backend *device, size_t batch,
                  uint64_t seed, uint64_t epochs, int threads) {
    struct lk_ahead *a = *out = lk_calloc(1, sizeof *a);
    if (a == NULL)
        return LK_ENOMEM;
    int rc = LK_ENOMEM;
    a->data = data, a->batch = batch, a->seed = seed, a->order_epoch = -1;
    a->steps = data->n / batch;
    a->end = epochs * a->steps;
    a->n_threads = threads > 0 ? threads : lk_cpu_count();
    pthread_mutex_init(&a->mutex, NULL); /* these three cannot fail with default attributes on Linux */
    pthread_cond_init(&a->work, NULL);
    pthread_cond_init(&a->ready, NULL);
    a->order = lk_calloc(data->n, sizeof *a->order);
    a->threads = lk_calloc((size_t)a->n_threads, sizeof *a->threads);
    if (a->order == NULL || a->threads == NULL)
        goto fail;
    for (int i = 0; i < LK_AHEAD_BATCHES; i++) {
        a->slot[i].which = lk_calloc(batch, sizeof *a->slot[i].which);
        if (a->slot[i].which == NULL || (rc = lk_staging_open(&a->slot[i].staging, device, batch)) != 0)
            goto fail;
    }
    for (; a->n_started < a->n_threads; a->n_started++)
        if (pthread_create(&a->threads[a->n_started], NULL, reader, a) != 0) {
            rc = lk_err(LK_EFAIL, "cannot start thread %d of %d that read pictures", a->n_started + 1, a->n_threads);
            goto fail;
        }
    return 0;
fail:
    lk_ahead_close(a);
    *out = NULL;
    return rc;
}

void lk_ahead_close(struct lk_ahead *a) {
    if (a == NULL)
        return;
    pthread_mutex_lock(&a->mutex);
    a->closing = 1;
    pthread_cond_broadcast(&a->work);
    pthread_mutex_unlock(&a->mutex);
    for (int i = 0; i < a->n_started; i++)
        pthread_join(a->threads[i], NULL);
    for (int i = 0; i < LK_AHEAD_BATCHES; i++) {
        lk_staging_close(&a->slot[i].staging);
        free(a->slot[i].which);
    }
    pthread_mutex_destroy(&a->mutex);
    pthread_cond_destroy(&a->work);
    pthread_cond_destroy(&a->ready);
    free(a->threads);
    free(a->order);
    free(a);
}

/* Makes `number` the first batch. Under the mutex. */
static void move_to(struct lk_ahead *a, uint64_t number) {
    if (a->begun && number >= a->first && number < a->last) { /* as a rule the one after the one that it holds */
        a->first = number;
        return;
    }
    a->begun = 0; /* nothing new is begun; what is being read is waited for */
    while (a->reading > 0)
        pthread_cond_wait(&a->ready, &a->mutex);
    a->first = a->last = number;
    a->begun = 1;
}

int lk_ahead_take(struct lk_ahead *a, uint32_t epoch, size_t step, const uint8_t **pixels) {
    const uint64_t number = (uint64_t)epoch * a->steps + step;
    pthread_mutex_lock(&a->mutex);
    move_to(a, number);
    if (a->last == a->first)
        assign(a);
    pthread_cond_broadcast(&a->work);
    struct slot *s = slot_of(a, number);
    while (s->done < a->batch)
        pthread_cond_wait(&a->ready, &a->mutex);
    int rc = s->rc != 0 ? lk_err(s->rc, "%s", s->error) : 0;
    pthread_mutex_unlock(&a->mutex);
    return rc ? rc : lk_staging_finish(&s->staging, pixels); /* the slot is the consumer's until it takes another */
}
