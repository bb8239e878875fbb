#include "source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/memory.h"
#include "base/rng.h"
#include "remote.h"

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
    free(d->item);
    lk_items_close(&d->items);
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
            grow((void **)&d->name, n, sizeof *d->name) || grow((void **)&d->item, n, sizeof *d->item))
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
    if (lk_dataset__reserve(d, n, pixels == NULL || need <= d->capacity ? 0 : need + need / 2) != 0)
        return LK_ENOMEM;
    if (pixels != NULL)
        memcpy(d->pixels + d->bytes, pixels, bytes);
    d->offset[d->n] = d->bytes;
    d->width[d->n] = width, d->height[d->n] = height;
    d->label[d->n] = label;
    d->n_labelled += label >= 0;
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

/* --- recognising a place --------------------------------------------------------------------------------------------- */

static int open_folder(struct lk_source *out, const char *path) {
    static const char *const tests[] = {"test", "val", "valid", "validation"};
    int cifar = lk_source__cifar_found(path);
    if (out->label_field != NULL)
        return lk_err(LK_EINVAL, "%s is a folder, whose classes are its subfolders: --label-field is for catalogues",
                      path);
    if (cifar != 0) {
        out->place = LK_PLACE_CIFAR10, out->has_test = cifar > 1;
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

/* By its first bytes: SQLite's magic, or ustar's (POSIX 1003.1) in the first block; a tar of nothing is zeros. */
static int open_file(struct lk_source *out, const char *path) {
    static const char sqlite[] = "SQLite format 3", ustar[] = "ustar";
    static const uint8_t nothing[1024];
    enum { USTAR_AT = 257 };
    struct lk_fs_map map;
    int rc = lk_fs_map(&map, path);
    if (rc != 0)
        return rc;
    if (map.size >= sizeof sqlite && memcmp(map.data, sqlite, sizeof sqlite) == 0)
        out->place = LK_PLACE_CATALOGUE;
    else if ((map.size >= USTAR_AT + sizeof ustar && memcmp(map.data + USTAR_AT, ustar, sizeof ustar - 1) == 0) ||
             (map.size >= sizeof nothing && memcmp(map.data, nothing, sizeof nothing) == 0))
        out->place = LK_PLACE_EXPORT;
    else
        rc = lk_err(LK_EINVAL, "%s: neither a folder nor a server's catalogue (SQLite) or export (tar)", path);
    lk_fs_unmap(&map);
    return rc;
}

/* A new, empty file; owned. */
static char *temporary_file(void) {
    const char *folder = getenv("TMPDIR");
    struct lk_buf b = {0};
    int fd = -1;
    if (lk_buf_printf(&b, "%s/likeness-export-XXXXXX", folder != NULL && folder[0] != '\0' ? folder : "/tmp") == 0 &&
        (fd = mkstemp((char *)b.data)) < 0)
        lk_err(LK_EIO, "%s: cannot make a temporary file: %s", (const char *)b.data, strerror(errno));
    if (fd < 0) {
        lk_buf_free(&b);
        return NULL;
    }
    close(fd);
    return (char *)b.data;
}

/* The export of a server, to options->keep or to a temporary file. */
static int fetch(struct lk_source *out, const char *url, const struct lk_source_options *o) {
    struct lk_remote *remote = NULL;
    int rc = 0;
    out->fetched = o->keep != NULL ? lk_strdup(o->keep) : temporary_file();
    out->temporary = o->keep == NULL;
    if (out->fetched == NULL)
        return o->keep != NULL ? LK_ENOMEM : LK_EIO;
    if (o->keep == NULL || !lk_fs_exists(o->keep)) {
        const struct lk_remote_options options = {
            .key_file = o->key_file, .progress = o->progress, .arg = o->arg, .stop = o->stop};
        if ((rc = lk_remote_open(&remote, url, &options)) == 0)
            rc = lk_remote_fetch(remote, "/export", out->fetched, NULL);
        lk_remote_close(remote);
    }
    out->path = out->fetched;
    return rc ? rc : open_file(out, out->fetched);
}

int lk_source_open(struct lk_source *out, const char *path, const struct lk_source_options *options) {
    static const struct lk_source_options defaults;
    const struct lk_source_options *o = options != NULL ? options : &defaults;
    memset(out, 0, sizeof *out);
    out->path = path;
    out->train = out->test = "";
    out->label_field = o->label_field;
    int rc;
    if (lk_remote_is_url(path))
        rc = fetch(out, path, o);
    else if (!lk_fs_exists(path))
        rc = lk_err(LK_ENOTFOUND, "%s: no such folder or file", path);
    else
        rc = lk_fs_is_folder(path) ? open_folder(out, path) : open_file(out, path);
    if (rc != 0)
        lk_source_close(out);
    return rc;
}

void lk_source_close(struct lk_source *s) {
    if (s->temporary && s->fetched != NULL)
        (void)unlink(s->fetched); /* it may never have been there */
    free(s->fetched);
    memset(s, 0, sizeof *s);
}

/* --- reading --------------------------------------------------------------------------------------------------------- */

uint64_t lk_source_memory(void) { return lk_memory_total() / 2; }

int lk_source_items(struct lk_items *out, const struct lk_source *s, enum lk_split split) {
    memset(out, 0, sizeof *out);
    if (s->place == LK_PLACE_CATALOGUE)
        return lk_items_catalogue(out, s->path, s->label_field);
    if (s->place == LK_PLACE_EXPORT)
        return lk_items_export(out, s->path, s->label_field);
    char *folder = join(s->path, split == LK_SPLIT_TRAIN ? s->train : split == LK_SPLIT_TEST ? s->test : "");
    int rc = folder == NULL ? LK_ENOMEM : lk_items_folder(out, folder);
    free(folder);
    return rc;
}

int lk_source_read(struct lk_dataset *out, const struct lk_source *s, enum lk_split split,
                   const struct lk_read_options *options, const struct lk_dataset *classes_of, struct lk_pool *pool) {
    struct lk_items items;
    memset(out, 0, sizeof *out);
    int rc;
    if (s->place == LK_PLACE_CIFAR10)
        rc = lk_source__cifar_read(out, s->path, split, options);
    else if ((rc = lk_source_items(&items, s, split)) == 0)
        rc = lk_source__read_items(out, &items, s->place == LK_PLACE_FOLDER, options, classes_of, pool);
    if (rc == 0 && s->label_field != NULL && out->n_classes < 2)
        rc = lk_err(LK_EINVAL,
                    "%s: --label-field %s needs two classes or more; %zu of %zu items have that field, with "
                    "%zu different values",
                    s->path, s->label_field, out->n_labelled, out->n, out->n_classes);
    if (rc != 0)
        lk_dataset_free(out);
    return rc;
}

int lk_source_median_side(int *out, const struct lk_source *s, enum lk_split split) {
    struct lk_items items;
    if (s->place == LK_PLACE_CIFAR10) {
        *out = 32;
        return 0;
    }
    int rc = lk_source_items(&items, s, split);
    if (rc == 0) {
        rc = lk_source__median_of(out, &items);
        lk_items_close(&items);
    }
    return rc;
}
