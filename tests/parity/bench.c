/* The timing mode of test_backend (--bench): what a device does a second, best of several runs, and where a training
 * step's time goes by kind of entry. Numbers are for one machine at one moment; compare only within a run. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/err.h"
#include "model/walk.h"

enum kind { CONV, STATS, APPLY, POOL, REDUCE, DAPPLY, WEIGHTS, DATA, KINDS };
static const char *const kind_names[KINDS] = {"conv",      "bn stats",  "bn apply",     "pool",
                                              "bn reduce", "bn dapply", "conv weights", "conv data"};

/* Seconds. With LK_BENCH_CLOCK=cpu those that this process computed: for one thread on a busy machine. */
static double now(void) {
    const char *clock = getenv("LK_BENCH_CLOCK");
    struct timespec t;
    clock_gettime(clock && !strcmp(clock, "cpu") ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The walk once more, with a clock around each entry. */
static int timed_walk(const struct lk_backend_ops *ops, const struct lk_net *net, struct lk_pass *pass, float *stats,
                      float *grads, double *seconds) {
    int rc = 0;
#define TIMED(kind, call)               \
    do {                                \
        double begin = now();           \
        rc = rc ? rc : (call);          \
        seconds[kind] += now() - begin; \
    } while (0)
    for (int i = 0; i < net->n_nodes; i++) {
        const struct lk_node *n = &net->nodes[i];
        if (n->kind == LK_NODE_MAX_POOL || n->kind == LK_NODE_AVG_POOL) {
            TIMED(POOL, ops->pool(pass, i));
            continue;
        }
        TIMED(CONV, ops->conv(pass, i));
        if (n->bn) {
            TIMED(STATS, ops->bn_stats(pass, i));
            TIMED(STATS, ops->bn_finalize(pass, i, stats));
            TIMED(APPLY, ops->bn_apply(pass, i));
        } else {
            TIMED(APPLY, ops->activate(pass, i));
        }
    }
    for (int i = net->n_nodes - 1; i >= 0; i--) {
        const struct lk_node *n = &net->nodes[i];
        if (n->kind == LK_NODE_MAX_POOL || n->kind == LK_NODE_AVG_POOL) {
            TIMED(POOL, ops->pool_backward(pass, i));
            continue;
        }
        if (n->bn) {
            TIMED(REDUCE, ops->bn_backward_reduce(pass, i));
            TIMED(REDUCE, ops->bn_backward_finalize(pass, i, grads));
            TIMED(DAPPLY, ops->bn_backward_apply(pass, i));
        } else {
            TIMED(REDUCE, ops->activate_backward(pass, i, grads));
        }
        TIMED(WEIGHTS, ops->conv_backward_weights(pass, i, grads));
        if (n->input) {
            TIMED(DATA, ops->conv_backward_data(pass, i));
        }
    }
#undef TIMED
    return rc;
}

struct arenas {
    float *params, *stats, *grads, *state, *teacher;
};

static int open_arenas(struct arenas *a, struct lk_backend *b, const struct lk_net *net) {
    const struct lk_backend_ops *ops = lk_ops(b);
    size_t n = net->n_params * sizeof(float), s = (net->n_stats + 1) * sizeof(float);
    float *params = lk_calloc(net->n_params, sizeof(float)), *stats = lk_calloc(net->n_stats + 1, sizeof(float));
    int rc = params && stats ? 0 : LK_ENOMEM;
    if (!rc) {
        lk_net_init(net, 1, params, stats);
        (void)((rc = ops->alloc(b, n, (void **)&a->params)) || (rc = ops->alloc(b, s, (void **)&a->stats)) ||
               (rc = ops->alloc(b, n, (void **)&a->grads)) || (rc = ops->alloc(b, 2 * n, (void **)&a->state)) ||
               (rc = ops->alloc(b, n, (void **)&a->teacher)) || (rc = ops->upload(b, a->params, params, n)) ||
               (rc = ops->upload(b, a->teacher, params, n)) || (rc = ops->upload(b, a->stats, stats, s)));
    }
    free(params);
    free(stats);
    return rc;
}

static void close_arenas(struct arenas *a, struct lk_backend *b) {
    float *all[] = {a->params, a->stats, a->grads, a->state, a->teacher};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        lk_ops(b)->free(b, all[i]);
    }
}

static int inference(struct lk_backend *b, int width, int batch, enum lk_precision precision, double budget) {
    const struct lk_backend_ops *ops = lk_ops(b);
    struct lk_arch arch = {18, width, LK_STEM_CIFAR, 32};
    struct lk_net net = {0};
    struct arenas a = {0};
    struct lk_plan *plan = NULL;
    struct lk_pass *pass = NULL;
    static const float mean[3] = {.5f, .5f, .5f}, std[3] = {.2f, .2f, .2f};
    uint8_t *pixels = lk_calloc((size_t)batch * 3 * 32 * 32, 1);
    float *out = lk_calloc((size_t)batch * 8 * (size_t)width, sizeof *out);
    int rc = pixels && out ? 0 : LK_ENOMEM;
    if (rc || (rc = lk_net_build(&net, &arch, NULL)) || (rc = open_arenas(&a, b, &net)) ||
        (rc = ops->plan(b, &net, net.n_nodes, batch, precision, LK_INFERENCE, NULL, &plan)) ||
        (rc = ops->set_weights(plan, a.params, a.stats)) || (rc = ops->pass(plan, &pass))) {
        goto done;
    }
    double best = 1e9, began = now();
    for (int i = 0; !rc && (i < 5 || now() - began < budget); i++) {
        double start = now();
        (void)((rc = ops->input_u8(pass, pixels, batch, mean, std)) ||
               (rc = lk_walk_forward(ops, &net, net.n_nodes, LK_INFERENCE, pass, NULL, 1)) ||
               (rc = ops->output(pass, net.n_nodes, batch, 1, out)));
        double seconds = now() - start;
        best = seconds < best ? seconds : best;
    }
    printf("inference resnet18 w%d %s batch %2d: %7.2f ms  %7.1f images/s\n", width, lk_precision_name(precision),
           batch, 1e3 * best, batch / best);
done:
    ops->pass_free(pass);
    ops->plan_free(plan);
    close_arenas(&a, b);
    lk_net_free(&net);
    free(pixels);
    free(out);
    return rc;
}

/* A whole step as the trainer runs it: augmentation, both nets on both views, loss, backward, update. */
static int step(struct lk_backend *b, int width, int batch, enum lk_precision precision, double budget) {
    const struct lk_backend_ops *ops = lk_ops(b);
    struct lk_arch arch = {18, width, LK_STEM_CIFAR, 32};
    struct lk_heads heads = {1024, 1024, 256, 1, 1};
    struct lk_net net = {0};
    struct arenas a = {0};
    struct lk_plan *plan[2] = {NULL, NULL};
    struct lk_pass *pass[4] = {NULL, NULL, NULL, NULL}; /* student 1, 2, teacher 1, 2 */
    struct lk_augment augment = lk_augment_default(32);
    size_t n = (size_t)batch;
    void *pixels = NULL; /* one picture in the device's memory, zeroed: every entry's */
    const uint8_t **each = lk_calloc(n, sizeof *each);
    int *sides = lk_calloc(n, sizeof *sides);
    uint64_t *ids = lk_calloc(n, sizeof *ids);
    int rc = each && sides && ids ? 0 : LK_ENOMEM;
    if (rc || (rc = ops->alloc(b, (size_t)3 * 32 * 32, &pixels)) || (rc = lk_net_build(&net, &arch, &heads)) ||
        (rc = open_arenas(&a, b, &net)) ||
        (rc = ops->plan(b, &net, net.n_nodes, batch, precision, LK_TRAIN, NULL, &plan[0])) ||
        (rc = ops->plan(b, &net, net.teacher_nodes, batch, precision, LK_FORWARD, NULL, &plan[1]))) {
        goto done;
    }
    for (int i = 0; i < 4; i++) {
        if ((rc = ops->pass(plan[i / 2], &pass[i]))) {
            goto done;
        }
    }
    for (size_t i = 0; i < n; i++) {
        each[i] = pixels, sides[i] = 32, ids[i] = i;
    }
    struct lk_param_span span = {.offset = 0, .count = net.n_params};
    struct lk_optimizer_config c = {.kind = LK_SGD, .momentum = 0.9f, .weight_decay = 5e-4f};
    double best = 1e9, began = now(), parts[6] = {0}, seconds[KINDS] = {0};
    static const char *const names[6] = {"weights", "augment", "teacher", "student", "backward", "loss, update"};
    int runs = 0;
    for (; !rc && (runs < 3 || now() - began < budget); runs++) {
        struct lk_step_values v = {.lr = 1e-3f, .tau = 0.99f, .step = (uint64_t)runs + 1};
        double t[7] = {now()};
        (void)((rc = ops->set_weights(plan[0], a.params, a.stats)) ||
               (rc = ops->set_weights(plan[1], a.teacher, a.stats)));
        t[1] = now();
        for (int i = 0; i < 4 && !rc; i++) {
            rc = ops->augment(pass[i], &augment, 1, 0, i % 2, each, sides, sides, ids);
        }
        t[2] = now();
        for (int i = 2; i < 4 && !rc; i++) {
            rc = lk_walk_forward(ops, &net, net.teacher_nodes, LK_FORWARD, pass[i], NULL, 1);
        }
        t[3] = now();
        for (int i = 0; i < 2 && !rc; i++) {
            rc = lk_walk_forward(ops, &net, net.n_nodes, LK_TRAIN, pass[i], a.stats, 1);
        }
        t[4] = now();
        rc = rc ? rc : ops->byol_loss(pass[0], pass[1], pass[2], pass[3], 0.25f, 0);
        double loss = now() - t[4];
        for (int i = 0; i < 2 && !rc; i++) {
            rc = lk_walk_backward(ops, &net, net.n_nodes, pass[i], a.grads, 1);
        }
        t[5] = now();
        rc = rc ? rc
                : ops->update(b, &c, &v, &span, 1, net.n_params, a.params, a.grads, a.state, a.teacher,
                              net.teacher_params);
        rc = rc ? rc : ops->sync(b);
        t[6] = now();
        if (t[6] - t[0] < best) {
            best = t[6] - t[0];
            for (int i = 0; i < 6; i++) {
                parts[i] = t[i + 1] - t[i];
            }
            parts[4] -= loss, parts[5] += loss;
        }
    }
    printf("BYOL step resnet18 w%d %s batch %d: %.1f ms  %.1f images/s (best of %d)\n ", width,
           lk_precision_name(precision), batch, 1e3 * best, batch / best, runs);
    for (int i = 0; i < 6; i++) {
        printf(" %s %.1f", names[i], 1e3 * parts[i]);
    }
    best = 1e9;
    for (int i = 0; i < 3 && !rc; i++) { /* one student view, entry by entry; the best of three */
        double one[KINDS] = {0}, start = now();
        rc = timed_walk(ops, &net, pass[0], NULL, a.grads, one);
        if (now() - start < best) {
            best = now() - start;
            memcpy(seconds, one, sizeof one);
        }
    }
    printf("\n  one student view, ms:");
    for (int i = 0; i < KINDS; i++) {
        printf(" %s %.1f", kind_names[i], 1e3 * seconds[i]);
    }
    printf("\n");
done:
    for (int i = 0; i < 4; i++) {
        ops->pass_free(pass[i]);
    }
    ops->plan_free(plan[0]);
    ops->plan_free(plan[1]);
    ops->free(b, pixels);
    close_arenas(&a, b);
    lk_net_free(&net);
    free(each);
    free(sides);
    free(ids);
    return rc;
}

int bench_run(struct lk_backend *b, int argc, char **argv) {
    struct lk_backend_info info;
    lk_ops(b)->info(b, &info);
    printf("%s, %s, best precision %s\n", info.device, info.library, lk_precision_name(info.best));
    const char *what = argc > 0 ? argv[0] : "all";
    double budget = argc > 1 ? atof(argv[1]) : 3.0;
    enum lk_precision precision = argc > 2 && !strcmp(argv[2], "bf16") ? LK_BF16 : LK_FP32;
    static const int batches[] = {1, 8, 32};
    int rc = 0;
    for (size_t i = 0; i < 3 && !rc && strcmp(what, "step") != 0; i++) {
        rc = inference(b, 64, batches[i], precision, budget);
    }
    if (!rc && strcmp(what, "inference") != 0) {
        (void)((rc = step(b, 16, 128, precision, budget)) || (rc = step(b, 64, 64, precision, budget)));
    }
    if (rc) {
        printf("%s\n", lk_error());
    }
    return rc ? 1 : 0;
}
