/* Pictures in a folder, with or without class subfolders. Files are read and decoded by the pool in chunks; results
 * are taken in the order of their names, so that numbering does not depend on threads. */
#include "source.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/sha256.h"
#include "image/decode.h"
#include "image/preprocess.h"

enum { CHUNK = 512, FILE_LIMIT = 1 << 29, SHOWN_BAD = 20 };

/* Whether a name is meant to be a picture: the codec is found by content, but notes and indexes beside pictures are no
 * broken pictures. Names without an extension are taken for pictures. */
static int is_picture_name(const char *path) {
    static const char *const known[] = {"jpg", "jpeg", "jpe",  "jfif", "png", "webp", "bmp",
                                        "gif", "tif",  "tiff", "ppm",  "pgm", "heic", "avif"};
    const char *base = strrchr(path, '/');
    base = base == NULL ? path : base + 1;
    if (base[0] == '.')
        return 0;
    const char *dot = strrchr(base, '.');
    if (dot == NULL)
        return 1;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcasecmp(dot + 1, known[i]) == 0)
            return 1;
    return 0;
}

/* Keeps the pictures of a walk, in order. */
int lk_source_list(struct lk_fs_list *out, const char *folder) {
    int rc = lk_fs_walk(out, folder);
    if (rc != 0)
        return rc;
    size_t kept = 0;
    for (size_t i = 0; i < out->count; i++) {
        if (is_picture_name(out->paths[i]))
            out->paths[kept++] = out->paths[i];
        else
            free(out->paths[i]);
    }
    out->count = kept;
    return kept > 0 ? 0 : lk_err(LK_EINVAL, "%s: no pictures in this folder", folder);
}

static int limit_pictures(struct lk_fs_list *list, size_t limit) {
    if (limit == 0 || limit >= list->count)
        return 0;
    uint32_t *chosen = lk_calloc(limit, sizeof *chosen);
    if (chosen == NULL || lk_source__choose(chosen, limit, list->count) != 0) {
        free(chosen);
        return LK_ENOMEM;
    }
    size_t next = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (next < limit && chosen[next] == i)
            list->paths[next++] = list->paths[i];
        else
            free(list->paths[i]);
    }
    list->count = limit;
    free(chosen);
    return 0;
}

struct one {
    char *error; /* owned; NULL: decoded */
    struct lk_image image;
    uint8_t hash[32];
};

struct chunk {
    const char *folder;
    char **paths;
    struct one *one;
    int short_side;
};

static char *join(const char *folder, const char *name) {
    struct lk_buf b = {0};
    if (lk_buf_printf(&b, "%s/%s", folder, name) != 0) {
        lk_buf_free(&b);
        return NULL;
    }
    return (char *)b.data;
}

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

static void read_one(void *arg, size_t i) {
    struct chunk *c = arg;
    struct one *o = &c->one[i];
    struct lk_buf file = {0};
    struct lk_sha256 sha;
    char *path = join(c->folder, c->paths[i]);
    int rc = path == NULL ? LK_ENOMEM : lk_fs_read(&file, path, FILE_LIMIT);
    if (rc == 0) {
        lk_sha256_init(&sha);
        lk_sha256_update(&sha, c->paths[i], strlen(c->paths[i]) + 1);
        lk_sha256_update(&sha, file.data, file.size);
        lk_sha256_final(&sha, o->hash);
        rc = lk_decode(&o->image, file.data, file.size, NULL);
    }
    if (rc == 0)
        rc = shrink(&o->image, c->short_side);
    if (rc != 0) {
        lk_image_free(&o->image);
        o->error = lk_strdup(lk_error());
        if (o->error == NULL)
            o->error = calloc(1, 1); /* still bad, without a reason */
    }
    lk_buf_free(&file);
    free(path);
}

/* --- classes: the first subfolder ------------------------------------------------------------------------------------ */

static size_t class_length(const char *path) {
    const char *slash = strchr(path, '/');
    return slash == NULL ? 0 : (size_t)(slash - path);
}

static int find_class(const struct lk_dataset *d, const char *path, size_t n) {
    size_t low = 0, high = d->n_classes;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int order = strncmp(d->classes[mid], path, n);
        if (order == 0 && d->classes[mid][n] != '\0')
            order = 1;
        if (order == 0)
            return (int)mid;
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return -1;
}

static int compare_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Classes of a list: the distinct first subfolders, sorted; none when a picture lies outside one or there is only one.
 * The walk sorts by whole paths, so equal subfolders are neighbours. */
static int list_classes(struct lk_dataset *d, const struct lk_fs_list *list) {
    const char *last = NULL;
    size_t last_n = 0, count = 0;
    for (size_t i = 0; i < list->count; i++) {
        size_t n = class_length(list->paths[i]);
        if (n == 0)
            return 0;
        if (last == NULL || n != last_n || memcmp(last, list->paths[i], n) != 0)
            count++, last = list->paths[i], last_n = n;
    }
    if (count < 2)
        return 0;
    d->classes = lk_calloc(count, sizeof *d->classes);
    if (d->classes == NULL)
        return LK_ENOMEM;
    last = NULL;
    for (size_t i = 0; i < list->count; i++) {
        size_t n = class_length(list->paths[i]);
        if (last != NULL && n == last_n && memcmp(last, list->paths[i], n) == 0)
            continue;
        last = list->paths[i], last_n = n;
        char *name = lk_calloc(n + 1, 1);
        if (name == NULL)
            return LK_ENOMEM;
        memcpy(name, last, n);
        d->classes[d->n_classes++] = name;
    }
    qsort(d->classes, d->n_classes, sizeof *d->classes, compare_text);
    return 0;
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

static int take(struct lk_dataset *d, struct one *o, const char *folder, const char *path, struct lk_sha256 *sha) {
    if (o->error != NULL) {
        if (d->n_bad < SHOWN_BAD)
            lk_log_warn("%s/%s: skipped: %s", folder, path, o->error[0] != '\0' ? o->error : "out of memory");
        else if (d->n_bad == SHOWN_BAD)
            lk_log_warn("more pictures were skipped; their number follows");
        d->n_bad++;
        return 0;
    }
    int label = -1;
    if (d->n_classes > 0) {
        size_t n = class_length(path);
        label = n == 0 ? -1 : find_class(d, path, n);
        if (label < 0)
            return lk_err(LK_EINVAL, "%s/%s: the training pictures have no class of this name", folder, path);
    }
    char *name = lk_strdup(path);
    int rc = name == NULL ? LK_ENOMEM
                          : lk_dataset__append(d, o->image.pixels, o->image.width, o->image.height, label, name);
    if (rc != 0) {
        free(name);
        return rc;
    }
    lk_sha256_update(sha, o->hash, sizeof o->hash);
    return 0;
}

int lk_source__folder_read(struct lk_dataset *out, const char *folder, const struct lk_read_options *options,
                           const struct lk_dataset *classes_of, struct lk_pool *pool) {
    struct lk_fs_list list = {0};
    struct one *one = lk_calloc(CHUNK, sizeof *one);
    struct lk_sha256 sha;
    lk_sha256_init(&sha);
    int rc = one == NULL ? LK_ENOMEM : lk_source_list(&list, folder);
    if (rc == 0)
        rc = classes_of != NULL ? copy_classes(out, classes_of) : list_classes(out, &list);
    if (rc == 0)
        rc = limit_pictures(&list, options->limit);
    for (size_t at = 0; rc == 0 && at < list.count; at += CHUNK) {
        size_t n = list.count - at < CHUNK ? list.count - at : CHUNK;
        struct chunk c = {folder, list.paths + at, one, options->short_side};
        lk_pool_for(pool, n, read_one, &c);
        for (size_t i = 0; i < n; i++) {
            if (rc == 0)
                rc = take(out, &one[i], folder, list.paths[at + i], &sha);
            lk_image_free(&one[i].image);
            free(one[i].error);
            memset(&one[i], 0, sizeof one[i]);
        }
        if (rc == 0 && options->progress != NULL)
            options->progress(options->arg, at + n, list.count);
        if (rc == 0 && options->stop != NULL && options->stop())
            rc = lk_err(LK_ECANCELLED, "stopped while reading pictures");
    }
    lk_sha256_final(&sha, out->hash);
    if (rc == 0 && (double)out->n_bad * 100 > options->max_bad * (double)list.count)
        rc = lk_err(LK_EFORMAT, "%s: %zu of %zu pictures cannot be read, more than --max-bad %g per cent", folder,
                    out->n_bad, list.count, options->max_bad);
    if (rc == 0 && out->n == 0)
        rc = lk_err(LK_EINVAL, "%s: no picture in this folder can be read", folder);
    if (rc == 0 && out->n_bad > 0)
        lk_log_warn("%s: %zu of %zu pictures were skipped", folder, out->n_bad, list.count);
    lk_fs_list_free(&list);
    free(one);
    return rc;
}

static int compare_int(const void *a, const void *b) {
    int x = *(const int *)a, y = *(const int *)b;
    return x < y ? -1 : x > y;
}

int lk_source__folder_median(int *out, const char *folder) {
    enum { LOOK = 256 };
    struct lk_fs_list list = {0};
    int side[LOOK], n = 0, rc = lk_source_list(&list, folder);
    size_t step = list.count / LOOK + 1;
    for (size_t i = 0; rc == 0 && i < list.count && n < LOOK; i += step) {
        struct lk_buf file = {0};
        struct lk_image_info info;
        char *path = join(folder, list.paths[i]);
        if (path != NULL && lk_fs_read(&file, path, FILE_LIMIT) == 0 &&
            lk_decode_info(&info, file.data, file.size) == 0)
            side[n++] = info.width < info.height ? info.width : info.height;
        lk_buf_free(&file);
        free(path);
    }
    if (rc == 0 && n == 0)
        rc = lk_err(LK_EFORMAT, "%s: none of the pictures looked at can be read", folder);
    if (rc == 0) {
        qsort(side, (size_t)n, sizeof *side, compare_int);
        *out = side[n / 2];
    }
    lk_fs_list_free(&list);
    return rc;
}
