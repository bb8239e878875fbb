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

/* What a decoded picture becomes. */
struct square {
    uint8_t *pixels; /* [side][side][3] */
    int resize, side;
};

/* Decodes and preprocesses on the calling thread, within the limits of `work`. Sets the fault, or media type and
 * sizes. */
static int decode(struct lk_work *work, struct lk_picture *p, const struct square *squares, int n) {
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
    struct lk_arena *arena = lk_work_scratch(work);
    struct lk_image image = {0};
    struct lk_decode_limits limits = {.max_pixels = work->max_pixels, .arena = arena};
    for (int i = 0; i < n && work->scaled_jpeg; i++) /* the last halves are the preprocessing's, with antialiasing */
        limits.scaled_side = squares[i].resize * 2 > limits.scaled_side ? squares[i].resize * 2 : limits.scaled_side;
    rc = lk_decode(&image, p->bytes, p->size, &limits);
    p->width = rc ? 0 : info.width;
    p->height = rc ? 0 : info.height;
    for (int i = 0; i < n && rc == 0; i++)
        rc = lk_preprocess(squares[i].pixels, &image, squares[i].resize, squares[i].side);
    lk_image_free(&image);
    lk_work_scratch_back(work, arena);
    lk_cores_give(work->cores, 1);
    lk_budget_give(&work->decode, count * 3);
    return rc ? decode_fault(&p->fault, rc) : 0;
}

/* For squares. Those of many pictures are made by many threads, and have memory of their own for a short time. */
static struct lk_arena *own_arena(const struct lk_embedding *e) { return e->count == 1 ? e->arena : NULL; }

static size_t square_bytes(const struct lk_generation *g) { return g ? (size_t)g->side * (size_t)g->side * 3 : 0; }

int lk_embedding_open(struct lk_embedding *e, size_t count, struct lk_generation *g, struct lk_generation *also) {
    size_t n = count ? count : 1, dims[LK_EMBEDDING_TARGETS] = {(size_t)g->dim, also ? (size_t)also->dim : 0};
    e->work = g->work;
    e->targets[0] = g;
    e->targets[1] = also;
    for (int t = 0; t < LK_EMBEDDING_TARGETS; t++)
        if (e->targets[t])
            lk_generation_hold(e->targets[t]);
    e->pictures = lk_arena_take(e->arena, n, sizeof *e->pictures);
    e->vectors = lk_arena_take(e->arena, n * (dims[0] + dims[1]), sizeof *e->vectors);
    e->count = count;
    if (!e->pictures || !e->vectors) {
        lk_embedding_close(e);
        return LK_ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        struct lk_picture *p = &e->pictures[i];
        p->embedding = e;
        p->vectors[0] = e->vectors + i * (dims[0] + dims[1]);
        p->vectors[1] = also ? p->vectors[0] + dims[0] : NULL;
    }
    return 0;
}

void lk_embedding_close(struct lk_embedding *e) {
    for (size_t i = 0; e->pictures && i < e->count; i++)
        lk_arena_drop(own_arena(e), e->pictures[i].squares);
    lk_arena_drop(e->arena, e->pictures);
    lk_arena_drop(e->arena, e->vectors);
    for (int t = 0; t < LK_EMBEDDING_TARGETS; t++) {
        lk_generation_release(e->targets[t]);
        e->targets[t] = NULL;
    }
    e->pictures = NULL;
    e->vectors = NULL;
    e->count = 0;
}

static int is_late(int64_t deadline_ns) { return deadline_ns && lk_now_ns() >= deadline_ns; }

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

/* One of the picture's entries will not come, or has come back. */
static void entry_left(struct lk_picture *p, int here) {
    if (__atomic_sub_fetch(&p->waiting, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    lk_arena_drop(own_arena(p->embedding), p->squares);
    p->squares = NULL;
    finish(p->embedding, here);
}

/* On the batcher's thread. */
static void entry_done(struct lk_batch_entry *entry, int status, const char *error) {
    struct lk_picture *p = entry->arg;
    struct lk_embedding *e = p->embedding;
    if (entry == &p->entries[1]) {
        if (status)
            p->vectors[1] = NULL;
    } else if (status == LK_ECANCELLED && is_late(e->deadline_ns)) {
        lk_fault_set(&p->fault, LK_API_DEADLINE_EXCEEDED, NULL, "%s", error);
    } else if (status == LK_ECANCELLED) {
        lk_fault_set(&p->fault, LK_API_DRAINING, NULL, "%s", error);
    } else if (status == LK_EFAIL) {
        lk_fault_set(&p->fault, LK_API_ENGINE_UNAVAILABLE, NULL, "%s", error);
    } else if (status) {
        lk_fault_set(&p->fault, LK_API_INTERNAL_ERROR, NULL, "%s", error);
    }
    entry_left(p, 0);
}

static int refused(struct lk_fault *f, int rc) {
    return lk_fault_set(f,
                        rc == LK_ELIMIT       ? LK_API_OVERLOADED
                        : rc == LK_ECANCELLED ? LK_API_DRAINING
                                              : LK_API_ENGINE_UNAVAILABLE,
                        NULL, "%s", lk_error());
}

static void give_places_back(struct lk_embedding *e, struct lk_picture *p) {
    for (int t = 0; t < LK_EMBEDDING_TARGETS; t++) {
        if (p->places[t])
            lk_batcher_give_back(e->targets[t]->batcher, 1, e->bulk);
        p->places[t] = 0;
    }
}

/* A place for the picture in the queue of each target. A full queue of the coming model refuses too: what is stored without
 * a vector would not be found after the switch. An engine of it that is out of service does not; its publication fails. */
static int reserve(struct lk_embedding *e, struct lk_picture *p) {
    for (int t = 0; t < LK_EMBEDDING_TARGETS; t++) {
        if (!e->targets[t] || p->places[t])
            continue;
        int rc = lk_batcher_reserve(e->targets[t]->batcher, 1, e->bulk);
        p->places[t] = rc == 0;
        if (rc && (t == 0 || rc == LK_ELIMIT))
            return rc;
    }
    return 0;
}

/* Places in the queues before the picture is decoded. A patient embedding takes those of one picture at a time and waits for
 * them; the others took all when they began. */
static int take_place(struct lk_embedding *e, struct lk_picture *p) {
    int rc = 0;
    if (is_late(e->deadline_ns))
        rc = lk_fault_set(&p->fault, LK_API_DEADLINE_EXCEEDED, NULL, "the deadline passed before decoding");
    else if (e->gone && e->gone(e->arg))
        rc = lk_fault_set(&p->fault, LK_API_DRAINING, NULL, "the client left");
    while (rc == 0 && e->patient) {
        int got = reserve(e, p);
        if (got == 0)
            break;
        if (got != LK_ELIMIT || !lk_batcher_wait_for_room(e->deadline_ns))
            rc = refused(&p->fault, got);
    }
    if (rc)
        give_places_back(e, p);
    return rc;
}

/* 0: the picture will be finished by entry_done, and may be already. */
static void submit(struct lk_embedding *e, struct lk_picture *p) {
    p->waiting = 1 + (e->targets[1] != NULL);
    for (int t = LK_EMBEDDING_TARGETS - 1; t >= 0; t--) { /* the first last: it may end the picture */
        if (!e->targets[t])
            continue;
        p->entries[t] = (struct lk_batch_entry){.pixels = p->squares + (t ? square_bytes(e->targets[0]) : 0),
                                                .vector = p->vectors[t],
                                                .bulk = e->bulk,
                                                .reserved = p->places[t],
                                                .flow = &e->flows[t],
                                                .deadline_ns = e->deadline_ns,
                                                .gone = e->gone ? entry_gone : NULL,
                                                .done = entry_done,
                                                .stages = e->stages,
                                                .arg = p};
        int rc = lk_batcher_submit(e->targets[t]->batcher, &p->entries[t]);
        if (rc == 0)
            continue;
        if (t == 0)
            refused(&p->fault, rc);
        else
            p->vectors[1] = NULL; /* what stores the picture will make up for it */
        entry_left(p, 1);
    }
}

/* Negative: the picture has its fault. */
static int decode_and_submit(struct lk_embedding *e, struct lk_picture *p) {
    int rc = take_place(e, p);
    if (rc)
        return rc;
    size_t first = square_bytes(e->targets[0]);
    if (!(p->squares = lk_arena_take(own_arena(e), first + square_bytes(e->targets[1]), 1))) {
        rc = lk_fault_from_status(&p->fault, LK_ENOMEM, NULL);
    } else {
        struct square squares[LK_EMBEDDING_TARGETS] = {{p->squares, e->targets[0]->resize, e->targets[0]->side}};
        if (e->targets[1])
            squares[1] = (struct square){p->squares + first, e->targets[1]->resize, e->targets[1]->side};
        int64_t begun = lk_now_ns();
        rc = decode(e->work, p, squares, 1 + (e->targets[1] != NULL));
        lk_metrics_stage(e->work->metrics, LK_STAGE_DECODE, lk_now_ns() - begun, e->stages);
    }
    if (rc) {
        give_places_back(e, p);
        return rc;
    }
    submit(e, p);
    return 0;
}

int lk_picture_embed(struct lk_picture *p, struct lk_generation *g, float *vector, int64_t deadline_ns) {
    uint8_t *pixels = lk_calloc(square_bytes(g), 1);
    struct square square = {pixels, g->resize, g->side};
    int rc = pixels ? decode(g->work, p, &square, 1) : lk_fault_from_status(&p->fault, LK_ENOMEM, NULL);
    if (rc == 0) {
        rc = lk_batcher_embed(g->batcher, pixels, vector, deadline_ns);
        if (rc == LK_ELIMIT || (rc == LK_ECANCELLED && is_late(deadline_ns)))
            rc = lk_fault_set(&p->fault, LK_API_DEADLINE_EXCEEDED, NULL, "%s",
                              rc == LK_ELIMIT ? "the deadline passed while the queue was full" : lk_error());
        else if (rc)
            rc = rc == LK_ECANCELLED ? refused(&p->fault, rc) : lk_fault_from_status(&p->fault, rc, NULL);
    }
    free(pixels);
    return rc;
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

/* Nothing is decoded for a request that the queues will not take. */
static int take_places(struct lk_embedding *e) {
    int rc = 0;
    for (size_t i = 0; i < e->count && rc == 0 && !e->patient; i++)
        if (e->pictures[i].fault.error == LK_API_OK)
            rc = reserve(e, &e->pictures[i]);
    for (size_t i = 0; rc && i < e->count; i++) {
        if (e->pictures[i].fault.error == LK_API_OK)
            refused(&e->pictures[i].fault, rc);
        give_places_back(e, &e->pictures[i]);
    }
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
