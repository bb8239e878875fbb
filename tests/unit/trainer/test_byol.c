/* Is the trainer's own step BYOL's? Everything that lk_byol_step joins is tested elsewhere; here it is joined a second time,
 * by hand, over pictures that the host drew, and the loss is computed again in double from predictions and projections:
 * which view meets which, whose statistics run, what the optimiser and the moving average are given. */
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/walk.h"
#include "trainer/byol.h"

enum { SIDE = 16, N = 12, BATCH = 4, OUT = 16, SEED = 3, EPOCH = 5, STEPS = 2 };

static uint8_t pixels[N * SIDE * SIDE * 3];
static size_t offset[N];
static int width[N], height[N];
static struct lk_dataset data = {.n = N, .pixels = pixels, .offset = offset, .width = width, .height = height};
static struct lk_augment view[2];
static const struct lk_optimizer_config optimizer = {
    .kind = LK_LARS, .momentum = 0.9f, .weight_decay = 1e-3f, .trust = 0.02f, .exclude_1d = 1};
static const struct lk_step_values values[STEPS] = {{0.1f, 0.9f, 1}, {0.05f, 0.8f, 2}};

static void make_data(void) {
    uint32_t state = 1;
    for (int i = 0; i < N; i++)
        offset[i] = (size_t)i * SIDE * SIDE * 3, width[i] = height[i] = SIDE;
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)((state = state * 1664525u + 1013904223u) >> 24);
    view[0] = lk_augment_default(SIDE);
    view[1] = lk_augment_default(SIDE); /* so unlike the first that they cannot be taken for each other */
    view[1].crop_min = view[1].crop_max = 0.5f;
    view[1].solarize_p = 1;
}

static double cosine(const float *a, const float *b) {
    double ab = 0, aa = 0, bb = 0;
    for (int i = 0; i < OUT; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return ab / sqrt(aa * bb);
}

/* Both nets over one view of the loader's batch; predictions and projections to the host. */
static int run_view(struct lk_byol *b, const struct lk_loader *l, int v, float *p, float *z) {
    static float x[BATCH * 3 * SIDE * SIDE];
    static float scratch[1 << 16];
    const struct lk_net *net = b->net;
    int rc;
    if (lk_augment_scratch(&view[v]) > sizeof scratch / sizeof *scratch)
        return LK_ELIMIT;
    for (size_t i = 0; i < BATCH; i++)
        lk_augment_view(x + i * 3 * SIDE * SIDE, l->pixels[i], l->width[i], l->height[i], &view[v], SEED, EPOCH,
                        l->id[i], v, scratch);
    if ((rc = b->ops->input_f32(b->student[v], x)) || (rc = b->ops->input_f32(b->teacher[v], x)) ||
        (rc = lk_walk_forward(b->ops, net, net->n_nodes, LK_TRAIN, b->student[v], b->stats, 1)) ||
        (rc = lk_walk_forward(b->ops, net, net->teacher_nodes, LK_FORWARD, b->teacher[v], NULL, 1)) ||
        (rc = b->ops->output(b->student[v], net->n_nodes, BATCH, 0, p)))
        return rc;
    return b->ops->output(b->teacher[v], net->teacher_nodes, BATCH, 0, z);
}

static int step_by_hand(struct lk_byol *b, const struct lk_loader *l, const struct lk_step_values *v, double *loss) {
    static float p[2][BATCH * OUT], z[2][BATCH * OUT];
    const struct lk_net *net = b->net;
    int rc;
    if ((rc = b->ops->set_weights(b->student_plan, b->params, b->stats)) ||
        (rc = b->ops->set_weights(b->teacher_plan, b->teacher_params, b->stats)) ||
        (rc = run_view(b, l, 0, p[0], z[0])) || (rc = run_view(b, l, 1, p[1], z[1])) ||
        (rc = b->ops->byol_loss(b->student[0], b->student[1], b->teacher[0], b->teacher[1], b->loss_scale, 0)) ||
        (rc = lk_walk_backward(b->ops, net, net->n_nodes, b->student[0], b->grads, 1)) ||
        (rc = lk_walk_backward(b->ops, net, net->n_nodes, b->student[1], b->grads, 1)))
        return rc;
    *loss = 0;
    for (int i = 0; i < BATCH;
         i++) /* equation 2 of the paper, both directions: a view's prediction of the OTHER view */
        *loss += (4 - 2 * cosine(p[0] + i * OUT, z[1] + i * OUT) - 2 * cosine(p[1] + i * OUT, z[0] + i * OUT)) / BATCH;
    return b->ops->update(b->device, &b->optimizer, v, b->spans, b->n_spans, net->n_params, b->params, b->grads,
                          b->state, b->teacher_params, net->teacher_params);
}

static void compare(const float *a, const float *b, size_t n, const char *what) {
    size_t differ = 0;
    for (size_t i = 0; i < n; i++)
        differ += memcmp(&a[i], &b[i], sizeof *a) != 0;
    if (!LK_CHECK(differ == 0))
        printf("     %zu of %zu %s differ\n", differ, n, what);
}

/* What the optimiser is told of a tensor that begins at `at`: 1 one-dimensional, 0 not, -1 nothing. */
static int kind_of(const struct lk_byol *b, size_t at) {
    for (size_t i = 0; i < b->n_spans; i++)
        if (b->spans[i].offset == at)
            return b->spans[i].one_dimensional;
    return -1;
}

static void check_spans(const struct lk_byol *b) {
    size_t n = 0;
    for (int i = 0; i < b->net->n_nodes; i++) {
        const struct lk_node *node = &b->net->nodes[i];
        if (!lk_node_has_weights(node))
            continue;
        LK_CHECK_INT(kind_of(b, node->weight), 0);
        if (node->bn)
            LK_CHECK_INT(kind_of(b, node->gamma), 1);
        if (node->bn || node->bias)
            LK_CHECK_INT(kind_of(b, node->beta), 1);
        n += 1 + (size_t)(node->bn != 0) + (size_t)(node->bn || node->bias);
    }
    LK_CHECK_INT(b->n_spans, n);
}

static void the_trainers_step_is_byols(void) {
    static const struct lk_arch arch = {18, 8, LK_STEM_CIFAR, SIDE};
    static const struct lk_heads heads = {16, 16, OUT, 1, 1};
    const struct lk_backend_options options = {.threads = 1};
    struct lk_backend *device = NULL;
    struct lk_net net;
    struct lk_byol whole, parts;
    struct lk_loader l;
    struct lk_byol_state a, b, start;
    make_data();
    LK_REQUIRE(lk_device_open(&device, "cpu", &options) == 0);
    LK_REQUIRE(lk_net_build(&net, &arch, &heads) == 0);
    LK_REQUIRE(lk_byol_open(&whole, device, &net, BATCH, LK_FP32, &optimizer, 0.25f, SEED) == 0);
    LK_REQUIRE(lk_byol_open(&parts, device, &net, BATCH, LK_FP32, &optimizer, 0.25f, SEED) == 0);
    LK_REQUIRE(lk_loader_open(&l, &data, data.pixels, BATCH, SEED) == 0);
    LK_REQUIRE(lk_byol_save(&whole, &start) == 0);
    check_spans(&whole); /* biases and batch norms are left out of decay and trust */
    LK_CHECK(memcmp(start.params, start.teacher, start.n_teacher * sizeof(float)) == 0); /* it begins as a copy */
    for (int s = 0; s < STEPS; s++) {
        struct lk_byol_stats stats;
        double loss = -1;
        lk_loader_batch(&l, EPOCH, (size_t)s);
        LK_REQUIRE(lk_byol_step(&whole, &l, view, SEED, EPOCH, &values[s], 1) == 0);
        LK_REQUIRE(lk_ops(device)->byol_stats(device, 1, &stats) == 0);
        LK_REQUIRE(step_by_hand(&parts, &l, &values[s], &loss) == 0);
        LK_CHECK_NEAR((double)stats.loss, loss, 1e-5);
    }
    LK_REQUIRE(lk_byol_save(&whole, &a) == 0 && lk_byol_save(&parts, &b) == 0);
    compare(a.params, b.params, a.n_params, "parameters");
    compare(a.stats, b.stats, a.n_stats, "running statistics");
    compare(a.optimizer, b.optimizer, a.n_optimizer, "momenta");
    compare(a.teacher, b.teacher, a.n_teacher, "teacher's parameters");
    LK_CHECK(memcmp(a.params, start.params, a.n_params * sizeof(float)) != 0);
    LK_CHECK(memcmp(a.teacher, start.teacher, a.n_teacher * sizeof(float)) != 0);
    lk_byol_state_free(&a);
    lk_byol_state_free(&b);
    lk_byol_state_free(&start);
    lk_loader_close(&l);
    lk_byol_close(&whole);
    lk_byol_close(&parts);
    lk_net_free(&net);
    lk_ops(device)->close(device);
}

int main(int argc, char **argv) {
    static const struct lk_case cases[] = {LK_CASE(the_trainers_step_is_byols)};
    return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
}
