#include "batcher.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/err.h"

/* Two queues, so that a flood of bulk entries neither delays nor refuses single ones. Each is a round of flows. */
struct queue {
    struct lk_batch_flow *head, **tail;
    int count, reserved;
};

/* A batch that is computed. */
struct flight {
    struct lk_batch_entry **entries;
    int n;
    int64_t start_ns;
};

struct lk_batcher {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_t thread;
    int thread_runs;
    struct lk_engine *engine;
    struct lk_batcher_options options;
    struct queue single, bulk;
    int64_t first_ns; /* when the oldest entry came, while any waits */
    int64_t batch_ns; /* how long batches take */
    int64_t ended_ns; /* when the last batch ended */
    int went_on;      /* entries waited then, or a batch was on its way */
    int closing, broken, bulk_next;
    struct lk_batcher_stats stats;
    /* the thread's own */
    int max_batch, dim;
    size_t picture; /* bytes */
    uint8_t *pixels;
    float *vectors;
    struct flight flights[LK_EMBED_SLOTS]; /* in turn */
    unsigned begun, ended;
};

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void push_flow(struct queue *q, struct lk_batch_flow *flow) {
    flow->next = NULL;
    *q->tail = flow;
    q->tail = &flow->next;
}

static void push(struct queue *q, struct lk_batch_entry *entry) {
    struct lk_batch_flow *flow = entry->flow ? entry->flow : &entry->own;
    int waits = flow->head != NULL;
    entry->next = NULL;
    if (!waits)
        flow->tail = &flow->head;
    *flow->tail = entry;
    flow->tail = &entry->next;
    if (!waits)
        push_flow(q, flow);
    q->count++;
}

/* The first entry of the flow whose turn it is. */
static struct lk_batch_entry *pop(struct queue *q) {
    struct lk_batch_flow *flow = q->head;
    struct lk_batch_entry *entry = flow->head;
    q->head = flow->next;
    if (!q->head)
        q->tail = &q->head;
    flow->head = entry->next;
    if (flow->head)
        push_flow(q, flow);
    q->count--;
    return entry;
}

static void wait_until(struct lk_batcher *b, int64_t ns) {
    struct timespec t = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    pthread_cond_timedwait(&b->changed, &b->mutex, &t);
}

/* Waits until a batch may begin. 0: nothing waits any more and the batcher closes. */
static int wait_for_batch(struct lk_batcher *b) {
    for (;;) {
        int waiting = b->single.count + b->bulk.count;
        if (waiting == 0 && b->closing)
            return 0;
        if (waiting >= b->max_batch || (waiting && b->closing))
            return 1;
        if (waiting == 0) {
            pthread_cond_wait(&b->changed, &b->mutex);
            continue;
        }
        int64_t delay = (int64_t)b->options.max_delay_us * 1000;
        int64_t begin = b->first_ns +
                        (b->single.reserved + b->bulk.reserved > 0 && b->batch_ns > delay ? b->batch_ns : delay);
        if (now_ns() >= begin)
            return 1;
        wait_until(b, begin);
    }
}

/* The next entry for a batch that holds `bulk` bulk ones, or NULL. While single ones wait, half a batch is bulk at
 * most; with a batch of one, the two take turns. */
static struct lk_batch_entry *next_entry(struct lk_batcher *b, int n, int bulk) {
    int half = b->max_batch / 2;
    if (b->max_batch == 1)
        half = b->bulk_next;
    if (b->bulk.count && (!b->single.count || (bulk < half && n >= b->max_batch - half)))
        return pop(&b->bulk);
    if (b->single.count && (n < b->max_batch - half || !b->bulk.count || bulk >= half))
        return pop(&b->single);
    return b->bulk.count ? pop(&b->bulk) : NULL;
}

/* Takes live entries from the queues into batch; called and returns with the mutex held, which is open while entries are
 * asked whether anybody still wants them. */
static int collect(struct lk_batcher *b, struct lk_batch_entry **batch) {
    int n = 0, bulk = 0;
    struct lk_batch_entry *entry;
    while (n < b->max_batch && (entry = next_entry(b, n, bulk))) {
        pthread_mutex_unlock(&b->mutex);
        int late = entry->deadline_ns && now_ns() >= entry->deadline_ns;
        int gone = !late && entry->gone && entry->gone(entry);
        if (late || gone) {
            pthread_mutex_lock(&b->mutex);
            b->stats.dropped_late += (uint64_t)late;
            b->stats.dropped_gone += (uint64_t)gone;
            pthread_mutex_unlock(&b->mutex);
            lk_metrics_count(b->options.metrics, late ? LK_COUNT_DROPPED_LATE : LK_COUNT_DROPPED_GONE, 1);
            entry->done(entry, LK_ECANCELLED, late ? "the deadline passed in the queue" : "the client left");
        } else {
            bulk += entry->bulk != 0;
            batch[n++] = entry;
        }
        pthread_mutex_lock(&b->mutex);
    }
    b->bulk_next = bulk == 0;
    b->first_ns = now_ns(); /* what waits now came while this batch formed */
    return n;
}

static int is_unit(const float *v, int dim) {
    double sum = 0;
    for (int i = 0; i < dim; i++)
        sum += (double)v[i] * (double)v[i];
    return isfinite(sum) && sum > 0.98 && sum < 1.02;
}

/* The figures of a batch that has ended. */
static void count(struct lk_batcher *b, const struct flight *f, int rc, int64_t end) {
    pthread_mutex_lock(&b->mutex);
    if (rc)
        b->broken = 1;
    b->stats.batches++;
    b->stats.entries += (uint64_t)f->n;
    int64_t took = end - (f->start_ns > b->ended_ns ? f->start_ns : b->ended_ns); /* not the one before it too */
    b->batch_ns = b->batch_ns == 0 ? took : (7 * b->batch_ns + took) / 8;
    if (b->went_on)
        took = end - b->ended_ns;
    b->ended_ns = end;
    b->went_on = b->single.count + b->bulk.count > 0 || b->begun != b->ended;
    double rate = 1e9 * f->n / (double)(took > 0 ? took : 1);
    b->stats.images_per_second = b->stats.images_per_second == 0 ? rate : 0.9 * b->stats.images_per_second + 0.1 * rate;
    pthread_mutex_unlock(&b->mutex);
    lk_metrics_count_batch(b->options.metrics, f->n);
}

/* Everyone gets his vector, or rc with lk_error(). */
static void hand_out(struct lk_batcher *b, const struct flight *f, int rc) {
    int64_t end = now_ns();
    count(b, f, rc, end);
    for (int i = 0; i < f->n; i++) {
        struct lk_batch_entry *entry = f->entries[i];
        lk_metrics_stage(b->options.metrics, LK_STAGE_QUEUE, f->start_ns - entry->submitted_ns, entry->stages);
        lk_metrics_stage(b->options.metrics, LK_STAGE_INFERENCE, end - f->start_ns, entry->stages);
        const float *vector = b->vectors + (size_t)i * (size_t)b->dim;
        if (rc) {
            entry->done(entry, rc, lk_error());
        } else if (!is_unit(vector, b->dim)) {
            entry->done(entry, LK_EINVAL, "the model makes no finite unit vector of this picture");
        } else {
            memcpy(entry->vector, vector, (size_t)b->dim * sizeof *vector);
            entry->done(entry, 0, NULL);
        }
    }
}

static void begin(struct lk_batcher *b, struct flight *f) {
    for (int i = 0; i < f->n; i++)
        memcpy(b->pixels + (size_t)i * b->picture, f->entries[i]->pixels, b->picture);
    f->start_ns = now_ns();
    int rc = lk_engine_begin(b->engine, b->pixels, f->n);
    if (rc)
        hand_out(b, f, rc);
    else
        b->begun++;
}

static void end_oldest(struct lk_batcher *b) {
    int rc = lk_engine_end(b->engine, b->vectors);
    hand_out(b, &b->flights[b->ended++ % LK_EMBED_SLOTS], rc);
}

/* Whether another batch begins before the oldest ends. While a full one computes, more are likely to come: they are waited
 * for until half of a batch's time has passed, and then for its end, which tells nobody before it is asked for. */
static int another_begins(struct lk_batcher *b) {
    const struct flight *oldest = &b->flights[b->ended % LK_EMBED_SLOTS];
    int64_t until = (oldest->start_ns > b->ended_ns ? oldest->start_ns : b->ended_ns) + b->batch_ns / 2;
    if (b->begun - b->ended == (unsigned)lk_engine_slots(b->engine))
        return 0;
    for (;;) {
        int waiting = b->single.count + b->bulk.count;
        if (waiting >= b->max_batch || b->closing)
            return waiting > 0;
        if (oldest->n < b->max_batch || now_ns() >= until)
            return 0;
        wait_until(b, until);
    }
}

static void *run(void *arg) {
    struct lk_batcher *b = arg;
    pthread_mutex_lock(&b->mutex);
    for (;;) {
        if (b->begun == b->ended) {
            if (!wait_for_batch(b))
                break;
            pthread_mutex_unlock(&b->mutex);
            lk_cores_take(b->options.cores, b->options.engine_cores);
            pthread_mutex_lock(&b->mutex);
        }
        struct flight *next = &b->flights[b->begun % LK_EMBED_SLOTS];
        int begins = b->begun == b->ended || another_begins(b);
        if (begins)
            next->n = collect(b, next->entries); /* those too that came while we waited for the cores */
        pthread_mutex_unlock(&b->mutex);
        if (!begins)
            end_oldest(b);
        else if (next->n)
            begin(b, next);
        if (b->begun == b->ended)
            lk_cores_give(b->options.cores, b->options.engine_cores);
        pthread_mutex_lock(&b->mutex);
    }
    pthread_mutex_unlock(&b->mutex);
    return NULL;
}

int lk_batcher_open(struct lk_batcher **out, struct lk_engine *engine, const struct lk_batcher_options *options) {
    *out = NULL;
    struct lk_batcher *b = lk_calloc(1, sizeof *b);
    if (!b)
        return LK_ENOMEM;
    b->engine = engine;
    b->options = options ? *options : (struct lk_batcher_options){.max_delay_us = 500};
    if (b->options.queue <= 0)
        b->options.queue = 1024;
    b->max_batch = b->options.max_batch > 0 && b->options.max_batch < lk_engine_max_batch(engine)
                       ? b->options.max_batch
                       : lk_engine_max_batch(engine);
    b->dim = lk_engine_dim(engine);
    b->picture = (size_t)lk_engine_side(engine) * (size_t)lk_engine_side(engine) * 3;
    b->single.tail = &b->single.head;
    b->bulk.tail = &b->bulk.head;
    pthread_mutex_init(&b->mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&b->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int rc = 0;
    b->pixels = lk_calloc((size_t)b->max_batch, b->picture);
    b->vectors = lk_calloc((size_t)b->max_batch * (size_t)b->dim, sizeof *b->vectors);
    for (int i = 0; i < LK_EMBED_SLOTS && rc == 0; i++) {
        b->flights[i].entries = lk_calloc((size_t)b->max_batch, sizeof(struct lk_batch_entry *));
        rc = b->flights[i].entries ? 0 : LK_ENOMEM;
    }
    if (rc || !b->pixels || !b->vectors) {
        rc = LK_ENOMEM;
    } else if (pthread_create(&b->thread, NULL, run, b)) {
        rc = lk_err(LK_EFAIL, "the batcher's thread cannot be started");
    } else {
        b->thread_runs = 1;
        *out = b;
    }
    if (rc)
        lk_batcher_close(b);
    return rc;
}

/* Why nothing more is taken, or 0; the mutex is held. */
static int check_open(const struct lk_batcher *b) {
    return b->closing  ? lk_err(LK_ECANCELLED, "the server stops")
           : b->broken ? lk_err(LK_EFAIL, "the engine is out of service")
                       : 0;
}

static int check_room(const struct lk_batcher *b, const struct queue *q, int n) {
    return n > b->options.queue - q->count - q->reserved
               ? lk_err(LK_ELIMIT, "the queue is full: %d pictures wait, %d more were to come, and the limit is %d",
                        q->count + q->reserved, n, b->options.queue)
               : 0;
}

int lk_batcher_reserve(struct lk_batcher *batcher, int n, int bulk) {
    struct lk_batcher *b = batcher;
    struct queue *q = bulk ? &b->bulk : &b->single;
    pthread_mutex_lock(&b->mutex);
    int rc = check_open(b);
    if (rc == 0)
        rc = check_room(b, q, n);
    if (rc == 0)
        q->reserved += n;
    else
        b->stats.refused += (uint64_t)n;
    if (rc)
        lk_metrics_count(b->options.metrics, LK_COUNT_REFUSED, (uint64_t)n);
    pthread_mutex_unlock(&b->mutex);
    return rc;
}

/* The mutex is held. */
static void take_places(struct lk_batcher *b, struct queue *q, int n) {
    q->reserved -= n;
    if (b->single.reserved + b->bulk.reserved == 0)
        pthread_cond_signal(&b->changed);
}

void lk_batcher_give_back(struct lk_batcher *batcher, int n, int bulk) {
    pthread_mutex_lock(&batcher->mutex);
    take_places(batcher, bulk ? &batcher->bulk : &batcher->single, n);
    pthread_mutex_unlock(&batcher->mutex);
}

int lk_batcher_submit(struct lk_batcher *batcher, struct lk_batch_entry *entry) {
    struct lk_batcher *b = batcher;
    struct queue *q = entry->bulk ? &b->bulk : &b->single;
    pthread_mutex_lock(&b->mutex);
    int rc = check_open(b);
    if (rc == 0 && !entry->reserved)
        rc = check_room(b, q, 1);
    if (rc == 0) {
        if (b->single.count + b->bulk.count == 0)
            b->first_ns = now_ns();
        entry->submitted_ns = now_ns();
        push(q, entry);
        int waiting = b->single.count + b->bulk.count;
        if (waiting == 1 || waiting >= b->max_batch)
            pthread_cond_signal(&b->changed);
    } else {
        b->stats.refused++;
        lk_metrics_count(b->options.metrics, LK_COUNT_REFUSED, 1);
    }
    if (entry->reserved)
        take_places(b, q, 1);
    pthread_mutex_unlock(&b->mutex);
    return rc;
}

struct waiter {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int done, status;
    char text[256];
};

static void wake(struct lk_batch_entry *entry, int status, const char *error) {
    struct waiter *w = entry->arg;
    pthread_mutex_lock(&w->mutex);
    w->status = status;
    if (error)
        memcpy(w->text, error, strnlen(error, sizeof w->text - 1));
    w->done = 1;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->mutex);
}

int lk_batcher_wait_for_room(int64_t deadline_ns) {
    if (deadline_ns && now_ns() >= deadline_ns)
        return 0;
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL); /* a queue empties by itself */
    return 1;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the batcher writes through the entry */
int lk_batcher_embed(struct lk_batcher *batcher, const uint8_t *pixels, float *vector, int64_t deadline_ns) {
    struct waiter w = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct lk_batch_entry entry = {
        .pixels = pixels, .vector = vector, .deadline_ns = deadline_ns, .done = wake, .arg = &w};
    int rc;
    while ((rc = lk_batcher_submit(batcher, &entry)) == LK_ELIMIT && lk_batcher_wait_for_room(deadline_ns)) {}
    if (rc)
        return rc;
    pthread_mutex_lock(&w.mutex);
    while (!w.done)
        pthread_cond_wait(&w.changed, &w.mutex);
    pthread_mutex_unlock(&w.mutex);
    return w.status ? lk_err(w.status, "%s", w.text) : 0;
}

void lk_batcher_stats(struct lk_batcher *batcher, struct lk_batcher_stats *out) {
    pthread_mutex_lock(&batcher->mutex);
    *out = batcher->stats;
    out->waiting = batcher->single.count + batcher->single.reserved + batcher->bulk.count + batcher->bulk.reserved;
    pthread_mutex_unlock(&batcher->mutex);
}

void lk_batcher_close(struct lk_batcher *batcher) {
    if (!batcher)
        return;
    if (batcher->thread_runs) {
        pthread_mutex_lock(&batcher->mutex);
        batcher->closing = 1;
        pthread_cond_signal(&batcher->changed);
        pthread_mutex_unlock(&batcher->mutex);
        pthread_join(batcher->thread, NULL);
    }
    pthread_cond_destroy(&batcher->changed);
    pthread_mutex_destroy(&batcher->mutex);
    free(batcher->pixels);
    free(batcher->vectors);
    for (int i = 0; i < LK_EMBED_SLOTS; i++)
        free(batcher->flights[i].entries);
    free(batcher);
}
