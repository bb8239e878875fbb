/* JPEG in through libjpeg-turbo, which only this file knows (ITU-T T.81, T.871 JFIF; libjpeg.txt).
 *
 * The library reports an error by calling error_exit, which must not return: ours longjmps to the one setjmp below.
 * What must survive it lives in struct reader, outside that frame. Warnings that mean lost picture data are errors
 * here, as a truncated file is to Pillow; warnings about bytes that no pixel needs are not. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h> /* needs size_t and FILE before it */
#include <jerror.h>

#include "base/err.h"
#include "image/image_internal.h"

/* A progressive file may hold any number of scans, each of which passes over the whole picture: the work is bounded. No
 * encoder in use writes more than a few dozen. */
enum { MAX_SCANS = 100 };

struct reader {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
    const uint8_t *bytes;
    size_t n;
    uint64_t max_pixels;
    int scaled_side, header_only;
    struct lk_image *out;
    uint8_t *cmyk; /* scratch: one row */
    int rc;
};

static struct reader *reader_of(j_common_ptr jpeg) { return jpeg->client_data; }

static int status_of(int code) {
    switch (code) {
    case JERR_OUT_OF_MEMORY: return LK_ENOMEM;
    case JERR_BAD_PRECISION:      /* 12 bits */
    case JERR_SOF_UNSUPPORTED:    /* lossless, hierarchical */
    case JERR_ARITH_NOTIMPL:      /* arithmetic coding left out of the library */
    case JERR_CONVERSION_NOTIMPL: /* a colour space that nobody can turn into RGB */
    case JERR_NOTIMPL: return LK_EUNSUPPORTED;
    default: return LK_EFORMAT;
    }
}

static void on_error(j_common_ptr jpeg) {
    char message[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, message);
    reader_of(jpeg)->rc = lk_err(status_of(jpeg->err->msg_code), "JPEG: %s", message);
    longjmp(reader_of(jpeg)->escape, 1);
}

static void on_message(j_common_ptr jpeg, int level) {
    if (level >= 0)
        return; /* a trace */
    switch (jpeg->err->msg_code) {
    case JWRN_EXTRANEOUS_DATA: /* padding between segments */
    case JWRN_JFIF_MAJOR:
    case JWRN_ADOBE_XFORM:
    case JWRN_TOO_MUCH_DATA: return;
    default: on_error(jpeg);
    }
}

static void print_nothing(j_common_ptr jpeg) { (void)jpeg; }

static void source_nothing(j_decompress_ptr jpeg) { (void)jpeg; }

/* All bytes are in the buffer from the start: asking for more means that the file is cut off. */
static boolean source_fill(j_decompress_ptr jpeg) {
    ERREXIT(jpeg, JERR_INPUT_EOF);
    return FALSE;
}

static void source_skip(j_decompress_ptr jpeg, long n) {
    if (n <= 0)
        return;
    if ((size_t)n > jpeg->src->bytes_in_buffer)
        ERREXIT(jpeg, JERR_INPUT_EOF);
    jpeg->src->next_input_byte += n;
    jpeg->src->bytes_in_buffer -= (size_t)n;
}

static void on_progress(j_common_ptr jpeg) {
    struct reader *r = reader_of(jpeg);
    if (r->jpeg.input_scan_number > MAX_SCANS) {
        r->rc = lk_err(LK_ELIMIT, "JPEG: more than %d scans", MAX_SCANS);
        longjmp(r->escape, 1);
    }
}

/* Inks to light as Pillow does it: files with four components are taken as Adobe's, which store 255 - ink, so that
 * light is what is left of the paper times what black leaves. */
static void cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, size_t n) {
    for (size_t i = 0; i < n; i++, rgb += 3, cmyk += 4) {
        uint32_t left = cmyk[3];
        for (int c = 0; c < 3; c++) {
            uint32_t t = (uint32_t)(255 - cmyk[c]) * left + 128; /* divided by 255, rounded, in two shifts */
            rgb[c] = (uint8_t)(left - ((t + (t >> 8)) >> 8));
        }
    }
}

/* The largest of 1/8, 1/4, 1/2 that keeps both sides at `side` or more. */
static unsigned choose_denominator(unsigned width, unsigned height, int side) {
    unsigned d = 8;
    while (d > 1 && ((width + d - 1) / d < (unsigned)side || (height + d - 1) / d < (unsigned)side))
        d /= 2;
    return d;
}

static void decode_body(struct reader *r) {
    j_decompress_ptr jpeg = &r->jpeg;
    jpeg_create_decompress(jpeg); /* keeps err and client_data, clears the rest */
    r->source = (struct jpeg_source_mgr){.next_input_byte = r->bytes,
                                         .bytes_in_buffer = r->n,
                                         .init_source = source_nothing,
                                         .fill_input_buffer = source_fill,
                                         .skip_input_data = source_skip,
                                         .resync_to_restart = jpeg_resync_to_restart,
                                         .term_source = source_nothing};
    jpeg->src = &r->source;
    r->progress.progress_monitor = on_progress;
    jpeg->progress = &r->progress;
    jpeg_read_header(jpeg, TRUE);
    r->rc = lk_image__check_size(jpeg->image_width, jpeg->image_height, r->max_pixels);
    if (r->rc != 0 || r->header_only)
        return;
    int four = jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK;
    jpeg->out_color_space = four ? JCS_CMYK : JCS_RGB;
    if (r->scaled_side > 0) {
        jpeg->scale_num = 1;
        jpeg->scale_denom = choose_denominator(jpeg->image_width, jpeg->image_height, r->scaled_side);
    }
    jpeg_start_decompress(jpeg);
    r->rc = lk_image__alloc(r->out, (int)jpeg->output_width, (int)jpeg->output_height);
    if (r->rc == 0 && four) {
        r->cmyk = malloc((size_t)jpeg->output_width * 4);
        if (r->cmyk == NULL)
            r->rc = lk_err(LK_ENOMEM, "out of memory for a JPEG of %u x %u pixels", jpeg->output_width,
                           jpeg->output_height);
    }
    if (r->rc != 0)
        return;
    while (jpeg->output_scanline < jpeg->output_height) {
        uint8_t *rgb = r->out->pixels + (size_t)jpeg->output_scanline * (size_t)r->out->width * 3;
        JSAMPROW row = four ? r->cmyk : rgb;
        jpeg_read_scanlines(jpeg, &row, 1);
        if (four)
            cmyk_to_rgb(rgb, row, (size_t)r->out->width);
    }
    jpeg_finish_decompress(jpeg); /* reads to the end marker: without one the file is cut off */
}

/* r->jpeg is left for jpeg_destroy_decompress, whatever happened. */
static int run_reader(struct reader *r) {
    r->jpeg.err = jpeg_std_error(&r->errors);
    r->errors.error_exit = on_error;
    r->errors.emit_message = on_message;
    r->errors.output_message = print_nothing;
    r->jpeg.client_data = r;
    if (setjmp(r->escape) != 0)
        return r->rc;
    decode_body(r);
    return r->rc;
}

int lk_jpeg__decode(struct lk_image *out, const uint8_t *bytes, size_t n, uint64_t max_pixels, int scaled_side) {
    struct reader r = {.bytes = bytes, .n = n, .max_pixels = max_pixels, .scaled_side = scaled_side, .out = out};
    int rc = run_reader(&r);
    jpeg_destroy_decompress(&r.jpeg);
    free(r.cmyk);
    if (rc == 0)
        rc = lk_image__orient(out, lk_exif__orientation(bytes, n));
    if (rc != 0)
        lk_image_free(out);
    return rc;
}

int lk_jpeg__info(struct lk_image_info *out, const uint8_t *bytes, size_t n) {
    struct reader r = {.bytes = bytes, .n = n, .max_pixels = UINT64_MAX, .header_only = 1};
    int rc = run_reader(&r);
    int width = (int)r.jpeg.image_width, height = (int)r.jpeg.image_height;
    jpeg_destroy_decompress(&r.jpeg);
    if (rc != 0)
        return rc;
    int turned = lk_exif__orientation(bytes, n) >= 5;
    *out = (struct lk_image_info){"jpeg", turned ? height : width, turned ? width : height};
    return 0;
}
