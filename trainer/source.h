/* A data set: pictures as uint8 RGB of their own sizes, with labels where their place gives them. In memory they lie one
 * after another in one block; a set that would pass the memory given to it is streamed instead: its pictures are looked
 * at once, and then read and decoded again whenever they are needed (lk_dataset_load), with equal pixels. Where pictures
 * come from (a folder, CIFAR-10's binary files, a server's catalogue, its export) is hidden behind lk_source_open.
 *
 * Pictures whose short side is larger than needed are shrunk while they are read, keeping their shape, to the short side
 * at which evaluation and the server look at them; so 100,000 photos take about 8 GB at most at --image-size 128. A
 * picture that cannot be read is reported with its path and skipped; reading fails only when too many are. */
#ifndef LK_TRAINER_SOURCE_H
#define LK_TRAINER_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"
#include "items.h"

struct lk_dataset {
    size_t n;
    uint8_t *pixels; /* owned: all pictures, [height][width][3] each; NULL when streamed */
    size_t bytes;    /* of all pictures, in memory or not */
    size_t capacity;
    size_t *offset;      /* [n] into pixels */
    int *width, *height; /* [n] */
    int *label;          /* [n] class number, or -1 for a picture without one */
    char **name;         /* [n] path relative to the split, the item's id, or "data_batch_1.bin:17" */
    char **classes;      /* [n_classes] sorted */
    size_t n_classes;    /* 0: no labels */
    size_t n_labelled;   /* pictures with a label */
    size_t n_bad;        /* skipped */
    size_t allocated;    /* entries the arrays have room for */
    uint8_t hash[32];    /* SHA-256 over names and encoded contents, in order: what was read, whatever its size here */
    /* when streamed */
    int streamed, short_side;
    struct lk_items items; /* owned */
    uint32_t *item;        /* [n] numbers in items */
};

void lk_dataset_free(struct lk_dataset *d); /* accepts a zeroed one */

/* A picture of a set in memory, borrowed. */
static inline const uint8_t *lk_dataset_pixels(const struct lk_dataset *d, size_t i) {
    return d->pixels + d->offset[i];
}

static inline size_t lk_dataset_picture_bytes(const struct lk_dataset *d, size_t i) {
    return (size_t)d->width[i] * (size_t)d->height[i] * 3;
}

/* A picture's pixels into to[height][width][3], streamed or not. Any thread. An error when a streamed picture cannot be read
 * any more, or has another size than when the set was read. */
int lk_dataset_load(const struct lk_dataset *d, size_t i, uint8_t *to);

enum lk_place { LK_PLACE_FOLDER, LK_PLACE_CIFAR10, LK_PLACE_CATALOGUE, LK_PLACE_EXPORT };

/* A place with pictures, looked at but not read yet. */
struct lk_source {
    const char *path; /* borrowed; of an export that was fetched: `fetched` */
    char *fetched;    /* owned, or NULL */
    int temporary;    /* 1: remove `fetched` on close */
    enum lk_place place;
    const char *label_field;  /* borrowed, or NULL */
    int has_test;             /* a test split was found */
    const char *train, *test; /* names of the split folders below path, "" for path itself; constant strings */
};

struct lk_source_options {
    const char *label_field; /* catalogue and export: the field of the metadata that is the class; NULL: no classes */
    const char *key_file;    /* URL: see remote.h */
    const char *keep;        /* URL: fetch to this file, and use it when it is there already; NULL: a temporary one */
    void (*progress)(void *arg, uint64_t bytes); /* of fetching; NULL: silent */
    void *arg;
    int (*stop)(void); /* non-zero: LK_ECANCELLED; NULL: never */
};

/* Recognises a server's URL, whose export is fetched; a file: a catalogue or an export; a folder, in this order:
 * data_batch_*.bin and test_batch.bin; train/ beside test/, val/ or valid/; a folder with train/ alone; else the folder
 * itself. LK_ENOTFOUND; LK_EINVAL when it is none of them, or label_field is given for a folder. */
int lk_source_open(struct lk_source *out, const char *path, const struct lk_source_options *options);
void lk_source_close(struct lk_source *s); /* accepts a zeroed one */

enum lk_split { LK_SPLIT_TRAIN, LK_SPLIT_TEST, LK_SPLIT_ALL };

struct lk_read_options {
    size_t limit;    /* 0: all, else this many, drawn evenly with a fixed seed */
    int short_side;  /* shrink to this short side; 0: keep */
    double max_bad;  /* per cent */
    uint64_t memory; /* bytes of pixels; past it the set is streamed. 0: no limit. CIFAR-10's files do not heed it */
    /* Reported a few times a second while reading; NULL: silent. */
    void (*progress)(void *arg, size_t done, size_t of);
    void *arg;
    int (*stop)(void); /* non-zero: LK_ECANCELLED; NULL: never */
};

/* Half of the machine's memory: what pictures may take when nothing else was said. */
uint64_t lk_source_memory(void);

/* Reads a split. LK_EINVAL when it holds no picture, LK_EFORMAT when more than max_bad per cent are broken. A folder's labels
 * are the first subfolder's name, and only when every picture lies in one and there are two or more. classes_of (or NULL):
 * number classes as this set does, so that train and test agree; a class that it lacks is an error. */
int lk_source_read(struct lk_dataset *out, const struct lk_source *s, enum lk_split split,
                   const struct lk_read_options *options, const struct lk_dataset *classes_of, struct lk_pool *pool);

/* Median short side of up to 256 pictures of a split, from their headers. */
int lk_source_median_side(int *out, const struct lk_source *s, enum lk_split split);

/* The encoded pictures of a split; not of CIFAR-10's files, of which LK_SPLIT_ALL is a folder without pictures. */
int lk_source_items(struct lk_items *out, const struct lk_source *s, enum lk_split split);

/* --- for the two kinds of sources --- */
int lk_dataset__reserve(struct lk_dataset *d, size_t n, size_t bytes); /* room for that many in all */
/* Appends a picture (the name is taken over on success). pixels are copied; NULL: the set is streamed. */
int lk_dataset__append(struct lk_dataset *d, const uint8_t *pixels, int width, int height, int label, char *name);
/* Picks `limit` of n: ascending numbers in out[limit]. limit <= n. */
int lk_source__choose(uint32_t *out, size_t limit, size_t n);
/* items are taken over on success when the set is streamed, and closed otherwise. whole_classes: labels count only when
 * every picture has one and there are two or more. */
int lk_source__read_items(struct lk_dataset *out, struct lk_items *items, int whole_classes,
                          const struct lk_read_options *options, const struct lk_dataset *classes_of,
                          struct lk_pool *pool);
int lk_source__median_of(int *out, const struct lk_items *items);
int lk_source__cifar_found(const char *path);
int lk_source__cifar_read(struct lk_dataset *out, const char *path, enum lk_split split,
                          const struct lk_read_options *options);

#endif
