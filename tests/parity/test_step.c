/* Is one BYOL step what the definition says? Two views through student and teacher, each in its own pass, the symmetric
 * cross-view loss, its gradient through both student passes, the running statistics and the spread of the projections:
 * a small net against the float64 reference. LK_TEST_DEVICE names the device (default "cpu"). */
#include "check.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/rng.h"
#include "device.h"
#include "harness.h"
#include "model/walk.h"

static struct lk_backend *b;
static const struct lk_backend_ops *ops;

enum { BATCH = 12, DIM = 32 };

/* The teacher is a net of the same description with weights of its own, cut off after the projector. */
struct step {
    struct lk_net net;
    struct harness student, teacher;
    struct lk_pass *student2, *teacher2;
    float *view2;
    double *p[2], *z[2], *g[2]; /* [BATCH][DIM], reference */
    double *second_view;
};

static double *copy_of(const double *x, size_t n) {
    double *to = lk_calloc(n, sizeof *to);
    if (to) {
        memcpy(to, x, n * sizeof *to);
    }
    return to;
}

static int open_step(struct step *s, int bn, enum lk_precision precision) {
    memset(s, 0, sizeof *s);
    struct lk_arch arch = {18, 8, LK_STEM_CIFAR, 24};
    struct lk_heads heads = {64, 48, DIM, bn, bn};
    if (lk_net_build(&s->net, &arch, &heads) ||
        harness_open(&s->student, b, &s->net, s->net.n_nodes, BATCH, precision, LK_TRAIN, 31) ||
        harness_open(&s->teacher, b, &s->net, s->net.teacher_nodes, BATCH, precision, LK_FORWARD, 32) ||
        ops->pass(s->student.plan, &s->student2) || ops->pass(s->teacher.plan, &s->teacher2)) {
        return -1;
    }
    size_t n = ref_edge_size(&s->student.ref, 0);
    s->view2 = lk_calloc(n, sizeof(float));
    s->second_view = lk_calloc(n, sizeof(double));
    if (!s->view2 || !s->second_view) {
        return -1;
    }
    lk_rng_normal(s->view2, n, 1.0f, 77, 1);
    for (size_t i = 0; i < n; i++) {
        s->view2[i] = precision == LK_BF16 ? harness_bf16(s->view2[i]) : s->view2[i];
        s->second_view[i] = (double)s->view2[i];
    }
    if (ops->input_f32(s->teacher.pass, s->student.input) || ops->input_f32(s->student2, s->view2) ||
        ops->input_f32(s->teacher2, s->view2)) {
        return -1;
    }
    return 0;
}

static void close_step(struct step *s) {
    ops->pass_free(s->student2);
    ops->pass_free(s->teacher2);
    harness_close(&s->student);
    harness_close(&s->teacher);
    lk_net_free(&s->net);
    for (int i = 0; i < 2; i++) {
        free(s->p[i]);
        free(s->z[i]);
        free(s->g[i]);
    }
    free(s->view2);
    free(s->second_view);
}

/* The reference's forward of one view through both nets, keeping p and z. */
static int reference_view(struct step *s, int view) {
    const double *input = view ? s->second_view : NULL;
    struct ref *student = &s->student.ref, *teacher = &s->teacher.ref;
    size_t n = ref_edge_size(student, 0);
    if (input) {
        memcpy(student->edge[0], input, n * sizeof(double));
    }
    memcpy(teacher->edge[0], student->edge[0], n * sizeof(double));
    ref_forward(student, s->student.ref_params, s->student.ref_stats, 1);
    ref_forward(teacher, s->teacher.ref_params, NULL, 1);
    s->p[view] = copy_of(student->edge[student->n_nodes], BATCH * DIM);
    s->z[view] = copy_of(teacher->edge[teacher->n_nodes], BATCH * DIM);
    s->g[view] = lk_calloc(BATCH * DIM, sizeof(double));
    return s->p[view] && s->z[view] && s->g[view] ? 0 : -1;
}

/* Both views forward on the device: view 1, then view 2, as running statistics want it. */
static int device_forward(struct step *s) {
    const struct lk_net *net = &s->net;
    int rc;
    (void)((rc = lk_walk_forward(ops, net, net->n_nodes, LK_TRAIN, s->student.pass, s->student.d_stats, 1)) ||
           (rc = lk_walk_forward(ops, net, net->teacher_nodes, LK_FORWARD, s->teacher.pass, NULL, 1)) ||
           (rc = lk_walk_forward(ops, net, net->n_nodes, LK_TRAIN, s->student2, s->student.d_stats, 1)) ||
           (rc = lk_walk_forward(ops, net, net->teacher_nodes, LK_FORWARD, s->teacher2, NULL, 1)));
    return rc;
}

static double spread_of(const double *z) {
    double total = 0.0;
    for (int j = 0; j < DIM; j++) {
        double mean = 0.0, var = 0.0, unit[BATCH];
        for (int i = 0; i < BATCH; i++) {
            double norm = 0.0;
            for (int k = 0; k < DIM; k++) {
                norm += z[i * DIM + k] * z[i * DIM + k];
            }
            unit[i] = z[i * DIM + j] / sqrt(norm);
            mean += unit[i] / BATCH;
        }
        for (int i = 0; i < BATCH; i++) {
            var += (unit[i] - mean) * (unit[i] - mean);
        }
        total += sqrt(var / (BATCH - 1));
    }
    return total / DIM;
}

static void run(int bn, enum lk_precision precision, double value_limit, double gradient_limit) {
    const double scale = 0.25;
    struct step s;
    struct lk_byol_stats stats;
    const char *where = "";
    if (!ops->supports(b, precision)) {
        lk_skip("this device has no such precision");
        return;
    }
    if (!LK_CHECK_INT(open_step(&s, bn, precision), 0) || !LK_CHECK_INT(device_forward(&s), 0)) {
        close_step(&s);
        return;
    }
    LK_CHECK_INT(ops->byol_loss(s.student.pass, s.student2, s.teacher.pass, s.teacher2, (float)scale, 3), 0);
    LK_CHECK_INT(ops->byol_stats(b, 3, &stats), 0);
    const struct lk_net *net = &s.net;
    LK_CHECK_INT(lk_walk_backward(ops, net, net->n_nodes, s.student.pass, s.student.d_grads, 1), 0);
    LK_CHECK_INT(lk_walk_backward(ops, net, net->n_nodes, s.student2, s.student.d_grads, 1), 0);
    LK_CHECK_INT(ops->download(b, s.student.grads, s.student.d_grads, net->n_params * sizeof(float)), 0);

    /* The reference has one set of activations: view 1, view 2, view 2's backward, view 1 again, its backward. */
    double *first = copy_of(s.student.ref.edge[0], ref_edge_size(&s.student.ref, 0));
    struct ref *r = &s.student.ref;
    if (LK_CHECK(first != NULL) && LK_CHECK_INT(reference_view(&s, 0), 0) && LK_CHECK_INT(reference_view(&s, 1), 0)) {
        double loss = ref_byol(s.p[0], s.p[1], s.z[0], s.z[1], BATCH, DIM, scale, s.g[0], s.g[1]);
        memcpy(r->gradient[r->n_nodes], s.g[1], BATCH * DIM * sizeof(double));
        ref_backward(r, s.student.ref_params, s.student.ref_grads);
        memcpy(r->edge[0], first, ref_edge_size(r, 0) * sizeof(double));
        ref_forward(r, s.student.ref_params, NULL, 1);
        memcpy(r->gradient[r->n_nodes], s.g[0], BATCH * DIM * sizeof(double));
        ref_backward(r, s.student.ref_params, s.student.ref_grads);
        LK_CHECK_NEAR((double)stats.loss, loss, value_limit * loss);
        LK_CHECK_NEAR((double)stats.projection_std, spread_of(s.z[0]), value_limit * spread_of(s.z[0]));
        LK_CHECK_INT(stats.finite, 1);
        LK_CHECK_NEAR(harness_stat_error(&s.student, &where), 0.0, value_limit);
        if (precision == LK_BF16) { /* 20 layers of rounding flip ReLUs: single tensors say little */
            LK_CHECK_NEAR(harness_total_error(&s.student), 0.0, gradient_limit);
        } else if (!LK_CHECK_NEAR(harness_grad_error(&s.student, &where), 0.0, gradient_limit)) {
            printf("tensor %s\n", where);
        }
    }
    free(first);
    close_step(&s);
}

static void with_batch_norm_in_the_heads_in_fp32(void) { run(1, LK_FP32, 1e-5, 1e-3); }
static void without_batch_norm_in_the_heads_in_fp32(void) { run(0, LK_FP32, 1e-5, 1e-3); }
static void the_loss_in_bf16(void) { run(1, LK_BF16, 2e-2, 0.5); }

static void a_broken_step_is_reported(void) {
    struct step s;
    struct lk_byol_stats stats = {.finite = 1};
    if (LK_CHECK_INT(open_step(&s, 1, LK_FP32), 0)) {
        s.view2[5] = NAN;
        LK_CHECK_INT(ops->input_f32(s.student2, s.view2), 0);
        LK_CHECK_INT(device_forward(&s), 0);
        LK_CHECK_INT(ops->byol_loss(s.student.pass, s.student2, s.teacher.pass, s.teacher2, 1.0f, 0), 0);
        LK_CHECK_INT(ops->byol_stats(b, 0, &stats), 0);
        LK_CHECK_INT(stats.finite, 0);
        LK_CHECK_INT(ops->byol_stats(b, LK_LOSS_RING, &stats), LK_EINVAL);
        LK_CHECK_INT(ops->byol_loss(s.student.pass, s.student.pass, s.teacher.pass, s.teacher2, 1.0f, 0), LK_EINVAL);
    }
    close_step(&s);
}

int main(int argc, char **argv) {
    static const struct lk_case cases[] = {LK_CASE(with_batch_norm_in_the_heads_in_fp32),
                                           LK_CASE(without_batch_norm_in_the_heads_in_fp32), LK_CASE(the_loss_in_bf16),
                                           LK_CASE(a_broken_step_is_reported)};
    int status = test_device_open(&b, NULL, cases, sizeof cases / sizeof *cases);
    if (status) {
        return status;
    }
    ops = lk_ops(b);
    status = lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
    ops->close(b);
    return status;
}
