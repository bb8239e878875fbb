/* Does the engine, on the real CPU backend, give each picture the same unit vector in whatever batch it comes? */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/rng.h"
#include "check.h"
#include "server/engine.h"

static char path[] = "/tmp/likeness-engine-XXXXXX";

static int make_model(void) {
    static const float mean[3] = {0.5f, 0.45f, 0.4f}, std[3] = {0.25f, 0.2f, 0.3f};
    struct lk_arch arch = {.depth = 18, .width = 8, .stem = LK_STEM_CIFAR, .image_size = 32};
    struct lk_net net;
    int fd = mkstemp(path);
    if (fd < 0 || lk_net_build(&net, &arch, NULL))
        return -1;
    close(fd);
    float *params = lk_calloc(net.n_params, sizeof *params), *stats = lk_calloc(net.n_stats, sizeof *stats);
    int rc = params && stats ? 0 : -1;
    if (rc == 0) {
        lk_net_init(&net, 3, params, stats);
        rc = lk_model_save(path, &arch, &net, params, stats, mean, std, "n", "none", LK_DTYPE_F32, NULL, NULL, 0);
    }
    free(params);
    free(stats);
    lk_net_free(&net);
    return rc;
}

static void every_batch_size_gives_the_same_vectors(void) {
    struct lk_engine *engine;
    struct lk_engine_options o = {.device = "cpu", .precision = "fp32", .max_batch = 11, .threads = 1};
    LK_REQUIRE(lk_engine_open(&engine, path, &o) == 0);
    LK_CHECK_INT(lk_engine_dim(engine), 64);
    LK_CHECK_INT(lk_engine_side(engine), 32);
    LK_CHECK_INT(lk_engine_max_batch(engine), 11);
    LK_CHECK_STR(lk_engine_precision(engine), "fp32");
    LK_CHECK_STR(lk_engine_precision_class(engine), "f32");
    enum { N = 11, PICTURE = 32 * 32 * 3, DIM = 64 };
    uint8_t *pixels = lk_calloc(N, PICTURE);
    float *all = lk_calloc(N * DIM, sizeof *all), *some = lk_calloc(N * DIM, sizeof *some);
    LK_REQUIRE(pixels && all && some);
    for (uint32_t i = 0; i < N * PICTURE; i++)
        pixels[i] = (uint8_t)(lk_rng(1, i, LK_RNG_TEST, 0, 0).v[0] >> (i / PICTURE % 4)); /* of several brightnesses */
    LK_CHECK_INT(lk_engine_embed(engine, pixels, N, all), 0);
    for (int n = 1; n <= N; n++) {
        LK_CHECK_INT(lk_engine_embed(engine, pixels, n, some), 0);
        for (int i = 0; i < n; i++) {
            double length = 0, far = 0;
            for (int k = 0; k < DIM; k++) {
                double d = (double)some[i * DIM + k] - (double)all[i * DIM + k];
                far += d * d;
                length += (double)some[i * DIM + k] * (double)some[i * DIM + k];
            }
            LK_CHECK_NEAR(length, 1, 1e-5);
            LK_CHECK(far < 1e-10);
        }
    }
    LK_CHECK(memcmp(all, all + DIM, DIM * sizeof *all) != 0); /* and different pictures different ones */
    LK_CHECK_INT(lk_engine_embed(engine, pixels, 0, some), LK_EINVAL);
    LK_CHECK_INT(lk_engine_embed(engine, pixels, N + 1, some), LK_EINVAL);
    lk_engine_close(engine);
    free(pixels);
    free(all);
    free(some);
}

static void what_cannot_be_opened_says_why(void) {
    struct lk_engine *engine;
    struct lk_engine_options o = {.device = "cpu", .threads = 1};
    LK_CHECK(lk_engine_open(&engine, "/nonexistent.safetensors", &o) < 0);
    LK_CHECK_HOLDS(lk_error(), "/nonexistent.safetensors");
    LK_CHECK(engine == NULL);
    o.max_batch = 513;
    LK_CHECK_INT(lk_engine_open(&engine, path, &o), LK_EINVAL);
    o.max_batch = 1;
    o.precision = "fp99";
    LK_CHECK_INT(lk_engine_open(&engine, path, &o), LK_EINVAL);
    o.precision = "auto";
    o.device = "abacus";
    LK_CHECK(lk_engine_open(&engine, path, &o) < 0);
    LK_CHECK_HOLDS(lk_error(), "abacus");
    lk_engine_close(NULL);
}

static const struct lk_case cases[] = {
    LK_CASE(every_batch_size_gives_the_same_vectors),
    LK_CASE(what_cannot_be_opened_says_why),
};

int main(int argc, char **argv) {
    int rc = make_model() ? 1 : lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
    unlink(path);
    return rc;
}
