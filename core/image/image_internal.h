/* For core/image alone: what the dispatcher and the codecs share. */
#ifndef LK_IMAGE_INTERNAL_H
#define LK_IMAGE_INTERNAL_H

#include <stdint.h>

#include "image/decode.h"
#include "image/image.h"

enum { LK_IMAGE__MAX_SIDE = 65535 };

/* 0, or LK_ELIMIT or LK_EFORMAT with a sentence. Called before any memory for pixels is taken. */
int lk_image__check_size(uint64_t width, uint64_t height, uint64_t max_pixels);

/* As lk_image_alloc, in the image's arena where it has one. */
int lk_image__alloc(struct lk_image *image, int width, int height);

/* The codecs. `bytes` begin with the format's signature. *out is zeroed but for its arena. */
int lk_png__decode(struct lk_image *out, const uint8_t *bytes, size_t n, uint64_t max_pixels);
int lk_png__info(struct lk_image_info *out, const uint8_t *bytes, size_t n);
int lk_jpeg__decode(struct lk_image *out, const uint8_t *bytes, size_t n, uint64_t max_pixels, int scaled_side);
int lk_jpeg__info(struct lk_image_info *out, const uint8_t *bytes, size_t n);

/* The orientation, 1..8, in a JPEG file's EXIF data; 1 when there is none or it makes no sense (never an error: the
 * picture is good without it). Reads only inside `bytes`, and no offset is followed twice. */
int lk_exif__orientation(const uint8_t *bytes, size_t n);

/* Turns stored pixels upright. Sides change places for 5..8. LK_ENOMEM leaves the image as it was. */
int lk_image__orient(struct lk_image *image, int orientation);

/* Bytes of scratch and coefficients stay in proportion to the window, not to the resized picture, which for a long
 * thin picture may be far larger than memory. out[h][w][3] = columns x0..x0+w-1 and rows y0..y0+h-1 of the picture
 * resized to full_w x full_h. */
struct lk_window {
    int full_w, full_h, x0, y0, w, h;
};
int lk_image__resample(uint8_t *out, const struct lk_image *in, const struct lk_window *window);

#endif
