/* Which codec a file is for, by its first bytes, and the limits that hold before any codec takes memory. */
#include "image/decode.h"

#include <string.h>

#include "base/err.h"
#include "image/image_internal.h"

enum format { PNG, JPEG, NEITHER };

static const uint64_t default_max_pixels = 89478485; /* Pillow's Image.MAX_IMAGE_PIXELS */

int lk_image__check_size(uint64_t width, uint64_t height, uint64_t max_pixels) {
    if (width == 0 || height == 0)
        return lk_err(LK_EFORMAT, "a picture of %ju x %ju pixels is empty", (uintmax_t)width, (uintmax_t)height);
    uint64_t limit = max_pixels ? max_pixels : default_max_pixels;
    if (width > limit / height) /* width * height > limit, without overflow */
        return lk_err(LK_ELIMIT, "%ju x %ju pixels exceed the limit of %ju", (uintmax_t)width, (uintmax_t)height,
                      (uintmax_t)limit);
    if (width > LK_IMAGE__MAX_SIDE || height > LK_IMAGE__MAX_SIDE)
        return lk_err(LK_ELIMIT, "%ju x %ju pixels; a side has at most %d", (uintmax_t)width, (uintmax_t)height,
                      LK_IMAGE__MAX_SIDE);
    return 0;
}

struct signature {
    size_t offset, size;
    const char *bytes, *name;
};

/* What people send besides PNG and JPEG: named, so that the answer is not "unknown". */
static const struct signature others[] = {
    {0, 4, "GIF8", "GIF"},      {8, 4, "WEBP", "WebP"},        {0, 2, "BM", "BMP"},
    {0, 4, "II*\0", "TIFF"},    {0, 4, "MM\0*", "TIFF"},       {4, 8, "ftypavif", "AVIF"},
    {4, 8, "ftypheic", "HEIC"}, {4, 8, "ftypmif1", "HEIF"},    {0, 2, "\xFF\x0A", "JPEG XL"},
    {4, 4, "JXL ", "JPEG XL"},  {4, 4, "jP  ", "JPEG 2000"},   {0, 4, "%PDF", "PDF"},
    {0, 4, "<svg", "SVG"},      {0, 5, "<?xml", "XML (SVG?)"}, {0, 4, "8BPS", "Photoshop"},
};

static int begins_with(const uint8_t *bytes, size_t n, const struct signature *s) {
    return n >= s->offset + s->size && memcmp(bytes + s->offset, s->bytes, s->size) == 0;
}

static int find_format(enum format *out, const uint8_t *bytes, size_t n) {
    static const struct signature png = {0, 8, "\x89PNG\r\n\x1A\n", "PNG"}, jpeg = {0, 3, "\xFF\xD8\xFF", "JPEG"};
    *out = begins_with(bytes, n, &png) ? PNG : begins_with(bytes, n, &jpeg) ? JPEG : NEITHER;
    if (*out != NEITHER)
        return 0;
    if (n == 0)
        return lk_err(LK_EFORMAT, "no bytes: not a picture");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (begins_with(bytes, n, &others[i]))
            return lk_err(LK_EUNSUPPORTED, "a %s file; PNG and JPEG can be read", others[i].name);
    if (n < 8 && (memcmp(bytes, png.bytes, n) == 0 || memcmp(bytes, jpeg.bytes, n < 3 ? n : 3) == 0))
        return lk_err(LK_EFORMAT, "a picture file that ends after %zu bytes", n);
    return lk_err(LK_EFORMAT, "neither a PNG nor a JPEG file, by its first bytes");
}

int lk_decode(struct lk_image *out, const void *bytes, size_t n, const struct lk_decode_limits *limits) {
    const struct lk_decode_limits none = {0};
    if (limits == NULL)
        limits = &none;
    *out = (struct lk_image){.arena = limits->arena};
    enum format format;
    int rc = find_format(&format, bytes, n);
    if (rc == 0)
        rc = format == PNG ? lk_png__decode(out, bytes, n, limits->max_pixels)
                           : lk_jpeg__decode(out, bytes, n, limits->max_pixels, limits->scaled_side);
    if (rc != 0)
        *out = (struct lk_image){0};
    return rc;
}

int lk_decode_info(struct lk_image_info *out, const void *bytes, size_t n) {
    *out = (struct lk_image_info){0};
    enum format format;
    int rc = find_format(&format, bytes, n);
    if (rc != 0)
        return rc;
    return format == PNG ? lk_png__info(out, bytes, n) : lk_jpeg__info(out, bytes, n);
}
