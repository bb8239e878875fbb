/* Do our embeddings equal PyTorch's? torchvision-shaped ResNets of both stems on 100 pictures of the sample data, through
 * our decoder, input conversion and inference plan, against embed.py's float64 vectors. */
#include "check.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/sha256.h"
#include "golden.h"
#include "image/decode.h"
#include "model/walk.h"

enum { PICTURES = 100, SIDE = 32, BYTES = SIDE * SIDE * 3, BATCH = 20 };
#define SEED 20200613u

static struct lk_backend *b;
static const struct lk_backend_ops *ops;
static struct lk_safetensors golden;
static uint8_t pictures[PICTURES][BYTES];

/* The first ten by name of each class, classes by name. */
static int load_pictures(void) {
    const char *root = getenv("LK_SOURCE_DIR");
    char folder[1024], path[2048];
    snprintf(folder, sizeof folder, "%s/tests/data/cifar10-sample", root ? root : "../../..");
    struct lk_fs_list list;
    int rc = lk_fs_walk(&list, folder);
    int n = 0, of_class = 0;
    const char *last = "";
    for (size_t i = 0; i < list.count && !rc && n < PICTURES; i++) {
        const char *file = list.paths[i];
        size_t class_length = strcspn(file, "/");
        of_class = strncmp(file, last, class_length + 1) ? 0 : of_class + 1;
        last = file;
        if (of_class >= 10 || !file[class_length]) {
            continue;
        }
        struct lk_buf bytes = {0};
        struct lk_image image = {0};
        snprintf(path, sizeof path, "%s/%s", folder, file);
        (void)((rc = lk_fs_read(&bytes, path, 0)) || (rc = lk_decode(&image, bytes.data, bytes.size, NULL)));
        if (!rc && (image.width != SIDE || image.height != SIDE)) {
            rc = lk_err(LK_EFORMAT, "%s is %d x %d", path, image.width, image.height);
        }
        if (!rc) {
            memcpy(pictures[n++], image.pixels, BYTES);
        }
        lk_image_free(&image);
        lk_buf_free(&bytes);
    }
    lk_fs_list_free(&list);
    return rc ? rc : n == PICTURES ? 0 : lk_err(LK_EFAIL, "%s holds %d pictures of 100", folder, n);
}

static void decoded_pixels_equal_pillows(void) {
    struct lk_sha256 h;
    uint8_t digest[32];
    char hex[65];
    lk_sha256_init(&h);
    lk_sha256_update(&h, pictures, sizeof pictures);
    lk_sha256_final(&h, digest);
    lk_sha256_hex(digest, hex);
    LK_CHECK_STR(hex, lk_safetensors_meta(&golden, "pixels_sha256"));
}

/* Every pixel repeated size / 32 times each way, as embed.py does. */
static void enlarge(uint8_t *to, const uint8_t *from, int size) {
    int times = size / SIDE;
    for (int y = 0; y < size; y++) {
        for (int x = 0; x < size; x++) {
            memcpy(to + 3 * ((size_t)y * (size_t)size + (size_t)x), from + 3 * ((y / times) * SIDE + x / times), 3);
        }
    }
}

struct run {
    const char *prefix; /* "resnet18.cifar." */
    struct golden_net g;
    struct lk_plan *plan;
    struct lk_pass *pass;
    void *params, *stats;
    uint8_t *pixels;
    float *vectors; /* [PICTURES][d] */
};

static int read_stat(void *arg, const struct lk_net_tensor *t) {
    struct run *r = arg;
    if (!t->stat) {
        return 0;
    }
    float *x = golden_tensor(&golden, r->prefix, t->name, t->count);
    if (!x) {
        return -1;
    }
    memcpy(r->g.stats + t->offset, x, t->count * sizeof *x);
    free(x);
    return 0;
}

static int embed(struct run *r, const struct lk_arch *arch, enum lk_precision precision) {
    static const float gamma_draw[2] = {1.0f, 0.5f}, beta_draw[2] = {0.0f, 0.1f};
    static const float mean[3] = {0.485f, 0.456f, 0.406f}, deviation[3] = {0.229f, 0.224f, 0.225f};
    int rc = golden_net_open(&r->g, arch, NULL, SEED, gamma_draw, beta_draw, 0.25f);
    if (rc) {
        return rc;
    }
    const struct lk_net *net = &r->g.net;
    const size_t bytes = (size_t)arch->image_size * (size_t)arch->image_size * 3, dim = (size_t)net->feature_dim;
    r->pixels = lk_calloc(BATCH, bytes);
    r->vectors = lk_calloc(PICTURES * dim, sizeof(float));
    if (!r->pixels || !r->vectors) {
        return LK_ENOMEM;
    }
    if ((rc = lk_net_tensors(net, net->n_nodes, read_stat, r)) ||
        (rc = ops->alloc(b, net->n_params * sizeof(float), &r->params)) ||
        (rc = ops->alloc(b, net->n_stats * sizeof(float), &r->stats)) ||
        (rc = ops->upload(b, r->params, r->g.params, net->n_params * sizeof(float))) ||
        (rc = ops->upload(b, r->stats, r->g.stats, net->n_stats * sizeof(float))) ||
        (rc = ops->plan(b, net, net->n_nodes, BATCH, precision, LK_INFERENCE, NULL, &r->plan)) ||
        (rc = ops->set_weights(r->plan, r->params, r->stats)) || (rc = ops->pass(r->plan, &r->pass))) {
        return rc;
    }
    for (int at = 0; at < PICTURES && !rc; at += BATCH) {
        for (int i = 0; i < BATCH; i++) {
            enlarge(r->pixels + (size_t)i * bytes, pictures[at + i], arch->image_size);
        }
        (void)((rc = ops->input_u8(r->pass, r->pixels, BATCH, mean, deviation)) ||
               (rc = lk_walk_forward(ops, net, net->n_nodes, LK_INFERENCE, r->pass, NULL, 1)) ||
               (rc = ops->output(r->pass, net->n_nodes, BATCH, 1, r->vectors + (size_t)at * dim)));
    }
    return rc;
}

/* Smallest cosine, and the relative error of all vectors together after the mean golden vector was taken off: random
 * nets give all pictures much the same direction, which a cosine alone would hide behind. */
static void compare(const float *ours, const float *theirs, size_t dim, double *cosine, double *error) {
    double *center = lk_calloc(dim, sizeof *center), apart = 0, length = 0;
    *cosine = *error = NAN;
    if (!center) {
        return;
    }
    for (size_t i = 0; i < PICTURES * dim; i++) {
        center[i % dim] += (double)theirs[i] / PICTURES;
    }
    double smallest = 2;
    for (size_t p = 0; p < PICTURES; p++) {
        double dot = 0, a2 = 0, c2 = 0;
        for (size_t k = 0; k < dim; k++) {
            double a = (double)ours[p * dim + k], c = (double)theirs[p * dim + k];
            dot += a * c, a2 += a * a, c2 += c * c;
            apart += (a - c) * (a - c);
            length += (c - center[k]) * (c - center[k]);
        }
        double here = dot / sqrt(a2 * c2);
        smallest = here < smallest || isnan(here) ? here : smallest;
        LK_CHECK_NEAR(sqrt(a2), 1.0, 1e-4);
    }
    *cosine = smallest;
    *error = sqrt(apart / length);
    free(center);
}

static void check(const char *prefix, const struct lk_arch *arch, enum lk_precision precision) {
    if (!ops->supports(b, precision)) {
        lk_skip("this device lacks the precision");
        return;
    }
    struct run r = {.prefix = prefix};
    float *theirs = NULL;
    double cosine, error;
    char key[64];
    if (LK_CHECK_INT(embed(&r, arch, precision), 0)) {
        size_t dim = (size_t)r.g.net.feature_dim;
        if ((theirs = golden_tensor(&golden, prefix, "embedding", PICTURES * dim)) != NULL) {
            compare(r.vectors, theirs, dim, &cosine, &error);
            printf("     %s%s: smallest cosine %.8f, error beside the mean vector %.2g\n", prefix,
                   lk_precision_name(precision), cosine, error);
            LK_CHECK(cosine >= (precision == LK_FP32 ? 0.9999 : 0.999));
            snprintf(key, sizeof key, "%sbf16_error", prefix);
            /* fp32: the file's float16 alone makes up to 1e-3; bf16: PyTorch's own autocast is the yardstick */
            LK_CHECK(error <= (precision == LK_FP32 ? 2e-3 : 1.5 * golden_number(&golden, key)));
        }
        LK_CHECK(theirs != NULL);
    } else {
        printf("%s\n", lk_error());
    }
    ops->pass_free(r.pass);
    ops->plan_free(r.plan);
    ops->free(b, r.params);
    ops->free(b, r.stats);
    golden_net_close(&r.g);
    free(r.pixels);
    free(r.vectors);
    free(theirs);
}

static const struct lk_arch r18 = {18, 64, LK_STEM_CIFAR, 32}, r34 = {34, 64, LK_STEM_CIFAR, 32},
                            r50 = {50, 64, LK_STEM_CIFAR, 32}, r18_imagenet = {18, 64, LK_STEM_IMAGENET, 224},
                            r50_imagenet = {50, 64, LK_STEM_IMAGENET, 96};

static void resnet18_fp32(void) { check("resnet18.cifar.", &r18, LK_FP32); }
static void resnet34_fp32(void) { check("resnet34.cifar.", &r34, LK_FP32); }
static void resnet50_fp32(void) { check("resnet50.cifar.", &r50, LK_FP32); }
static void resnet18_imagenet_stem_fp32(void) { check("resnet18.imagenet.", &r18_imagenet, LK_FP32); }
static void resnet50_imagenet_stem_fp32(void) { check("resnet50.imagenet.", &r50_imagenet, LK_FP32); }
static void resnet18_bf16(void) { check("resnet18.cifar.", &r18, LK_BF16); }
static void resnet34_bf16(void) { check("resnet34.cifar.", &r34, LK_BF16); }
static void resnet50_bf16(void) { check("resnet50.cifar.", &r50, LK_BF16); }
static void resnet18_imagenet_stem_bf16(void) { check("resnet18.imagenet.", &r18_imagenet, LK_BF16); }
static void resnet50_imagenet_stem_bf16(void) { check("resnet50.imagenet.", &r50_imagenet, LK_BF16); }

static const struct lk_case cases[] = {LK_CASE(decoded_pixels_equal_pillows),
                                       LK_CASE(resnet18_fp32),
                                       LK_CASE(resnet34_fp32),
                                       LK_CASE(resnet50_fp32),
                                       LK_CASE(resnet18_imagenet_stem_fp32),
                                       LK_CASE(resnet50_imagenet_stem_fp32),
                                       LK_CASE(resnet18_bf16),
                                       LK_CASE(resnet34_bf16),
                                       LK_CASE(resnet50_bf16),
                                       LK_CASE(resnet18_imagenet_stem_bf16),
                                       LK_CASE(resnet50_imagenet_stem_bf16)};

int main(int argc, char **argv) {
    b = golden_device();
    if (!b || load_pictures() || lk_safetensors_open(&golden, "embed.safetensors")) {
        printf("%s\n", lk_error());
        return 1;
    }
    ops = lk_ops(b);
    int rc = lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
    lk_safetensors_close(&golden);
    ops->close(b);
    return rc;
}
