/* PNG in and out through libpng, which only this file knows (PNG specification, third edition; libpng-manual.txt).
 *
 * libpng reports an error by longjmp. So what must survive it lives in a struct outside the frame that calls libpng,
 * and each such frame does nothing else. Chunks that no pixel needs (profiles, texts, times) are skipped unread: they
 * cannot expand in memory. A wrong CRC is an error in any chunk, as in Pillow. */
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "image/image_internal.h"

struct reader {
    const uint8_t *bytes;
    size_t n, at;
    png_structp png;
    png_infop info;
    uint64_t max_pixels;
    struct lk_image *out;
    uint8_t *rgba; /* scratch: one row, or the picture when interlaced */
    int rc;        /* the reason when it is not libpng's */
    char message[128];
};

static void on_error(png_structp png, png_const_charp message) {
    struct reader *r = png_get_error_ptr(png);
    size_t n = strlen(message);
    if (n >= sizeof r->message)
        n = sizeof r->message - 1;
    memcpy(r->message, message, n);
    r->message[n] = '\0';
    longjmp(png_jmpbuf(png), 1);
}

static void on_warning(png_structp png, png_const_charp message) { (void)png, (void)message; }

static void read_bytes(png_structp png, png_bytep to, size_t n) {
    struct reader *r = png_get_io_ptr(png);
    if (n > r->n - r->at)
        png_error(png, "the file ends too early");
    memcpy(to, r->bytes + r->at, n);
    r->at += n;
}

/* The header chunk, read without libpng: sizes are known before anything is allocated, and lk_decode_info needs no
 * more. */
static int read_header(uint32_t *width, uint32_t *height, const uint8_t *bytes, size_t n) {
    static const uint8_t start[8] = {0, 0, 0, 13, 'I', 'H', 'D', 'R'};
    if (n < 8 + 8 + 13 + 4)
        return lk_err(LK_EFORMAT, "PNG: the file ends too early, in its header");
    if (memcmp(bytes + 8, start, sizeof start) != 0)
        return lk_err(LK_EFORMAT, "PNG: does not begin with a header chunk");
    *width = png_get_uint_32(bytes + 16);
    *height = png_get_uint_32(bytes + 20);
    return 0;
}

/* Alpha over white, rounded: (c a + 255 (255 - a)) / 255. */
static void composite(uint8_t *rgb, const uint8_t *rgba, size_t n) {
    for (size_t i = 0; i < n; i++, rgb += 3, rgba += 4) {
        uint32_t a = rgba[3], white = 255 * (255 - a) + 127;
        for (int c = 0; c < 3; c++)
            rgb[c] = (uint8_t)((rgba[c] * a + white) / 255);
    }
}

static void read_rows(struct reader *r, int passes, int alpha) {
    size_t width = (size_t)r->out->width, stride = width * (alpha ? 4 : 3);
    for (int pass = 0; pass < passes; pass++)
        for (int y = 0; y < r->out->height; y++) {
            uint8_t *rgb = r->out->pixels + (size_t)y * width * 3;
            uint8_t *row = !alpha ? rgb : passes > 1 ? r->rgba + (size_t)y * stride : r->rgba;
            png_read_row(r->png, row, NULL); /* an interlaced pass fills in its own pixels only */
            if (alpha && pass == passes - 1)
                composite(rgb, row, width);
        }
}

static void decode_body(struct reader *r) {
    png_structp png = r->png;
    png_set_read_fn(png, r, read_bytes);
    png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_set_user_limits(png, LK_IMAGE__MAX_SIDE, LK_IMAGE__MAX_SIDE);
    png_read_info(png, r->info);
    png_uint_32 width, height;
    int depth, colour, interlace;
    png_get_IHDR(png, r->info, &width, &height, &depth, &colour, &interlace, NULL, NULL);

    png_set_expand(png);   /* palettes to RGB, 1, 2 and 4 bits to 8, transparent colours to alpha */
    png_set_strip_16(png); /* by the high byte */
    png_set_gray_to_rgb(png);
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, r->info);
    int alpha = (png_get_color_type(png, r->info) & PNG_COLOR_MASK_ALPHA) != 0;

    r->rc = lk_image__alloc(r->out, (int)width, (int)height);
    if (r->rc == 0 && alpha) {
        r->rgba = lk_arena_take(r->out->arena, (size_t)width * 4, passes > 1 ? (size_t)height : 1);
        if (r->rgba == NULL)
            r->rc = lk_err(LK_ENOMEM, "out of memory for a PNG of %u x %u pixels", width, height);
    }
    if (r->rc != 0)
        return;
    read_rows(r, passes, alpha);
    png_read_end(png, NULL);
}

static int run_reader(struct reader *r) {
    if (setjmp(png_jmpbuf(r->png)) != 0)
        return lk_err(strstr(r->message, "emory") != NULL ? LK_ENOMEM : LK_EFORMAT, "PNG: %s", r->message);
    decode_body(r);
    return r->rc;
}

int lk_png__decode(struct lk_image *out, const uint8_t *bytes, size_t n, uint64_t max_pixels) {
    uint32_t width = 0, height = 0;
    int rc = read_header(&width, &height, bytes, n);
    if (rc == 0)
        rc = lk_image__check_size(width, height, max_pixels);
    if (rc != 0)
        return rc;
    struct reader r = {.bytes = bytes, .n = n, .max_pixels = max_pixels, .out = out};
    r.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &r, on_error, on_warning);
    r.info = r.png ? png_create_info_struct(r.png) : NULL;
    rc = r.info ? run_reader(&r) : lk_err(LK_ENOMEM, "out of memory for the PNG decoder");
    png_destroy_read_struct(&r.png, &r.info, NULL);
    lk_arena_drop(out->arena, r.rgba);
    if (rc != 0)
        lk_image_free(out);
    return rc;
}

int lk_png__info(struct lk_image_info *out, const uint8_t *bytes, size_t n) {
    uint32_t width = 0, height = 0;
    int rc = read_header(&width, &height, bytes, n);
    if (rc == 0)
        rc = lk_image__check_size(width, height, UINT64_MAX);
    if (rc == 0)
        *out = (struct lk_image_info){"png", (int)width, (int)height};
    return rc;
}

/* --- Writing ------------------------------------------------------------------------------------------------- */

struct writer {
    struct lk_buf *out;
    const struct lk_image *image;
    png_structp png;
    png_infop info;
    int rc;
};

static void on_write_error(png_structp png, png_const_charp message) {
    (void)message;
    longjmp(png_jmpbuf(png), 1);
}

static void write_bytes(png_structp png, png_bytep bytes, size_t n) {
    struct writer *w = png_get_io_ptr(png);
    w->rc = lk_buf_append(w->out, bytes, n);
    if (w->rc != 0)
        png_error(png, "no memory");
}

static void flush_nothing(png_structp png) { (void)png; }

static int run_writer(struct writer *w) {
    if (setjmp(png_jmpbuf(w->png)) != 0)
        return w->rc != 0 ? w->rc : lk_err(LK_EFAIL, "PNG: encoding failed");
    png_set_write_fn(w->png, w, write_bytes, flush_nothing);
    png_set_IHDR(w->png, w->info, (png_uint_32)w->image->width, (png_uint_32)w->image->height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(w->png, w->info);
    for (int y = 0; y < w->image->height; y++)
        png_write_row(w->png, w->image->pixels + (size_t)y * (size_t)w->image->width * 3);
    png_write_end(w->png, NULL);
    return 0;
}

int lk_encode_png(struct lk_buf *out, const struct lk_image *image) {
    size_t before = out->size;
    struct writer w = {.out = out, .image = image};
    w.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, on_write_error, on_warning);
    w.info = w.png ? png_create_info_struct(w.png) : NULL;
    int rc = w.info ? run_writer(&w) : lk_err(LK_ENOMEM, "out of memory for the PNG encoder");
    png_destroy_write_struct(&w.png, &w.info);
    if (rc != 0)
        out->size = before;
    return rc;
}
