/* Is the arithmetic of the kernels' elements and channels that of the definitions, worked out in double? */
#include <stdlib.h>

#include "base/rng.h"
#include "check.h"
#include "cuda/bodies.h"

enum { N = 1000 };

static void batch_norm_of_a_channel(void) {
    float y[N], g[N], saved[LK_SAVED_COUNT], running_mean = 0.5f, running_var = 2.0f, dgamma = 1, dbeta = 2;
    const float gamma = 1.3f, beta = -0.2f;
    double sum = 0, squares = 0, sum_g = 0, sum_gy = 0, mean = 0, var = 0, dot = 0;
    lk_rng_normal(y, N, 2.0f, 1, 0);
    lk_rng_normal(g, N, 1.0f, 1, 1);
    for (int i = 0; i < N; i++) {
        y[i] += 3;
        sum += (double)y[i], squares += (double)y[i] * (double)y[i];
        mean += (double)y[i] / N;
    }
    for (int i = 0; i < N; i++) {
        var += ((double)y[i] - mean) * ((double)y[i] - mean) / N;
    }
    lk_cuda_norm_forward_channel(saved, 1, sum, squares, N, gamma, &running_mean, &running_var);
    LK_CHECK_NEAR(saved[LK_SAVED_MEAN], mean, 1e-6);
    LK_CHECK_NEAR(saved[LK_SAVED_INVERSE], 1 / sqrt(var + 1e-5), 1e-6);
    LK_CHECK_NEAR(running_mean, 0.9 * 0.5 + 0.1 * mean, 1e-6);
    LK_CHECK_NEAR(running_var, 0.9 * 2 + 0.1 * var * N / (N - 1), 1e-5);
    double inverse = 1 / sqrt(var + 1e-5);
    for (int i = 0; i < N; i++) {
        double hat = ((double)y[i] - mean) * inverse;
        float z = lk_cuda_normalise(y[i], saved[LK_SAVED_MEAN], saved[LK_SAVED_SCALE], beta);
        LK_CHECK_NEAR(z, (double)gamma * hat + (double)beta, 2e-6);
        sum_g += (double)g[i], sum_gy += (double)g[i] * ((double)y[i] - (double)saved[LK_SAVED_MEAN]);
        dot += (double)g[i] * hat;
    }
    lk_cuda_norm_backward_channel(saved, 1, sum_g, sum_gy, N, gamma, &dgamma, &dbeta);
    LK_CHECK_NEAR(dgamma, 1 + dot, 1e-4);
    LK_CHECK_NEAR(dbeta, 2 + sum_g, 1e-4);
    for (int i = 0; i < N; i++) {
        double hat = ((double)y[i] - mean) * inverse;
        float dy = lk_cuda_norm_backward(g[i], y[i], saved[LK_SAVED_MEAN], saved[LK_SAVED_A], saved[LK_SAVED_B],
                                         saved[LK_SAVED_C]);
        LK_CHECK_NEAR(dy, (double)gamma * inverse * ((double)g[i] - sum_g / N - hat * dot / N), 2e-6);
    }
}

static void a_channel_without_spread(void) {
    float saved[LK_SAVED_COUNT];
    lk_cuda_norm_forward_channel(saved, 1, 4, 4 - 1e-13, 4, 1, NULL, NULL); /* a variance rounded below zero */
    LK_CHECK_NEAR(saved[LK_SAVED_INVERSE], 1 / sqrt(1e-5), 1e-2);
}

static void relu_lets_nan_through(void) {
    LK_CHECK_NEAR(lk_cuda_relu(-1), 0, 0);
    LK_CHECK_NEAR(lk_cuda_relu(2), 2, 0);
    LK_CHECK(isnan(lk_cuda_relu(NAN)));
}

/* Forward by the taps and backward by the gather are adjoint: sum z' g = sum x dx for the chosen taps. */
static void max_pool_windows(int h, int w) {
    int oh = (h - 1) / 2 + 1, ow = (w - 1) / 2 + 1;
    float *x = malloc((size_t)h * (size_t)w * sizeof *x), *dx = calloc((size_t)h * (size_t)w, sizeof *dx);
    int *index = malloc((size_t)oh * (size_t)ow * sizeof *index), ty, tx;
    LK_REQUIRE(x && dx && index);
    lk_rng_normal(x, (uint64_t)h * (uint64_t)w, 1, 2, (uint32_t)(h * 100 + w));
    double forward = 0, backward = 0;
    for (int oy = 0; oy < oh; oy++) {
        for (int ox = 0; ox < ow; ox++) {
            float best = 0, want = -INFINITY;
            int none_yet = 1;
            for (int k = 0; k < 9; k++) {
                if (lk_cuda_pool_tap(k, oy, ox, h, w, &ty, &tx) &&
                    lk_cuda_pool_better(x[ty * w + tx], best, none_yet)) {
                    best = x[ty * w + tx], index[oy * ow + ox] = k;
                }
                none_yet = none_yet && !lk_cuda_pool_tap(k, oy, ox, h, w, &ty, &tx);
            }
            for (int y = 2 * oy - 1; y <= 2 * oy + 1; y++) {
                for (int xx = 2 * ox - 1; xx <= 2 * ox + 1; xx++) {
                    want = y >= 0 && xx >= 0 && y < h && xx < w ? fmaxf(want, x[y * w + xx]) : want;
                }
            }
            LK_CHECK_NEAR(best, want, 0);
            forward += (double)best * (oy * ow + ox + 1);
        }
    }
    for (int y = 0; y < h; y++) {
        for (int xx = 0; xx < w; xx++) {
            for (int oy = lk_cuda_pool_first(y); oy <= lk_cuda_pool_last(y) && oy < oh; oy++) {
                for (int ox = lk_cuda_pool_first(xx); ox <= lk_cuda_pool_last(xx) && ox < ow; ox++) {
                    if (index[oy * ow + ox] == (y - (oy * 2 - 1)) * 3 + xx - (ox * 2 - 1)) {
                        backward += (double)x[y * w + xx] * (oy * ow + ox + 1);
                    }
                }
            }
        }
    }
    LK_CHECK_NEAR(backward, forward, 1e-9 * fabs(forward));
    free(x), free(dx), free(index);
}

static void max_pool_of_odd_and_even_sides(void) {
    max_pool_windows(8, 8);
    max_pool_windows(7, 9);
    max_pool_windows(1, 2);
    max_pool_windows(16, 3);
}

static void momentum_and_teacher(void) {
    const struct lk_cuda_rule r = {.lr = 0.1f, .momentum = 0.9f, .tau = 0.99f};
    float v = 0.5f, w = lk_cuda_momentum(&r, 2.0f, 0.3f, &v, 0.5f, 0.01f);
    double u = 0.9 * 0.5 + 0.5 * (0.3 + 0.01 * 2);
    LK_CHECK_NEAR(v, u, 1e-7);
    LK_CHECK_NEAR(w, 2 - 0.1 * u, 1e-6);
    LK_CHECK_NEAR(lk_cuda_ema(1.0f, w, r.tau), 0.99 + 0.01 * (double)w, 1e-6);
}

static void adam_after_three_steps(void) {
    double w = 0.7, m = 0, v = 0;
    float fw = 0.7f, fm = 0, fv = 0;
    for (int t = 1; t <= 3; t++) {
        double g = 0.2 * t - 0.3, lr = 1e-2, b1 = 0.9, b2 = 0.999, eps = 1e-8, d = g + 0.1 * w;
        const struct lk_cuda_rule r = {.beta1 = 0.9f,
                                       .beta2 = 0.999f,
                                       .epsilon = 1e-8f,
                                       .step_size = (float)(lr / (1 - pow(b1, t))),
                                       .root_correction = (float)sqrt(1 - pow(b2, t))};
        fw = lk_cuda_adam(&r, fw, (float)g, &fm, &fv, 0.1f);
        m = b1 * m + (1 - b1) * d, v = b2 * v + (1 - b2) * d * d;
        w -= lr * (m / (1 - pow(b1, t))) / (sqrt(v / (1 - pow(b2, t))) + eps);
        LK_CHECK_NEAR(fw, w, 1e-6);
    }
}

static void trust_ratio_and_who_gets_none(void) {
    struct lk_cuda_rule r = {.lr = 0.2f, .weight_decay = 1e-2f, .trust = 1e-3f, .exclude_1d = 1};
    float ratio, decay;
    lk_cuda_trust(&r, 0, 4, 9, &ratio, &decay);
    LK_CHECK_NEAR(ratio, 1e-3 * 2 / (3 + 0.02), 1e-9);
    LK_CHECK_NEAR(decay, 1e-2, 1e-9);
    lk_cuda_trust(&r, 1, 4, 9, &ratio, &decay);
    LK_CHECK_NEAR(ratio, 1, 0);
    LK_CHECK_NEAR(decay, 0, 0);
    lk_cuda_trust(&r, 0, 4, 0, &ratio, &decay);
    LK_CHECK_NEAR(ratio, 1, 0);
    LK_CHECK_NEAR(decay, 0, 0);
    r.clip = 1, r.trust = 10;
    lk_cuda_trust(&r, 0, 4, 9, &ratio, &decay);
    LK_CHECK_NEAR(ratio, 1, 0);
}

static double pair_loss(const double *p, const double *z, int d) {
    double pp = 0, zz = 0, pz = 0;
    for (int i = 0; i < d; i++) {
        pp += p[i] * p[i], zz += z[i] * z[i], pz += p[i] * z[i];
    }
    return 2 - 2 * pz / (sqrt(pp) * sqrt(zz));
}

static void loss_gradient_by_finite_differences(void) {
    enum { D = 16 };
    float draws[2 * D];
    double p[D], z[D], pp = 0, zz = 0, pz = 0, to_z, to_p;
    lk_rng_normal(draws, 2 * D, 1, 3, 0);
    for (int i = 0; i < D; i++) {
        p[i] = (double)draws[i], z[i] = (double)draws[D + i];
        pp += p[i] * p[i], zz += z[i] * z[i], pz += p[i] * z[i];
    }
    double cosine = lk_cuda_cosine(pp, zz, pz, 5, 10, &to_z, &to_p);
    LK_CHECK_NEAR(2 - 2 * cosine, pair_loss(p, z, D), 1e-12);
    for (int i = 0; i < D; i++) {
        double kept = p[i], up, down, h = 1e-5;
        p[i] = kept + h, up = pair_loss(p, z, D);
        p[i] = kept - h, down = pair_loss(p, z, D);
        p[i] = kept;
        LK_CHECK_NEAR(to_z * z[i] + to_p * p[i], 5.0 / 10 * (up - down) / (2 * h), 1e-9);
    }
    lk_cuda_cosine(0, zz, 0, 5, 10, &to_z, &to_p);
    LK_CHECK_NEAR(to_p, 0, 0);
    LK_CHECK(isfinite(to_z));
}

static void deviation_of_a_dimension(void) {
    LK_CHECK_NEAR(lk_cuda_deviation(1 + 2 + 6, 1 + 4 + 36, 3), sqrt(7), 1e-12);
    LK_CHECK_NEAR(lk_cuda_deviation(3, 3 - 1e-15, 3), 0, 0);
    LK_CHECK_NEAR(lk_cuda_deviation(3, 9, 1), 0, 0);
    LK_CHECK(isnan(lk_cuda_deviation(NAN, 1, 3)));
}

static const struct lk_case cases[] = {
    LK_CASE(batch_norm_of_a_channel),       LK_CASE(a_channel_without_spread),
    LK_CASE(relu_lets_nan_through),         LK_CASE(max_pool_of_odd_and_even_sides),
    LK_CASE(momentum_and_teacher),          LK_CASE(adam_after_three_steps),
    LK_CASE(trust_ratio_and_who_gets_none), LK_CASE(loss_gradient_by_finite_differences),
    LK_CASE(deviation_of_a_dimension)};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
