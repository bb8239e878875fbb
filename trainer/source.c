#include "source.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/rng.h"

void lk_dataset_free(struct lk_dataset *d) {
    for (size_t i = 0; i < d->n; i++)
        free(d->name[i]);
    for (size_t i = 0; i < d->n_classes; i++)
        free(d->classes[i]);
    free(d->pixels);
    free(d->offset);
    free(d->width);
    free(d->height);
    free(d->label);
    free(d->name);
    free(d->classes);
    memset(d, 0, sizeof *d);
}

static int grow(void **array, size_t n, size_t size) {
    void *more = n > SIZE_MAX / size ? NULL : realloc(*array, n * size);
    if (more == NULL)
        return lk_err(LK_ENOMEM, "no memory for %zu pictures", n);
    *array = more;
    return 0;
}

int lk_dataset__reserve(struct lk_dataset *d, size_t n, size_t bytes) {
    if (n > d->allocated) {
        if (grow((void **)&d->offset, n, sizeof *d->offset) || grow((void **)&d->width, n, sizeof *d->width) ||
            grow((void **)&d->height, n, sizeof *d->height) || grow((void **)&d->label, n, sizeof *d->label) ||
            grow((void **)&d->name, n, sizeof *d->name))
            return LK_ENOMEM;
        d->allocated = n;
    }
    if (bytes > d->capacity) {
        uint8_t *more = realloc(d->pixels, bytes);
        if (more == NULL)
            return lk_err(LK_ENOMEM, "no memory for %.1f GB of pictures: a smaller --image-size or --train-limit helps",
                          (double)bytes / 1e9);
        d->pixels = more, d->capacity = bytes;
    }
    return 0;
}

int lk_dataset__append(struct lk_dataset *d, const uint8_t *pixels, int width, int height, int label, char *name) {
    size_t bytes = (size_t)width * (size_t)height * 3, need = d->bytes + bytes;
    size_t n = d->n < d->allocated ? d->allocated : d->allocated + d->allocated / 2 + 1024;
    if (lk_dataset__reserve(d, n, need <= d->capacity ? 0 : need + need / 2) != 0)
        return LK_ENOMEM;
    memcpy(d->pixels + d->bytes, pixels, bytes);
    d->offset[d->n] = d->bytes;
    d->width[d->n] = width, d->height[d->n] = height;
    d->label[d->n] = label;
    d->name[d->n] = name;
    d->bytes = need;
    d->n++;
    return 0;
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

int lk_source__choose(uint32_t *out, size_t limit, size_t n) {
    uint32_t *order = lk_calloc(n, sizeof *order);
    if (order == NULL)
        return LK_ENOMEM;
    lk_rng_shuffle(order, (uint32_t)n, 0, 0xFFFFFF); /* an epoch that no run reaches: the choice is of its own */
    memcpy(out, order, limit * sizeof *out);
    qsort(out, limit, sizeof *out, ascending);
    free(order);
    return 0;
}

static char *join(const char *folder, const char *name) {
    struct lk_buf b = {0};
    if (lk_buf_printf(&b, name[0] != '\0' ? "%s/%s" : "%s%s", folder, name) != 0) {
        lk_buf_free(&b);
        return NULL;
    }
    return (char *)b.data;
}

static int has_folder(const char *path, const char *name) {
    char *joined = join(path, name);
    int yes = joined != NULL && lk_fs_is_folder(joined);
    free(joined);
    return yes;
}

int lk_source_open(struct lk_source *out, const char *path) {
    static const char *const tests[] = {"test", "val", "valid", "validation"};
    memset(out, 0, sizeof *out);
    out->path = path;
    out->train = out->test = "";
    if (!lk_fs_is_folder(path))
        return lk_err(LK_ENOTFOUND, lk_fs_exists(path) ? "%s: not a folder" : "%s: no such folder", path);
    int cifar = lk_source__cifar_found(path);
    if (cifar != 0) {
        out->cifar = 1, out->has_test = cifar > 1;
        return 0;
    }
    if (!has_folder(path, "train"))
        return 0;
    out->train = "train";
    for (size_t i = 0; i < sizeof tests / sizeof tests[0] && !out->has_test; i++)
        if (has_folder(path, tests[i]))
            out->test = tests[i], out->has_test = 1;
    return 0;
}

int lk_source_read(struct lk_dataset *out, const struct lk_source *s, enum lk_split split,
                   const struct lk_read_options *options, const struct lk_dataset *classes_of, struct lk_pool *pool) {
    memset(out, 0, sizeof *out);
    int rc;
    if (s->cifar) {
        rc = lk_source__cifar_read(out, s->path, split, options);
    } else {
        char *folder = join(s->path, split == LK_SPLIT_TRAIN ? s->train : s->test);
        rc = folder == NULL ? LK_ENOMEM : lk_source__folder_read(out, folder, options, classes_of, pool);
        free(folder);
    }
    if (rc != 0)
        lk_dataset_free(out);
    return rc;
}

int lk_source_median_side(int *out, const struct lk_source *s, enum lk_split split) {
    if (s->cifar) {
        *out = 32;
        return 0;
    }
    char *folder = join(s->path, split == LK_SPLIT_TRAIN ? s->train : s->test);
    int rc = folder == NULL ? LK_ENOMEM : lk_source__folder_median(out, folder);
    free(folder);
    return rc;
}
