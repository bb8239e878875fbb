/* Saving a model file. Convolutions are stored in the dtype asked for; batch norm's vectors stay float32 in either,
 * because they are a thousandth of the file and every channel hangs on them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/sha256.h"
#include "image/preprocess.h"
#include "model/model_internal.h"
#include "model/st_header.h"

enum { OWN_KEYS = 13 };

struct list {
    struct lk_net_tensor *tensors; /* owns the names */
    struct lk_st_write *writes;    /* NULL: count only */
    const float *params, *stats;
    enum lk_dtype dtype;
    size_t n;
};

static int collect(void *arg, const struct lk_net_tensor *t) {
    struct list *list = arg;
    if (list->writes) {
        struct lk_net_tensor *kept = &list->tensors[list->n];
        *kept = *t;
        struct lk_st_write *w = &list->writes[list->n];
        *w = (struct lk_st_write){.name = kept->name,
                                  .dtype = t->ndim > 1 ? list->dtype : LK_DTYPE_F32,
                                  .ndim = t->ndim,
                                  .data = (t->stat ? list->stats : list->params) + t->offset};
        for (int d = 0; d < t->ndim; d++) {
            w->shape[d] = t->shape[d];
        }
    }
    list->n++;
    return 0;
}

/* What a reader of the file will see: params with the convolutions rounded as the file rounds them. */
static float *as_stored(const struct lk_net *net, const struct list *list) {
    float *copy = lk_calloc_aligned(net->backbone_params, sizeof *copy);
    if (!copy) {
        return NULL;
    }
    memcpy(copy, list->params, net->backbone_params * sizeof *copy);
    for (size_t i = 0; i < list->n && list->dtype == LK_DTYPE_BF16; i++) {
        const struct lk_net_tensor *t = &list->tensors[i];
        for (size_t k = 0; k < t->count && t->ndim > 1; k++) {
            copy[t->offset + k] = lk_st__round_bf16(copy[t->offset + k]);
        }
    }
    return copy;
}

struct metadata {
    const char **keys, **values;
    size_t n;
};

static void add(struct metadata *m, const char *key, const char *value) {
    m->keys[m->n] = key;
    m->values[m->n++] = value;
}

static int write_file(const char *path, const struct lk_model__identity *id, const char *name, const char *method,
                      const struct list *list, const char *const *extra_keys, const char *const *extra_values,
                      size_t n_extra) {
    char width[16], image_size[16], resize[16], preprocess[16], mean[64], std[64], fingerprint[65];
    uint8_t digest[32];
    int rc = lk_model__fingerprint(id, digest);
    if (rc) {
        return rc;
    }
    lk_sha256_hex(digest, fingerprint);
    snprintf(width, sizeof width, "%d", id->arch->width);
    snprintf(image_size, sizeof image_size, "%d", id->arch->image_size);
    snprintf(resize, sizeof resize, "%d", id->resize);
    snprintf(preprocess, sizeof preprocess, "%d", LK_PREPROCESS_VERSION);
    lk_model__print3(id->mean, mean);
    lk_model__print3(id->std, std);
    struct metadata m = {.keys = lk_calloc(OWN_KEYS + n_extra, sizeof *m.keys),
                         .values = lk_calloc(OWN_KEYS + n_extra, sizeof *m.values)};
    if (!m.keys || !m.values) {
        rc = LK_ENOMEM;
        goto done;
    }
    add(&m, "format", "pt"); /* what transformers and timm look for */
    add(&m, "likeness.format", "1");
    if (name && *name) {
        add(&m, "name", name);
    }
    add(&m, "architecture", lk_arch_name(id->arch->depth));
    add(&m, "stem", lk_stem_name(id->arch->stem));
    add(&m, "width", width);
    add(&m, "image_size", image_size);
    add(&m, "resize", resize);
    add(&m, "mean", mean);
    add(&m, "std", std);
    if (method && *method) {
        add(&m, "method", method);
    }
    add(&m, "preprocess", preprocess);
    add(&m, "fingerprint", fingerprint);
    for (size_t i = 0; i < n_extra; i++) {
        add(&m, extra_keys[i], extra_values[i]);
    }
    rc = lk_safetensors_write(path, list->writes, list->n, m.keys, m.values, m.n);
done:
    free(m.keys);
    free(m.values);
    return rc;
}

int lk_model_save(const char *path, const struct lk_arch *arch, const struct lk_net *net, const float *params,
                  const float *stats, const float mean[3], const float std[3], const char *name, const char *method,
                  enum lk_dtype dtype, const char *const *extra_keys, const char *const *extra_values, size_t n_extra) {
    if (dtype != LK_DTYPE_F32 && dtype != LK_DTYPE_BF16) {
        return lk_err(LK_EINVAL, "a model is saved as F32 or BF16");
    }
    struct list list = {.params = params, .stats = stats, .dtype = dtype};
    float *stored = NULL;
    int rc = 0;
    lk_net_tensors(net, net->backbone_nodes, collect, &list);
    list.tensors = lk_calloc(list.n + 1, sizeof *list.tensors);
    list.writes = lk_calloc(list.n + 1, sizeof *list.writes);
    list.n = 0;
    if (!list.tensors || !list.writes) {
        rc = LK_ENOMEM;
        goto done;
    }
    lk_net_tensors(net, net->backbone_nodes, collect, &list);
    if (!(stored = as_stored(net, &list))) {
        rc = LK_ENOMEM;
        goto done;
    }
    struct lk_model__identity id = {.arch = arch,
                                    .net = net,
                                    .params = stored,
                                    .stats = stats,
                                    .mean = mean,
                                    .std = std,
                                    .resize = lk_preprocess_resize_side(arch->image_size)};
    rc = write_file(path, &id, name, method, &list, extra_keys, extra_values, n_extra);
done:
    free(list.tensors);
    free(list.writes);
    free(stored);
    return rc;
}
