#include "staging.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"

int lk_device_has_memory(const struct lk_backend *device) { return strcmp(lk_ops(device)->name, "cpu") != 0; }

int lk_staging_open(struct lk_staging *s, struct lk_backend *device, size_t batch) {
    memset(s, 0, sizeof *s);
    s->device = device != NULL && lk_device_has_memory(device) ? device : NULL;
    s->batch = batch;
    s->offset = lk_calloc(batch, sizeof *s->offset);
    return s->offset == NULL ? LK_ENOMEM : 0;
}

void lk_staging_close(struct lk_staging *s) {
    if (s->device != NULL)
        lk_ops(s->device)->free(s->device, s->there);
    free(s->host);
    free(s->offset);
    memset(s, 0, sizeof *s);
}

int lk_staging_reserve(struct lk_staging *s, const struct lk_dataset *d, const uint32_t *which) {
    s->bytes = 0;
    for (size_t i = 0; i < s->batch; i++) {
        s->offset[i] = s->bytes;
        s->bytes += lk_dataset_picture_bytes(d, which[i]);
    }
    if (s->bytes <= s->capacity)
        return 0;
    free(s->host); /* the old content is of no use */
    s->capacity = 0;
    s->host = malloc(s->bytes + s->bytes / 4);
    if (s->host == NULL)
        return lk_err(LK_ENOMEM, "no memory for %.1f MB of pictures: a smaller --batch or --image-size helps",
                      (double)s->bytes / 1e6);
    s->capacity = s->bytes + s->bytes / 4;
    return 0;
}

int lk_staging_load(const struct lk_staging *s, const struct lk_dataset *d, const uint32_t *which, size_t i) {
    return lk_dataset_load(d, which[i], s->host + s->offset[i]);
}

int lk_staging_finish(struct lk_staging *s, const uint8_t **pixels) {
    const uint8_t *base = s->host;
    if (s->device != NULL) {
        const struct lk_backend_ops *ops = lk_ops(s->device);
        void *there = NULL;
        int rc = 0;
        if (s->bytes > s->there_capacity) {
            ops->free(s->device, s->there);
            s->there = NULL, s->there_capacity = 0;
            if ((rc = ops->alloc(s->device, s->capacity, &there)) != 0)
                return rc;
            s->there = there, s->there_capacity = s->capacity;
        }
        if ((rc = ops->upload(s->device, s->there, s->host, s->bytes)) != 0)
            return rc;
        base = s->there;
    }
    for (size_t i = 0; i < s->batch; i++)
        pixels[i] = base + s->offset[i];
    return 0;
}

struct fill {
    const struct lk_staging *s;
    const struct lk_dataset *d;
    const uint32_t *which;
    char **errors; /* [batch], owned texts */
    int *rc;
};

static void fill_one(void *arg, size_t i) {
    struct fill *f = arg;
    f->rc[i] = lk_staging_load(f->s, f->d, f->which, i);
    if (f->rc[i] != 0)
        f->errors[i] = lk_strdup(lk_error());
}

int lk_staging_fill(struct lk_staging *s, const struct lk_dataset *d, const uint32_t *which, const uint8_t **pixels,
                    struct lk_pool *pool) {
    struct fill f = {s, d, which, lk_calloc(s->batch, sizeof *f.errors), lk_calloc(s->batch, sizeof *f.rc)};
    int rc = f.errors == NULL || f.rc == NULL ? LK_ENOMEM : lk_staging_reserve(s, d, which);
    if (rc == 0)
        lk_pool_for(pool, s->batch, fill_one, &f);
    for (size_t i = 0; f.errors != NULL && f.rc != NULL && i < s->batch; i++) {
        if (rc == 0 && f.rc[i] != 0)
            rc = lk_err(f.rc[i], "%s", f.errors[i] != NULL ? f.errors[i] : "out of memory");
        free(f.errors[i]);
    }
    free(f.errors);
    free(f.rc);
    return rc ? rc : lk_staging_finish(s, pixels);
}
