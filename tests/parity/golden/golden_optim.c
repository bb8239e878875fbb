/* Do SGD, Adam, LARS and the teacher's moving average equal torch.optim and the published formula on golden gradients?
 * The numbers are optim.py's; only results are in optim.safetensors. */
#include "check.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/rng.h"
#include "golden.h"

enum { MATRIX = 96 * 120, TEACHER = MATRIX + 24, N = TEACHER + 8 * 4 * 9, STEPS = 3, STRIDE = 13 };
enum { KEPT = (MATRIX + STRIDE - 1) / STRIDE };
#define SEED 7

static struct lk_backend *b;
static const struct lk_backend_ops *ops;
static struct lk_safetensors golden;

static const struct lk_param_span spans[] = {{0, MATRIX, 0}, {MATRIX, 24, 1}, {TEACHER, N - TEACHER, 0}};
static const struct lk_step_values values[STEPS] = {{.lr = 0.125f, .tau = 0.75f, .step = 1},
                                                    {.lr = 0.0625f, .tau = 0.96875f, .step = 2},
                                                    {.lr = 0.25f, .tau = 0.5f, .step = 3}};

/* Worst error of the matrix and of the rest against row `step` of what was kept. */
static double worst_error(const float *x, size_t n, const float *kept, int step) {
    const float *row = kept + (size_t)step * (KEPT + n - MATRIX);
    double matrix = golden_error(x, row, MATRIX, STRIDE, 0),
           rest = golden_error(x + MATRIX, row + KEPT, n - MATRIX, 1, 0);
    return matrix > rest ? matrix : rest;
}

struct arenas {
    float *params, *grads, *state, *teacher;
};

static int three_steps(const struct lk_optimizer_config *config, const struct arenas *d, const float *params,
                       const float *teacher) {
    static float host[N];
    int rc = 0;
    lk_rng_normal(host, N, 1.0f, SEED, 0);
    if ((rc = ops->upload(b, d->params, host, sizeof host)) ||
        (rc = ops->upload(b, d->teacher, host, TEACHER * sizeof(float)))) {
        return rc;
    }
    for (int step = 0; step < STEPS; step++) {
        lk_rng_normal(host, N, 1.0f / (float)(2 + step), SEED, (uint32_t)(1 + step));
        if ((rc = ops->upload(b, d->grads, host, sizeof host)) ||
            (rc = ops->update(b, config, &values[step], spans, 3, N, d->params, d->grads, d->state, d->teacher,
                              TEACHER)) ||
            (rc = ops->download(b, host, d->params, sizeof host))) {
            return rc;
        }
        LK_CHECK_NEAR(worst_error(host, N, params, step), 0.0, 1e-6);
        if ((rc = ops->download(b, host, d->teacher, TEACHER * sizeof(float)))) {
            return rc;
        }
        LK_CHECK_NEAR(worst_error(host, TEACHER, teacher, step), 0.0, 1e-6);
        if ((rc = ops->download(b, host, d->grads, sizeof host))) {
            return rc;
        }
        int nonzero = 0;
        for (int i = 0; i < N; i++) {
            nonzero += host[i] != 0;
        }
        LK_CHECK_INT(nonzero, 0);
    }
    return 0;
}

static void check(const char *name, const struct lk_optimizer_config *config) {
    struct arenas d = {0};
    void *p[4] = {0};
    float *params = golden_tensor(&golden, name, ".params", (size_t)STEPS * (KEPT + N - MATRIX));
    float *teacher = golden_tensor(&golden, name, ".teacher", (size_t)STEPS * (KEPT + TEACHER - MATRIX));
    static const size_t sizes[] = {N, N, (size_t)2 * N, TEACHER};
    int rc = params && teacher ? 0 : -1;
    for (int i = 0; i < 4 && !rc; i++) {
        rc = ops->alloc(b, sizes[i] * sizeof(float), &p[i]);
    }
    if (LK_CHECK_INT(rc, 0)) {
        d = (struct arenas){p[0], p[1], p[2], p[3]};
        LK_CHECK_INT(three_steps(config, &d, params, teacher), 0);
    }
    for (int i = 0; i < 4; i++) {
        ops->free(b, p[i]);
    }
    free(params);
    free(teacher);
}

static struct lk_optimizer_config config(enum lk_optimizer kind, int exclude, int clip) {
    return (struct lk_optimizer_config){.kind = kind,
                                        .momentum = 0.875f,
                                        .weight_decay = 0x1p-7f,
                                        .beta1 = 0.875f,
                                        .beta2 = 0.96875f,
                                        .epsilon = 0x1p-20f,
                                        .trust = 0x1p-9f,
                                        .lars_clip = clip,
                                        .exclude_1d = exclude};
}

static void sgd_equals_torch(void) {
    struct lk_optimizer_config all = config(LK_SGD, 0, 0), exclude = config(LK_SGD, 1, 0);
    check("sgd.all", &all);
    check("sgd.exclude", &exclude);
}

static void adam_equals_torch(void) {
    struct lk_optimizer_config all = config(LK_ADAM, 0, 0), exclude = config(LK_ADAM, 1, 0);
    check("adam.all", &all);
    check("adam.exclude", &exclude);
}

static void lars_equals_its_formula(void) {
    struct lk_optimizer_config all = config(LK_LARS, 0, 0), exclude = config(LK_LARS, 1, 0);
    check("lars.all", &all);
    check("lars.exclude", &exclude);
}

static void lars_with_clip_equals_larc(void) {
    struct lk_optimizer_config clip = config(LK_LARS, 1, 1);
    check("lars.clip", &clip);
}

static const struct lk_case cases[] = {LK_CASE(sgd_equals_torch), LK_CASE(adam_equals_torch),
                                       LK_CASE(lars_equals_its_formula), LK_CASE(lars_with_clip_equals_larc)};

int main(int argc, char **argv) {
    b = golden_device();
    if (!b || lk_safetensors_open(&golden, "optim.safetensors")) {
        printf("%s\n", lk_error());
        return 1;
    }
    ops = lk_ops(b);
    int rc = lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
    lk_safetensors_close(&golden);
    ops->close(b);
    return rc;
}
