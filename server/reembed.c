#include "reembed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"

#define PAGE 256          /* items named in one short transaction */
#define SLICE 64          /* pictures embedded together */
#define SMALL 32          /* the same beside live requests, at most, */
#define SMALL_NS 12000000 /* and only as many as take about so long: that is what a request may have to wait */
#define WAIT_NS 20000000
#define TELL_NS 2000000000

struct page {
    char *ids[PAGE];
    int64_t seqs[PAGE];
    size_t count;
};

/* A few pictures on their way. */
struct slice {
    struct lk_reembed *job;
    struct page *page;
    size_t first, count;
    size_t size; /* that the next one shall have */
    struct lk_buf bytes[SLICE];
    struct lk_write writes[SLICE];
    struct lk_embedding embedding;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    size_t waiting; /* for the embedding, then for this many writes */
    int64_t told_ns;
};

static int page_item(void *arg, const struct lk_item *item) {
    struct page *page = arg;
    char *id = lk_strdup(item->id);
    if (!id)
        return LK_ENOMEM;
    page->seqs[page->count] = item->seq;
    page->ids[page->count++] = id;
    return 0;
}

static void page_clear(struct page *page) {
    for (size_t i = 0; i < page->count; i++)
        free(page->ids[i]);
    page->count = 0;
}

static int cancelled(const struct lk_reembed *r) {
    return (r->cancel && __atomic_load_n(r->cancel, __ATOMIC_RELAXED)) || (r->stop && r->stop());
}

static void one_left(struct slice *s) {
    pthread_mutex_lock(&s->mutex);
    if (--s->waiting == 0)
        pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->mutex);
}
static void embedded(void *arg) { one_left(arg); }
static void written(struct lk_write *w) { one_left(w->arg); }
static void wait_for_all(struct slice *s) {
    pthread_mutex_lock(&s->mutex);
    while (s->waiting)
        pthread_cond_wait(&s->changed, &s->mutex);
    pthread_mutex_unlock(&s->mutex);
}

static void read_pictures(struct slice *s) {
    for (size_t i = 0; i < s->count; i++) {
        const char *id = s->page->ids[s->first + i];
        struct lk_picture *p = &s->embedding.pictures[i];
        char media_type[64];
        lk_buf_clear(&s->bytes[i]);
        int rc = lk_store_image(s->job->collection->store, id, &s->bytes[i], media_type);
        if (rc)
            lk_fault_from_status(&p->fault, rc, NULL); /* LK_ENOTFOUND: deleted meanwhile */
        p->bytes = s->bytes[i].data;
        p->size = s->bytes[i].size;
    }
}

/* An item that was deleted or got another picture is no failure, and a picture that cannot be decoded is one of its own.
 * What is wrong with the engine or the disk would hold for all others too, and ends the whole. */
static int count_results(struct slice *s) {
    int rc = 0;
    for (size_t i = 0; i < s->count; i++) {
        const struct lk_picture *p = &s->embedding.pictures[i];
        const struct lk_write *w = &s->writes[i];
        if (!p->fault.error && w->status == 0) {
            __atomic_add_fetch(&s->job->embedded, 1, __ATOMIC_RELAXED);
        } else if (p->fault.error == LK_API_ENGINE_UNAVAILABLE || p->fault.error == LK_API_DRAINING) {
            rc = lk_err(LK_EFAIL, "%s", p->fault.message);
        } else if (!p->fault.error && w->status != LK_ECONFLICT && w->status != LK_ENOTFOUND) {
            rc = lk_err(w->status, "%s", w->error); /* the catalogue cannot be written */
        } else if (p->fault.error && p->fault.error != LK_API_ITEM_NOT_FOUND) {
            __atomic_add_fetch(&s->job->failed, 1, __ATOMIC_RELAXED);
            lk_log_warn("the picture of item \"%s\" cannot be embedded again: %s", s->page->ids[s->first + i],
                        p->fault.message);
        }
    }
    return rc;
}

static int embed_slice(struct slice *s) {
    struct lk_generation *g = s->job->generation;
    memset(&s->embedding, 0, sizeof s->embedding);
    memset(s->writes, 0, sizeof s->writes);
    int rc = lk_embedding_open(&s->embedding, s->count, g, NULL);
    if (rc)
        return rc;
    s->embedding.bulk = s->embedding.patient = 1;
    s->embedding.done = embedded;
    s->embedding.arg = s;
    read_pictures(s);
    s->waiting = 1;
    lk_embedding_start(&s->embedding);
    wait_for_all(s);
    size_t good = 0;
    for (size_t i = 0; i < s->count; i++)
        good += s->embedding.pictures[i].fault.error == LK_API_OK;
    s->waiting = good;
    for (size_t i = 0; i < s->count; i++) {
        if (s->embedding.pictures[i].fault.error)
            continue;
        struct lk_write *w = &s->writes[i];
        w->kind = LK_WRITE_VECTOR;
        w->id = s->page->ids[s->first + i];
        w->seq = s->page->seqs[s->first + i];
        w->vectors[0].generation = g;
        w->vectors[0].vector = s->embedding.pictures[i].vectors[0];
        w->done = written;
        w->arg = s;
        lk_writer_submit(s->job->collection->writer, w);
    }
    wait_for_all(s);
    rc = count_results(s);
    lk_embedding_close(&s->embedding);
    return rc;
}

/* Leaves the machine to others for so long that what took `busy_ns` is its share of the time. */
static void rest(const struct lk_reembed *r, int64_t busy_ns) {
    if (r->share >= 1)
        return;
    int64_t end = lk_now_ns() + (int64_t)((double)busy_ns * (1 - r->share) / r->share), left;
    while ((left = end - lk_now_ns()) > 0 && !cancelled(r)) {
        struct timespec t = {.tv_nsec = left < WAIT_NS ? left : WAIT_NS};
        nanosleep(&t, NULL);
    }
}

static void tell(struct slice *s) {
    if (lk_now_ns() - s->told_ns < TELL_NS)
        return;
    s->told_ns = lk_now_ns();
    lk_log_info("embedding again: %lld of %lld items so far", s->job->embedded, s->job->total);
}

static int embed_page(struct slice *s) {
    const int beside = s->job->share < 1;
    const size_t most = beside ? SMALL : SLICE;
    int rc = 0;
    for (size_t i = 0; i < s->page->count && rc == 0; i += s->count) {
        if (cancelled(s->job))
            return lk_err(LK_ECANCELLED, "the server stops");
        int64_t start = lk_now_ns();
        s->first = i;
        s->count = s->page->count - i < s->size ? s->page->count - i : s->size;
        rc = embed_slice(s);
        int64_t took = lk_now_ns() - start;
        if (beside && took > SMALL_NS && s->size > 1)
            s->size /= 2;
        else if (!beside || took < SMALL_NS / 2)
            s->size = 2 * s->size < most ? 2 * s->size : most;
        tell(s);
        rest(s->job, took);
    }
    return rc;
}

int lk_reembed_run(struct lk_reembed *r) {
    struct page *page = lk_calloc(1, sizeof *page);
    struct slice *s = lk_calloc(1, sizeof *s);
    int rc = page && s ? 0 : LK_ENOMEM;
    if (rc)
        goto done;
    s->job = r;
    s->page = page;
    s->size = 1;
    s->told_ns = lk_now_ns();
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->changed, NULL);
    char *after = NULL;
    while (rc == 0 &&
           (rc = lk_store_missing(r->collection->store, after, PAGE, r->generation->serving.space, page_item, page)) ==
               0 &&
           page->count) {
        rc = embed_page(s);
        free(after);
        after = page->ids[page->count - 1];
        page->ids[page->count - 1] = NULL;
        page_clear(page);
    }
    free(after);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->mutex);
done:
    if (page)
        page_clear(page);
    for (size_t i = 0; s && i < SLICE; i++)
        lk_buf_free(&s->bytes[i]);
    free(page);
    free(s);
    return rc;
}
