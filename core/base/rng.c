/* The host's users of Philox. The mapping from words to numbers is part of the contract: a Python twin draws the same
 * weights, and a resumed run the same order.
 *
 *   normal   element 4i + 2j and the one after it come from words 2j, 2j + 1 of block i: u = (w[2j] + 1) / 2^32,
 *            v = w[2j + 1] / 2^32, sqrt(-2 ln u) * cos(2 pi v) and * sin(2 pi v), in double, times std, then to float
 *   uniform  element 4i + j = (2 * (w[j] >> 8) / 2^24 - 1) * bound, in float
 *   shuffle  for p = n - 1 down to 1: swap p with (w[p % 4] * (p + 1)) >> 32, w of block p / 4 */
#include "base/rng.h"

#include <math.h>

static struct lk_philox weight_words(uint64_t seed, uint64_t block, uint32_t tensor) {
    return lk_rng(seed, block, LK_RNG_WEIGHTS, tensor, 0);
}

void lk_rng_normal(float *x, uint64_t n, float std, uint64_t seed, uint32_t tensor) {
    const double two_pi = 6.283185307179586476925286766559, scale = 1.0 / 4294967296.0;
    for (uint64_t i = 0; i < n; i += 4) {
        struct lk_philox w = weight_words(seed, i / 4, tensor);
        double four[4];
        for (int j = 0; j < 4; j += 2) {
            double r = sqrt(-2.0 * log(((double)w.v[j] + 1.0) * scale));
            double angle = two_pi * ((double)w.v[j + 1] * scale);
            four[j] = r * cos(angle);
            four[j + 1] = r * sin(angle);
        }
        for (uint64_t j = 0; j < 4 && i + j < n; j++)
            x[i + j] = (float)(four[j] * (double)std);
    }
}

void lk_rng_uniform(float *x, uint64_t n, float bound, uint64_t seed, uint32_t tensor) {
    for (uint64_t i = 0; i < n; i += 4) {
        struct lk_philox w = weight_words(seed, i / 4, tensor);
        for (uint64_t j = 0; j < 4 && i + j < n; j++)
            x[i + j] = (2.0f * lk_uniform(w.v[j]) - 1.0f) * bound;
    }
}

void lk_rng_shuffle(uint32_t *order, uint32_t n, uint64_t seed, uint32_t epoch) {
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    struct lk_philox w = {{0, 0, 0, 0}};
    uint64_t have = UINT64_MAX;
    for (uint64_t p = n; p-- > 1;) {
        if (have != p / 4) {
            have = p / 4;
            w = lk_rng(seed, have, LK_RNG_SHUFFLE, epoch, 0);
        }
        uint64_t q = ((uint64_t)w.v[p % 4] * (p + 1)) >> 32;
        uint32_t t = order[p];
        order[p] = order[q];
        order[q] = t;
    }
}
