/* Which pictures each step sees, and where their pixels lie. The order of an epoch is a permutation drawn from (seed, epoch)
 * alone, so a resumed run needs no state; the last, short batch is dropped. Pictures that do not lie in one block where the
 * device can read them are brought there ahead of time (ahead.h). Owns the order, borrows the data set. */
#ifndef LK_TRAINER_LOADER_H
#define LK_TRAINER_LOADER_H

#include <stddef.h>
#include <stdint.h>

#include "ahead.h"
#include "source.h"

struct lk_loader {
    const struct lk_dataset *data;
    const uint8_t *base; /* where the pictures lie: data->pixels, or their copy on the device; NULL: `ahead` knows */
    struct lk_ahead *ahead;
    size_t batch;
    uint64_t seed;
    uint32_t *order; /* [data->n] */
    int64_t epoch;   /* that `order` is for; -1: none yet */
    /* the current batch, [batch] each */
    const uint8_t **pixels;
    int *width, *height;
    uint64_t *id;
};

int lk_loader_open(struct lk_loader *l, const struct lk_dataset *data, const uint8_t *base, size_t batch,
                   uint64_t seed);
/* The same for pictures that are streamed, or in the host's memory alone: see lk_ahead_open. */
int lk_loader_open_ahead(struct lk_loader *l, const struct lk_dataset *data, struct lk_backend *device, size_t batch,
                         uint64_t seed, uint64_t epochs, int threads);
void lk_loader_close(struct lk_loader *l); /* accepts a zeroed one */

size_t lk_loader_steps(const struct lk_loader *l); /* whole batches in an epoch */

/* Fills the batch arrays for one step of one epoch, both from 0. step < lk_loader_steps(). Fails only where a picture has
 * to be read: see lk_ahead_take. */
int lk_loader_batch(struct lk_loader *l, uint32_t epoch, size_t step);

#endif
