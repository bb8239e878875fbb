/* The loops over augment_body.h's functions. */
#include "image/augment_internal.h"

#include "image/augment_body.h"

/* A sanitizer's runtime is not up yet when the loader chooses a clone, and contraction must stay off in each. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif

CLONES void lk_augment__columns2(float *restrict h, int size, const uint8_t *restrict row, int width,
                                 const int32_t *restrict i0, const int32_t *restrict i1, const float *restrict w0,
                                 const float *restrict w1, float *restrict planes) {
    float *restrict red = planes, *restrict green = planes + size, *restrict blue = planes + 2 * size;
    for (int x = 0; x < width; x++) {
        red[x] = (float)row[3 * x];
        green[x] = (float)row[3 * x + 1];
        blue[x] = (float)row[3 * x + 2];
    }
    for (int x = 0; x < size; x++) {
        h[x] = w0[x] * red[i0[x]] + w1[x] * red[i1[x]];
        h[size + x] = w0[x] * green[i0[x]] + w1[x] * green[i1[x]];
        h[2 * size + x] = w0[x] * blue[i0[x]] + w1[x] * blue[i1[x]];
    }
}

CLONES void lk_augment__rows2(float *restrict out, const float *h0, const float *h1, float w0, float w1, size_t n) {
    for (size_t i = 0; i < n; i++)
        out[i] = (w0 * h0[i] + w1 * h1[i]) * LK_AUGMENT_UNIT;
}

CLONES void lk_augment__accumulate(float *restrict out, const float *restrict h, float w, size_t n) {
    for (size_t i = 0; i < n; i++)
        out[i] = out[i] + w * h[i];
}

CLONES void lk_augment__scale(float *restrict out, float f, size_t n) {
    for (size_t i = 0; i < n; i++)
        out[i] = out[i] * f;
}

static inline struct lk_rgb load(const float *r, const float *g, const float *b, size_t i) {
    struct lk_rgb p = {r[i], g[i], b[i]};
    return p;
}

static inline void store(float *r, float *g, float *b, size_t i, struct lk_rgb p) {
    r[i] = p.r;
    g[i] = p.g;
    b[i] = p.b;
}

CLONES void lk_augment__brightness(float *restrict r, float *restrict g, float *restrict b, size_t n, float f) {
    for (size_t i = 0; i < n; i++)
        store(r, g, b, i, lk_body_brightness(load(r, g, b, i), f));
}

CLONES void lk_augment__contrast(float *restrict r, float *restrict g, float *restrict b, size_t n, float f) {
    enum { CHUNK = LK_AUGMENT_MAX_SIZE }; /* whose sum of units fits 32 bits */
    uint64_t units = 0;
    for (size_t begin = 0; begin < n; begin += CHUNK) {
        size_t end = n - begin < CHUNK ? n : begin + CHUNK;
        uint32_t part = 0;
        for (size_t i = begin; i < end; i++)
            part += lk_body_luma_units(load(r, g, b, i));
        units += part;
    }
    float mean = lk_body_luma_mean(units, (int)n);
    for (size_t i = 0; i < n; i++)
        store(r, g, b, i, lk_body_blend(load(r, g, b, i), mean, f));
}

CLONES void lk_augment__saturation(float *restrict r, float *restrict g, float *restrict b, size_t n, float f) {
    for (size_t i = 0; i < n; i++) {
        struct lk_rgb p = load(r, g, b, i);
        store(r, g, b, i, lk_body_blend(p, lk_body_luma(p), f));
    }
}

CLONES void lk_augment__hue(float *restrict r, float *restrict g, float *restrict b, size_t n, float turns) {
    for (size_t i = 0; i < n; i++)
        store(r, g, b, i, lk_body_hue(load(r, g, b, i), turns));
}

CLONES void lk_augment__grey(float *restrict r, float *restrict g, float *restrict b, size_t n) {
    for (size_t i = 0; i < n; i++)
        r[i] = g[i] = b[i] = lk_body_luma(load(r, g, b, i));
}

CLONES void lk_augment__solarize(float *restrict x, size_t n, float threshold) {
    for (size_t i = 0; i < n; i++)
        x[i] = lk_body_solarize(x[i], threshold);
}

CLONES void lk_augment__normalise(float *restrict x, size_t n, float mean, float std) {
    for (size_t i = 0; i < n; i++)
        x[i] = lk_body_normalise(x[i], mean, std);
}

/* out = sum over distances of weight * (left + right), from the centre outward, along rows and then along columns. */
CLONES void lk_augment__blur(float *restrict x, int size, const float *weights, int radius, float *restrict scratch) {
    const size_t stride = (size_t)size;
    for (int y = 0; y < size; y++) {
        const float *restrict in = x + (size_t)y * stride;
        float *restrict out = scratch + (size_t)y * stride;
        for (int i = 0; i < size; i++)
            out[i] = weights[0] * in[i];
        for (int d = 1; d <= radius; d++) {
            float w = weights[d];
            int inner_end = size - d > d ? size - d : d;
            for (int i = 0; i < d && i < size; i++)
                out[i] = out[i] + w * (in[lk_body_reflect(i - d, size)] + in[lk_body_reflect(i + d, size)]);
            for (int i = d; i < inner_end; i++)
                out[i] = out[i] + w * (in[i - d] + in[i + d]);
            for (int i = inner_end; i < size; i++)
                out[i] = out[i] + w * (in[lk_body_reflect(i - d, size)] + in[lk_body_reflect(i + d, size)]);
        }
    }
    for (int y = 0; y < size; y++) {
        float *restrict out = x + (size_t)y * stride;
        const float *restrict in = scratch + (size_t)y * stride;
        for (int i = 0; i < size; i++)
            out[i] = weights[0] * in[i];
        for (int d = 1; d <= radius; d++) {
            const float *above = scratch + (size_t)lk_body_reflect(y - d, size) * stride;
            const float *below = scratch + (size_t)lk_body_reflect(y + d, size) * stride;
            float w = weights[d];
            for (int i = 0; i < size; i++)
                out[i] = out[i] + w * (above[i] + below[i]);
        }
    }
}
