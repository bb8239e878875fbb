/* The catalogue's one writer: a thread that takes all writes that wait, makes them one transaction, commits, brings the
 * index up to date, and then tells each of them. So a write costs a share of a sync, and an answer means that it is
 * durable and searchable. */
#ifndef LK_SERVER_WRITER_H
#define LK_SERVER_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "generation.h"
#include "store/store.h"

struct lk_writer;

enum lk_write_kind { LK_WRITE_PUT, LK_WRITE_PATCH, LK_WRITE_DELETE };

struct lk_write { /* owned by the caller, untouched by it until done() */
    enum lk_write_kind kind;
    const char *id;
    const char *metadata; /* put: JSON object or NULL; patch: the merge patch */
    /* put */
    const char *media_type;
    const void *image;
    size_t image_bytes;
    int width, height;
    const float *vector;
    int created; /* out: 1 when the item is new */
    /* out: 0, or a negative lk_status with its sentence */
    int status;
    char error[256];
    void (*done)(struct lk_write *write); /* once, on the writer's thread; short */
    void *arg;
    struct lk_write *next; /* the writer's */
};

/* Vectors are the generation's. It and the store outlive the writer. */
int lk_writer_open(struct lk_writer **out, struct lk_store *store, struct lk_generation *generation);
/* Writes run in the order of their submission. */
void lk_writer_submit(struct lk_writer *writer, struct lk_write *write);
/* Writes what waits, then stops. NULL is fine. */
void lk_writer_close(struct lk_writer *writer);

#endif
