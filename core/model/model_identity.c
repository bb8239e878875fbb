/* Fingerprint and space: when are two vectors comparable? */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/sha256.h"
#include "image/preprocess.h"
#include "model/model_internal.h"

void lk_model__print3(const float v[3], char text[64]) {
    snprintf(text, 64, "%.9g,%.9g,%.9g", (double)v[0], (double)v[1], (double)v[2]);
}

struct list {
    struct lk_net_tensor *tensors; /* NULL: count only */
    size_t n;
};

static int collect(void *arg, const struct lk_net_tensor *t) {
    struct list *list = arg;
    if (list->tensors) {
        list->tensors[list->n] = *t;
    }
    list->n++;
    return 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct lk_net_tensor *)a)->name, ((const struct lk_net_tensor *)b)->name);
}

static void hash_u64(struct lk_sha256 *h, uint64_t value) {
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(value >> 8 * i);
    }
    lk_sha256_update(h, bytes, sizeof bytes);
}

int lk_model__fingerprint(const struct lk_model__identity *id, uint8_t digest[32]) {
    struct list list = {0};
    lk_net_tensors(id->net, id->net->backbone_nodes, collect, &list);
    list.tensors = lk_calloc(list.n + 1, sizeof *list.tensors);
    if (!list.tensors) {
        return LK_ENOMEM;
    }
    list.n = 0;
    lk_net_tensors(id->net, id->net->backbone_nodes, collect, &list);
    qsort(list.tensors, list.n, sizeof *list.tensors, by_name);

    char mean[64], std[64], line[512];
    lk_model__print3(id->mean, mean);
    lk_model__print3(id->std, std);
    snprintf(line, sizeof line, "likeness model 1: %s %s width %d size %d resize %d mean %s std %s preprocess %d\n",
             lk_arch_name(id->arch->depth), lk_stem_name(id->arch->stem), id->arch->width, id->arch->image_size,
             id->resize, mean, std, LK_PREPROCESS_VERSION);
    struct lk_sha256 h;
    lk_sha256_init(&h);
    lk_sha256_update(&h, line, strlen(line));
    for (size_t i = 0; i < list.n; i++) {
        const struct lk_net_tensor *t = &list.tensors[i];
        lk_sha256_update(&h, t->name, strlen(t->name) + 1);
        hash_u64(&h, (uint64_t)t->ndim);
        for (int d = 0; d < t->ndim; d++) {
            hash_u64(&h, (uint64_t)t->shape[d]);
        }
        lk_sha256_update(&h, (t->stat ? id->stats : id->params) + t->offset, t->count * sizeof(float));
    }
    lk_sha256_final(&h, digest);
    free(list.tensors);
    return 0;
}

void lk_model_space(const struct lk_model *model, const char *precision_class, char hex[65]) {
    char fingerprint[65], line[256];
    uint8_t digest[32];
    lk_sha256_hex(model->fingerprint, fingerprint);
    snprintf(line, sizeof line, "likeness space 1: %s preprocess %d precision %s\n", fingerprint, LK_PREPROCESS_VERSION,
             precision_class);
    struct lk_sha256 h;
    lk_sha256_init(&h);
    lk_sha256_update(&h, line, strlen(line));
    lk_sha256_final(&h, digest);
    lk_sha256_hex(digest, hex);
}
