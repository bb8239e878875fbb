/* Stands in for decode_png.c and decode_jpeg.c in a build without codecs (LK_CODECS=OFF). */
#include "base/buf.h"
#include "base/err.h"
#include "image/image_internal.h"

static int refuse(const char *format) {
    return lk_err(LK_EUNSUPPORTED, "this build has no %s codec (it was configured with LK_CODECS=OFF)", format);
}

int lk_png__decode(struct lk_image *out, const uint8_t *bytes, size_t n, uint64_t max_pixels) {
    (void)out, (void)bytes, (void)n, (void)max_pixels;
    return refuse("PNG");
}

int lk_png__info(struct lk_image_info *out, const uint8_t *bytes, size_t n) {
    (void)out, (void)bytes, (void)n;
    return refuse("PNG");
}

int lk_jpeg__decode(struct lk_image *out, const uint8_t *bytes, size_t n, uint64_t max_pixels, int scaled_side) {
    (void)out, (void)bytes, (void)n, (void)max_pixels, (void)scaled_side;
    return refuse("JPEG");
}

int lk_jpeg__info(struct lk_image_info *out, const uint8_t *bytes, size_t n) {
    (void)out, (void)bytes, (void)n;
    return refuse("JPEG");
}

int lk_encode_png(struct lk_buf *out, const struct lk_image *image) {
    (void)out, (void)image;
    return refuse("PNG");
}
