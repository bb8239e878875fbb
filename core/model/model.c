/* Loading a model file: what network it holds is read off the shapes, what surrounds it off our metadata when the file
 * has any. Metadata never overrules a shape. */
#include "model/model.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "image/preprocess.h"
#include "model/model_internal.h"

/* Pixels are normalised by ImageNet's statistics unless the file says otherwise: torchvision's and timm's custom. */
static const float imagenet_mean[3] = {0.485f, 0.456f, 0.406f}, imagenet_std[3] = {0.229f, 0.224f, 0.225f};

/* --- Architecture ----------------------------------------------------------------------------------------------- */

static int count_blocks(const struct lk_safetensors *st, int stage) {
    for (int block = 0;; block++) {
        char name[64];
        snprintf(name, sizeof name, "layer%d.%d.conv1.weight", stage, block);
        if (!lk_safetensors_find(st, name)) {
            return block;
        }
    }
}

static int find_stem(const struct lk_safetensors *st, struct lk_arch *arch) {
    const struct lk_st_tensor *t = lk_safetensors_find(st, "conv1.weight");
    if (!t) {
        return lk_err(LK_EUNSUPPORTED, "not a ResNet that we know: tensor 'conv1.weight' is missing");
    }
    int square = t->ndim == 4 && t->shape[1] == 3 && t->shape[2] == t->shape[3];
    if (!square || (t->shape[2] != 3 && t->shape[2] != 7)) {
        return lk_err(LK_EUNSUPPORTED, "not a ResNet that we know: 'conv1.weight' is neither [width, 3, 3, 3] nor "
                                       "[width, 3, 7, 7]");
    }
    if (t->shape[0] < 8 || t->shape[0] > 512 || t->shape[0] % 8) {
        return lk_err(LK_EUNSUPPORTED, "a first layer of %lld channels: the width must be a multiple of 8 in 8..512",
                      (long long)t->shape[0]);
    }
    arch->stem = t->shape[2] == 3 ? LK_STEM_CIFAR : LK_STEM_IMAGENET;
    arch->width = (int)t->shape[0];
    return 0;
}

static int find_arch(const struct lk_safetensors *st, struct lk_arch *arch) {
    static const struct {
        int depth, bottleneck, blocks[4];
    } known[] = {{18, 0, {2, 2, 2, 2}}, {34, 0, {3, 4, 6, 3}}, {50, 1, {3, 4, 6, 3}}};
    int rc = find_stem(st, arch);
    if (rc) {
        return rc;
    }
    int blocks[4], bottleneck = lk_safetensors_find(st, "layer1.0.conv3.weight") != NULL;
    for (int stage = 0; stage < 4; stage++) {
        blocks[stage] = count_blocks(st, stage + 1);
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].bottleneck == bottleneck && !memcmp(known[i].blocks, blocks, sizeof blocks)) {
            arch->depth = known[i].depth;
            return 0;
        }
    }
    return lk_err(LK_EUNSUPPORTED, "%d, %d, %d and %d %s blocks are neither resnet18, resnet34 nor resnet50", blocks[0],
                  blocks[1], blocks[2], blocks[3], bottleneck ? "bottleneck" : "basic");
}

/* --- Tensors ---------------------------------------------------------------------------------------------------- */

struct fill {
    const struct lk_safetensors *st;
    float *params, *stats;
    size_t found; /* tensors of the file that the network uses */
};

static int check_shape(const struct lk_net_tensor *want, const struct lk_st_tensor *t) {
    int equal = t->ndim == want->ndim;
    for (int d = 0; d < want->ndim && equal; d++) {
        equal = t->shape[d] == want->shape[d];
    }
    if (equal) {
        return 0;
    }
    char have[192] = "", need[64] = "";
    for (int d = 0, at = 0; d < t->ndim; d++) {
        at += snprintf(have + at, sizeof have - (size_t)at, "%s%lld", d ? ", " : "", (long long)t->shape[d]);
    }
    for (int d = 0, at = 0; d < want->ndim; d++) {
        at += snprintf(need + at, sizeof need - (size_t)at, "%s%d", d ? ", " : "", want->shape[d]);
    }
    return lk_err(LK_EUNSUPPORTED, "tensor '%s' is [%s], but this network needs [%s]", want->name, have, need);
}

static int fill_tensor(void *arg, const struct lk_net_tensor *want) {
    struct fill *fill = arg;
    const struct lk_st_tensor *t = lk_safetensors_find(fill->st, want->name);
    if (!t) {
        return lk_err(LK_EUNSUPPORTED, "tensor '%s' is missing", want->name);
    }
    float *to = (want->stat ? fill->stats : fill->params) + want->offset;
    int rc = check_shape(want, t);
    if (rc || (rc = lk_safetensors_to_float(t, to))) {
        return rc;
    }
    int variance = want->stat && strstr(want->name, "running_var") != NULL;
    for (size_t i = 0; i < want->count; i++) {
        if (!isfinite(to[i]) || (variance && to[i] < 0)) {
            return lk_err(LK_EFORMAT, "tensor '%s' holds %g", want->name, (double)to[i]);
        }
    }
    fill->found++;
    return 0;
}

static int starts(const char *s, const char *prefix) { return !strncmp(s, prefix, strlen(prefix)); }

static int ends(const char *s, const char *suffix) {
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && !strcmp(s + n - m, suffix);
}

/* Tensors beside the backbone that change no embedding: classifier, counters, BYOL's heads. */
static int harmless(const char *name) {
    return starts(name, "fc.") || starts(name, "projector.") || starts(name, "predictor.") ||
           ends(name, ".num_batches_tracked");
}

struct search {
    const char *name;
};

static int is_named(void *arg, const struct lk_net_tensor *t) { return !strcmp(((struct search *)arg)->name, t->name); }

/* A tensor that nobody asked for (squeeze-and-excitation, a deeper stage) means another network. */
static int check_extra(const struct lk_safetensors *st, const struct lk_net *net, size_t found) {
    for (size_t i = 0; i < st->n_tensors; i++) {
        found += (size_t)harmless(st->tensors[i].name);
    }
    if (found == st->n_tensors) {
        return 0;
    }
    for (size_t i = 0; i < st->n_tensors; i++) {
        struct search search = {st->tensors[i].name};
        if (!harmless(search.name) && !lk_net_tensors(net, net->n_nodes, is_named, &search)) {
            return lk_err(LK_EUNSUPPORTED, "not a ResNet that we know: tensor '%.200s' has no place in it",
                          search.name);
        }
    }
    return 0;
}

/* --- Metadata --------------------------------------------------------------------------------------------------- */

/* Our own metadata by key; NULL in files that are not ours. */
static const char *ours(const struct lk_safetensors *st, const char *key) {
    const char *format = lk_safetensors_meta(st, "likeness.format");
    return format ? lk_safetensors_meta(st, key) : NULL;
}

static int read_int(const struct lk_safetensors *st, const char *key, int low, int high, int *out) {
    const char *text = ours(st, key);
    if (!text) {
        return 0;
    }
    char *end;
    long value = strtol(text, &end, 10);
    if (end == text || *end || value < low || value > high) {
        return lk_err(LK_EFORMAT, "metadata %s is '%.40s', not an integer in %d..%d", key, text, low, high);
    }
    *out = (int)value;
    return 0;
}

static int check_format(const struct lk_safetensors *st) {
    const char *format = lk_safetensors_meta(st, "likeness.format");
    if (format && strcmp(format, "1") != 0) {
        return lk_err(LK_EUNSUPPORTED, "likeness.format is '%.40s', newer than this program's 1", format);
    }
    int preprocess = LK_PREPROCESS_VERSION, rc = read_int(st, "preprocess", 0, INT_MAX, &preprocess);
    if (!rc && preprocess != LK_PREPROCESS_VERSION) {
        return lk_err(LK_EUNSUPPORTED, "the file's preprocessing is version %d, this program's is %d", preprocess,
                      LK_PREPROCESS_VERSION);
    }
    return rc;
}

static int read3(const struct lk_safetensors *st, const char *key, int positive, float out[3]) {
    const char *text = ours(st, key);
    if (!text) {
        return 0;
    }
    const char *at = text;
    float v[3];
    for (int i = 0; i < 3; i++) {
        char *end;
        v[i] = strtof(at, &end);
        if (end == at || *end != (i < 2 ? ',' : '\0') || !(fabsf(v[i]) <= 1000) || (positive && !(v[i] > 1e-6f))) {
            return lk_err(LK_EFORMAT, "metadata %s is '%.80s', not three %snumbers", key, text,
                          positive ? "positive " : "");
        }
        at = end + 1;
    }
    memcpy(out, v, sizeof v);
    return 0;
}

static int read_size(struct lk_model *out, const struct lk_safetensors *st, int image_size) {
    int size = out->arch.stem == LK_STEM_CIFAR ? 32 : 224, resize = 0;
    int rc = read_int(st, "image_size", 8, 4096, &size);
    if (rc || (rc = read_int(st, "resize", 8, 8192, &resize))) {
        return rc;
    }
    if (image_size > 0 && image_size != size) {
        size = image_size;
        resize = 0; /* it was meant for the other size */
    }
    out->arch.image_size = size;
    out->resize = resize ? resize : lk_preprocess_resize_side(size);
    if (out->resize < size) {
        return lk_err(LK_EFORMAT, "metadata resize is %d, smaller than the image size of %d", out->resize, size);
    }
    return 0;
}

/* Copies printable text (control characters become '_'), cut at a character's border. */
static void copy_text(char *to, size_t size, const char *from, size_t n) {
    if (n > size - 1) {
        for (n = size - 1; n > 0 && ((unsigned char)from[n] & 0xC0) == 0x80; n--) {}
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)from[i];
        to[i] = c < 0x20 || c == 0x7F ? '_' : from[i];
    }
    to[n] = '\0';
}

static void read_names(struct lk_model *out, const struct lk_safetensors *st, const char *path) {
    const char *name = ours(st, "name"), *method = ours(st, "method");
    if (name && *name) {
        copy_text(out->name, sizeof out->name, name, strlen(name));
    } else {
        const char *slash = strrchr(path, '/');
        const char *stem = slash ? slash + 1 : path;
        size_t n = strlen(stem);
        n -= ends(stem, ".safetensors") && n > 12 ? 12 : 0;
        copy_text(out->name, sizeof out->name, stem, n);
    }
    if (method) {
        copy_text(out->method, sizeof out->method, method, strlen(method));
    }
}

/* A file whose metadata and shapes disagree was put together by mistake. */
static int check_claims(const struct lk_safetensors *st, const struct lk_arch *arch) {
    const char *name = ours(st, "architecture"), *stem = ours(st, "stem");
    int width = arch->width, rc = read_int(st, "width", 8, 512, &width);
    if (rc) {
        return rc;
    }
    if ((name && strcmp(name, lk_arch_name(arch->depth)) != 0) ||
        (stem && strcmp(stem, lk_stem_name(arch->stem)) != 0) || width != arch->width) {
        return lk_err(LK_EFORMAT,
                      "metadata says %.40s, stem %.40s, width %d, but the tensors are a %s, stem %s, width %d",
                      name ? name : "-", stem ? stem : "-", width, lk_arch_name(arch->depth), lk_stem_name(arch->stem),
                      arch->width);
    }
    return 0;
}

/* --- The whole ---------------------------------------------------------------------------------------------------- */

static int load(struct lk_model *out, struct lk_safetensors *st, const char *path, int image_size) {
    int rc = check_format(st);
    memcpy(out->mean, imagenet_mean, sizeof out->mean);
    memcpy(out->std, imagenet_std, sizeof out->std);
    if (rc || (rc = find_arch(st, &out->arch)) || (rc = check_claims(st, &out->arch)) ||
        (rc = read_size(out, st, image_size)) || (rc = read3(st, "mean", 0, out->mean)) ||
        (rc = read3(st, "std", 1, out->std)) || (rc = lk_net_build(&out->net, &out->arch, NULL))) {
        return rc;
    }
    out->params = lk_calloc_aligned(out->net.n_params, sizeof *out->params);
    out->stats = lk_calloc_aligned(out->net.n_stats, sizeof *out->stats);
    if (!out->params || !out->stats) {
        return LK_ENOMEM;
    }
    struct fill fill = {.st = st, .params = out->params, .stats = out->stats};
    struct lk_model__identity id = {.arch = &out->arch,
                                    .net = &out->net,
                                    .params = out->params,
                                    .stats = out->stats,
                                    .mean = out->mean,
                                    .std = out->std,
                                    .resize = out->resize};
    if ((rc = lk_net_tensors(&out->net, out->net.n_nodes, fill_tensor, &fill)) ||
        (rc = check_extra(st, &out->net, fill.found)) || (rc = lk_model__fingerprint(&id, out->fingerprint))) {
        return rc;
    }
    read_names(out, st, path);
    out->meta_keys = st->meta_keys, out->meta_values = st->meta_values, out->n_meta = st->n_meta;
    st->meta_keys = st->meta_values = NULL, st->n_meta = 0;
    return 0;
}

int lk_model_load(struct lk_model *out, const char *path, int image_size) {
    struct lk_safetensors st;
    memset(out, 0, sizeof *out);
    int rc = lk_safetensors_open(&st, path);
    if (rc) {
        return rc;
    }
    if ((rc = load(out, &st, path, image_size))) {
        lk_err_prefix(rc, "%s", path);
        lk_model_free(out);
    }
    lk_safetensors_close(&st);
    return rc;
}

void lk_model_free(struct lk_model *model) {
    for (size_t i = 0; i < model->n_meta; i++) {
        free(model->meta_keys[i]);
        free(model->meta_values[i]);
    }
    free(model->meta_keys);
    free(model->meta_values);
    free(model->params);
    free(model->stats);
    lk_net_free(&model->net);
    memset(model, 0, sizeof *model);
}
