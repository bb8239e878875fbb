/* For augment.c and its kernels alone: loops over the planes of one view, compiled for several instruction sets. The
 * clones give equal bits, since no sum of floats changes its order and contraction is off. n counts pixels; r, g, b
 * are planes that do not overlap. */
#ifndef LK_IMAGE_AUGMENT_INTERNAL_H
#define LK_IMAGE_AUGMENT_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

/* h[x] = w0[x] * row[i0[x]] + w1[x] * row[i1[x]] for three planes of `size`; row: RGB bytes, `width` pixels, of which
 * `planes` ([3][size], width <= size) receives the floats. */
void lk_augment__columns2(float *h, int size, const uint8_t *row, int width, const int32_t *i0, const int32_t *i1,
                          const float *w0, const float *w1, float *planes);
/* out[x] = (w0 * h0[x] + w1 * h1[x]) / 255. */
void lk_augment__rows2(float *out, const float *h0, const float *h1, float w0, float w1, size_t n);
void lk_augment__accumulate(float *out, const float *h, float w, size_t n);
void lk_augment__scale(float *out, float f, size_t n);

void lk_augment__brightness(float *r, float *g, float *b, size_t n, float f);
void lk_augment__contrast(float *r, float *g, float *b, size_t n, float f);
void lk_augment__saturation(float *r, float *g, float *b, size_t n, float f);
void lk_augment__hue(float *r, float *g, float *b, size_t n, float turns);
void lk_augment__grey(float *r, float *g, float *b, size_t n);
void lk_augment__solarize(float *x, size_t n, float threshold);
void lk_augment__normalise(float *x, size_t n, float mean, float std);
/* One plane of size x size in place; scratch of as many floats. */
void lk_augment__blur(float *x, int size, const float *weights, int radius, float *scratch);

#endif
