/* Does a batch of pictures in one piece (embed_begin, embed_end) give the vectors of input_u8, forward and output, bit for
 * bit, while two are on their way and everything that may change does? On the emulated device, whose work runs when
 * somebody waits. */
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "model/walk.h"
#include "stream.h"

enum { SIDE = 8, BATCH = 4, PICTURE = SIDE * SIDE * 3, DIM = 64 };

struct nets {
    struct lk_backend *device;
    const struct lk_backend_ops *ops;
    struct lk_net net;
    float *params, *stats; /* device arenas */
    struct lk_plan *plan;
    struct lk_pass *pass, *plain;
};

static float mean[3], std[3];

static int upload_weights(struct nets *n, uint64_t seed) {
    float *params = lk_calloc(n->net.n_params, sizeof *params), *stats = lk_calloc(n->net.n_stats, sizeof *stats);
    int rc = params && stats ? 0 : LK_ENOMEM;
    if (rc == 0) {
        lk_net_init(&n->net, seed, params, stats);
        (void)((rc = n->ops->upload(n->device, n->params, params, n->net.n_params * sizeof *params)) ||
               (rc = n->ops->upload(n->device, n->stats, stats, n->net.n_stats * sizeof *stats)) ||
               (rc = n->ops->set_weights(n->plan, n->params, n->stats)));
    }
    free(params);
    free(stats);
    return rc;
}

static int open_nets(struct nets *n) {
    static const struct lk_arch arch = {18, 8, LK_STEM_CIFAR, SIDE};
    int rc;
    memset(n, 0, sizeof *n);
    for (int c = 0; c < 3; c++)
        mean[c] = 0.4f + 0.05f * (float)c, std[c] = 0.2f + 0.01f * (float)c;
    if ((rc = lk_device_open(&n->device, "cuda:0", NULL)))
        return rc;
    n->ops = lk_ops(n->device);
    if ((rc = lk_net_build(&n->net, &arch, NULL)) ||
        (rc = n->ops->alloc(n->device, n->net.n_params * sizeof(float), (void **)&n->params)) ||
        (rc = n->ops->alloc(n->device, n->net.n_stats * sizeof(float), (void **)&n->stats)) ||
        (rc = n->ops->plan(n->device, &n->net, n->net.n_nodes, BATCH, LK_FP32, LK_INFERENCE, NULL, &n->plan)) ||
        (rc = upload_weights(n, 1)) || (rc = n->ops->pass(n->plan, &n->pass)))
        return rc;
    return n->ops->pass(n->plan, &n->plain);
}

static void close_nets(struct nets *n) {
    n->ops->pass_free(n->pass);
    n->ops->pass_free(n->plain);
    n->ops->plan_free(n->plan);
    n->ops->free(n->device, n->params);
    n->ops->free(n->device, n->stats);
    lk_net_free(&n->net);
    n->ops->close(n->device);
}

static void draw(uint8_t *pixels, int count, uint32_t state) {
    for (int i = 0; i < count * PICTURE; i++)
        pixels[i] = (uint8_t)((state = state * 1664525u + 1013904223u) >> 24);
}

/* Call by call. */
static int expect(struct nets *n, const uint8_t *pixels, int count, float *out) {
    int rc = n->ops->input_u8(n->plain, pixels, count, mean, std);
    if (rc || (rc = lk_walk_forward(n->ops, &n->net, n->net.n_nodes, LK_INFERENCE, n->plain, NULL, 1)))
        return rc;
    return n->ops->output(n->plain, n->net.n_nodes, count, 1, out);
}

static void check_batch(struct nets *n, int count, uint32_t seed) {
    static uint8_t pixels[BATCH * PICTURE];
    static float want[BATCH * DIM], got[BATCH * DIM];
    size_t bytes = (size_t)count * DIM * sizeof(float);
    double length = 0;
    draw(pixels, count, seed);
    memset(got, 0, sizeof got);
    LK_REQUIRE(expect(n, pixels, count, want) == 0);
    LK_REQUIRE(n->ops->embed_begin(n->pass, pixels, count, mean, std, NULL) == 0);
    LK_REQUIRE(n->ops->embed_end(n->pass, got) == 0);
    LK_CHECK(memcmp(want, got, bytes) == 0);
    for (int i = 0; i < DIM; i++)
        length += (double)got[i] * (double)got[i];
    LK_CHECK_NEAR(length, 1, 1e-5);
    for (size_t i = (size_t)count * DIM; i < BATCH * DIM; i++)
        LK_CHECK(got[i] == 0);
}

static void batches_in_one_piece_equal_their_calls_and_are_one_launch(void) {
    struct nets n;
    LK_REQUIRE(open_nets(&n) == 0);
    LK_REQUIRE(n.net.feature_dim == DIM);
    size_t launches = lk_emulated_launches();
    check_batch(&n, BATCH, 1); /* call by call, and then recorded */
    LK_CHECK_INT(lk_emulated_launches() - launches, 0);
    check_batch(&n, 1, 2);
    check_batch(&n, 3, 3);
    LK_CHECK_INT(lk_emulated_launches() - launches, 2);
    close_nets(&n);
}

static void other_weights_and_means_are_followed(void) {
    struct nets n;
    LK_REQUIRE(open_nets(&n) == 0);
    check_batch(&n, 2, 1);
    LK_REQUIRE(upload_weights(&n, 2) == 0);
    check_batch(&n, 2, 1);
    size_t launches = lk_emulated_launches();
    mean[1] = 0.9f;
    check_batch(&n, 2, 1);
    LK_CHECK_INT(lk_emulated_launches() - launches, 0);
    check_batch(&n, 3, 1);
    std[2] = 0.5f;
    check_batch(&n, 3, 1);
    LK_CHECK_INT(lk_emulated_launches() - launches, 1);
    close_nets(&n);
}

static void two_batches_are_on_their_way_and_a_third_is_refused(void) {
    static uint8_t pixels[BATCH * PICTURE];
    static float want[2][BATCH * DIM], got[BATCH * DIM];
    struct nets n;
    LK_REQUIRE(open_nets(&n) == 0);
    LK_CHECK_INT(n.ops->embed_end(n.pass, got), LK_EINVAL);
    for (int i = 0; i < 2; i++) {
        draw(pixels, BATCH - i, (uint32_t)i);
        LK_REQUIRE(expect(&n, pixels, BATCH - i, want[i]) == 0);
    }
    check_batch(&n, 1, 9); /* recorded from here on */
    size_t waits = lk_emulated_waits();
    for (int i = 0; i < 2; i++) {
        draw(pixels, BATCH - i, (uint32_t)i); /* over the other's pictures, which were taken over */
        LK_REQUIRE(n.ops->embed_begin(n.pass, pixels, BATCH - i, mean, std, NULL) == 0);
    }
    LK_CHECK_INT(n.ops->embed_begin(n.pass, pixels, 1, mean, std, NULL), LK_EBUSY);
    LK_CHECK_INT(lk_emulated_waits() - waits, 0);
    for (int i = 0; i < 2; i++) {
        LK_CHECK_INT(n.ops->embed_end(n.pass, got), 0);
        LK_CHECK(memcmp(got, want[i], (size_t)(BATCH - i) * DIM * sizeof(float)) == 0);
    }
    LK_CHECK_INT(n.ops->embed_end(n.pass, got), LK_EINVAL);
    check_batch(&n, 2, 4);
    close_nets(&n);
}

static void what_cannot_be_recorded_runs_call_by_call(void) {
    struct nets n;
    LK_REQUIRE(open_nets(&n) == 0);
    size_t launches = lk_emulated_launches();
    lk_emulated_refuse("cudaGraphInstantiate");
    check_batch(&n, BATCH, 1);
    lk_emulated_refuse(NULL);
    check_batch(&n, 2, 2);
    LK_CHECK_INT(lk_emulated_launches() - launches, 0);
    close_nets(&n);
}

int main(int argc, char **argv) {
    static const struct lk_case cases[] = {
        LK_CASE(batches_in_one_piece_equal_their_calls_and_are_one_launch),
        LK_CASE(other_weights_and_means_are_followed),
        LK_CASE(two_batches_are_on_their_way_and_a_third_is_refused),
        LK_CASE(what_cannot_be_recorded_runs_call_by_call),
    };
    return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
}
