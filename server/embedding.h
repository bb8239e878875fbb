/* Pictures to vectors: decoding on the work pool, then the batcher of each generation that wants them: the one that
 * serves, and for what will be stored also the one that is about to. The one way for every route. Knows no HTTP. */
#ifndef LK_SERVER_EMBEDDING_H
#define LK_SERVER_EMBEDDING_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "errors.h"
#include "generation.h"
#include "image/image.h"

enum { LK_EMBEDDING_TARGETS = 2 };

struct lk_embedding;

struct lk_picture {
    const void *bytes; /* the encoded file; the caller's, until done */
    size_t size;
    /* out */
    const char *media_type; /* "image/png", constant; NULL while unknown */
    int width, height;
    float *vectors[LK_EMBEDDING_TARGETS]; /* [dim], owned by the embedding; of a second target NULL when it failed */
    struct lk_fault fault;                /* LK_API_OK, or why there is no vector of the first target */
    /* internal */
    struct lk_batch_entry entries[LK_EMBEDDING_TARGETS];
    uint8_t *squares;                 /* [target][side][side][3], one after another */
    int waiting;                      /* entries not done yet; changed atomically */
    int places[LK_EMBEDDING_TARGETS]; /* taken in the queue of each target */
    struct lk_embedding *embedding;
};

struct lk_embedding {
    struct lk_work *work;
    struct lk_generation *targets[LK_EMBEDDING_TARGETS]; /* whose vectors are wanted; the second may be NULL. Held */
    struct lk_arena *arena;                              /* set before opening: for its memory; NULL: it has its own */
    struct lk_picture *pictures; /* [count], owned; fill bytes and size, or a fault that is known already */
    size_t count;
    int bulk;                 /* one of many: gives way to single pictures */
    int patient;              /* waits when the queue is full, instead of failing as a whole */
    int64_t deadline_ns;      /* CLOCK_MONOTONIC; 0: none */
    struct lk_stages *stages; /* NULL, or: of the request, where the pictures' times are added */
    int (*gone)(void *arg);   /* NULL, or: 1 when nobody waits for it any more */
    void (*done)(void *arg);  /* once, on the work pool: every picture has a vector or a fault */
    void *arg;
    /* internal */
    float *vectors;
    size_t next, left; /* changed atomically */
    struct lk_batch_flow flows[LK_EMBEDDING_TARGETS];
};

/* Makes room for `count` pictures in zeroed memory, for generation g and, if not NULL, `also`, and holds both.
 * LK_ENOMEM. */
int lk_embedding_open(struct lk_embedding *e, size_t count, struct lk_generation *g, struct lk_generation *also);
/* Begins; done() follows. The embedding stays where it is until then. */
void lk_embedding_start(struct lk_embedding *e);
void lk_embedding_close(struct lk_embedding *e); /* accepts a zeroed one; not before done() */

/* 1: the fault lies in the picture, so it stands in its place among many; 0: in the server, so the request fails. */
int lk_fault_is_pictures(const struct lk_fault *f);

/* One picture, now: decodes on the calling thread and waits for its vector, vector[g->dim], and until the deadline (0: none)
 * for a place in a full queue. Sets the fault, or media type and sizes. Not on the batcher's thread. */
int lk_picture_embed(struct lk_picture *p, struct lk_generation *g, float *vector, int64_t deadline_ns);

#endif
