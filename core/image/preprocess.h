/* The one way from a picture to a network's input, for serving, evaluation and export alike. Its version is part of a
 * vector space's identity: change the pixels, raise the number. */
#ifndef LK_IMAGE_PREPROCESS_H
#define LK_IMAGE_PREPROCESS_H

#include "image/image.h"

#define LK_PREPROCESS_VERSION 1

/* Bilinear with antialiasing (triangle filter, support scaled when shrinking), 8-bit result, horizontal then vertical
 * pass with 8-bit intermediate as Pillow's Image.resize(BILINEAR) does: equal to it within 1/255 a pixel. */
int lk_resize(struct lk_image *out, const struct lk_image *in, int width, int height);

/* Short side to `resize`, then the centre size x size square, as torchvision's Resize + CenterCrop. When size equals
 * both sides already the pixels are copied unchanged. out[size * size * 3], HWC. */
int lk_preprocess(uint8_t *out, const struct lk_image *in, int resize, int size);

/* The short side used for a network of `size`: size for size < 64 (small pictures are not cropped), else size * 8 / 7
 * rounded, as in the 256 / 224 convention. */
int lk_preprocess_resize_side(int size);

#endif
