/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
 * A draw depends on key and counter alone, so any order and any device give the same numbers, and a resumed run needs
 * no state. The convention here: key = seed, counter = (index low, index high, stream, draw). Streams keep the users
 * apart. */
#ifndef LK_BASE_RNG_H
#define LK_BASE_RNG_H

#include <stdint.h>

#include "base/hd.h"

/* Streams: the third counter word's upper byte. The lower 24 bits are the stream's own (the epoch, the tensor). */
enum lk_rng_stream {
    LK_RNG_AUGMENT_VIEW1 = 1, /* | epoch; index = image */
    LK_RNG_AUGMENT_VIEW2 = 2,
    LK_RNG_SHUFFLE = 3, /* | epoch; index = position */
    LK_RNG_WEIGHTS = 4, /* | number of the tensor; index = element / 4 */
    LK_RNG_TEST = 5
};

struct lk_philox {
    uint32_t v[4];
};

LK_HD struct lk_philox lk_philox(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    struct lk_philox r;
    for (int i = 0; i < 10; i++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c0 = n0, c1 = (uint32_t)p1, c2 = n2, c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    r.v[0] = c0, r.v[1] = c1, r.v[2] = c2, r.v[3] = c3;
    return r;
}

LK_HD struct lk_philox lk_rng(uint64_t seed, uint64_t index, uint32_t stream, uint32_t sub, uint32_t draw) {
    return lk_philox(seed, (uint32_t)index, (uint32_t)(index >> 32), stream << 24 | (sub & 0xFFFFFFu), draw);
}

/* 24 random bits in [0, 1): exact in float on every device. */
LK_HD float lk_uniform(uint32_t word) { return (float)(word >> 8) * (1.0f / 16777216.0f); }

/* Host only. Fills x[n] with normal numbers, mean 0, deviation `std` (Box-Muller in double on words of
 * (LK_RNG_WEIGHTS, tensor)); the same numbers in tests/parity's Python twin. */
void lk_rng_normal(float *x, uint64_t n, float std, uint64_t seed, uint32_t tensor);
/* Host only. Uniform in [-bound, bound), drawn likewise. */
void lk_rng_uniform(float *x, uint64_t n, float bound, uint64_t seed, uint32_t tensor);
/* Host only. order[n] = a permutation of 0..n-1 for this seed and epoch: Fisher-Yates on words of LK_RNG_SHUFFLE. */
void lk_rng_shuffle(uint32_t *order, uint32_t n, uint64_t seed, uint32_t epoch);

#endif
