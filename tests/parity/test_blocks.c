/* Does every block of a network, forward and backward, equal the float64 reference? Error is |a - b| / |b| a tensor:
 * at most 1e-5 in fp32, 1e-2 in bf16. Sections of real networks are cut out and fed with noise, at odd sizes, widths
 * that need padding and small batches: single blocks, and two in a row, so that gradients cross a border. In bf16 the
 * second block of two sees inputs that are rounded otherwise here and there, and a ReLU that flips for that changes a
 * gradient by more than rounding: 3e-2 there, and where a block's sums are long and made in tiles.
 * LK_TEST_DEVICE names the device (default "cpu"). */
#include "check.h"

#include <stdlib.h>

#include "base/err.h"
#include "device.h"
#include "harness.h"

struct section {
    const char *name;
    struct lk_arch arch;
    int first, count; /* nodes */
    int batch;
    int heads_bn;  /* -1: no heads */
    int long_bf16; /* 1: two blocks, see above */
};

static const struct section sections[] = {
    {"stem, width 16, size 33", {18, 16, LK_STEM_CIFAR, 33}, 0, 1, 3, -1, 0},
    {"stem, width 8, one picture of 40", {18, 8, LK_STEM_CIFAR, 40}, 0, 1, 1, -1, 0},
    {"stem, width 24, size 8", {18, 24, LK_STEM_CIFAR, 8}, 0, 1, 3, -1, 0},
    {"imagenet stem, width 8, size 33", {18, 8, LK_STEM_IMAGENET, 33}, 0, 2, 3, -1, 0},
    {"imagenet stem and a block that adds the pooled picture", {18, 16, LK_STEM_IMAGENET, 40}, 0, 4, 3, -1, 0},
    {"one picture, imagenet stem and a block", {18, 16, LK_STEM_IMAGENET, 40}, 0, 4, 1, -1, 0},
    {"one picture, a strided and an identity block, the average pool", {18, 16, LK_STEM_CIFAR, 65}, 15, 6, 1, -1, 1},
    {"stem and an identity block", {18, 16, LK_STEM_CIFAR, 33}, 0, 3, 3, -1, 0},
    {"stem and an identity block, width 24", {18, 24, LK_STEM_CIFAR, 16}, 0, 3, 3, -1, 0},
    {"an identity block", {18, 16, LK_STEM_CIFAR, 33}, 1, 2, 3, -1, 0},
    {"a strided block", {18, 16, LK_STEM_CIFAR, 33}, 5, 3, 3, -1, 0},
    {"a strided block, width 8", {18, 8, LK_STEM_CIFAR, 40}, 5, 3, 1, -1, 0},
    {"a bottleneck, width 8", {50, 8, LK_STEM_IMAGENET, 64}, 2, 4, 3, -1, 0},
    {"a strided bottleneck, width 24", {50, 24, LK_STEM_IMAGENET, 72}, 12, 4, 2, -1, 0},
    {"two identity blocks, width 8", {18, 8, LK_STEM_CIFAR, 40}, 1, 4, 1, -1, 1},
    {"an identity and a strided block", {18, 16, LK_STEM_CIFAR, 33}, 3, 5, 3, -1, 1},
    {"an identity and a strided block, width 8", {18, 8, LK_STEM_CIFAR, 16}, 3, 5, 3, -1, 1},
    {"a strided and an identity block, width 24", {18, 24, LK_STEM_CIFAR, 16}, 5, 5, 3, -1, 1},
    {"the last block, the average pool and a head", {18, 16, LK_STEM_CIFAR, 33}, 18, 5, 24, 1, 1},
    {"imagenet stem, pool and a bottleneck", {50, 8, LK_STEM_IMAGENET, 40}, 0, 6, 3, -1, 0},
    {"two bottlenecks", {50, 16, LK_STEM_IMAGENET, 40}, 2, 7, 2, -1, 1},
    {"a bottleneck and a strided one, width 24", {50, 24, LK_STEM_IMAGENET, 33}, 9, 7, 2, -1, 1},
    {"tiles of 4x4, some cut off, two blocks of channels", {18, 32, LK_STEM_CIFAR, 33}, 1, 2, 3, -1, 0},
    {"one picture in tiles", {18, 32, LK_STEM_CIFAR, 33}, 0, 3, 1, -1, 1},
    {"tiles that all threads share", {18, 64, LK_STEM_CIFAR, 33}, 18, 2, 3, -1, 1},
    {"tiles that all threads share in two chunks", {18, 48, LK_STEM_CIFAR, 17}, 13, 2, 25, -1, 0},
    {"both heads with batch norm", {18, 8, LK_STEM_CIFAR, 8}, 21, 4, 16, 1, 0},
    {"both heads with biases", {18, 8, LK_STEM_CIFAR, 8}, 21, 4, 16, 0, 0},
    {"one row through heads with biases", {18, 8, LK_STEM_CIFAR, 8}, 21, 4, 1, 0, 0},
};

/* No ResNet has a 3x3 convolution of stride 1 with more outputs than inputs, but a backend may not care. */
static const struct section widening[] = {
    {"stem and a layer of twice its channels", {18, 32, LK_STEM_CIFAR, 17}, 0, 2, 3, -1, 1},
    {"stem and a layer of twice its channels, width 16", {18, 16, LK_STEM_CIFAR, 17}, 0, 2, 3, -1, 1},
};

static struct lk_backend *b;

/* The nodes [first, first + count) of net as a net of its own whose edge 0 is what the first of them reads. The arenas
 * stay whole. */
static struct lk_net cut(const struct lk_net *net, int first, int count, struct lk_node *nodes) {
    struct lk_net part = *net;
    memcpy(nodes, net->nodes + first, (size_t)count * sizeof *nodes);
    for (int i = 0; i < count; i++) {
        nodes[i].input -= first;
        nodes[i].residual = nodes[i].residual < 0 ? -1 : nodes[i].residual - first;
    }
    part.nodes = nodes;
    part.n_nodes = part.capacity = count;
    return part;
}

/* The second node becomes a convolution from the first one's channels to twice as many, with a later layer's arenas. */
static void widen(const struct lk_net *whole, struct lk_node *nodes) {
    nodes[1] = whole->nodes[18];
    nodes[1].input = 1;
    nodes[1].in_c = nodes[0].out_c, nodes[1].out_c = 2 * nodes[0].out_c;
    nodes[1].in_h = nodes[1].out_h = nodes[0].out_h;
    nodes[1].in_w = nodes[1].out_w = nodes[0].out_w;
}

static void run(const struct section *s, int wide, enum lk_precision precision, enum lk_purpose purpose, double limit) {
    struct lk_heads heads = {.projector_hidden = 48,
                             .predictor_hidden = 64,
                             .output = 32,
                             .projector_bn = s->heads_bn,
                             .predictor_bn = s->heads_bn};
    struct lk_net whole, net;
    struct lk_node nodes[16];
    struct harness h = {0};
    const char *where = "";
    if (!LK_CHECK_INT(lk_net_build(&whole, &s->arch, s->heads_bn < 0 ? NULL : &heads), 0)) {
        return;
    }
    net = cut(&whole, s->first, s->count, nodes);
    if (wide) {
        widen(&whole, nodes);
    }
    int good = !harness_open(&h, b, &net, s->count, s->batch, precision, purpose, 21) && !harness_forward(&h, 0);
    for (int e = 1; good && e <= s->count; e++) {
        if (purpose == LK_TRAIN || e == s->count) {
            good &= LK_CHECK_NEAR(harness_edge_error(&h, e), 0.0, limit);
        }
    }
    if (good && purpose != LK_INFERENCE) {
        good &= LK_CHECK_NEAR(harness_stat_error(&h, &where), 0.0, limit);
    }
    if (good && purpose == LK_TRAIN) {
        good = LK_CHECK_INT(harness_backward(&h, 0), 0) &&
               LK_CHECK_NEAR(harness_grad_error(&h, &where), 0.0,
                             precision == LK_BF16 && s->long_bf16 ? 3.0 * limit : limit);
    }
    if (!LK_CHECK(good)) {
        printf("section: %s (%s, tensor '%s')\n", s->name, lk_precision_name(precision), where);
    }
    harness_close(&h);
    lk_net_free(&whole);
}

static void run_all(enum lk_precision precision, enum lk_purpose purpose, double limit) {
    if (!lk_ops(b)->supports(b, precision)) {
        lk_skip("this device has no such precision");
        return;
    }
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        run(&sections[i], 0, precision, purpose, limit);
    }
    for (size_t i = 0; i < sizeof widening / sizeof *widening; i++) {
        run(&widening[i], 1, precision, purpose, limit);
    }
}

static void training_in_fp32(void) { run_all(LK_FP32, LK_TRAIN, 1e-5); }
static void training_in_bf16(void) { run_all(LK_BF16, LK_TRAIN, 1e-2); }
static void forward_only_in_fp32(void) { run_all(LK_FP32, LK_FORWARD, 1e-5); }
static void forward_only_in_bf16(void) { run_all(LK_BF16, LK_FORWARD, 1e-2); }
static void inference_in_fp32(void) { run_all(LK_FP32, LK_INFERENCE, 1e-5); }
static void inference_in_bf16(void) { run_all(LK_BF16, LK_INFERENCE, 1e-2); }

int main(int argc, char **argv) {
    static const struct lk_case cases[] = {LK_CASE(training_in_fp32),     LK_CASE(training_in_bf16),
                                           LK_CASE(forward_only_in_fp32), LK_CASE(forward_only_in_bf16),
                                           LK_CASE(inference_in_fp32),    LK_CASE(inference_in_bf16)};
    int status = test_device_open(&b, NULL, cases, sizeof cases / sizeof *cases);
    if (!status) {
        status = lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
        lk_ops(b)->close(b);
    }
    return status;
}
