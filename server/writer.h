/* The catalogue's one writer: a thread that takes all writes that wait, makes them one transaction, commits, brings the
 * indexes up to date, and then tells each of them. So a write costs a share of a sync, and an answer means that it is
 * durable and searchable: in the generation that serves, and in the one that is about to, so that a switch between them
 * has nothing to catch up with. Whoever changes what a collection serves does it on this thread (lk_writer_run). */
#ifndef LK_SERVER_WRITER_H
#define LK_SERVER_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "generation.h"

struct lk_writer;
struct lk_collection;

enum lk_write_kind {
    LK_WRITE_PUT,
    LK_WRITE_PATCH,
    LK_WRITE_DELETE,
    LK_WRITE_VECTOR, /* embedded again: the vector of an item whose picture is that of `seq`; LK_ECONFLICT, LK_ENOTFOUND */
};

enum { LK_WRITE_VECTORS = 2 };

struct lk_write { /* owned by the caller, untouched by it until done() */
    enum lk_write_kind kind;
    const char *id;
    const char *metadata; /* put: JSON object or NULL; patch: the merge patch */
    /* put */
    const char *media_type;
    const void *image;
    size_t image_bytes;
    int width, height;
    /* put, vector: what there is, vector[generation's dim]. A put whose picture was embedded before a generation came is
     * embedded in it by the writer. */
    struct {
        struct lk_generation *generation; /* held by the caller; NULL: none */
        const float *vector;
    } vectors[LK_WRITE_VECTORS];
    int64_t deadline_ns; /* put, CLOCK_MONOTONIC: how long a full queue of such a generation is waited for; 0: no end */
    int64_t seq;         /* vector: of the picture */
    int created;         /* put, out: 1 when the item is new */
    /* out: 0, or a negative lk_status with its sentence; LK_ECANCELLED: the deadline passed, and nothing was stored */
    int status;
    char error[256];
    void (*done)(struct lk_write *write); /* once, on the writer's thread; short */
    void *arg;
    struct lk_stages *stages; /* NULL, or: of the request, where its time is added */
    /* the writer's */
    int64_t submitted_ns;
    float *made[LK_WRITE_VECTORS];
    struct lk_write *next;
};

/* The collection's store and generations are written to; it outlives the writer. */
int lk_writer_open(struct lk_writer **out, struct lk_collection *collection);
/* Writes run in the order of their submission. */
void lk_writer_submit(struct lk_writer *writer, struct lk_write *write);
/* Runs job(arg) on the writer's thread when nothing is half written, and waits for it. Returns what it returned, with its
 * sentence. Not on the writer's thread. */
int lk_writer_run(struct lk_writer *writer, int (*job)(void *arg), void *arg);
/* Writes what waits, then stops. NULL is fine. */
void lk_writer_close(struct lk_writer *writer);

#endif
