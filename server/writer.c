#include "writer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"

#define GROUP 256 /* writes a transaction; and at most this many bytes of pictures: */
#define GROUP_BYTES ((size_t)64 << 20)

struct lk_writer {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_t thread, compactor;
    int thread_runs, compactor_runs;
    struct lk_store *store;
    struct lk_generation *generation;
    struct lk_write *head, **tail;
    int closing, compact;
};

static void keep_error(struct lk_write *w, int status) {
    w->status = status;
    snprintf(w->error, sizeof w->error, "%s", lk_error());
}

static void apply(struct lk_writer *writer, struct lk_write *w) {
    int rc;
    switch (w->kind) {
    case LK_WRITE_PUT:
        rc = lk_store_put(writer->store, w->id, w->metadata, w->media_type, w->image, w->image_bytes, w->width,
                          w->height, writer->generation->space, w->vector, writer->generation->dim, &w->created, NULL);
        break;
    case LK_WRITE_PATCH: rc = lk_store_patch(writer->store, w->id, w->metadata, NULL); break;
    default: rc = lk_store_delete(writer->store, w->id, NULL); break;
    }
    w->status = 0;
    if (rc)
        keep_error(w, rc);
}

/* After the commit. The catalogue has the write; an index that does not follow is healed by the next start. */
static void index_write(struct lk_writer *writer, const struct lk_write *w) {
    int rc = 0;
    if (w->kind == LK_WRITE_PUT)
        rc = lk_index_put(writer->generation->index, w->id, w->vector);
    else if (w->kind == LK_WRITE_DELETE)
        rc = lk_index_delete(writer->generation->index, w->id);
    if (rc && !(w->kind == LK_WRITE_DELETE && rc == LK_ENOTFOUND))
        lk_log_error("the index does not follow the catalogue until the next start: %s", lk_error());
}

static void write_group(struct lk_writer *writer, struct lk_write *group) {
    int rc = lk_store_begin(writer->store);
    if (rc == 0) {
        for (struct lk_write *w = group; w; w = w->next)
            apply(writer, w);
        rc = lk_store_commit(writer->store);
    }
    for (struct lk_write *w = group; w; w = w->next) {
        if (rc)
            keep_error(w, rc);
        else if (w->status == 0)
            index_write(writer, w);
    }
    if (rc == 0)
        lk_index_applied(writer->generation->index, lk_store_seq(writer->store));
    if (rc)
        lk_log_error("a group of writes failed: %s", lk_error());
    while (group) {
        struct lk_write *w = group;
        group = group->next; /* done() may free it */
        w->done(w);
    }
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

static void *run(void *arg) {
    struct lk_writer *writer = arg;
    pthread_mutex_lock(&writer->mutex);
    for (;;) {
        while (!writer->head && !writer->closing)
            pthread_cond_wait(&writer->changed, &writer->mutex);
        if (!writer->head)
            break;
        struct lk_write *group = take_group(writer);
        pthread_mutex_unlock(&writer->mutex);
        write_group(writer, group);
        int compact = lk_index_wants_compaction(writer->generation->index);
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
        int rc = lk_index_compact(writer->generation->index);
        if (rc && rc != LK_ECANCELLED)
            lk_log_warn("the index could not be compacted: %s", lk_error());
        int more = rc == 0 && lk_index_wants_compaction(writer->generation->index); /* by what came meanwhile */
        pthread_mutex_lock(&writer->mutex);
        writer->compact = more;
    }
    pthread_mutex_unlock(&writer->mutex);
    return NULL;
}

int lk_writer_open(struct lk_writer **out, struct lk_store *store, struct lk_generation *generation) {
    *out = NULL;
    struct lk_writer *w = lk_calloc(1, sizeof *w);
    if (!w)
        return LK_ENOMEM;
    w->store = store;
    w->generation = generation;
    w->tail = &w->head;
    w->compact = lk_index_wants_compaction(generation->index);
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->changed, NULL);
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
    pthread_mutex_lock(&writer->mutex);
    *writer->tail = write;
    writer->tail = &write->next;
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->mutex);
}

void lk_writer_close(struct lk_writer *writer) {
    if (!writer)
        return;
    pthread_mutex_lock(&writer->mutex);
    writer->closing = 1;
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->mutex);
    lk_index_cancel(writer->generation->index);
    if (writer->thread_runs)
        pthread_join(writer->thread, NULL);
    if (writer->compactor_runs)
        pthread_join(writer->compactor, NULL);
    pthread_cond_destroy(&writer->changed);
    pthread_mutex_destroy(&writer->mutex);
    free(writer);
}
