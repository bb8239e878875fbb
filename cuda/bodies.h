/* The arithmetic of one element, one channel or one tensor, compiled by nvcc for the kernels and by gcc for their tests
 * (tests/unit/cuda). Same operations in the same order on both sides; contraction is off. */
#ifndef LK_CUDA_BODIES_H
#define LK_CUDA_BODIES_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hd.h"
#include "model/net.h"

/* max(0, x) that lets NaN through, so that a broken step is seen in its loss. */
LK_HD float lk_cuda_relu(float x) { return x < 0.0f ? 0.0f : x; }

LK_HD float lk_cuda_normalise(float y, float mean, float scale, float beta) { return (y - mean) * scale + beta; }

/* --- Batch norm. A channel's vectors, each [channels]: what the forward leaves and the backward adds. */
enum lk_cuda_saved {
    LK_SAVED_MEAN,
    LK_SAVED_INVERSE, /* 1 / sqrt(var + epsilon) */
    LK_SAVED_SCALE,   /* gamma * inverse */
    LK_SAVED_A,       /* dy = A g + (B (y - mean) + C) */
    LK_SAVED_B,
    LK_SAVED_C,
    LK_SAVED_COUNT
};

/* From the sums of y and y^2 over `rows`. saved points at this channel of the first vector, vectors are `stride` apart.
 * The running statistics may be NULL. */
LK_HD void lk_cuda_norm_forward_channel(float *saved, size_t stride, double sum, double squares, double rows,
                                        float gamma, float *running_mean, float *running_var) {
    double mean = sum / rows, var = squares / rows - mean * mean, inverse;
    const double momentum = (double)LK_BN_MOMENTUM;
    var = var < 0.0 ? 0.0 : var;
    inverse = 1.0 / sqrt(var + (double)LK_BN_EPSILON);
    saved[LK_SAVED_MEAN * stride] = (float)mean;
    saved[LK_SAVED_INVERSE * stride] = (float)inverse;
    saved[LK_SAVED_SCALE * stride] = (float)((double)gamma * inverse);
    if (running_mean) {
        double unbiased = rows > 1.0 ? var * rows / (rows - 1.0) : var;
        *running_mean = (float)((1.0 - momentum) * (double)*running_mean + momentum * mean);
        *running_var = (float)((1.0 - momentum) * (double)*running_var + momentum * unbiased);
    }
}

/* From the sums of g and g (y - mean). dgamma and dbeta may be NULL (padding). */
LK_HD void lk_cuda_norm_backward_channel(float *saved, size_t stride, double sum_g, double sum_gy, double rows,
                                         float gamma, float *dgamma, float *dbeta) {
    double inverse = (double)saved[LK_SAVED_INVERSE * stride], a = (double)gamma * inverse, sum_gx = sum_gy * inverse;
    saved[LK_SAVED_A * stride] = (float)a;
    saved[LK_SAVED_B * stride] = (float)(-a * inverse * sum_gx / rows);
    saved[LK_SAVED_C * stride] = (float)(-a * sum_g / rows);
    if (dgamma) {
        *dgamma += (float)sum_gx;
        *dbeta += (float)sum_g;
    }
}

LK_HD float lk_cuda_norm_backward(float g, float y, float mean, float a, float b, float c) {
    return a * g + (b * (y - mean) + c);
}

/* --- Max pooling, 3x3, stride 2, pad 1. Does tap k (row-major) of output (oy, ox) lie in the picture, and where? */
LK_HD int lk_cuda_pool_tap(int k, int oy, int ox, int h, int w, int *y, int *x) {
    *y = oy * 2 - 1 + k / 3;
    *x = ox * 2 - 1 + k % 3;
    return *y >= 0 && *y < h && *x >= 0 && *x < w;
}
/* The first maximum stays; NaN wins, and the last NaN of all, as nothing after it is a number. */
LK_HD int lk_cuda_pool_better(float candidate, float best, int none_yet) {
    return none_yet || candidate > best || candidate != candidate;
}
/* The outputs whose windows hold input coordinate i: first and last, before the cut at the output's side. */
LK_HD int lk_cuda_pool_first(int i) { return i / 2; }
LK_HD int lk_cuda_pool_last(int i) { return (i + 1) / 2; }

/* --- Optimisers: torch.optim's SGD and Adam, LARS by You, Gitman, Ginsburg 2017 (arXiv 1708.03888). */
struct lk_cuda_rule {
    int kind, clip, exclude_1d;
    float lr, momentum, weight_decay, trust;
    float beta1, beta2, epsilon, step_size, root_correction; /* Adam: lr / (1 - beta1^t), sqrt(1 - beta2^t) */
    float tau;
};

/* What changes from step to step: kernels read it in device memory, so that a recorded step can be replayed with other
 * values. */
struct lk_cuda_step {
    uint64_t seed;
    uint32_t epoch;
    int slot;
    struct lk_cuda_rule rule;
};

/* LARS's factor and decay of a tensor from |w|^2 and |g|^2: a tensor left out gets neither, and one without weights or
 * gradient a plain step without decay, as in the reference implementations. */
LK_HD void lk_cuda_trust(const struct lk_cuda_rule *r, int one_dimensional, double w2, double g2, float *ratio,
                         float *decay) {
    double w = sqrt(w2), g = sqrt(g2), d, q;
    *ratio = 1.0f;
    *decay = 0.0f;
    if ((r->exclude_1d && one_dimensional) || !(w > 0.0) || !(g > 0.0)) {
        return;
    }
    d = (double)r->weight_decay;
    q = (double)r->trust * w / (g + d * w + 1e-8);
    if (r->clip) {
        q = q / (double)r->lr < 1.0 ? q / (double)r->lr : 1.0;
    }
    *ratio = (float)q;
    *decay = (float)d;
}

/* The new weight; *v is the momentum. */
LK_HD float lk_cuda_momentum(const struct lk_cuda_rule *r, float w, float g, float *v, float ratio, float decay) {
    float d = (g + decay * w) * ratio, u = r->momentum * *v + d;
    *v = u;
    return w - r->lr * u;
}

LK_HD float lk_cuda_adam(const struct lk_cuda_rule *r, float w, float g, float *m1, float *m2, float decay) {
    float d = g + decay * w;
    float a = r->beta1 * *m1 + (1.0f - r->beta1) * d, b = r->beta2 * *m2 + (1.0f - r->beta2) * (d * d);
    *m1 = a;
    *m2 = b;
    return w - r->step_size * a / (sqrtf(b) / r->root_correction + r->epsilon);
}

LK_HD float lk_cuda_ema(float teacher, float w, float tau) { return tau * teacher + (1.0f - tau) * w; }

/* --- BYOL's loss of one pair. Lengths below 1e-8 count as that, as torch.nn.functional.cosine_similarity has it.
 * Returns the cosine; d/dp of scale / batch * (2 - 2 cos) is to_z z + to_p p. */
LK_HD double lk_cuda_cosine(double pp, double zz, double pz, double scale, double batch, double *to_z, double *to_p) {
    const double least = 1e-8, k = -2.0 * scale / batch;
    double lp = sqrt(pp), lz = sqrt(zz), cosine;
    int clamped = lp < least;
    lp = clamped ? least : lp;
    lz = lz < least ? least : lz;
    cosine = pz / (lp * lz);
    *to_z = k / (lp * lz);
    *to_p = clamped ? 0.0 : -k * cosine / (lp * lp);
    return cosine;
}

/* Deviation (n - 1) from a sum and a sum of squares; NaN stays. */
LK_HD double lk_cuda_deviation(double sum, double squares, double n) {
    double var = n > 1.0 ? (squares - sum * sum / n) / (n - 1.0) : 0.0;
    return var < 0.0 ? 0.0 : sqrt(var);
}

#endif
