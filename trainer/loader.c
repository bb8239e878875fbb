#include "loader.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/rng.h"

int lk_loader_open(struct lk_loader *l, const struct lk_dataset *data, const uint8_t *base, size_t batch,
                   uint64_t seed) {
    memset(l, 0, sizeof *l);
    if (batch == 0 || batch > data->n || data->n > UINT32_MAX)
        return lk_err(LK_EINVAL, "a batch of %zu from %zu pictures", batch, data->n);
    l->data = data, l->base = base, l->batch = batch, l->seed = seed, l->epoch = -1;
    l->order = lk_calloc(data->n, sizeof *l->order);
    l->pixels = lk_calloc(batch, sizeof *l->pixels);
    l->width = lk_calloc(batch, sizeof *l->width);
    l->height = lk_calloc(batch, sizeof *l->height);
    l->id = lk_calloc(batch, sizeof *l->id);
    if (l->order != NULL && l->pixels != NULL && l->width != NULL && l->height != NULL && l->id != NULL)
        return 0;
    lk_loader_close(l);
    return LK_ENOMEM;
}

int lk_loader_open_ahead(struct lk_loader *l, const struct lk_dataset *data, struct lk_backend *device, size_t batch,
                         uint64_t seed, uint64_t epochs, int threads) {
    int rc = lk_loader_open(l, data, NULL, batch, seed);
    if (rc == 0 && (rc = lk_ahead_open(&l->ahead, data, device, batch, seed, epochs, threads)) != 0)
        lk_loader_close(l);
    return rc;
}

void lk_loader_close(struct lk_loader *l) {
    lk_ahead_close(l->ahead);
    free(l->order);
    free(l->pixels);
    free(l->width);
    free(l->height);
    free(l->id);
    memset(l, 0, sizeof *l);
}

size_t lk_loader_steps(const struct lk_loader *l) { return l->data->n / l->batch; }

int lk_loader_batch(struct lk_loader *l, uint32_t epoch, size_t step) {
    if (l->epoch != (int64_t)epoch) {
        lk_rng_shuffle(l->order, (uint32_t)l->data->n, l->seed, epoch);
        l->epoch = (int64_t)epoch;
    }
    for (size_t i = 0; i < l->batch; i++) {
        size_t at = l->order[step * l->batch + i];
        if (l->base != NULL)
            l->pixels[i] = l->base + l->data->offset[at];
        l->width[i] = l->data->width[at];
        l->height[i] = l->data->height[at];
        l->id[i] = at;
    }
    return l->ahead != NULL ? lk_ahead_take(l->ahead, epoch, step, l->pixels) : 0;
}
