#include "embedding.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "image/decode.h"
#include "image/preprocess.h"

int lk_fault_is_pictures(const struct lk_fault *f) {
    switch (f->error) {
    case LK_API_INVALID_ARGUMENT:
    case LK_API_EMPTY_BODY:
    case LK_API_UNSUPPORTED_IMAGE_FORMAT:
    case LK_API_UNDECODABLE_IMAGE:
    case LK_API_IMAGE_TOO_LARGE:
    case LK_API_BODY_TOO_LARGE: return 1;
    default: return 0;
    }
}

/* Which codec the first bytes name; NULL: none of ours. */
static const char *sniff(const unsigned char *b, size_t n) {
    if (n >= 8 && memcmp(b, "\x89PNG\r\n\x1a\n", 8) == 0)
        return "image/png";
    if (n >= 3 && memcmp(b, "\xFF\xD8\xFF", 3) == 0)
        return "image/jpeg";
    return NULL;
}

static int decode_fault(struct lk_fault *f, int status) {
    enum lk_api_error error = status == LK_EFORMAT        ? LK_API_UNDECODABLE_IMAGE
                              : status == LK_ELIMIT       ? LK_API_IMAGE_TOO_LARGE
                              : status == LK_EUNSUPPORTED ? LK_API_UNSUPPORTED_IMAGE_FORMAT
                                                          : LK_API_INTERNAL_ERROR;
    return lk_fault_set(f, error, "image", "%s", lk_error());
}

int lk_picture_decode(struct lk_work *work, struct lk_picture *p, uint8_t *square, int resize, int side) {
    if (p->size == 0)
        return lk_fault_set(&p->fault, LK_API_EMPTY_BODY, "image", "the picture is empty");
    p->media_type = sniff(p->bytes, p->size);
    if (!p->media_type)
        return lk_fault_set(&p->fault, LK_API_UNSUPPORTED_IMAGE_FORMAT, "image",
                            "the first bytes are neither a PNG's nor a JPEG's");
    struct lk_image_info info;
    int rc = lk_decode_info(&info, p->bytes, p->size);
    if (rc)
        return decode_fault(&p->fault, rc);
    uint64_t count = (uint64_t)info.width * (uint64_t)info.height;
    if (count > work->max_pixels)
        return lk_fault_set(&p->fault, LK_API_IMAGE_TOO_LARGE, "image",
                            "the picture has %d x %d = %llu pixels; the limit is %llu", info.width, info.height,
                            (unsigned long long)count, (unsigned long long)work->max_pixels);
    lk_budget_wait(&work->decode, count * 3);
    lk_cores_take(work->cores, 1);
    struct lk_image image = {0};
    struct lk_decode_limits limits = {.max_pixels = work->max_pixels};
    rc = lk_decode(&image, p->bytes, p->size, &limits);
    if (rc == 0) {
        p->width = image.width;
        p->height = image.height;
        rc = lk_preprocess(square, &image, resize, side);
    }
    lk_image_free(&image);
    lk_cores_give(work->cores, 1);
    lk_budget_give(&work->decode, count * 3);
    return rc ? decode_fault(&p->fault, rc) : 0;
}

int lk_embedding_open(struct lk_embedding *e, size_t count) {
    e->pictures = lk_calloc(count ? count : 1, sizeof *e->pictures);
    e->vectors = lk_calloc((count ? count : 1) * (size_t)e->dim, sizeof *e->vectors);
    e->count = count;
    if (!e->pictures || !e->vectors) {
        lk_embedding_close(e);
        return LK_ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        e->pictures[i].vector = e->vectors + i * (size_t)e->dim;
        e->pictures[i].embedding = e;
    }
    return 0;
}

void lk_embedding_close(struct lk_embedding *e) {
    for (size_t i = 0; e->pictures && i < e->count; i++)
        free(e->pictures[i].pixels);
    free(e->pictures);
    free(e->vectors);
    e->pictures = NULL;
    e->vectors = NULL;
    e->count = 0;
}

/* One more picture or job is finished. The last one calls done(), on the pool when we are not there (here = 0). Jobs
 * count too, so that none of them outlives the embedding. */
static void finish(struct lk_embedding *e, int here) {
    if (__atomic_sub_fetch(&e->left, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    if (here)
        e->done(e->arg);
    else
        lk_work_do(e->work, e->done, e->arg);
}

static int entry_gone(struct lk_batch_entry *entry) {
    const struct lk_picture *p = entry->arg;
    return p->embedding->gone(p->embedding->arg);
}

/* On the batcher's thread. */
static void entry_done(struct lk_batch_entry *entry, int status, const char *error) {
    struct lk_picture *p = entry->arg;
    struct lk_embedding *e = p->embedding;
    free(p->pixels);
    p->pixels = NULL;
    if (status == LK_ECANCELLED && e->deadline_ns && lk_now_ns() >= e->deadline_ns)
        lk_fault_set(&p->fault, LK_API_DEADLINE_EXCEEDED, NULL, "%s", error);
    else if (status == LK_ECANCELLED)
        lk_fault_set(&p->fault, LK_API_DRAINING, NULL, "%s", error);
    else if (status == LK_EFAIL)
        lk_fault_set(&p->fault, LK_API_ENGINE_UNAVAILABLE, NULL, "%s", error);
    else if (status)
        lk_fault_set(&p->fault, LK_API_INTERNAL_ERROR, NULL, "%s", error);
    finish(e, 0);
}

static int refused(struct lk_fault *f, int rc) {
    return lk_fault_set(f,
                        rc == LK_ELIMIT       ? LK_API_OVERLOADED
                        : rc == LK_ECANCELLED ? LK_API_DRAINING
                                              : LK_API_ENGINE_UNAVAILABLE,
                        NULL, "%s", lk_error());
}

/* A place in the queue before the picture is decoded. A patient embedding takes one at a time and waits for it; the
 * others took them all when they began. */
static int take_place(struct lk_embedding *e, struct lk_picture *p) {
    if (e->deadline_ns && lk_now_ns() >= e->deadline_ns) {
        if (!e->patient)
            lk_batcher_give_back(e->batcher, 1, e->bulk);
        return lk_fault_set(&p->fault, LK_API_DEADLINE_EXCEEDED, NULL, "the deadline passed before decoding");
    }
    if (!e->patient)
        return 0;
    int rc;
    while ((rc = lk_batcher_reserve(e->batcher, 1, e->bulk)) == LK_ELIMIT &&
           (!e->deadline_ns || lk_now_ns() < e->deadline_ns)) {
        struct timespec pause = {.tv_nsec = 2000000};
        nanosleep(&pause, NULL);
    }
    return rc ? refused(&p->fault, rc) : 0;
}

/* 0: entry_done follows, and may have run already. */
static int submit(struct lk_embedding *e, struct lk_picture *p) {
    p->entry = (struct lk_batch_entry){.pixels = p->pixels,
                                       .vector = p->vector,
                                       .bulk = e->bulk,
                                       .reserved = 1,
                                       .flow = &e->flow,
                                       .deadline_ns = e->deadline_ns,
                                       .gone = e->gone ? entry_gone : NULL,
                                       .done = entry_done,
                                       .arg = p};
    int rc = lk_batcher_submit(e->batcher, &p->entry);
    return rc ? refused(&p->fault, rc) : 0;
}

static int decode_and_submit(struct lk_embedding *e, struct lk_picture *p) {
    int rc = take_place(e, p);
    if (rc)
        return rc;
    if (!(p->pixels = lk_calloc((size_t)e->side * (size_t)e->side * 3, 1)))
        rc = lk_fault_from_status(&p->fault, LK_ENOMEM, NULL);
    else
        rc = lk_picture_decode(e->work, p, p->pixels, e->resize, e->side);
    if (rc) {
        lk_batcher_give_back(e->batcher, 1, e->bulk);
        return rc;
    }
    return submit(e, p);
}

/* A job of the pool: takes pictures until none is left. */
static void decode_some(void *arg) {
    struct lk_embedding *e = arg;
    size_t i, count = e->count;
    while ((i = __atomic_fetch_add(&e->next, 1, __ATOMIC_RELAXED)) < count) {
        struct lk_picture *p = &e->pictures[i];
        if (p->fault.error || decode_and_submit(e, p))
            finish(e, 1);
    }
    finish(e, 1);
}

/* Nothing is decoded for a request that the queue will not take. */
static int take_places(struct lk_embedding *e) {
    size_t wanted = 0;
    for (size_t i = 0; i < e->count; i++)
        wanted += e->pictures[i].fault.error == LK_API_OK;
    int rc = wanted && !e->patient ? lk_batcher_reserve(e->batcher, (int)wanted, e->bulk) : 0;
    for (size_t i = 0; rc && i < e->count; i++)
        if (e->pictures[i].fault.error == LK_API_OK)
            refused(&e->pictures[i].fault, rc);
    return rc;
}

void lk_embedding_start(struct lk_embedding *e) {
    size_t jobs = (size_t)lk_pool_threads(e->work->pool);
    if (jobs > e->count)
        jobs = e->count;
    if (jobs == 0 || take_places(e)) {
        lk_work_do(e->work, e->done, e->arg);
        return;
    }
    e->next = 0;
    e->left = e->count + jobs;
    for (size_t i = 0; i < jobs; i++)
        lk_work_do(e->work, decode_some, e);
}
