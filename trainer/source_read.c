/* Encoded pictures to a data set. They are read and decoded by the pool in chunks; results are taken in the order of their
 * names, so that numbering does not depend on threads. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/sha256.h"
#include "image/decode.h"
#include "image/preprocess.h"
#include "source.h"

enum { CHUNK = 512, SHOWN_BAD = 20 };

/* --- one picture ----------------------------------------------------------------------------------------------------- */

/* Rounded as lk_preprocess rounds, so that it leaves the picture alone afterwards. */
static int shrink(struct lk_image *image, int side) {
    int shorter = image->width < image->height ? image->width : image->height;
    if (side <= 0 || shorter <= side)
        return 0;
    long long w = image->width, h = image->height;
    int width = w <= h ? side : (int)(w * side / h), height = w <= h ? (int)(h * side / w) : side;
    struct lk_image small = {0};
    int rc = lk_resize(&small, image, width, height);
    if (rc != 0)
        return rc;
    lk_image_free(image);
    *image = small;
    return 0;
}

static int decode(struct lk_image *out, const struct lk_buf *file, int short_side) {
    int rc = lk_decode(out, file->data, file->size, NULL);
    if (rc == 0 && (rc = shrink(out, short_side)) != 0)
        lk_image_free(out);
    return rc;
}

int lk_dataset_load(const struct lk_dataset *d, size_t i, uint8_t *to) {
    size_t bytes = lk_dataset_picture_bytes(d, i);
    if (!d->streamed) {
        memcpy(to, lk_dataset_pixels(d, i), bytes);
        return 0;
    }
    struct lk_buf file = {0};
    struct lk_image image = {0};
    int rc = d->items.read(&d->items, d->item[i], &file);
    if (rc == 0)
        rc = decode(&image, &file, d->short_side);
    if (rc == 0 && (image.width != d->width[i] || image.height != d->height[i]))
        rc = lk_err(LK_ECONFLICT, "%d x %d pixels now, where it was %d x %d", image.width, image.height, d->width[i],
                    d->height[i]);
    if (rc == 0)
        memcpy(to, image.pixels, bytes);
    else
        lk_err_prefix(rc, "%s: %s changed since the pictures were looked at", d->items.place, d->name[i]);
    lk_image_free(&image);
    lk_buf_free(&file);
    return rc;
}

struct one {
    char *error; /* owned; NULL: decoded */
    struct lk_image image;
    uint8_t hash[32];
};

struct chunk {
    const struct lk_items *items;
    const uint32_t *which; /* numbers of items */
    struct one *one;
    int short_side;
};

static void read_one(void *arg, size_t i) {
    struct chunk *c = arg;
    struct one *o = &c->one[i];
    struct lk_buf file = {0};
    struct lk_sha256 sha;
    const char *name = c->items->name[c->which[i]];
    int rc = c->items->read(c->items, c->which[i], &file);
    if (rc == 0) {
        lk_sha256_init(&sha);
        lk_sha256_update(&sha, name, strlen(name) + 1);
        lk_sha256_update(&sha, file.data, file.size);
        lk_sha256_final(&sha, o->hash);
        rc = decode(&o->image, &file, c->short_side);
    }
    if (rc != 0) {
        o->error = lk_strdup(lk_error());
        if (o->error == NULL)
            o->error = calloc(1, 1); /* still bad, without a reason */
    }
    lk_buf_free(&file);
}

/* --- classes --------------------------------------------------------------------------------------------------------- */

static int compare_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static int find_class(const struct lk_dataset *d, const char *label) {
    char **found = label == NULL || d->n_classes == 0
                       ? NULL
                       : bsearch(&label, d->classes, d->n_classes, sizeof *d->classes, compare_text);
    return found == NULL ? -1 : (int)(found - d->classes);
}

/* The distinct labels, sorted; none when `whole` and a picture has no label or all have the same one. */
static int list_classes(struct lk_dataset *d, const struct lk_items *items, int whole) {
    size_t n = 0, distinct = 0;
    const char **sorted = items->n > 0 ? lk_calloc(items->n, sizeof *sorted) : NULL;
    if (sorted == NULL)
        return items->n > 0 ? LK_ENOMEM : 0;
    for (size_t i = 0; i < items->n; i++)
        if (items->label != NULL && items->label[i] != NULL)
            sorted[n++] = items->label[i];
    int rc = 0;
    if (n > 0)
        qsort(sorted, n, sizeof *sorted, compare_text);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(sorted[i - 1], sorted[i]) != 0)
            sorted[distinct++] = sorted[i];
    if (distinct == 0 || (whole && (n < items->n || distinct < 2)))
        goto done;
    d->classes = lk_calloc(distinct, sizeof *d->classes);
    if (d->classes == NULL)
        rc = LK_ENOMEM;
    for (; rc == 0 && d->n_classes < distinct; d->n_classes++)
        if ((d->classes[d->n_classes] = lk_strdup(sorted[d->n_classes])) == NULL)
            rc = LK_ENOMEM;
done:
    free(sorted);
    return rc;
}

static int copy_classes(struct lk_dataset *d, const struct lk_dataset *from) {
    if (from->n_classes == 0)
        return 0;
    d->classes = lk_calloc(from->n_classes, sizeof *d->classes);
    if (d->classes == NULL)
        return LK_ENOMEM;
    for (; d->n_classes < from->n_classes; d->n_classes++)
        if ((d->classes[d->n_classes] = lk_strdup(from->classes[d->n_classes])) == NULL)
            return LK_ENOMEM;
    return 0;
}

/* --- reading --------------------------------------------------------------------------------------------------------- */

struct reading {
    struct lk_dataset *d;
    const struct lk_items *items;
    uint64_t memory;
    int strict; /* every picture has to have a known class */
    struct lk_sha256 sha;
};

/* From here on the pictures are only looked at. */
static void begin_to_stream(struct lk_dataset *d) {
    free(d->pixels);
    d->pixels = NULL;
    d->capacity = 0;
    d->streamed = 1;
}

static int take(struct reading *r, struct one *o, uint32_t number) {
    struct lk_dataset *d = r->d;
    const char *place = r->items->place, *name = r->items->name[number];
    if (o->error != NULL) {
        if (d->n_bad < SHOWN_BAD)
            lk_log_warn("%s/%s: skipped: %s", place, name, o->error[0] != '\0' ? o->error : "out of memory");
        else if (d->n_bad == SHOWN_BAD)
            lk_log_warn("more pictures were skipped; their number follows");
        d->n_bad++;
        return 0;
    }
    int label = find_class(d, r->items->label != NULL ? r->items->label[number] : NULL);
    if (label < 0 && r->strict && d->n_classes > 0)
        return lk_err(LK_EINVAL, "%s/%s: the training pictures have no class of this name", place, name);
    size_t bytes = (size_t)o->image.width * (size_t)o->image.height * 3;
    if (!d->streamed && r->memory > 0 && d->bytes + bytes > r->memory)
        begin_to_stream(d);
    char *own = lk_strdup(name);
    int rc = own == NULL ? LK_ENOMEM
                         : lk_dataset__append(d, d->streamed ? NULL : o->image.pixels, o->image.width, o->image.height,
                                              label, own);
    if (rc != 0) {
        free(own);
        return rc;
    }
    d->item[d->n - 1] = number;
    lk_sha256_update(&r->sha, o->hash, sizeof o->hash);
    return 0;
}

static int read_chunks(struct reading *r, const uint32_t *which, size_t count, const struct lk_read_options *options,
                       struct lk_pool *pool) {
    struct one *one = lk_calloc(CHUNK, sizeof *one);
    int rc = one == NULL ? LK_ENOMEM : 0;
    for (size_t at = 0; rc == 0 && at < count; at += CHUNK) {
        size_t n = count - at < CHUNK ? count - at : CHUNK;
        struct chunk c = {r->items, which + at, one, options->short_side};
        lk_pool_for(pool, n, read_one, &c);
        for (size_t i = 0; i < n; i++) {
            if (rc == 0)
                rc = take(r, &one[i], which[at + i]);
            lk_image_free(&one[i].image);
            free(one[i].error);
            memset(&one[i], 0, sizeof one[i]);
        }
        if (rc == 0 && options->progress != NULL)
            options->progress(options->arg, at + n, count);
        if (rc == 0 && options->stop != NULL && options->stop())
            rc = lk_err(LK_ECANCELLED, "stopped while reading pictures");
    }
    free(one);
    return rc;
}

/* Ascending numbers of the items to read. */
static int choose(uint32_t **out, size_t *count, const struct lk_items *items, size_t limit) {
    if (items->n > UINT32_MAX)
        return lk_err(LK_ELIMIT, "%s: more than %u pictures", items->place, UINT32_MAX);
    *count = limit > 0 && limit < items->n ? limit : items->n;
    *out = lk_calloc(*count > 0 ? *count : 1, sizeof **out);
    if (*out == NULL)
        return LK_ENOMEM;
    if (*count < items->n)
        return lk_source__choose(*out, *count, items->n);
    for (size_t i = 0; i < *count; i++)
        (*out)[i] = (uint32_t)i;
    return 0;
}

int lk_source__read_items(struct lk_dataset *out, struct lk_items *items, int whole_classes,
                          const struct lk_read_options *options, const struct lk_dataset *classes_of,
                          struct lk_pool *pool) {
    struct reading r = {.d = out, .items = items, .memory = options->memory, .strict = classes_of != NULL};
    uint32_t *which = NULL;
    size_t count = 0;
    lk_sha256_init(&r.sha);
    out->short_side = options->short_side;
    int rc = classes_of != NULL ? copy_classes(out, classes_of) : list_classes(out, items, whole_classes);
    if (rc == 0 && (rc = choose(&which, &count, items, options->limit)) == 0)
        rc = read_chunks(&r, which, count, options, pool);
    lk_sha256_final(&r.sha, out->hash);
    if (rc == 0 && (double)out->n_bad * 100 > options->max_bad * (double)count)
        rc = lk_err(LK_EFORMAT, "%s: %zu of %zu pictures cannot be read, more than --max-bad %g per cent", items->place,
                    out->n_bad, count, options->max_bad);
    if (rc == 0 && out->n == 0)
        rc = lk_err(LK_EINVAL, "%s: no picture there can be read", items->place);
    if (rc == 0 && out->n_bad > 0)
        lk_log_warn("%s: %zu of %zu pictures were skipped", items->place, out->n_bad, count);
    free(which);
    if (rc == 0 && out->streamed)
        out->items = *items; /* taken over */
    else
        lk_items_close(items);
    return rc;
}

/* --- sizes ----------------------------------------------------------------------------------------------------------- */

static int compare_int(const void *a, const void *b) {
    int x = *(const int *)a, y = *(const int *)b;
    return x < y ? -1 : x > y;
}

int lk_source__median_of(int *out, const struct lk_items *items) {
    enum { LOOK = 256 };
    int side[LOOK], n = 0;
    size_t step = items->n / LOOK + 1;
    struct lk_buf file = {0};
    for (size_t i = 0; i < items->n && n < LOOK; i += step) {
        struct lk_image_info info;
        if (items->read(items, i, &file) == 0 && lk_decode_info(&info, file.data, file.size) == 0)
            side[n++] = info.width < info.height ? info.width : info.height;
    }
    lk_buf_free(&file);
    if (n == 0)
        return lk_err(LK_EFORMAT, "%s: none of the pictures looked at can be read", items->place);
    qsort(side, (size_t)n, sizeof *side, compare_int);
    *out = side[n / 2];
    return 0;
}
