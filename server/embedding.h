/* Pictures to vectors: decoding on the work pool, then the batcher. The one way for every route. Knows no HTTP. */
#ifndef LK_SERVER_EMBEDDING_H
#define LK_SERVER_EMBEDDING_H

#include <stddef.h>
#include <stdint.h>

#include "batcher.h"
#include "errors.h"
#include "image/image.h"
#include "work.h"

struct lk_embedding;

struct lk_picture {
    const void *bytes; /* the encoded file; the caller's, until done */
    size_t size;
    /* out */
    const char *media_type; /* "image/png", constant; NULL while unknown */
    int width, height;
    float *vector;         /* [dim], owned by the embedding */
    struct lk_fault fault; /* LK_API_OK, or why there is no vector */
    /* internal */
    struct lk_batch_entry entry;
    uint8_t *pixels;
    struct lk_embedding *embedding;
};

struct lk_embedding {
    struct lk_work *work;
    struct lk_batcher *batcher;
    int side, resize, dim;
    struct lk_picture *pictures; /* [count], owned; fill bytes and size, or a fault that is known already */
    size_t count;
    int bulk;                /* one of many: gives way to single pictures */
    int patient;             /* waits when the queue is full, instead of failing as a whole */
    int64_t deadline_ns;     /* CLOCK_MONOTONIC; 0: none */
    int (*gone)(void *arg);  /* NULL, or: 1 when nobody waits for it any more */
    void (*done)(void *arg); /* once, on the work pool: every picture has a vector or a fault */
    void *arg;
    /* internal */
    float *vectors;
    size_t next, left; /* changed atomically */
    struct lk_batch_flow flow;
};

/* Makes room for `count` pictures. LK_ENOMEM. The caller has filled work, batcher and the sizes. */
int lk_embedding_open(struct lk_embedding *e, size_t count);
/* Begins; done() follows. The embedding stays where it is until then. */
void lk_embedding_start(struct lk_embedding *e);
void lk_embedding_close(struct lk_embedding *e); /* accepts a zeroed one; not before done() */

/* 1: the fault lies in the picture, so it stands in its place among many; 0: in the server, so the request fails. */
int lk_fault_is_pictures(const struct lk_fault *f);

/* Decodes and preprocesses on the calling thread, within the limits of `work`: square[side][side][3]. Sets the fault,
 * or media type and sizes. For the catalogue's own use too (embedding again at the start). */
int lk_picture_decode(struct lk_work *work, struct lk_picture *p, uint8_t *square, int resize, int side);

#endif
