/* The arithmetic of the random views, for gcc and nvcc alike: drawing a view's parameters, the crop's sampling weights,
 * and one function a pixel operation. augment.c loops over it on the host, a kernel in cuda/ on a GPU; nobody else
 * includes it. Both must give equal bits, so a body uses only + - * / and sqrt in float (IEEE on both sides; built
 * without contraction and fast-math), compares and selects, integer decisions from raw random words, and no function
 * of libm: the two logarithms and exponentials that a crop and a blur need are series of our own. A mean is summed in
 * integers, since a sum of floats depends on its order.
 *
 * Operations follow torchvision's RandomResizedCrop, ColorJitter, RandomGrayscale, GaussianBlur and RandomSolarize on
 * float tensors (transforms/transforms.py, _functional_tensor.py), hue without branches after the HSV sectors of
 * "HSL and HSV", alternative formula k = (n + H/60) mod 6. */
#ifndef LK_IMAGE_AUGMENT_BODY_H
#define LK_IMAGE_AUGMENT_BODY_H

#include <stdint.h>

#ifndef __CUDACC__
#include <math.h> /* sqrtf alone */
#endif

#include "base/hd.h"
#include "base/rng.h"
#include "image/augment.h"

enum {
    LK_AUGMENT_TRIES = 10,       /* crops tried before the fallback: draws 0..9, then the two below */
    LK_AUGMENT_DRAW_GATES = 16,  /* words: flip, jitter, grey, blur */
    LK_AUGMENT_DRAW_JITTER = 17, /* words: brightness, contrast, saturation, hue */
    LK_AUGMENT_DRAW_REST = 18,   /* words: order, sigma, solarize */
    LK_AUGMENT_MAX_SIZE = 2048,  /* a row of luma sums fits 32 bits */
    LK_AUGMENT_MAX_RADIUS = 102  /* of the blur at that size */
};

enum lk_jitter_op { LK_JITTER_BRIGHTNESS, LK_JITTER_CONTRAST, LK_JITTER_SATURATION, LK_JITTER_HUE, LK_JITTER_NONE };

/* One view's parameters: what its pixels depend on besides the picture. */
struct lk_view {
    int left, top, width, height; /* the crop, in whole source pixels */
    int flip, grey, solarize;
    int blur_radius; /* 0: no blur */
    float blur_sigma;
    int op[4];       /* enum lk_jitter_op, in order; LK_JITTER_NONE where there is nothing to do */
    float factor[4]; /* indexed by lk_jitter_op; hue in turns */
};

struct lk_rgb {
    float r, g, b;
};

/* --- Numbers ------------------------------------------------------------------------------------------------- */

LK_HD float lk_body_sqrt(float x) {
#ifdef __CUDA_ARCH__
    return __fsqrt_rn(x);
#else
    return sqrtf(x); /* correctly rounded, by IEEE 754 */
#endif
}

/* e^x within 1e-6 of the value; 0 below -80. x = k ln 2 + r, |r| <= ln 2 / 2, then a Taylor series in r. */
LK_HD float lk_body_exp(float x) {
    if (x < -80.0f)
        return 0.0f;
    if (x > 80.0f)
        x = 80.0f;
    float kf = x * 1.44269504f;
    int k = (int)(kf + (kf < 0.0f ? -0.5f : 0.5f));
    float r = x - (float)k * 0.693145752f; /* ln 2 in 16 bits, so that the product is exact, and the rest of it */
    r = r - (float)k * 1.42860677e-6f;
    float sum = 1.0f + r * (1.0f / 7.0f);
    sum = 1.0f + r * (1.0f / 6.0f) * sum;
    sum = 1.0f + r * (1.0f / 5.0f) * sum;
    sum = 1.0f + r * (1.0f / 4.0f) * sum;
    sum = 1.0f + r * (1.0f / 3.0f) * sum;
    sum = 1.0f + r * (1.0f / 2.0f) * sum;
    sum = 1.0f + r * sum;
    for (; k > 0; k--)
        sum = sum * 2.0f;
    for (; k < 0; k++)
        sum = sum * 0.5f;
    return sum;
}

/* ln x for x > 0 within 1e-6: x = m 2^k, m in [0.7, 1.4), then 2 artanh((m - 1) / (m + 1)) as a series. */
LK_HD float lk_body_log(float x) {
    int k = 0;
    for (; x >= 1.4f; k++)
        x = x * 0.5f;
    for (; x < 0.7f; k--)
        x = x * 2.0f;
    float z = (x - 1.0f) / (x + 1.0f), q = z * z;
    float sum = 1.0f / 11.0f;
    sum = 1.0f / 9.0f + q * sum;
    sum = 1.0f / 7.0f + q * sum;
    sum = 1.0f / 5.0f + q * sum;
    sum = 1.0f / 3.0f + q * sum;
    sum = 1.0f + q * sum;
    return (float)k * 0.693147182f + 2.0f * z * sum;
}

/* 0..n-1 from a word, uniform to within n / 2^32. */
LK_HD int lk_body_below(uint32_t word, int n) { return (int)(((uint64_t)word * (uint64_t)(uint32_t)n) >> 32); }

LK_HD float lk_body_clamp(float x) {
    x = x < 0.0f ? 0.0f : x;
    return x > 1.0f ? 1.0f : x;
}

/* --- Drawing ------------------------------------------------------------------------------------------------- */

/* After ten crops that do not fit: the largest centred one whose ratio is allowed. */
LK_HD void lk_augment_central_crop(struct lk_view *v, const struct lk_augment *a, int width, int height) {
    float ratio = (float)width / (float)height;
    v->width = width;
    v->height = height;
    if (ratio < a->ratio_min)
        v->height = (int)((float)width / a->ratio_min + 0.5f);
    else if (ratio > a->ratio_max)
        v->width = (int)((float)height * a->ratio_max + 0.5f);
    v->width = v->width < 1 ? 1 : v->width > width ? width : v->width;
    v->height = v->height < 1 ? 1 : v->height > height ? height : v->height;
    v->left = (width - v->width) / 2;
    v->top = (height - v->height) / 2;
}

/* Area uniform in crop_min..crop_max of the picture, ratio log-uniform. */
LK_HD void lk_augment_draw_crop(struct lk_view *v, const struct lk_augment *a, int width, int height, uint64_t seed,
                                uint64_t image, uint32_t stream, uint32_t epoch) {
    float log_low = lk_body_log(a->ratio_min), log_span = lk_body_log(a->ratio_max) - log_low;
    float picture = (float)width * (float)height;
    for (uint32_t i = 0; i < LK_AUGMENT_TRIES; i++) {
        struct lk_philox words = lk_rng(seed, image, stream, epoch, i);
        float area = (a->crop_min + lk_uniform(words.v[0]) * (a->crop_max - a->crop_min)) * picture;
        float ratio = lk_body_exp(log_low + lk_uniform(words.v[1]) * log_span);
        int w = (int)(lk_body_sqrt(area * ratio) + 0.5f), h = (int)(lk_body_sqrt(area / ratio) + 0.5f);
        if (w < 1 || h < 1 || w > width || h > height)
            continue;
        v->width = w;
        v->height = h;
        v->left = lk_body_below(words.v[2], width - w + 1);
        v->top = lk_body_below(words.v[3], height - h + 1);
        return;
    }
    lk_augment_central_crop(v, a, width, height);
}

/* A factor uniform in 1 - strength..1 + strength, never below 0. */
LK_HD float lk_augment_draw_factor(float strength, uint32_t word) {
    float low = strength > 1.0f ? 0.0f : 1.0f - strength;
    return low + lk_uniform(word) * (1.0f + strength - low);
}

/* The number-th of the 24 orders of four things. */
LK_HD void lk_augment_order(int order[4], int number) {
    for (int i = 0; i < 4; i++)
        order[i] = i;
    for (int i = 3; i > 0; i--) { /* Fisher-Yates, whose choices are the digits of number */
        int j = number % (i + 1), t = order[i];
        number /= i + 1;
        order[i] = order[j];
        order[j] = t;
    }
}

LK_HD int lk_augment_blur_radius(int size) {
    int radius = size / 10 / 2; /* kernel side 2 radius + 1: odd, about size / 10 */
    return radius < 1 ? 1 : radius;
}

/* All of a view's randomness. width and height are the source picture's. */
LK_HD void lk_augment_draw(struct lk_view *v, const struct lk_augment *a, int width, int height, uint64_t seed,
                           uint32_t epoch, uint64_t image, int view) {
    uint32_t stream = view == 0 ? LK_RNG_AUGMENT_VIEW1 : LK_RNG_AUGMENT_VIEW2;
    lk_augment_draw_crop(v, a, width, height, seed, image, stream, epoch);
    struct lk_philox gates = lk_rng(seed, image, stream, epoch, LK_AUGMENT_DRAW_GATES);
    struct lk_philox jitter = lk_rng(seed, image, stream, epoch, LK_AUGMENT_DRAW_JITTER);
    struct lk_philox rest = lk_rng(seed, image, stream, epoch, LK_AUGMENT_DRAW_REST);
    v->flip = lk_uniform(gates.v[0]) < a->flip_p;
    v->grey = lk_uniform(gates.v[2]) < a->grey_p;
    v->solarize = lk_uniform(rest.v[2]) < a->solarize_p;
    v->blur_radius = lk_uniform(gates.v[3]) < a->blur_p ? lk_augment_blur_radius(a->size) : 0;
    v->blur_sigma = a->blur_sigma_min + lk_uniform(rest.v[1]) * (a->blur_sigma_max - a->blur_sigma_min);

    v->factor[LK_JITTER_BRIGHTNESS] = lk_augment_draw_factor(a->brightness, jitter.v[0]);
    v->factor[LK_JITTER_CONTRAST] = lk_augment_draw_factor(a->contrast, jitter.v[1]);
    v->factor[LK_JITTER_SATURATION] = lk_augment_draw_factor(a->saturation, jitter.v[2]);
    v->factor[LK_JITTER_HUE] = (2.0f * lk_uniform(jitter.v[3]) - 1.0f) * a->hue;
    float strength[4];
    strength[LK_JITTER_BRIGHTNESS] = a->brightness;
    strength[LK_JITTER_CONTRAST] = a->contrast;
    strength[LK_JITTER_SATURATION] = a->saturation;
    strength[LK_JITTER_HUE] = a->hue;
    int on = lk_uniform(gates.v[1]) < a->jitter_p, order[4];
    lk_augment_order(order, a->jitter_shuffle ? lk_body_below(rest.v[0], 24) : 23); /* 23: as listed */
    for (int i = 0; i < 4; i++)
        v->op[i] = on && strength[order[i]] > 0.0f ? order[i] : LK_JITTER_NONE;
}

/* --- Crop ---------------------------------------------------------------------------------------------------- */

/* Along one axis, output i of `size` is a weighted mean of `count` positions from `first` on, counted from the crop's
 * edge and all inside the crop: a triangle over the output's centre, wider when the crop shrinks (antialiasing).
 * A pixel is sum over rows of wy * (sum over columns of wx * byte), both sums from 0 and in rising order, times
 * LK_AUGMENT_UNIT; a flipped view's column x takes the taps of column size - 1 - x. */
struct lk_taps {
    int first, count;
    float center, narrow, norm; /* the weight of position p: triangle((p + .5 - center) * narrow) * norm */
};

#define LK_AUGMENT_UNIT (1.0f / 255.0f)

LK_HD float lk_taps_weight(const struct lk_taps *t, int k) {
    float d = ((float)(t->first + k) + 0.5f - t->center) * t->narrow;
    d = d < 0.0f ? -d : d;
    return (d < 1.0f ? 1.0f - d : 0.0f) * t->norm;
}

/* length: of the crop along this axis. count is at most 2 when length <= size. */
LK_HD void lk_taps_make(struct lk_taps *t, int length, int size, int i) {
    float scale = (float)length / (float)size, support = scale > 1.0f ? scale : 1.0f;
    float center = ((float)i + 0.5f) * scale;
    float low = center - support + 0.5f;
    int end = (int)(center + support + 0.5f);
    t->first = low < 0.0f ? 0 : (int)low;
    t->count = (end > length ? length : end) - t->first;
    t->center = center;
    t->narrow = 1.0f / support;
    t->norm = 1.0f;
    float sum = 0.0f;
    for (int k = 0; k < t->count; k++)
        sum = sum + lk_taps_weight(t, k);
    t->norm = 1.0f / sum; /* the position nearest to the centre weighs at least a half: sum > 0 */
}

/* --- Pixels; values in 0..1 ---------------------------------------------------------------------------------- */

LK_HD float lk_body_luma(struct lk_rgb p) { return 0.299f * p.r + 0.587f * p.g + 0.114f * p.b; }

/* Luma for the mean: in units of 2^-20, so that a row's sum fits 32 bits and no order of adding matters. */
LK_HD uint32_t lk_body_luma_units(struct lk_rgb p) { return (uint32_t)(int32_t)(lk_body_luma(p) * 1048576.0f + 0.5f); }

LK_HD float lk_body_luma_mean(uint64_t units, int pixels) { return (float)units * (1.0f / 1048576.0f) / (float)pixels; }

LK_HD struct lk_rgb lk_body_brightness(struct lk_rgb p, float f) {
    struct lk_rgb q;
    q.r = lk_body_clamp(p.r * f);
    q.g = lk_body_clamp(p.g * f);
    q.b = lk_body_clamp(p.b * f);
    return q;
}

/* Away from `grey` by the factor f: the picture's mean luma for contrast, the pixel's own for saturation. */
LK_HD struct lk_rgb lk_body_blend(struct lk_rgb p, float grey, float f) {
    struct lk_rgb q;
    q.r = lk_body_clamp(grey + (p.r - grey) * f);
    q.g = lk_body_clamp(grey + (p.g - grey) * f);
    q.b = lk_body_clamp(grey + (p.b - grey) * f);
    return q;
}

LK_HD float lk_body_hue_channel(float sector, float high, float chroma) {
    float k = sector < 0.0f ? sector + 6.0f : sector; /* mod 6 of -5 .. 13 */
    k = k >= 6.0f ? k - 6.0f : k;
    k = k >= 6.0f ? k - 6.0f : k;
    float other = 4.0f - k;
    k = k < other ? k : other;
    return high - chroma * lk_body_clamp(k);
}

/* Turns the hue by `turns`, in -.5 .. .5; value and saturation stay. */
LK_HD struct lk_rgb lk_body_hue(struct lk_rgb p, float turns) {
    float high = p.r > p.g ? p.r : p.g, low = p.r < p.g ? p.r : p.g;
    high = high > p.b ? high : p.b;
    low = low < p.b ? low : p.b;
    float chroma = high - low, safe = chroma > 1e-8f ? chroma : 1e-8f;
    float above = p.r - p.g, base = 4.0f; /* the sector of the largest channel: b, else g, else r */
    above = high == p.g ? p.b - p.r : above;
    base = high == p.g ? 2.0f : base;
    above = high == p.r ? p.g - p.b : above;
    base = high == p.r ? 0.0f : base;
    float sixth = above / safe + base + 6.0f * turns;
    struct lk_rgb q;
    q.r = lk_body_hue_channel(sixth + 5.0f, high, chroma);
    q.g = lk_body_hue_channel(sixth + 3.0f, high, chroma);
    q.b = lk_body_hue_channel(sixth + 1.0f, high, chroma);
    return q;
}

LK_HD float lk_body_solarize(float x, float threshold) { return x >= threshold ? 1.0f - x : x; }

LK_HD float lk_body_normalise(float x, float mean, float std) { return (x - mean) / std; }

/* --- Blur ---------------------------------------------------------------------------------------------------- */

/* weights[0] for the centre, weights[d] for both pixels at distance d; they sum to 1. */
LK_HD void lk_augment_blur_weights(float *weights, int radius, float sigma) {
    float sum = 1.0f, scale = 1.0f / sigma;
    weights[0] = 1.0f;
    for (int d = 1; d <= radius; d++) {
        float t = (float)d * scale;
        weights[d] = lk_body_exp(-0.5f * (t * t));
        sum = sum + 2.0f * weights[d];
    }
    for (int d = 0; d <= radius; d++)
        weights[d] = weights[d] / sum;
}

/* Where a position outside 0..size-1 is read: mirrored at the edge pixel, which is not repeated. radius < size. */
LK_HD int lk_body_reflect(int i, int size) {
    i = i < 0 ? -i : i;
    return i >= size ? 2 * size - 2 - i : i;
}

#endif
