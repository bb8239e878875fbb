/* The pictures of the coming batches, read and decoded by threads of its own before the step needs them: a bounded queue of
 * LK_AHEAD_BATCHES, of which the consumer holds one. The order is the loader's, drawn from (seed, epoch) alone, so that a
 * step sees the pixels that it would see from memory. Wherever the consumer jumps to, the queue begins anew there. */
#ifndef LK_TRAINER_AHEAD_H
#define LK_TRAINER_AHEAD_H

#include "model/backend.h"
#include "source.h"

enum { LK_AHEAD_BATCHES = 3 };

struct lk_ahead;

/* Begins to read with the first call of lk_ahead_take. device: whose augment will read the pixels; NULL: the host's.
 * epochs: no batch beyond them is read (0: no end). Borrows the data set and the device. threads 0: as many as cores. */
int lk_ahead_open(struct lk_ahead **out, const struct lk_dataset *data, struct lk_backend *device, size_t batch,
                  uint64_t seed, uint64_t epochs, int threads);
void lk_ahead_close(struct lk_ahead *a); /* waits for pictures that are being read; NULL is fine */

/* Waits for a batch: pixels[batch], valid until the next call. step < pictures / batch. From one thread. The error of a
 * picture that could not be read again: of the first one in the batch. */
int lk_ahead_take(struct lk_ahead *a, uint32_t epoch, size_t step, const uint8_t **pixels);

#endif
