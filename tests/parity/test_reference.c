/* Are the reference's gradients the derivatives of its own forward? Central differences in float64, along a random
 * direction for every tensor, so that the backends may be compared with it. */
#include "check.h"

#include <stdlib.h>

#include "base/rng.h"
#include "reference.h"

#define STEP 1e-6

static double uniform(uint64_t i, uint32_t what) {
    return (double)lk_uniform(lk_rng(11, i, LK_RNG_TEST, what, 0).v[0]) * 2.0 - 1.0;
}

struct problem {
    struct lk_net net;
    struct ref ref;
    double *params, *grads, *out; /* out: the gradient of the last edge */
    size_t n_out;
};

static int open_problem(struct problem *p, const struct lk_arch *arch, const struct lk_heads *heads, int nodes,
                        int batch) {
    memset(p, 0, sizeof *p);
    if (lk_net_build(&p->net, arch, heads) || ref_open(&p->ref, &p->net, nodes ? nodes : p->net.n_nodes, batch)) {
        return -1;
    }
    float *f = calloc(p->net.n_params, sizeof *f), *s = calloc(p->net.n_stats + 1, sizeof *s);
    p->n_out = ref_edge_size(&p->ref, p->ref.n_nodes);
    p->params = calloc(p->net.n_params, sizeof(double));
    p->grads = calloc(p->net.n_params, sizeof(double));
    p->out = calloc(p->n_out, sizeof(double));
    int ok = f && s && p->params && p->grads && p->out;
    if (ok) {
        lk_net_init(&p->net, 3, f, s);
        for (size_t i = 0; i < p->net.n_params; i++) { /* norms that are no identity */
            p->params[i] = (double)f[i] + 0.1 * uniform(i, 1);
        }
        for (size_t i = 0; i < ref_edge_size(&p->ref, 0); i++) {
            p->ref.edge[0][i] = 2.0 * uniform(i, 2);
        }
        for (size_t i = 0; i < p->n_out; i++) {
            p->out[i] = uniform(i, 3);
        }
    }
    free(f);
    free(s);
    return ok ? 0 : -1;
}

static void close_problem(struct problem *p) {
    ref_close(&p->ref);
    lk_net_free(&p->net);
    free(p->params);
    free(p->grads);
    free(p->out);
}

/* sum of out * last edge. */
static double value(struct problem *p) {
    ref_forward(&p->ref, p->params, NULL, 1);
    double sum = 0.0;
    for (size_t i = 0; i < p->n_out; i++) {
        sum += p->out[i] * p->ref.edge[p->ref.n_nodes][i];
    }
    return sum;
}

/* The slope of value() along a random direction of x[n], against the same by the gradient g[n]. */
static void slope(struct problem *p, double *x, const double *g, size_t n, double scale, const char *name) {
    double expected = 0.0, ends[2];
    for (size_t i = 0; i < n; i++) {
        expected += g[i] * uniform(i, 4);
    }
    for (int side = 0; side < 2; side++) {
        double step = side ? -STEP : STEP;
        for (size_t i = 0; i < n; i++) {
            x[i] += step * uniform(i, 4);
        }
        ends[side] = value(p);
        for (size_t i = 0; i < n; i++) {
            x[i] -= step * uniform(i, 4);
        }
    }
    if (!LK_CHECK_NEAR((ends[0] - ends[1]) / (2.0 * STEP), expected, 1e-6 * scale + 1e-5 * fabs(expected))) {
        printf("tensor %s\n", name);
    }
}

static int check_tensor(void *arg, const struct lk_net_tensor *t) {
    struct problem *p = arg;
    if (!t->stat) {
        slope(p, p->params + t->offset, p->grads + t->offset, t->count, 1.0, t->name);
    }
    return 0;
}

static void check_all(const struct lk_arch *arch, const struct lk_heads *heads, int nodes, int batch) {
    struct problem p;
    if (LK_CHECK_INT(open_problem(&p, arch, heads, nodes, batch), 0)) {
        value(&p);
        memcpy(p.ref.gradient[p.ref.n_nodes], p.out, p.n_out * sizeof(double));
        ref_backward(&p.ref, p.params, p.grads);
        size_t n = ref_edge_size(&p.ref, 0);
        double *of_input = calloc(n, sizeof(double));
        if (LK_CHECK(of_input != NULL)) {
            memcpy(of_input, p.ref.gradient[0], n * sizeof(double));
            slope(&p, p.ref.edge[0], of_input, n, 1.0, "input");
        }
        free(of_input);
        lk_net_tensors(&p.net, p.ref.n_nodes, check_tensor, &p);
    }
    close_problem(&p);
}

static void basic_blocks_and_heads_with_batch_norm(void) {
    struct lk_arch arch = {18, 8, LK_STEM_CIFAR, 16};
    struct lk_heads heads = {32, 16, 16, 1, 1};
    check_all(&arch, &heads, 0, 3);
}

static void heads_with_biases(void) {
    struct lk_arch arch = {18, 8, LK_STEM_CIFAR, 8};
    struct lk_heads heads = {32, 16, 16, 0, 0};
    check_all(&arch, &heads, 0, 5);
}

static void bottlenecks_and_the_max_pool_on_odd_sides(void) {
    struct lk_arch arch = {50, 8, LK_STEM_IMAGENET, 37};
    check_all(&arch, NULL, 16, 2);
}

static void the_loss_of_byol(void) {
    enum { B = 3, D = 5, N = B * D };
    double v[4][N], g[2][N], unused[2][N];
    for (int k = 0; k < 4; k++) {
        for (int i = 0; i < N; i++) {
            v[k][i] = uniform((uint64_t)i, (uint32_t)(5 + k));
        }
    }
    ref_byol(v[0], v[1], v[2], v[3], B, D, 0.7, g[0], g[1]);
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < N; i++) {
            double at = v[k][i], ends[2];
            for (int side = 0; side < 2; side++) {
                v[k][i] = side ? at - STEP : at + STEP;
                ends[side] = ref_byol(v[0], v[1], v[2], v[3], B, D, 0.7, unused[0], unused[1]);
            }
            v[k][i] = at;
            LK_CHECK_NEAR(0.7 * (ends[0] - ends[1]) / (2.0 * STEP), g[k][i], 1e-8);
        }
    }
}

int main(int argc, char **argv) {
    static const struct lk_case cases[] = {LK_CASE(basic_blocks_and_heads_with_batch_norm), LK_CASE(heads_with_biases),
                                           LK_CASE(bottlenecks_and_the_max_pool_on_odd_sides),
                                           LK_CASE(the_loss_of_byol)};
    return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
}
