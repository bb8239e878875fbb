/* CIFAR-10's binary version (Krizhevsky 2009): records of one label byte and 3 x 32 x 32 bytes, planes R, G, B. */
#include "source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/sha256.h"

enum { SIDE = 32, PLANE = SIDE * SIDE, RECORD = 1 + 3 * PLANE };

static const char *const class_names[10] = {"airplane", "automobile", "bird",  "cat",  "deer",
                                            "dog",      "frog",       "horse", "ship", "truck"};

static char *batch_path(const char *path, int number) { /* 0: the test batch */
    struct lk_buf b = {0};
    int rc = number == 0 ? lk_buf_printf(&b, "%s/test_batch.bin", path)
                         : lk_buf_printf(&b, "%s/data_batch_%d.bin", path, number);
    if (rc != 0) {
        lk_buf_free(&b);
        return NULL;
    }
    return (char *)b.data;
}

static int batch_exists(const char *path, int number) {
    char *file = batch_path(path, number);
    int yes = file != NULL && lk_fs_exists(file);
    free(file);
    return yes;
}

/* 0: no such files, 1: training batches, 2: the test batch too. */
int lk_source__cifar_found(const char *path) { return batch_exists(path, 1) ? 1 + batch_exists(path, 0) : 0; }

static int append_record(struct lk_dataset *d, const uint8_t *record, int batch, size_t number) {
    uint8_t pixels[3 * PLANE];
    char name[64];
    if (record[0] > 9)
        return lk_err(LK_EFORMAT, "record %zu has label %d; CIFAR-10 has 0 to 9", number, record[0]);
    for (size_t i = 0; i < PLANE; i++)
        for (size_t c = 0; c < 3; c++)
            pixels[3 * i + c] = record[1 + c * PLANE + i];
    if (batch == 0)
        snprintf(name, sizeof name, "test_batch.bin:%zu", number);
    else
        snprintf(name, sizeof name, "data_batch_%d.bin:%zu", batch, number);
    char *own = lk_strdup(name);
    int rc = own == NULL ? LK_ENOMEM : lk_dataset__append(d, pixels, SIDE, SIDE, record[0], own);
    if (rc != 0)
        free(own);
    return rc;
}

static int set_classes(struct lk_dataset *d) {
    d->classes = lk_calloc(10, sizeof *d->classes);
    if (d->classes == NULL)
        return LK_ENOMEM;
    for (; d->n_classes < 10; d->n_classes++)
        if ((d->classes[d->n_classes] = lk_strdup(class_names[d->n_classes])) == NULL)
            return LK_ENOMEM;
    return 0;
}

int lk_source__cifar_read(struct lk_dataset *out, const char *path, enum lk_split split,
                          const struct lk_read_options *options) {
    struct lk_buf batches[5] = {{0}};
    int first = split == LK_SPLIT_TRAIN ? 1 : 0, count = split == LK_SPLIT_TRAIN ? 5 : 1, rc = 0;
    size_t total = 0, seen = 0, next = 0, limit = 0;
    uint32_t *chosen = NULL;
    struct lk_sha256 sha;
    lk_sha256_init(&sha);
    for (int i = 0; i < count && rc == 0; i++) {
        char *file = batch_path(path, first + i);
        if (file == NULL)
            rc = LK_ENOMEM;
        else if (i == 0 || lk_fs_exists(file))
            rc = lk_fs_read(&batches[i], file, 1u << 30);
        if (rc == 0 && batches[i].size % RECORD != 0)
            rc = lk_err(LK_EFORMAT, "%s: %zu bytes are no whole number of CIFAR-10 records of %d bytes", file,
                        batches[i].size, RECORD);
        free(file);
        total += batches[i].size / RECORD;
    }
    if (rc == 0 && total == 0)
        rc = lk_err(LK_EINVAL, "%s: CIFAR-10 files without a picture", path);
    if (rc != 0)
        goto done;
    limit = options->limit > 0 && options->limit < total ? options->limit : total;
    if (limit < total) {
        chosen = lk_calloc(limit, sizeof *chosen);
        rc = chosen == NULL ? LK_ENOMEM : lk_source__choose(chosen, limit, total);
    }
    if (rc == 0)
        rc = lk_dataset__reserve(out, limit, limit * 3 * PLANE);
    for (int i = 0; i < count && rc == 0; i++) {
        for (size_t r = 0; r < batches[i].size / RECORD && rc == 0; r++, seen++) {
            const uint8_t *record = batches[i].data + r * RECORD;
            if (chosen != NULL && (next == limit || chosen[next] != seen))
                continue;
            next++;
            lk_sha256_update(&sha, record, RECORD);
            rc = append_record(out, record, first + i, r);
        }
    }
    if (rc == 0)
        rc = set_classes(out);
    lk_sha256_final(&sha, out->hash);
done:
    free(chosen);
    for (int i = 0; i < 5; i++)
        lk_buf_free(&batches[i]);
    return rc;
}
