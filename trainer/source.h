/* A data set in memory: pictures as uint8 RGB of their own sizes, one after another in one block, with labels where the
 * folder gives them. Where pictures come from (a folder, CIFAR-10's binary files) is hidden behind lk_source_open.
 *
 * Pictures whose short side is larger than needed are shrunk while they are read, keeping their shape, to the short side
 * at which evaluation and the server look at them; so 100,000 photos at --image-size 128 take about 8 GB at most. A
 * picture that cannot be read is reported with its path and skipped; reading fails only when too many are. */
#ifndef LK_TRAINER_SOURCE_H
#define LK_TRAINER_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "base/fs.h"
#include "base/pool.h"

struct lk_dataset {
    size_t n;
    uint8_t *pixels; /* owned: all pictures, [height][width][3] each */
    size_t bytes, capacity;
    size_t *offset;      /* [n] into pixels */
    int *width, *height; /* [n] */
    int *label;          /* [n] class number, or -1 in a data set without classes */
    char **name;         /* [n] path relative to the split, or "data_batch_1.bin:17" */
    char **classes;      /* [n_classes] sorted */
    size_t n_classes;    /* 0: no labels */
    size_t n_bad;        /* skipped */
    size_t allocated;    /* entries the arrays have room for */
    uint8_t hash[32];    /* SHA-256 over names and encoded contents, in order: what was read, whatever its size here */
};

void lk_dataset_free(struct lk_dataset *d); /* accepts a zeroed one */

/* A picture of the set, borrowed. */
static inline const uint8_t *lk_dataset_pixels(const struct lk_dataset *d, size_t i) {
    return d->pixels + d->offset[i];
}

/* A place with pictures, looked at but not read yet. */
struct lk_source {
    const char *path;         /* borrowed */
    int cifar;                /* 1: CIFAR-10's binary files */
    int has_test;             /* a test split was found */
    const char *train, *test; /* names of the split folders below path, "" for path itself; constant strings */
};

/* Recognises, in this order: data_batch_*.bin and test_batch.bin; train/ beside test/, val/ or valid/; a folder with
 * train/ alone; else the folder itself. LK_ENOTFOUND. */
int lk_source_open(struct lk_source *out, const char *path);

enum lk_split { LK_SPLIT_TRAIN, LK_SPLIT_TEST };

struct lk_read_options {
    size_t limit;   /* 0: all, else this many, drawn evenly with a fixed seed */
    int short_side; /* shrink to this short side; 0: keep */
    double max_bad; /* per cent */
    /* Reported a few times a second while reading; NULL: silent. */
    void (*progress)(void *arg, size_t done, size_t of);
    void *arg;
    int (*stop)(void); /* non-zero: LK_ECANCELLED; NULL: never */
};

/* Reads a split. LK_EINVAL when it holds no picture, LK_EFORMAT when more than max_bad per cent are broken. Labels are
 * the first subfolder's name, and only when every picture lies in one and there are two or more. classes_of (or NULL):
 * number classes as this set does, so that train and test agree; a class that it lacks is an error. */
int lk_source_read(struct lk_dataset *out, const struct lk_source *s, enum lk_split split,
                   const struct lk_read_options *options, const struct lk_dataset *classes_of, struct lk_pool *pool);

/* Median short side of up to 256 pictures of a split, from their headers. */
int lk_source_median_side(int *out, const struct lk_source *s, enum lk_split split);

/* The pictures below a folder, by name: hidden files and files with an extension that is no picture's are left out.
 * LK_ENOTFOUND; LK_EINVAL when there are none. On success free with lk_fs_list_free. */
int lk_source_list(struct lk_fs_list *out, const char *folder);

/* --- for the two kinds of sources --- */
int lk_dataset__reserve(struct lk_dataset *d, size_t n, size_t bytes); /* room for that many in all */
/* Appends a picture (pixels are copied, the name is taken over on success). */
int lk_dataset__append(struct lk_dataset *d, const uint8_t *pixels, int width, int height, int label, char *name);
/* Picks `limit` of n: ascending numbers in out[limit]. limit <= n. */
int lk_source__choose(uint32_t *out, size_t limit, size_t n);
int lk_source__folder_read(struct lk_dataset *out, const char *folder, const struct lk_read_options *options,
                           const struct lk_dataset *classes_of, struct lk_pool *pool);
int lk_source__folder_median(int *out, const char *folder);
int lk_source__cifar_found(const char *path);
int lk_source__cifar_read(struct lk_dataset *out, const char *path, enum lk_split split,
                          const struct lk_read_options *options);

#endif
