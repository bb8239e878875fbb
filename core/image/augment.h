/* BYOL's random views. Parameters are drawn by Philox from (seed, epoch, image, view) alone; augment_body.h holds the
 * drawing and the per-pixel bodies as LK_HD inline functions for gcc and nvcc. Order: crop (bilinear, antialiased when
 * it shrinks), flip, colour jitter, grey, blur, solarise, normalise; values stay float in 0..1 between operations. */
#ifndef LK_IMAGE_AUGMENT_H
#define LK_IMAGE_AUGMENT_H

#include <stdint.h>

#include "image/image.h"

struct lk_augment {             /* one view's distribution; lk_augment_default(): the default recipe's */
    int size;                   /* output side */
    float crop_min, crop_max;   /* share of the area: .08, 1 */
    float ratio_min, ratio_max; /* width / height: 3/4, 4/3; drawn log-uniform, ten tries as in torchvision */
    float flip_p;               /* .5 */
    float jitter_p;             /* .8 */
    float brightness, contrast, saturation, hue; /* .4 .4 .4 .1: factor in 1 +- v, hue in +- v turns */
    int jitter_shuffle;                          /* 1: the four operations in random order; 0: as listed */
    float grey_p;                                /* .2 */
    float blur_p;                                /* 0; kernel side: odd, about size / 10, >= 3 */
    float blur_sigma_min, blur_sigma_max;        /* .1, 2 pixels */
    float solarize_p, solarize_threshold;        /* 0, .5 */
    float mean[3], std[3];                       /* ImageNet's */
};

struct lk_augment lk_augment_default(int size);
/* Range checks with a sentence naming the field; LK_EINVAL. */
int lk_augment_check(const struct lk_augment *a);

/* Draws one view of `image` (its number in the data set) and writes it normalised as planar CHW float,
 * out[3 * size * size]. view is 0 or 1. scratch: lk_augment_scratch(a) floats owned by the caller. */
void lk_augment_view(float *out, const uint8_t *pixels, int width, int height, const struct lk_augment *a,
                     uint64_t seed, uint32_t epoch, uint64_t image, int view, float *scratch);
size_t lk_augment_scratch(const struct lk_augment *a);

#endif
