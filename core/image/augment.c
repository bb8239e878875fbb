/* One random view on the host: draw, then the loops of augment_kernels.c in the order of augment.h. */
#include "image/augment.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "image/augment_body.h"
#include "image/augment_internal.h"

enum { RING = 8, TABLE_TAPS = 8 }; /* rows and weights kept; a crop shrunk by more than about 3.5 computes them anew */

struct lk_augment lk_augment_default(int size) {
    return (struct lk_augment){
        .size = size,
        .crop_min = 0.08f,
        .crop_max = 1.0f,
        .ratio_min = 3.0f / 4.0f,
        .ratio_max = 4.0f / 3.0f,
        .flip_p = 0.5f,
        .jitter_p = 0.8f,
        .brightness = 0.4f,
        .contrast = 0.4f,
        .saturation = 0.4f,
        .hue = 0.1f,
        .jitter_shuffle = 1,
        .grey_p = 0.2f,
        .blur_p = 0.0f,
        .blur_sigma_min = 0.1f,
        .blur_sigma_max = 2.0f,
        .solarize_p = 0.0f,
        .solarize_threshold = 0.5f,
        .mean = {0.485f, 0.456f, 0.406f},
        .std = {0.229f, 0.224f, 0.225f},
    };
}

struct range {
    const char *name;
    float value, low, high;
};

int lk_augment_check(const struct lk_augment *a) {
    const struct range ranges[] = {
        {"crop_min", a->crop_min, 1e-4f, 1},
        {"crop_max", a->crop_max, a->crop_min, 1},
        {"ratio_min", a->ratio_min, 0.01f, 100},
        {"ratio_max", a->ratio_max, a->ratio_min, 100},
        {"flip_p", a->flip_p, 0, 1},
        {"jitter_p", a->jitter_p, 0, 1},
        {"brightness", a->brightness, 0, 10},
        {"contrast", a->contrast, 0, 10},
        {"saturation", a->saturation, 0, 10},
        {"hue", a->hue, 0, 0.5f},
        {"grey_p", a->grey_p, 0, 1},
        {"blur_p", a->blur_p, 0, 1},
        {"blur_sigma_min", a->blur_sigma_min, 0.01f, 100},
        {"blur_sigma_max", a->blur_sigma_max, a->blur_sigma_min, 100},
        {"solarize_p", a->solarize_p, 0, 1},
        {"solarize_threshold", a->solarize_threshold, 0, 1},
        {"mean (red)", a->mean[0], -10, 10},
        {"mean (green)", a->mean[1], -10, 10},
        {"mean (blue)", a->mean[2], -10, 10},
        {"std (red)", a->std[0], 1e-4f, 100},
        {"std (green)", a->std[1], 1e-4f, 100},
        {"std (blue)", a->std[2], 1e-4f, 100},
    };
    if (a->size < 2 || a->size > LK_AUGMENT_MAX_SIZE)
        return lk_err(LK_EINVAL, "augmentation: size is %d, not 2 to %d", a->size, LK_AUGMENT_MAX_SIZE);
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        const struct range *r = &ranges[i];
        if (!(r->value >= r->low && r->value <= r->high)) /* NaN fails too */
            return lk_err(LK_EINVAL, "augmentation: %s is %g, not %g to %g", r->name, (double)r->value, (double)r->low,
                          (double)r->high);
    }
    if (a->jitter_shuffle != 0 && a->jitter_shuffle != 1)
        return lk_err(LK_EINVAL, "augmentation: jitter_shuffle is %d, not 0 or 1", a->jitter_shuffle);
    return 0;
}

/* Scratch: RING filtered rows and one unfiltered ([3][size] each) with a table of weights while cropping; then one
 * plane for the blur. */
size_t lk_augment_scratch(const struct lk_augment *a) {
    size_t size = (size_t)a->size, crop = (RING * 3 + 3 + TABLE_TAPS) * size, blur = size * size;
    return crop > blur ? crop : blur;
}

/* --- Crop ---------------------------------------------------------------------------------------------------- */

struct crop {
    const uint8_t *pixels; /* the crop's first pixel */
    size_t stride;         /* bytes a source row */
    int size, width, height, max_taps;
    struct lk_taps taps[LK_AUGMENT_MAX_SIZE]; /* by output column, flipped already */
    int32_t i0[LK_AUGMENT_MAX_SIZE], i1[LK_AUGMENT_MAX_SIZE];
    float *w0, *w1; /* two taps a column: [size] each */
    float *table;   /* up to TABLE_TAPS: [TABLE_TAPS][size], the same memory */
    float *ring, *planes;
    int slot[RING]; /* which source row each of the ring's rows holds, -1: none */
};

static void crop_prepare(struct crop *c, const struct lk_view *v, int size, const uint8_t *pixels, int source_width,
                         float *scratch) {
    c->stride = (size_t)source_width * 3;
    c->pixels = pixels + (size_t)v->top * c->stride + (size_t)v->left * 3;
    c->size = size;
    c->width = v->width;
    c->height = v->height;
    c->max_taps = 0;
    c->ring = scratch;
    c->planes = c->ring + RING * 3 * (size_t)size;
    c->table = c->w0 = c->planes + 3 * (size_t)size;
    c->w1 = c->w0 + size;
    for (int i = 0; i < RING; i++)
        c->slot[i] = -1;
    for (int x = 0; x < size; x++) {
        lk_taps_make(&c->taps[x], v->width, size, v->flip ? size - 1 - x : x);
        if (c->taps[x].count > c->max_taps)
            c->max_taps = c->taps[x].count;
    }
    for (int x = 0; x < size && c->max_taps <= TABLE_TAPS; x++) {
        const struct lk_taps *t = &c->taps[x];
        for (int k = 0; k < t->count; k++)
            c->table[k * size + x] = lk_taps_weight(t, k);
        c->i0[x] = c->i1[x] = t->first;
        if (t->count > 1)
            c->i1[x]++;
        else
            c->w1[x] = 0.0f; /* adds nothing to the sum, bit for bit */
    }
}

/* A source row of the crop, filtered along x: [3][size]. */
static const float *crop_row(struct crop *c, int y) {
    float *h = c->ring + (size_t)(y % RING) * 3 * (size_t)c->size;
    if (c->slot[y % RING] == y)
        return h;
    c->slot[y % RING] = y;
    const uint8_t *row = c->pixels + (size_t)y * c->stride;
    const int size = c->size;
    if (c->max_taps <= 2 && c->width <= size) {
        lk_augment__columns2(h, size, row, c->width, c->i0, c->i1, c->w0, c->w1, c->planes);
        return h;
    }
    for (int x = 0; x < size; x++) {
        const struct lk_taps *t = &c->taps[x];
        const uint8_t *p = row + (size_t)t->first * 3;
        float r = 0.0f, g = 0.0f, b = 0.0f;
        for (int k = 0; k < t->count; k++, p += 3) {
            float w = c->max_taps <= TABLE_TAPS ? c->table[k * size + x] : lk_taps_weight(t, k);
            r = r + w * (float)p[0];
            g = g + w * (float)p[1];
            b = b + w * (float)p[2];
        }
        h[x] = r;
        h[size + x] = g;
        h[2 * size + x] = b;
    }
    return h;
}

static void crop(float *out, const struct lk_view *v, int size, const uint8_t *pixels, int source_width,
                 float *scratch) {
    struct crop c; /* about 70 KB, of which a small picture touches little */
    crop_prepare(&c, v, size, pixels, source_width, scratch);
    const size_t row = (size_t)size, plane = row * row;
    for (int y = 0; y < size; y++) {
        struct lk_taps t;
        lk_taps_make(&t, v->height, size, y);
        float *to = out + (size_t)y * row;
        if (t.count <= 2) {
            const float *h0 = crop_row(&c, t.first);
            const float *h1 = t.count == 2 ? crop_row(&c, t.first + 1) : h0;
            float w0 = lk_taps_weight(&t, 0), w1 = t.count == 2 ? lk_taps_weight(&t, 1) : 0.0f;
            for (size_t i = 0; i < 3; i++)
                lk_augment__rows2(to + i * plane, h0 + i * row, h1 + i * row, w0, w1, row);
            continue;
        }
        for (size_t i = 0; i < 3; i++)
            memset(to + i * plane, 0, row * sizeof *to);
        for (int k = 0; k < t.count; k++) {
            const float *h = crop_row(&c, t.first + k);
            for (size_t i = 0; i < 3; i++)
                lk_augment__accumulate(to + i * plane, h + i * row, lk_taps_weight(&t, k), row);
        }
        for (size_t i = 0; i < 3; i++)
            lk_augment__scale(to + i * plane, LK_AUGMENT_UNIT, row);
    }
}

/* --- The view ------------------------------------------------------------------------------------------------ */

void lk_augment_view(float *out, const uint8_t *pixels, int width, int height, const struct lk_augment *a,
                     uint64_t seed, uint32_t epoch, uint64_t image, int view, float *scratch) {
    struct lk_view v;
    lk_augment_draw(&v, a, width, height, seed, epoch, image, view);
    crop(out, &v, a->size, pixels, width, scratch);

    const size_t n = (size_t)a->size * (size_t)a->size;
    float *r = out, *g = out + n, *b = out + 2 * n;
    for (int i = 0; i < 4; i++) {
        switch (v.op[i]) {
        case LK_JITTER_BRIGHTNESS: lk_augment__brightness(r, g, b, n, v.factor[LK_JITTER_BRIGHTNESS]); break;
        case LK_JITTER_CONTRAST: lk_augment__contrast(r, g, b, n, v.factor[LK_JITTER_CONTRAST]); break;
        case LK_JITTER_SATURATION: lk_augment__saturation(r, g, b, n, v.factor[LK_JITTER_SATURATION]); break;
        case LK_JITTER_HUE: lk_augment__hue(r, g, b, n, v.factor[LK_JITTER_HUE]); break;
        default: break;
        }
    }
    if (v.grey)
        lk_augment__grey(r, g, b, n);
    if (v.blur_radius > 0) {
        float weights[LK_AUGMENT_MAX_RADIUS + 1];
        lk_augment_blur_weights(weights, v.blur_radius, v.blur_sigma);
        for (size_t i = 0; i < 3; i++)
            lk_augment__blur(out + i * n, a->size, weights, v.blur_radius, scratch);
    }
    if (v.solarize)
        lk_augment__solarize(out, 3 * n, a->solarize_threshold);
    for (size_t i = 0; i < 3; i++)
        lk_augment__normalise(out + i * n, n, a->mean[i], a->std[i]);
}
