/* Do the optimisers and the moving average move weights as their definitions say? Given gradients, ten steps, against
 * plain loops in double: torch.optim.SGD, torch.optim.Adam, and LARS as solo-learn runs it (You et al. 2017 with LARC's
 * clip). Also: gradients are cleared, one-dimensional tensors are left out on request, and the teacher follows. */
#include "check.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/rng.h"
#include "device.h"
#include "model/backend.h"

static struct lk_backend *b;
static const struct lk_backend_ops *ops;

enum { SPANS = 5, STEPS = 10 };
static const size_t counts[SPANS] = {20000, 16, 1, 9001, 33}; /* longer than a chunk, tiny, odd */
enum { N = 20000 + 16 + 1 + 9001 + 33, TEACHER = 20000 + 16 + 1 + 4000 };

struct state {
    double w[N], v[N], v2[N], teacher[N];
};

static double value(uint32_t what, size_t i) {
    return (double)lk_uniform(lk_rng(9, i, LK_RNG_TEST, what, 0).v[0]) * 2.0 - 1.0;
}

static void spans_of(struct lk_param_span *spans) {
    for (size_t s = 0, at = 0; s < SPANS; at += counts[s++]) {
        spans[s] = (struct lk_param_span){.offset = at, .count = counts[s], .one_dimensional = s == 1 || s == 4};
    }
}

/* One step of the definition. */
static void plain(struct state *x, const double *g, const struct lk_optimizer_config *c, double lr, double tau,
                  int step, const struct lk_param_span *spans) {
    for (size_t s = 0; s < SPANS; s++) {
        size_t from = spans[s].offset, to = from + spans[s].count;
        int out = c->exclude_1d && spans[s].one_dimensional;
        double decay = out ? 0.0 : (double)c->weight_decay, ratio = 1.0, ww = 0.0, gg = 0.0;
        for (size_t i = from; i < to; i++) {
            ww += x->w[i] * x->w[i];
            gg += g[i] * g[i];
        }
        if (c->kind == LK_LARS) {
            if (!out && ww > 0.0 && gg > 0.0) {
                ratio = (double)c->trust * sqrt(ww) / (sqrt(gg) + decay * sqrt(ww) + 1e-8);
                ratio = c->lars_clip && ratio / lr < 1.0 ? ratio / lr : c->lars_clip ? 1.0 : ratio;
            } else {
                decay = 0.0;
            }
        }
        for (size_t i = from; i < to; i++) {
            double d = (g[i] + decay * x->w[i]) * ratio;
            if (c->kind == LK_ADAM) {
                double b1 = (double)c->beta1, b2 = (double)c->beta2;
                x->v[i] = b1 * x->v[i] + (1.0 - b1) * d;
                x->v2[i] = b2 * x->v2[i] + (1.0 - b2) * d * d;
                double m = x->v[i] / (1.0 - pow(b1, step)), s2 = x->v2[i] / (1.0 - pow(b2, step));
                x->w[i] -= lr * m / (sqrt(s2) + (double)c->epsilon);
            } else {
                x->v[i] = (double)c->momentum * x->v[i] + d;
                x->w[i] -= lr * x->v[i];
            }
        }
    }
    for (size_t i = 0; i < TEACHER; i++) {
        x->teacher[i] = tau * x->teacher[i] + (1.0 - tau) * x->w[i];
    }
}

static double error_of(const float *a, const double *want, size_t n) {
    double difference = 0.0, norm = 0.0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)a[i] - want[i]) * ((double)a[i] - want[i]);
        norm += want[i] * want[i];
    }
    return sqrt(difference / norm);
}

static void run(const struct lk_optimizer_config *c, double lr, int zero_span) {
    static struct state x; /* 1 MB: too much for the stack */
    static float host[2 * N];
    static double g[N];
    struct lk_param_span spans[SPANS];
    float *w = NULL, *grads = NULL, *state = NULL, *teacher = NULL;
    spans_of(spans);
    memset(&x, 0, sizeof x);
    for (size_t i = 0; i < N; i++) {
        host[i] = (float)(0.1 * value(1, i));
        x.w[i] = x.teacher[i] = (double)host[i];
    }
    LK_REQUIRE(!ops->alloc(b, sizeof(float) * N, (void **)&w) && !ops->alloc(b, sizeof(float) * N, (void **)&grads) &&
               !ops->alloc(b, sizeof(float) * 2 * N, (void **)&state) &&
               !ops->alloc(b, sizeof(float) * TEACHER, (void **)&teacher));
    LK_CHECK_INT(ops->upload(b, w, host, sizeof(float) * N), 0);
    LK_CHECK_INT(ops->upload(b, teacher, host, sizeof(float) * TEACHER), 0);
    for (int step = 1; step <= STEPS; step++) {
        struct lk_step_values v = {
            .lr = (float)(lr / step), .tau = 0.9f + 0.005f * (float)step, .step = (uint64_t)step};
        for (size_t i = 0; i < N; i++) {
            int zero = zero_span >= 0 && i >= spans[zero_span].offset &&
                       i < spans[zero_span].offset + spans[zero_span].count;
            host[i] = zero ? 0.0f : (float)value((uint32_t)(10 + step), i);
            g[i] = (double)host[i];
        }
        LK_CHECK_INT(ops->upload(b, grads, host, sizeof(float) * N), 0);
        LK_CHECK_INT(ops->update(b, c, &v, spans, SPANS, N, w, grads, state, teacher, TEACHER), 0);
        plain(&x, g, c, (double)v.lr, (double)v.tau, step, spans);
    }
    LK_CHECK_INT(ops->download(b, host, w, sizeof(float) * N), 0);
    for (size_t s = 0; s < SPANS; s++) {
        LK_CHECK_NEAR(error_of(host + spans[s].offset, x.w + spans[s].offset, spans[s].count), 0.0, 2e-6);
    }
    LK_CHECK_INT(ops->download(b, host, teacher, sizeof(float) * TEACHER), 0);
    LK_CHECK_NEAR(error_of(host, x.teacher, TEACHER), 0.0, 2e-6);
    LK_CHECK_INT(ops->download(b, host, state, sizeof(float) * 2 * N), 0);
    LK_CHECK_NEAR(error_of(host, x.v, N), 0.0, 2e-6);
    if (c->kind == LK_ADAM) {
        LK_CHECK_NEAR(error_of(host + N, x.v2, N), 0.0, 2e-6);
    }
    LK_CHECK_INT(ops->download(b, host, grads, sizeof(float) * N), 0);
    double left = 0.0;
    for (size_t i = 0; i < N; i++) {
        left += fabs((double)host[i]);
    }
    LK_CHECK_NEAR(left, 0.0, 0.0);
    ops->free(b, w);
    ops->free(b, grads);
    ops->free(b, state);
    ops->free(b, teacher);
}

static void sgd_with_momentum_and_decay(void) {
    run(&(struct lk_optimizer_config){.kind = LK_SGD, .momentum = 0.9f, .weight_decay = 5e-4f}, 0.03, -1);
}

static void sgd_without_decay_on_one_dimensional_tensors(void) {
    run(&(struct lk_optimizer_config){.kind = LK_SGD, .momentum = 0.9f, .weight_decay = 0.1f, .exclude_1d = 1}, 0.03,
        -1);
}

static void adam(void) {
    run(
        &(struct lk_optimizer_config){
            .kind = LK_ADAM, .weight_decay = 1e-4f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f},
        0.003, -1);
}

static void lars_with_the_exclusions(void) {
    run(
        &(struct lk_optimizer_config){
            .kind = LK_LARS, .momentum = 0.9f, .weight_decay = 1e-4f, .trust = 0.02f, .exclude_1d = 1},
        0.5, -1);
}

static void lars_with_the_clip(void) {
    run(
        &(struct lk_optimizer_config){
            .kind = LK_LARS, .momentum = 0.9f, .weight_decay = 1e-4f, .trust = 0.02f, .lars_clip = 1, .exclude_1d = 1},
        0.5, -1);
}

static void lars_takes_a_plain_step_where_a_gradient_is_zero(void) {
    run(&(struct lk_optimizer_config){.kind = LK_LARS, .momentum = 0.9f, .weight_decay = 1e-4f, .trust = 0.02f}, 0.5,
        3);
}

static void a_span_outside_the_arena_is_refused(void) {
    struct lk_optimizer_config c = {.kind = LK_SGD};
    struct lk_step_values v = {.lr = 0.1f, .step = 1};
    struct lk_param_span span = {.offset = 8, .count = 9};
    float *w = NULL;
    LK_REQUIRE(!ops->alloc(b, sizeof(float) * 64, (void **)&w));
    LK_CHECK_INT(ops->update(b, &c, &v, &span, 1, 16, w, w + 16, w + 32, NULL, 0), LK_EINVAL);
    ops->free(b, w);
}

int main(int argc, char **argv) {
    static const struct lk_case cases[] = {LK_CASE(sgd_with_momentum_and_decay),
                                           LK_CASE(sgd_without_decay_on_one_dimensional_tensors),
                                           LK_CASE(adam),
                                           LK_CASE(lars_with_the_exclusions),
                                           LK_CASE(lars_with_the_clip),
                                           LK_CASE(lars_takes_a_plain_step_where_a_gradient_is_zero),
                                           LK_CASE(a_span_outside_the_arena_is_refused)};
    int status = test_device_open(&b, NULL, cases, sizeof cases / sizeof *cases);
    if (status) {
        return status;
    }
    ops = lk_ops(b);
    status = lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
    ops->close(b);
    return status;
}
