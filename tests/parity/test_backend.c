/* Does a backend keep the promises of model/backend.h that are about more than one block? Whole nets, what purposes have
 * in common, sharing, inputs and outputs, errors, repeatability. LK_TEST_DEVICE names the device (default "cpu"). */
#include "check.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/spin.h"
#include "bench.h"
#include "device.h"
#include "harness.h"
#include "model/walk.h"

static struct lk_backend *b;
static const struct lk_backend_ops *ops;

static const struct lk_arch small = {18, 16, LK_STEM_CIFAR, 32};
static const struct lk_heads heads = {64, 64, 32, 1, 1};

static int open_small(struct lk_net *net, struct harness *h, int nodes, int batch, enum lk_purpose purpose) {
    memset(h, 0, sizeof *h);
    if (!LK_CHECK_INT(lk_net_build(net, &small, &heads), 0)) {
        return -1;
    }
    return harness_open(h, b, net, nodes ? nodes : net->n_nodes, batch, LK_FP32, purpose, 5);
}

static void close_small(struct lk_net *net, struct harness *h) {
    harness_close(h);
    lk_net_free(net);
}

/* All networks that the product builds, in evaluation mode, as the server runs them. */
static void whole_nets_in_inference_equal_evaluation_mode(void) {
    static const struct lk_arch archs[] = {{18, 16, LK_STEM_CIFAR, 32},
                                           {18, 8, LK_STEM_CIFAR, 33},
                                           {34, 24, LK_STEM_IMAGENET, 40},
                                           {50, 8, LK_STEM_IMAGENET, 65}};
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        for (int p = 0; p < 2; p++) {
            enum lk_precision precision = p ? LK_BF16 : LK_FP32;
            struct lk_net net;
            struct harness h = {0};
            if (!ops->supports(b, precision) || !LK_CHECK_INT(lk_net_build(&net, &archs[i], NULL), 0)) {
                continue;
            }
            LK_CHECK(!harness_open(&h, b, &net, net.n_nodes, 2, precision, LK_INFERENCE, 5) &&
                     !harness_forward(&h, 1) &&
                     LK_CHECK_NEAR(harness_edge_error(&h, net.n_nodes), 0.0, p ? 3e-2 : 1e-5));
            close_small(&net, &h);
        }
    }
}

/* Small pictures would leave the last stage few rows to normalise, and then rounding alone moves gradients. */
static void a_whole_net_trains_like_the_reference(void) {
    struct lk_net net;
    struct harness h;
    const char *where = "";
    if (LK_CHECK_INT(open_small(&net, &h, 0, 8, LK_TRAIN), 0) && LK_CHECK_INT(harness_forward(&h, 1), 0) &&
        LK_CHECK_INT(harness_backward(&h, 1), 0)) {
        LK_CHECK_NEAR(harness_edge_error(&h, net.n_nodes), 0.0, 1e-4);
        LK_CHECK_NEAR(harness_stat_error(&h, &where), 0.0, 1e-5);
        if (!LK_CHECK_NEAR(harness_grad_error(&h, &where), 0.0, 1e-3)) {
            printf("tensor %s\n", where);
        }
    }
    close_small(&net, &h);
}

static void forward_only_gives_the_bits_of_training(void) {
    struct lk_net net;
    struct harness h[2];
    float out[2][3 * 32];
    for (int i = 0; i < 2; i++) {
        if (LK_CHECK_INT(open_small(&net, &h[i], 0, 3, i ? LK_FORWARD : LK_TRAIN), 0) &&
            LK_CHECK_INT(harness_forward(&h[i], 1), 0)) {
            LK_CHECK_INT(ops->output(h[i].pass, net.n_nodes, 3, 0, out[i]), 0);
        }
        close_small(&net, &h[i]);
    }
    LK_CHECK(!memcmp(out[0], out[1], sizeof out[0]));
}

static void optional_entries_agree_with_the_default_walk(void) {
    if (!ops->forward && !ops->backward) {
        return; /* nothing to hold against it */
    }
    struct lk_net net;
    struct harness h[2];
    const char *where = "";
    for (int i = 0; i < 2; i++) {
        if (LK_CHECK_INT(open_small(&net, &h[i], 0, 8, LK_TRAIN), 0) && LK_CHECK_INT(harness_forward(&h[i], i), 0) &&
            LK_CHECK_INT(harness_backward(&h[i], i), 0)) {
            LK_CHECK_NEAR(harness_grad_error(&h[i], &where), 0.0, 1e-3);
        }
        close_small(&net, &h[i]);
    }
}

/* What a resumed run needs: the same calls give the same bits. */
static void the_same_step_twice_gives_the_same_bits(void) {
    struct lk_net net[2];
    struct harness h[2];
    int good = 1;
    for (int i = 0; i < 2; i++) {
        good &= LK_CHECK_INT(open_small(&net[i], &h[i], 0, 5, LK_TRAIN), 0) &&
                LK_CHECK_INT(harness_forward(&h[i], 1), 0) && LK_CHECK_INT(harness_backward(&h[i], 1), 0);
        good &= good && harness_stat_error(&h[i], NULL) < 1.0; /* downloads them */
    }
    if (LK_CHECK(good)) {
        LK_CHECK(!memcmp(h[0].grads, h[1].grads, net[0].n_params * sizeof(float)));
        LK_CHECK(!memcmp(h[0].stats, h[1].stats, net[0].n_stats * sizeof(float)));
    }
    close_small(&net[0], &h[0]);
    close_small(&net[1], &h[1]);
}

/* Two views: gradients of two passes add up, and one pass's activations do not touch the other's. */
static void gradients_of_two_passes_add_up(void) {
    struct lk_net net;
    struct harness h;
    struct lk_pass *second = NULL;
    if (!LK_CHECK_INT(open_small(&net, &h, 0, 4, LK_TRAIN), 0)) {
        return;
    }
    size_t bytes = net.n_params * sizeof(float), n = (size_t)h.batch * 32;
    float *once = lk_calloc(net.n_params, sizeof *once), *gradient = NULL;
    if (LK_CHECK(once != NULL) && LK_CHECK_INT(ops->pass(h.plan, &second), 0) &&
        LK_CHECK_INT(ops->input_f32(second, h.input), 0) && LK_CHECK_INT(harness_forward(&h, 1), 0) &&
        LK_CHECK_INT(lk_walk_forward(ops, &net, net.n_nodes, LK_TRAIN, second, NULL, 1), 0) &&
        LK_CHECK_INT(harness_backward(&h, 1), 0)) {
        memcpy(once, h.grads, bytes);
        LK_CHECK_INT(ops->alloc(b, n * sizeof(float), (void **)&gradient), 0);
        LK_CHECK_INT(ops->upload(b, gradient, h.out_gradient, n * sizeof(float)), 0);
        LK_CHECK_INT(ops->output_gradient(second, net.n_nodes, gradient), 0);
        LK_CHECK_INT(lk_walk_backward(ops, &net, net.n_nodes, second, h.d_grads, 1), 0);
        LK_CHECK_INT(ops->download(b, h.grads, h.d_grads, bytes), 0);
        double worst = 0.0;
        for (size_t i = 0; i < net.n_params; i++) {
            double error = fabs((double)h.grads[i] - 2.0 * (double)once[i]);
            worst = error > worst ? error : worst;
        }
        LK_CHECK_NEAR(worst, 0.0, 1e-4);
    }
    free(once);
    ops->free(b, gradient);
    ops->pass_free(second);
    close_small(&net, &h);
}

/* One set_weights on the first of these plans serves all, and each gives a picture the vector of a plan of its own: with
 * weights that were set before the others existed, and with others that were set after. Batch statistics make a vector
 * depend on its batch, so that in LK_FORWARD only plans of eight compare. */
static void share_weights(enum lk_purpose purpose, const int batches[5]) {
    enum { ROW = 128 };
    struct lk_net net;
    struct harness h[2] = {{0}};
    struct lk_plan *plans[5] = {0};
    struct lk_pass *pass = NULL;
    float want[2][8 * ROW], got[8 * ROW];
    if (!LK_CHECK_INT(lk_net_build(&net, &small, NULL), 0)) {
        return;
    }
    int good = 1;
    for (int i = 0; i < 2 && good; i++) {
        good = LK_CHECK_INT(harness_open(&h[i], b, &net, net.n_nodes, 8, LK_FP32, purpose, 5 + (uint64_t)i), 0) &&
               LK_CHECK_INT(ops->input_f32(h[i].pass, h[0].input), 0) &&
               LK_CHECK_INT(lk_walk_forward(ops, &net, net.n_nodes, purpose, h[i].pass, NULL, 1), 0) &&
               LK_CHECK_INT(ops->output(h[i].pass, net.n_nodes, 8, 1, want[i]), 0);
    }
    for (int i = 0; i < 5 && good; i++) {
        good = LK_CHECK_INT(ops->plan(b, &net, net.n_nodes, batches[i], LK_FP32, purpose, plans[0], &plans[i]), 0) &&
               (i > 0 || LK_CHECK_INT(ops->set_weights(plans[0], h[0].d_params, h[0].d_stats), 0));
    }
    for (int i = 0; i < 10 && good; i++) {
        int round = i / 5, batch = batches[i % 5];
        if (i == 5) {
            LK_CHECK_INT(ops->set_weights(plans[0], h[1].d_params, h[1].d_stats), 0);
        }
        if ((purpose == LK_FORWARD && batch != 8) || !LK_CHECK_INT(ops->pass(plans[i % 5], &pass), 0)) {
            continue;
        }
        LK_CHECK_INT(ops->input_f32(pass, h[0].input), 0);
        LK_CHECK_INT(lk_walk_forward(ops, &net, net.n_nodes, purpose, pass, NULL, 1), 0);
        LK_CHECK_INT(ops->output(pass, net.n_nodes, batch, 1, got), 0);
        double worst = 0.0;
        for (int j = 0; j < batch * ROW; j++) {
            worst = fmax(worst, fabs((double)got[j] - (double)want[round][j]));
        }
        LK_CHECK_NEAR(worst, 0.0, purpose == LK_FORWARD ? 1e-5 : 1e-6);
        ops->pass_free(pass);
    }
    for (int i = 4; i >= 0; i--) {
        ops->plan_free(plans[i]);
    }
    harness_close(&h[0]);
    close_small(&net, &h[1]);
}

/* Buckets of an engine, the widest first. A plan of one picture as the first lacks what the wider ones compute with. */
static void plans_of_other_batches_share_weights(void) {
    share_weights(LK_INFERENCE, (const int[]){8, 1, 2, 3, 4});
    share_weights(LK_INFERENCE, (const int[]){1, 8, 2, 3, 4});
    share_weights(LK_FORWARD, (const int[]){1, 8, 8, 1, 8});
}

static void pictures_are_normalised_and_a_short_batch_is_zero(void) {
    static const float mean[3] = {0.4f, 0.5f, 0.6f}, std[3] = {0.2f, 0.25f, 0.3f};
    struct lk_net net;
    struct harness h;
    if (!LK_CHECK_INT(open_small(&net, &h, 1, 3, LK_TRAIN), 0)) {
        return;
    }
    enum { AREA = 32 * 32 };
    uint8_t *pixels = lk_calloc(2 * 3 * AREA, 1);
    float *chw = lk_calloc(3 * 3 * AREA, sizeof *chw);
    if (LK_CHECK(pixels && chw)) {
        for (int i = 0; i < 2 * 3 * AREA; i++) {
            pixels[i] = (uint8_t)(i * 7 % 256);
        }
        LK_CHECK_INT(ops->input_u8(h.pass, pixels, 2, mean, std), 0);
        LK_CHECK_INT(ops->output(h.pass, 0, 3, 0, chw), 0);
        double worst = 0.0;
        for (int i = 0; i < 3; i++) {
            for (int c = 0; c < 3; c++) {
                for (int p = 0; p < AREA; p++) {
                    double x = i < 2
                                   ? ((double)pixels[(i * AREA + p) * 3 + c] / 255.0 - (double)mean[c]) / (double)std[c]
                                   : 0.0;
                    worst = fmax(worst, fabs((double)chw[(i * 3 + c) * AREA + p] - x));
                }
            }
        }
        LK_CHECK_NEAR(worst, 0.0, 1e-6);
        LK_CHECK_INT(ops->input_u8(h.pass, pixels, 4, mean, std), LK_EINVAL);
    }
    free(pixels);
    free(chw);
    close_small(&net, &h);
}

static void random_views_reach_the_net_as_the_augmentation_made_them(void) {
    struct lk_net net;
    struct harness h;
    if (!LK_CHECK_INT(open_small(&net, &h, 1, 3, LK_TRAIN), 0)) {
        return;
    }
    enum { N = 3 * 32 * 32 };
    struct lk_augment a = lk_augment_default(32);
    uint8_t *pixels = lk_calloc(40 * 50 * 3, 1);
    float *want = lk_calloc(N, sizeof *want), *got = lk_calloc(3 * N, sizeof *got);
    float *scratch = lk_calloc(lk_augment_scratch(&a) + 1, sizeof *scratch);
    if (LK_CHECK(pixels && want && got && scratch)) {
        for (int i = 0; i < 40 * 50 * 3; i++) {
            pixels[i] = (uint8_t)(i * 31 % 256);
        }
        void *resident = NULL; /* as a backend may want them: in one array of its own memory */
        LK_CHECK_INT(ops->alloc(b, 40 * 50 * 3, &resident), 0);
        LK_CHECK_INT(ops->upload(b, resident, pixels, 40 * 50 * 3), 0);
        const uint8_t *on = resident;
        const uint8_t *const each[3] = {on, on + 30, on + 60};
        const int widths[3] = {40, 32, 36}, heights[3] = {49, 32, 20};
        const uint64_t ids[3] = {7, 5000000000u, 9};
        LK_CHECK_INT(ops->augment(h.pass, &a, 42, 3, 1, each, widths, heights, ids), 0);
        LK_CHECK_INT(ops->output(h.pass, 0, 3, 0, got), 0);
        for (int i = 0; i < 3; i++) {
            lk_augment_view(want, pixels + (each[i] - on), widths[i], heights[i], &a, 42, 3, ids[i], 1, scratch);
            LK_CHECK(!memcmp(want, got + i * N, N * sizeof *want));
        }
        a.size = 16;
        LK_CHECK_INT(ops->augment(h.pass, &a, 42, 3, 1, each, widths, heights, ids), LK_EINVAL);
        ops->free(b, resident);
    }
    free(pixels);
    free(want);
    free(got);
    free(scratch);
    close_small(&net, &h);
}

/* What the first 21 nodes make of the pass's input. */
static int features(const struct lk_net *net, const struct harness *h, float *out) {
    int rc = lk_walk_forward(ops, net, 21, LK_FORWARD, h->pass, NULL, 1);
    return rc ? rc : ops->output(h->pass, 21, 3, 0, out);
}

/* Where a backend can hand an input on: the teacher's pass gets the student's, and nothing else is taken for it. */
static void an_input_comes_from_another_pass_unchanged(void) {
    struct lk_net net[3] = {{0}};
    struct harness student = {0}, teacher = {0}, fewer = {0};
    if (ops->input_from == NULL) {
        lk_skip("this backend makes every view anew");
        return;
    }
    enum { N = 3 * 32 * 32 };
    float *input = lk_calloc(3 * N, sizeof *input), *zeros = lk_calloc(3 * N, sizeof *zeros);
    float want[3 * 512], other[3 * 512], got[3 * 512];
    if (LK_CHECK_INT(open_small(&net[0], &student, 0, 3, LK_TRAIN), 0) &&
        LK_CHECK_INT(open_small(&net[1], &teacher, 21, 3, LK_FORWARD), 0) &&
        LK_CHECK_INT(open_small(&net[2], &fewer, 21, 2, LK_FORWARD), 0) && LK_CHECK(input && zeros) &&
        LK_CHECK((size_t)net[1].nodes[20].out_c * 3 <= sizeof want / sizeof *want)) {
        size_t n = (size_t)net[1].nodes[20].out_c * 3;
        for (int i = 0; i < 3 * N; i++) {
            input[i] = (float)(i % 101) / 7.0f;
        }
        LK_CHECK_INT(ops->input_f32(teacher.pass, input), 0);
        LK_CHECK_INT(features(&net[1], &teacher, want), 0);
        LK_CHECK_INT(ops->input_f32(teacher.pass, zeros), 0);
        LK_CHECK_INT(features(&net[1], &teacher, other), 0);
        LK_CHECK(memcmp(want, other, n * sizeof *want) != 0);
        LK_CHECK_INT(ops->input_f32(student.pass, input), 0);
        LK_CHECK_INT(ops->input_from(teacher.pass, student.pass), 0);
        LK_CHECK_INT(features(&net[1], &teacher, got), 0);
        LK_CHECK(!memcmp(want, got, n * sizeof *want));
        LK_CHECK_INT(ops->input_from(fewer.pass, student.pass), LK_EINVAL);
        LK_CHECK_INT(ops->input_from(student.pass, teacher.pass), LK_EINVAL); /* which keeps nothing */
    }
    free(input);
    free(zeros);
    close_small(&net[0], &student);
    close_small(&net[1], &teacher);
    close_small(&net[2], &fewer);
}

static void rows_have_unit_length_on_request_and_zero_rows_stay(void) {
    struct lk_net net;
    struct harness h;
    float out[2 * 128];
    if (LK_CHECK_INT(open_small(&net, &h, 21, 2, LK_INFERENCE), 0) && LK_CHECK_INT(harness_forward(&h, 1), 0)) {
        LK_CHECK_INT(ops->output(h.pass, 21, 2, 1, out), 0);
        for (int i = 0; i < 2; i++) {
            double sum = 0.0;
            for (int j = 0; j < 128; j++) {
                sum += (double)out[i * 128 + j] * (double)out[i * 128 + j];
            }
            LK_CHECK_NEAR(sum, 1.0, 1e-6);
        }
        memset(h.params, 0, net.n_params * sizeof(float)); /* a net of zeros */
        LK_CHECK_INT(ops->upload(b, h.d_params, h.params, net.n_params * sizeof(float)), 0);
        LK_CHECK_INT(ops->set_weights(h.plan, h.d_params, h.d_stats), 0);
        LK_CHECK_INT(ops->input_f32(h.pass, h.input), 0);
        LK_CHECK_INT(lk_walk_forward(ops, &net, 21, LK_INFERENCE, h.pass, NULL, 1), 0);
        LK_CHECK_INT(ops->output(h.pass, 21, 2, 1, out), 0);
        for (int j = 0; j < 2 * 128; j++) {
            LK_CHECK_NEAR((double)out[j], 0.0, 0.0);
        }
    }
    close_small(&net, &h);
}

static void wrong_arguments_are_refused(void) {
    struct lk_net net;
    struct harness h;
    struct lk_plan *plan = NULL;
    float x[64];
    if (!LK_CHECK_INT(open_small(&net, &h, 0, 2, LK_FORWARD), 0)) {
        return;
    }
    LK_CHECK_INT(ops->plan(b, &net, net.n_nodes + 1, 2, LK_FP32, LK_TRAIN, NULL, &plan), LK_EINVAL);
    LK_CHECK_INT(ops->plan(b, &net, net.n_nodes, 0, LK_FP32, LK_TRAIN, NULL, &plan), LK_EINVAL);
    LK_CHECK_INT(ops->plan(b, &net, net.n_nodes, 2, LK_FP32, LK_TRAIN, h.plan, &plan), LK_EINVAL); /* another purpose */
    LK_CHECK(plan == NULL);
    LK_CHECK_INT(ops->output(h.pass, 3, 2, 0, x), LK_EINVAL); /* not kept by a forward plan */
    LK_CHECK_INT(ops->output_gradient(h.pass, net.n_nodes, x), LK_EINVAL);
    if (!ops->supports(b, LK_FP16)) {
        LK_CHECK_INT(ops->plan(b, &net, net.n_nodes, 2, LK_FP16, LK_TRAIN, NULL, &plan), LK_EUNSUPPORTED);
    }
    ops->plan_free(NULL);
    ops->free(b, NULL);
    close_small(&net, &h);
}

static void a_device_is_named_or_refused_in_words(void) {
    struct lk_backend *other = NULL;
    struct lk_backend_info info;
    ops->info(b, &info);
    LK_CHECK(info.device[0] && info.library[0] && info.threads > 0);
    LK_CHECK(ops->supports(b, info.best));
    LK_CHECK_INT(lk_device_open(&other, "tpu", NULL), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "tpu");
    LK_CHECK_INT(lk_device_open(&other, "cpu:x", NULL), LK_EINVAL);
    LK_CHECK_INT(lk_device_open(&other, "cpu:1", NULL), LK_EINVAL);
    LK_CHECK(other == NULL);
    if (LK_CHECK_INT(lk_device_open(&other, "auto", NULL), 0)) {
        lk_ops(other)->close(other);
    }
}

int main(int argc, char **argv) {
    lk_spin_limit(argv);
    static const struct lk_case cases[] = {LK_CASE(whole_nets_in_inference_equal_evaluation_mode),
                                           LK_CASE(a_whole_net_trains_like_the_reference),
                                           LK_CASE(forward_only_gives_the_bits_of_training),
                                           LK_CASE(optional_entries_agree_with_the_default_walk),
                                           LK_CASE(the_same_step_twice_gives_the_same_bits),
                                           LK_CASE(gradients_of_two_passes_add_up),
                                           LK_CASE(plans_of_other_batches_share_weights),
                                           LK_CASE(pictures_are_normalised_and_a_short_batch_is_zero),
                                           LK_CASE(random_views_reach_the_net_as_the_augmentation_made_them),
                                           LK_CASE(an_input_comes_from_another_pass_unchanged),
                                           LK_CASE(rows_have_unit_length_on_request_and_zero_rows_stay),
                                           LK_CASE(wrong_arguments_are_refused),
                                           LK_CASE(a_device_is_named_or_refused_in_words)};
    const char *threads = getenv("LK_TEST_THREADS");
    struct lk_backend_options options = {.threads = threads ? atoi(threads) : 0};
    int status = test_device_open(&b, &options, cases, sizeof cases / sizeof *cases);
    if (status) {
        return status;
    }
    ops = lk_ops(b);
    int timing = argc > 1 && !strcmp(argv[1], "--bench");
    status = timing ? bench_run(b, argc - 2, argv + 2) : lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
    ops->close(b);
    return status;
}
