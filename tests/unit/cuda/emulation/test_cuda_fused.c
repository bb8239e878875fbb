/* Do the fused graphs of training give what the separate passes give, and only where they are taken? The emulation times
 * nothing; LK_EMULATED_FUSED takes them (graphs.c). */
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "model/walk.h"
#include "stream.h"

enum { SIDE = 8, BATCH = 4, PICTURE = SIDE * SIDE * 3 };

struct result {
    struct lk_net net;
    float *out, *stats, *grads; /* of the last edge, the running statistics, every parameter */
    size_t n_out, fused;        /* fused graphs run */
};

static void result_free(struct result *r) {
    free(r->out);
    free(r->stats);
    free(r->grads);
    lk_net_free(&r->net);
}

/* One forward by random weights, and for LK_TRAIN a backward from a fixed gradient. */
static int run(struct result *r, int depth, enum lk_precision precision, enum lk_purpose purpose, const char *fused) {
    const struct lk_arch arch = {depth, 8, LK_STEM_CIFAR, SIDE};
    static const struct lk_heads heads = {32, 32, 16, 1, 1};
    static const float mean[3] = {.4f, .5f, .6f}, std[3] = {.2f, .25f, .3f};
    uint8_t pixels[BATCH * PICTURE];
    struct lk_backend *b = NULL;
    struct lk_plan *plan = NULL;
    struct lk_pass *pass = NULL;
    void *params = NULL, *stats = NULL, *grads = NULL, *gradient = NULL;
    uint32_t state = 7;
    int rc;
    memset(r, 0, sizeof *r);
    setenv("LK_EMULATED_FUSED", fused, 1);
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)((state = state * 1664525u + 1013904223u) >> 24);
    if ((rc = lk_net_build(&r->net, &arch, &heads)) || (rc = lk_device_open(&b, "cuda:0", NULL)))
        return rc;
    const struct lk_backend_ops *ops = lk_ops(b);
    int n = purpose == LK_TRAIN ? r->net.n_nodes : r->net.teacher_nodes;
    size_t bytes = r->net.n_params * sizeof(float);
    r->n_out = (size_t)BATCH * (size_t)r->net.output_dim;
    float *host = lk_calloc(r->net.n_params, sizeof *host), up[BATCH * 16];
    r->stats = lk_calloc(r->net.n_stats, sizeof *r->stats);
    r->out = lk_calloc(r->n_out, sizeof *r->out);
    r->grads = lk_calloc(r->net.n_params, sizeof *r->grads);
    if (!host || !r->stats || !r->out || !r->grads)
        abort();
    lk_net_init(&r->net, 1, host, r->stats);
    for (size_t i = 0; i < BATCH * 16; i++)
        up[i] = (float)((int)(i * 37 % 11) - 5) / 64;
    size_t before = lk_emulated_fused_runs();
    (void)((rc = ops->alloc(b, bytes, &params)) || (rc = ops->upload(b, params, host, bytes)) ||
           (rc = ops->alloc(b, bytes, &grads)) || (rc = ops->alloc(b, sizeof up, &gradient)) ||
           (rc = ops->upload(b, gradient, up, sizeof up)) ||
           (rc = ops->alloc(b, r->net.n_stats * sizeof(float), &stats)) ||
           (rc = ops->upload(b, stats, r->stats, r->net.n_stats * sizeof(float))) ||
           (rc = ops->plan(b, &r->net, n, BATCH, precision, purpose, NULL, &plan)) ||
           (rc = ops->set_weights(plan, params, stats)) || (rc = ops->pass(plan, &pass)) ||
           (rc = ops->input_u8(pass, pixels, BATCH, mean, std)) ||
           (rc = lk_walk_forward(ops, &r->net, n, purpose, pass, purpose == LK_TRAIN ? stats : NULL, 1)) ||
           (rc = ops->output(pass, n, BATCH, 0, r->out)) ||
           (purpose == LK_TRAIN && ((rc = ops->output_gradient(pass, n, gradient)) ||
                                    (rc = lk_walk_backward(ops, &r->net, n, pass, grads, 1)))) ||
           (rc = ops->download(b, r->grads, grads, bytes)) ||
           (rc = ops->download(b, r->stats, stats, r->net.n_stats * sizeof(float))));
    r->fused = lk_emulated_fused_runs() - before;
    if (pass)
        ops->pass_free(pass);
    ops->plan_free(plan);
    ops->free(b, params), ops->free(b, stats), ops->free(b, grads), ops->free(b, gradient);
    ops->close(b);
    free(host);
    return rc;
}

/* |a - b| / |a| */
static double distance(const float *a, const float *b, size_t n) {
    double difference = 0, length = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        length += (double)a[i] * (double)a[i];
    }
    return sqrt(difference / length);
}

static size_t norms(const struct lk_net *net, int n_nodes) {
    size_t n = 0;
    for (int i = 0; i < n_nodes; i++)
        n += net->nodes[i].bn != 0;
    return n;
}

static void batch_sums_by_the_convolution_equal_those_of_our_own_pass(void) {
    static const enum lk_purpose purposes[] = {LK_TRAIN, LK_FORWARD};
    for (int i = 0; i < 2; i++) {
        struct result own, fused;
        LK_REQUIRE(run(&own, 18, LK_BF16, purposes[i], "") == 0);
        LK_REQUIRE(run(&fused, 18, LK_BF16, purposes[i], "stats") == 0);
        LK_CHECK_INT(own.fused, 0);
        LK_CHECK_INT(fused.fused, norms(&fused.net, i ? fused.net.teacher_nodes : fused.net.n_nodes));
        /* sums in another order move a value by an ulp of bf16 here and there */
        LK_CHECK_NEAR(distance(own.out, fused.out, own.n_out), 0, 0.02);
        LK_CHECK_NEAR(distance(own.stats, fused.stats, own.net.n_stats), 0, 1e-5);
        result_free(&own);
        result_free(&fused);
    }
}

/* Data gradients with sums: inside a block, into a block (where the other reader's gradient is added), and in the second
 * layer of each of two heads. A strided one is plain, as is one that is not the last to reach an edge: a ResNet-50's first
 * block has two convolutions on one edge. */
static void gradients_with_sums_equal_those_of_our_own_pass(void) {
    static const struct { int depth, inside, into; } nets[] = {{18, 8, 1 + 4}, {50, 13 + 16, 1 + 12 + 3}};
    for (int i = 0; i < 2; i++) {
        struct result own, fused;
        LK_REQUIRE(run(&own, nets[i].depth, LK_BF16, LK_TRAIN, "") == 0);
        LK_REQUIRE(run(&fused, nets[i].depth, LK_BF16, LK_TRAIN, "gradients") == 0);
        LK_CHECK_INT(fused.fused, nets[i].inside + nets[i].into + 2);
        LK_CHECK(memcmp(own.out, fused.out, own.n_out * sizeof(float)) == 0);
        LK_CHECK_NEAR(distance(own.grads, fused.grads, own.net.n_params), 0, 0.03); /* rounded once instead of twice */
        result_free(&own);
        result_free(&fused);
    }
}

static void training_in_fp32_keeps_sums_in_double(void) {
    struct result own, fused;
    LK_REQUIRE(run(&own, 18, LK_FP32, LK_TRAIN, "") == 0 && run(&fused, 18, LK_FP32, LK_TRAIN, "all") == 0);
    LK_CHECK_INT(fused.fused, 0);
    LK_CHECK(memcmp(own.grads, fused.grads, own.net.n_params * sizeof(float)) == 0);
    result_free(&own);
    result_free(&fused);
}

int main(int argc, char **argv) {
    static const struct lk_case cases[] = {
        LK_CASE(batch_sums_by_the_convolution_equal_those_of_our_own_pass),
        LK_CASE(gradients_with_sums_equal_those_of_our_own_pass),
        LK_CASE(training_in_fp32_keeps_sums_in_double),
    };
    return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
}
