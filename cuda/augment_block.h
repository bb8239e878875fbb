/* What a block of threads does to one picture, cut into the stages between its barriers. A stage takes the thread's
 * number and how many there are, and every stage gives a thread the same pixels, so that only a stage that reads its
 * neighbours' needs a barrier before it. nvcc compiles it for the kernel, gcc for a test that holds the stages to
 * lk_augment_view() bit for bit. planes: float [3][n], n = size * size. */
#ifndef LK_CUDA_AUGMENT_BLOCK_H
#define LK_CUDA_AUGMENT_BLOCK_H

#include "image/augment_body.h"

struct lk_block { /* shared by the threads of a block */
    struct lk_view view;
    float weights[LK_AUGMENT_MAX_RADIUS + 1];
    unsigned long long luma; /* sum of lk_body_luma_units over the picture */
};

/* One thread alone. */
LK_HD void lk_block_draw(struct lk_block *b, const struct lk_augment *a, int width, int height, uint64_t seed,
                         uint32_t epoch, uint64_t image, int view) {
    lk_augment_draw(&b->view, a, width, height, seed, epoch, image, view);
    if (b->view.blur_radius > 0) {
        lk_augment_blur_weights(b->weights, b->view.blur_radius, b->view.blur_sigma);
    }
    b->luma = 0;
}

LK_HD struct lk_rgb lk_block_crop_pixel(const struct lk_view *v, int size, const uint8_t *pixels, int source_width,
                                        int y, int x) {
    struct lk_taps tx, ty;
    struct lk_rgb sum = {0.0f, 0.0f, 0.0f};
    lk_taps_make(&tx, v->width, size, v->flip ? size - 1 - x : x);
    lk_taps_make(&ty, v->height, size, y);
    for (int j = 0; j < ty.count; j++) {
        const uint8_t *from = pixels +
                              ((size_t)(v->top + ty.first + j) * (size_t)source_width + (size_t)(v->left + tx.first)) *
                                  3;
        struct lk_rgb row = {0.0f, 0.0f, 0.0f};
        float wy = lk_taps_weight(&ty, j);
        for (int k = 0; k < tx.count; k++, from += 3) {
            float wx = lk_taps_weight(&tx, k);
            row.r = row.r + wx * (float)from[0];
            row.g = row.g + wx * (float)from[1];
            row.b = row.b + wx * (float)from[2];
        }
        sum.r = sum.r + wy * row.r;
        sum.g = sum.g + wy * row.g;
        sum.b = sum.b + wy * row.b;
    }
    sum.r = sum.r * LK_AUGMENT_UNIT;
    sum.g = sum.g * LK_AUGMENT_UNIT;
    sum.b = sum.b * LK_AUGMENT_UNIT;
    return sum;
}

LK_HD struct lk_rgb lk_block_load(const float *planes, int n, int i) {
    struct lk_rgb p;
    p.r = planes[i];
    p.g = planes[n + i];
    p.b = planes[2 * n + i];
    return p;
}

LK_HD void lk_block_store(float *planes, int n, int i, struct lk_rgb p) {
    planes[i] = p.r;
    planes[n + i] = p.g;
    planes[2 * n + i] = p.b;
}

LK_HD void lk_block_crop(float *planes, const struct lk_view *v, int size, const uint8_t *pixels, int source_width,
                         int thread, int threads) {
    int n = size * size;
    for (int i = thread; i < n; i += threads) {
        lk_block_store(planes, n, i, lk_block_crop_pixel(v, size, pixels, source_width, i / size, i % size));
    }
}

/* This thread's share of the luma; the block adds the shares up before lk_block_jitter(contrast). */
LK_HD unsigned long long lk_block_luma(const float *planes, int n, int thread, int threads) {
    unsigned long long units = 0;
    for (int i = thread; i < n; i += threads) {
        units += lk_body_luma_units(lk_block_load(planes, n, i));
    }
    return units;
}

LK_HD void lk_block_jitter(float *planes, int n, const struct lk_block *b, int op, int thread, int threads) {
    float factor = op == LK_JITTER_NONE ? 0.0f : b->view.factor[op];
    float mean = op == LK_JITTER_CONTRAST ? lk_body_luma_mean(b->luma, n) : 0.0f;
    for (int i = thread; i < n; i += threads) {
        struct lk_rgb p = lk_block_load(planes, n, i);
        switch (op) {
        case LK_JITTER_BRIGHTNESS: p = lk_body_brightness(p, factor); break;
        case LK_JITTER_CONTRAST: p = lk_body_blend(p, mean, factor); break;
        case LK_JITTER_SATURATION: p = lk_body_blend(p, lk_body_luma(p), factor); break;
        case LK_JITTER_HUE: p = lk_body_hue(p, factor); break;
        default: break;
        }
        lk_block_store(planes, n, i, p);
    }
}

LK_HD void lk_block_grey(float *planes, int n, int thread, int threads) {
    for (int i = thread; i < n; i += threads) {
        struct lk_rgb p = lk_block_load(planes, n, i);
        p.r = p.g = p.b = lk_body_luma(p);
        lk_block_store(planes, n, i, p);
    }
}

/* One plane, along its rows (step 1) or down its columns (step size): neighbours of a pixel lie `step` apart, and `at`
 * is its place along that line. */
LK_HD float lk_block_blur_pixel(const float *in, int i, int at, int step, int size, const float *weights, int radius) {
    const float *line = in + i - at * step;
    float sum = weights[0] * line[at * step];
    for (int d = 1; d <= radius; d++) {
        sum = sum +
              weights[d] * (line[lk_body_reflect(at - d, size) * step] + line[lk_body_reflect(at + d, size) * step]);
    }
    return sum;
}

LK_HD void lk_block_blur(float *out, const float *in, int columns, int size, const struct lk_block *b, int thread,
                         int threads) {
    for (int i = thread; i < size * size; i += threads) {
        out[i] = lk_block_blur_pixel(in, i, columns ? i / size : i % size, columns ? size : 1, size, b->weights,
                                     b->view.blur_radius);
    }
}

/* Pixel i as the network reads it. */
LK_HD struct lk_rgb lk_block_finish(const float *planes, int n, int i, const struct lk_block *b,
                                    const struct lk_augment *a) {
    struct lk_rgb p = lk_block_load(planes, n, i);
    if (b->view.solarize) {
        p.r = lk_body_solarize(p.r, a->solarize_threshold);
        p.g = lk_body_solarize(p.g, a->solarize_threshold);
        p.b = lk_body_solarize(p.b, a->solarize_threshold);
    }
    p.r = lk_body_normalise(p.r, a->mean[0], a->std[0]);
    p.g = lk_body_normalise(p.g, a->mean[1], a->std[1]);
    p.b = lk_body_normalise(p.b, a->mean[2], a->std[2]);
    return p;
}

#endif
