/* Encoded bytes to pixels. The codec is found by the first bytes, never by a name. A file that its codec calls
 * truncated or damaged is refused, as Pillow does; nothing is allocated before the pixel limit has been checked. */
#ifndef LK_IMAGE_DECODE_H
#define LK_IMAGE_DECODE_H

#include "image/image.h"

struct lk_decode_limits {
    uint64_t max_pixels;    /* width x height; 0: 89,478,485 as in Pillow */
    struct lk_arena *arena; /* NULL, or: where the picture lies afterwards */
    int scaled_side;        /* 0: full decode. N: a JPEG may be decoded at 1/2, 1/4 or 1/8 while both sides stay >= N;
                            faster, but differs from Pillow by up to 17/255 */
};

struct lk_image_info {
    const char *format; /* "png", "jpeg" */
    int width, height;  /* after EXIF orientation */
};

/* LK_EFORMAT (unknown or damaged; the sentence says which), LK_ELIMIT (pixels), LK_EUNSUPPORTED (codec not built in),
 * LK_ENOMEM. On success *out owns the pixels; on failure it is zeroed. limits NULL: defaults. PNG: all colour types,
 * depths and interlacing, alpha composited on white, gamma ignored, 16 bits by their high byte. JPEG: EXIF orientation
 * applied, CMYK (Adobe-inverted too) and grey to RGB. */
int lk_decode(struct lk_image *out, const void *bytes, size_t n, const struct lk_decode_limits *limits);

/* Header only: no pixel memory. */
int lk_decode_info(struct lk_image_info *out, const void *bytes, size_t n);

/* Encodes as PNG, for thumbnails and the sample data. */
struct lk_buf;
int lk_encode_png(struct lk_buf *out, const struct lk_image *image);

#endif
