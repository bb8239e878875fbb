/* The pixels of one batch put together in memory, and from there on a device that has memory of its own: how pictures that
 * do not lie in one place, or not on the device, come before ops->augment. One thread at a time; the filling of different
 * places of one batch may be shared. */
#ifndef LK_TRAINER_STAGING_H
#define LK_TRAINER_STAGING_H

#include "model/backend.h"
#include "source.h"

struct lk_staging {
    struct lk_backend *device; /* borrowed; NULL: the device reads the host's memory */
    size_t batch;
    uint8_t *host, *there; /* owned */
    size_t capacity, there_capacity, bytes;
    size_t *offset; /* [batch] */
};

/* 1 when the device's augment cannot read pixels in the host's memory. */
int lk_device_has_memory(const struct lk_backend *device);

int lk_staging_open(struct lk_staging *s, struct lk_backend *device, size_t batch);
void lk_staging_close(struct lk_staging *s); /* accepts a zeroed or half-open one */

/* Makes room for pictures which[batch] of a set. */
int lk_staging_reserve(struct lk_staging *s, const struct lk_dataset *d, const uint32_t *which);
/* Reads picture i of the batch into its place. Any thread, each i once. */
int lk_staging_load(const struct lk_staging *s, const struct lk_dataset *d, const uint32_t *which, size_t i);
/* Hands out where the pictures lie, pixels[batch]; copies them to the device first when it needs that. */
int lk_staging_finish(struct lk_staging *s, const uint8_t **pixels);

/* All three, on a pool. */
int lk_staging_fill(struct lk_staging *s, const struct lk_dataset *d, const uint32_t *which, const uint8_t **pixels,
                    struct lk_pool *pool);

#endif
