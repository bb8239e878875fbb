/* Has the server's engine two batches on their way on a GPU, of one size or two, each with its own vectors and without
 * waiting? On the emulated device, whose work runs when somebody waits. */
#include "check.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "server/engine.h"
#include "stream.h"

enum { SIDE = 8, MOST = 4, PICTURE = SIDE * SIDE * 3, DIM = 64 };

static struct lk_engine *engine;

static int open_engine(void) {
    static const float mean[3] = {.5f, .5f, .5f}, std[3] = {.25f, .25f, .25f};
    const struct lk_arch arch = {18, 8, LK_STEM_CIFAR, SIDE};
    const struct lk_engine_options options = {.device = "cuda:0", .precision = "fp32", .max_batch = MOST};
    struct lk_net net;
    char path[] = "/tmp/likeness-engine-XXXXXX";
    int fd = mkstemp(path), rc = fd < 0 ? LK_EFAIL : lk_net_build(&net, &arch, NULL);
    if (rc)
        return rc;
    close(fd);
    float *params = lk_calloc(net.n_params, sizeof *params), *stats = lk_calloc(net.n_stats, sizeof *stats);
    rc = params && stats ? 0 : LK_ENOMEM;
    if (rc == 0) {
        lk_net_init(&net, 2, params, stats);
        (void)((rc = lk_model_save(path, &arch, &net, params, stats, mean, std, "n", "none", LK_DTYPE_F32, NULL, NULL,
                                   0)) ||
               (rc = lk_engine_open(&engine, path, &options)));
    }
    free(params);
    free(stats);
    lk_net_free(&net);
    unlink(path);
    return rc;
}

static void draw(uint8_t *pixels, int count, uint32_t state) {
    for (int i = 0; i < count * PICTURE; i++)
        pixels[i] = (uint8_t)((state = state * 1664525u + 1013904223u) >> 24);
}

/* Batches of `sizes`, one behind the other, against each alone. */
static void check_pair(const int sizes[2]) {
    static uint8_t pixels[MOST * PICTURE];
    static float want[2][MOST * DIM], got[2][MOST * DIM];
    memset(want, 0, sizeof want);
    memset(got, 0, sizeof got);
    for (uint32_t i = 0; i < 2; i++) {
        draw(pixels, sizes[i], i + 1);
        LK_REQUIRE(lk_engine_embed(engine, pixels, sizes[i], want[i]) == 0);
    }
    size_t waits = lk_emulated_waits();
    for (uint32_t i = 0; i < 2; i++) {
        draw(pixels, sizes[i], i + 1); /* over the other's, which were taken over */
        LK_REQUIRE(lk_engine_begin(engine, pixels, sizes[i]) == 0);
    }
    LK_CHECK_INT(lk_emulated_waits() - waits, 0);
    LK_CHECK_INT(lk_engine_begin(engine, pixels, 1), LK_EBUSY);
    for (int i = 0; i < 2; i++)
        LK_CHECK_INT(lk_engine_end(engine, got[i]), 0);
    LK_CHECK_INT(lk_engine_end(engine, got[0]), LK_EINVAL);
    LK_CHECK(memcmp(want, got, sizeof want) == 0);
    LK_CHECK(memcmp(want[0], want[1], DIM * sizeof(float)) != 0);
}

static void two_batches_are_on_their_way_whatever_their_sizes(void) {
    static const int sizes[][2] = {{4, 4}, {4, 1}, {1, 4}, {3, 2}, {1, 1}};
    LK_REQUIRE(open_engine() == 0);
    LK_CHECK_INT(lk_engine_slots(engine), 2);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        check_pair(sizes[i]);
    lk_engine_close(engine);
}

static void a_device_that_fails_takes_no_batch_any_more(void) {
    static uint8_t pixels[PICTURE];
    static float first[DIM], got[DIM];
    LK_REQUIRE(open_engine() == 0);
    draw(pixels, 1, 5);
    LK_REQUIRE(lk_engine_embed(engine, pixels, 1, first) == 0);
    LK_REQUIRE(lk_engine_begin(engine, pixels, 1) == 0);
    lk_emulated_refuse("cudaGraphLaunch");
    LK_CHECK_INT(lk_engine_begin(engine, pixels, 1), LK_EFAIL);
    lk_emulated_refuse(NULL);
    LK_CHECK_INT(lk_engine_end(engine, got), 0); /* which had begun */
    LK_CHECK(memcmp(first, got, sizeof got) == 0);
    LK_CHECK_INT(lk_engine_begin(engine, pixels, 1), LK_EFAIL);
    LK_CHECK_HOLDS(lk_error(), "out of service: CUDA");
    lk_engine_close(engine);
}

int main(int argc, char **argv) {
    static const struct lk_case cases[] = {
        LK_CASE(two_batches_are_on_their_way_whatever_their_sizes),
        LK_CASE(a_device_that_fails_takes_no_batch_any_more),
    };
    return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
}
