/* The vectors of the index's benchmark: each near one of many directions, as a trained network's are, drawn from their
 * number alone, so that programs need not hand them on. */
#ifndef LK_BENCH_CLUSTERS_H
#define LK_BENCH_CLUSTERS_H

#include <math.h>
#include <stdint.h>

enum { CLUSTERS = 1000 };

static inline float clusters_draw(uint64_t *state) { /* in -1..1, bell-shaped */
    float sum = 0;
    for (int i = 0; i < 3; i++) {
        *state = *state * 6364136223846793005U + 1442695040888963407U;
        sum += (float)(*state >> 40) / 16777216.0F - 0.5F;
    }
    return sum / 1.5F;
}

/* Unit vector number i; queries take numbers that no item has. */
static inline void clusters_vector(float *out, int dim, uint64_t i) {
    uint64_t own = (i + 1) * 0x9E3779B97F4A7C15U, centre = (own >> 33) % CLUSTERS * 0xD1B54A32D192ED03U + 7;
    double sum = 0;
    for (int j = 0; j < dim; j++) {
        out[j] = clusters_draw(&centre) + 0.7F * clusters_draw(&own);
        sum += (double)out[j] * (double)out[j];
    }
    const float scale = (float)(1 / sqrt(sum));
    for (int j = 0; j < dim; j++)
        out[j] *= scale;
}

#endif
