#include "writer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "collection.h"

#define GROUP 256 /* writes a transaction; and at most this many bytes of pictures: */
#define GROUP_BYTES ((size_t)64 << 20)

struct job {
    int (*run)(void *arg);
    void *arg;
    int done, rc;
    char error[512];
};

struct lk_writer {
    pthread_mutex_t mutex;
    pthread_cond_t changed, ran;
    pthread_t thread, compactor;
    int thread_runs, compactor_runs;
    struct lk_collection *collection;
    struct lk_write *head, **tail;
    struct job *job; /* one at a time */
    int closing, compact;
};

static void keep_error(struct lk_write *w, int status) {
    w->status = status;
    snprintf(w->error, sizeof w->error, "%s", lk_error());
}

/* The write's vector in a generation, NULL when it has none. */
static const float *vector_in(const struct lk_write *w, const struct lk_generation *g) {
    for (int i = 0; i < LK_WRITE_VECTORS; i++)
        if (w->vectors[i].generation == g)
            return w->vectors[i].vector;
    return NULL;
}

/* Embeds what was on its way here when the generation came: a handful of pictures, once a switch. A full queue is waited
 * for, as long as the write may take. */
static int make_vector(struct lk_write *w, struct lk_generation *g, int slot) {
    struct lk_picture p = {.bytes = w->image, .size = w->image_bytes};
    if (!(w->made[slot] = lk_calloc((size_t)g->dim, sizeof(float))))
        return LK_ENOMEM;
    if (lk_picture_embed(&p, g, w->made[slot], w->deadline_ns) == 0)
        return 0;
    free(w->made[slot]);
    w->made[slot] = NULL;
    return lk_err(p.fault.error == LK_API_DEADLINE_EXCEEDED ? LK_ECANCELLED : LK_EFAIL, "%s", p.fault.message);
}

static const float *vector_for(struct lk_write *w, struct lk_generation *g, int slot) {
    const float *v = vector_in(w, g);
    return v ? v : w->made[slot];
}

/* Before the transaction, since it takes long. What cannot be embedded in the generation that serves is not stored; nor is
 * what the coming one has no time for: without its vector it would not be found after the switch. */
static void make_vectors(struct lk_write *group, struct lk_generation *const generations[2]) {
    for (struct lk_write *w = group; w; w = w->next) {
        w->status = 0;
        for (int i = 0; i < 2 && w->kind == LK_WRITE_PUT && w->status == 0; i++) {
            if (!generations[i] || vector_in(w, generations[i]))
                continue;
            int rc = make_vector(w, generations[i], i);
            if (rc && (i == 0 || rc == LK_ECANCELLED))
                keep_error(w, rc);
            else if (rc)
                lk_log_warn("item \"%s\" has no vector of the coming model: %s", w->id, lk_error());
        }
    }
}

static int put(struct lk_store *store, struct lk_write *w, struct lk_generation *const generations[2]) {
    struct lk_generation *g = generations[0], *coming = generations[1];
    int64_t seq;
    int rc = lk_store_put(store, w->id, w->metadata, w->media_type, w->image, w->image_bytes, w->width, w->height,
                          g->serving.space, vector_for(w, g, 0), g->dim, &w->created, &seq);
    const float *also = coming ? vector_for(w, coming, 1) : NULL;
    return rc || !also ? rc : lk_store_put_vector(store, w->id, seq, coming->serving.space, also, coming->dim);
}

static void apply(struct lk_store *store, struct lk_write *w, struct lk_generation *const generations[2]) {
    if (w->status)
        return;
    const struct lk_generation *g = w->vectors[0].generation;
    int rc;
    switch (w->kind) {
    case LK_WRITE_PUT: rc = put(store, w, generations); break;
    case LK_WRITE_PATCH: rc = lk_store_patch(store, w->id, w->metadata, NULL); break;
    case LK_WRITE_VECTOR:
        rc = lk_store_put_vector(store, w->id, w->seq, g->serving.space, w->vectors[0].vector, g->dim);
        break;
    default: rc = lk_store_delete(store, w->id, NULL); break;
    }
    if (rc)
        keep_error(w, rc);
}

/* After the commit. The catalogue has the write; an index that does not follow is healed by the next start. */
static void index_write(struct lk_write *w, struct lk_generation *g, int slot) {
    int rc = 0;
    const float *vector = w->kind == LK_WRITE_PUT      ? vector_for(w, g, slot)
                          : w->kind == LK_WRITE_VECTOR ? vector_in(w, g)
                                                       : NULL;
    if (vector)
        rc = lk_index_put(g->index, w->id, vector);
    else if (w->kind == LK_WRITE_DELETE || w->kind == LK_WRITE_PUT) /* another picture, and no vector of it */
        rc = lk_index_delete(g->index, w->id);
    if (rc && rc != LK_ENOTFOUND)
        lk_log_error("the index does not follow the catalogue until the next start: %s", lk_error());
}

static void write_group(struct lk_writer *writer, struct lk_write *group) {
    struct lk_store *store = writer->collection->store;
    struct lk_metrics *metrics = writer->collection->work->metrics;
    struct lk_generation *generations[2];
    lk_collection_pin_both(writer->collection, &generations[0], &generations[1]);
    make_vectors(group, generations);
    int rc = lk_store_begin(store);
    if (rc == 0) {
        for (struct lk_write *w = group; w; w = w->next)
            apply(store, w, generations);
        rc = lk_store_commit(store);
    }
    for (struct lk_write *w = group; w; w = w->next) {
        if (rc)
            keep_error(w, rc);
        for (int i = 0; i < 2 && w->status == 0; i++)
            if (generations[i])
                index_write(w, generations[i], i);
        for (int i = 0; i < LK_WRITE_VECTORS; i++) {
            free(w->made[i]);
            w->made[i] = NULL;
        }
    }
    for (int i = 0; i < 2 && rc == 0; i++)
        if (generations[i])
            lk_index_applied(generations[i]->index, lk_store_seq(store));
    if (rc)
        lk_log_error("a group of writes failed: %s", lk_error());
    while (group) {
        struct lk_write *w = group;
        group = group->next; /* done() may free it */
        if (w->kind != LK_WRITE_VECTOR)
            lk_metrics_stage(metrics, LK_STAGE_WRITE, lk_now_ns() - w->submitted_ns, w->stages);
        w->done(w);
    }
    lk_generation_release(generations[0]);
    lk_generation_release(generations[1]);
}

/* Cuts a group off the queue; the mutex is held. */
static struct lk_write *take_group(struct lk_writer *writer) {
    struct lk_write *group = writer->head, **end = &writer->head;
    size_t bytes = 0;
    for (int n = 0; *end && n < GROUP && (n == 0 || bytes < GROUP_BYTES); n++) {
        bytes += (*end)->image_bytes;
        end = &(*end)->next;
    }
    writer->head = *end;
    *end = NULL;
    if (!writer->head)
        writer->tail = &writer->head;
    return group;
}

static void run_job(struct lk_writer *writer, struct job *job) {
    int rc = job->run(job->arg);
    if (rc)
        snprintf(job->error, sizeof job->error, "%s", lk_error());
    pthread_mutex_lock(&writer->mutex);
    job->rc = rc;
    job->done = 1;
    writer->job = NULL;
    pthread_cond_broadcast(&writer->ran);
    pthread_mutex_unlock(&writer->mutex);
}

static int wants_compaction(struct lk_collection *c) {
    struct lk_generation *g = lk_collection_pin(c);
    int wants = g && lk_index_wants_compaction(g->index);
    lk_generation_release(g);
    return wants;
}

static void *run(void *arg) {
    struct lk_writer *writer = arg;
    pthread_mutex_lock(&writer->mutex);
    for (;;) {
        while (!writer->head && !writer->job && !writer->closing)
            pthread_cond_wait(&writer->changed, &writer->mutex);
        struct job *job = writer->job;
        if (!writer->head && !job)
            break;
        struct lk_write *group = job ? NULL : take_group(writer);
        pthread_mutex_unlock(&writer->mutex);
        if (job)
            run_job(writer, job);
        else
            write_group(writer, group);
        int compact = wants_compaction(writer->collection);
        pthread_mutex_lock(&writer->mutex);
        if (compact && !writer->compact) {
            writer->compact = 1;
            pthread_cond_broadcast(&writer->changed);
        }
    }
    pthread_mutex_unlock(&writer->mutex);
    return NULL;
}

static void *run_compactor(void *arg) {
    struct lk_writer *writer = arg;
    pthread_mutex_lock(&writer->mutex);
    for (;;) {
        while (!writer->compact && !writer->closing)
            pthread_cond_wait(&writer->changed, &writer->mutex);
        if (writer->closing)
            break;
        pthread_mutex_unlock(&writer->mutex);
        struct lk_generation *g = lk_collection_pin(writer->collection);
        int rc = lk_index_compact(g->index);
        if (rc && rc != LK_ECANCELLED)
            lk_log_warn("the index could not be compacted: %s", lk_error());
        lk_generation_release(g);
        int more = (rc == 0 || rc == LK_ECANCELLED) && wants_compaction(writer->collection); /* what came meanwhile */
        pthread_mutex_lock(&writer->mutex);
        writer->compact = more;
    }
    pthread_mutex_unlock(&writer->mutex);
    return NULL;
}

int lk_writer_open(struct lk_writer **out, struct lk_collection *collection) {
    *out = NULL;
    struct lk_writer *w = lk_calloc(1, sizeof *w);
    if (!w)
        return LK_ENOMEM;
    w->collection = collection;
    w->tail = &w->head;
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->changed, NULL);
    pthread_cond_init(&w->ran, NULL);
    w->thread_runs = pthread_create(&w->thread, NULL, run, w) == 0;
    w->compactor_runs = w->thread_runs && pthread_create(&w->compactor, NULL, run_compactor, w) == 0;
    if (!w->compactor_runs) {
        lk_writer_close(w);
        return lk_err(LK_EFAIL, "the catalogue's writer thread cannot be started");
    }
    *out = w;
    return 0;
}

void lk_writer_submit(struct lk_writer *writer, struct lk_write *write) {
    write->next = NULL;
    write->submitted_ns = lk_now_ns();
    pthread_mutex_lock(&writer->mutex);
    *writer->tail = write;
    writer->tail = &write->next;
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->mutex);
}

int lk_writer_run(struct lk_writer *writer, int (*job)(void *arg), void *arg) {
    struct job mine = {.run = job, .arg = arg};
    pthread_mutex_lock(&writer->mutex);
    while (writer->job)
        pthread_cond_wait(&writer->ran, &writer->mutex);
    writer->job = &mine;
    pthread_cond_broadcast(&writer->changed);
    while (!mine.done)
        pthread_cond_wait(&writer->ran, &writer->mutex);
    pthread_mutex_unlock(&writer->mutex);
    return mine.rc ? lk_err(mine.rc, "%s", mine.error) : 0;
}

void lk_writer_close(struct lk_writer *writer) {
    if (!writer)
        return;
    pthread_mutex_lock(&writer->mutex);
    writer->closing = 1;
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->mutex);
    struct lk_generation *g = lk_collection_pin(writer->collection);
    if (g)
        lk_index_cancel(g->index);
    lk_generation_release(g);
    if (writer->thread_runs)
        pthread_join(writer->thread, NULL);
    if (writer->compactor_runs)
        pthread_join(writer->compactor, NULL);
    pthread_cond_destroy(&writer->ran);
    pthread_cond_destroy(&writer->changed);
    pthread_mutex_destroy(&writer->mutex);
    free(writer);
}
