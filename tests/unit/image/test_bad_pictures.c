/* Is every damaged, hostile or foreign file refused with a sentence, before memory is taken for it, and without a leak? */
#include "image/decode.h"
#include "image/image_internal.h"
#include "pictures.h"

/* --- Memory, watched ----------------------------------------------------------------------------------------- */

/* In plain builds on glibc this program's malloc counts, and can be told to fail. Sanitizers bring their own malloc and
 * find leaks by themselves. */
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define WATCHED 1
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void __libc_free(void *p);
#else
#define WATCHED 0
#endif

static struct {
    int armed;
    long fail_at, count, live; /* the fail_at-th allocation fails, 0: none */
    size_t total;
} memory;

#if WATCHED
static int refuse(size_t n) {
    if (!memory.armed)
        return 0;
    memory.count++;
    memory.total += n;
    return memory.count == memory.fail_at;
}

static void *count(void *p) {
    memory.live += memory.armed && p != NULL;
    return p;
}

/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */
void *malloc(size_t n) { return refuse(n) ? NULL : count(__libc_malloc(n)); }
void *calloc(size_t n, size_t size) { return refuse(n * size) ? NULL : count(__libc_calloc(n, size)); }
void *realloc(void *p, size_t n) {
    if (refuse(n))
        return NULL;
    return p == NULL ? count(__libc_realloc(p, n)) : __libc_realloc(p, n);
}
void free(void *p) {
    memory.live -= memory.armed && p != NULL;
    __libc_free(p);
}
/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */
#endif

/* Decodes with the memory watched; *total is what was asked for, where that is known. */
static int decode_watched(struct lk_image *image, const void *bytes, size_t n, long fail_at, size_t *total) {
    memory.count = memory.live = 0;
    memory.total = 0;
    memory.fail_at = fail_at;
    memory.armed = 1;
    int rc = lk_decode(image, bytes, n, NULL);
    memory.armed = 0;
    if (total != NULL)
        *total = memory.total;
    return rc;
}

/* --- Checks -------------------------------------------------------------------------------------------------- */

/* Refused with this code and a sentence that holds `part`, with nothing left in `image`. */
static void check_refused(const void *bytes, size_t n, int code, const char *part) {
    struct lk_image image = {.pixels = (uint8_t *)(uintptr_t)1, .width = 2, .height = 3};
    int rc = decode_watched(&image, bytes, n, 0, NULL);
    LK_CHECK_INT(rc, code);
    LK_CHECK_HOLDS(lk_error(), part);
    LK_CHECK(image.pixels == NULL && image.width == 0 && image.height == 0);
    LK_CHECK_INT(memory.live, 0);
    if (rc == 0)
        lk_image_free(&image);
}

/* Any outcome, but a clean one. Returns the status. */
static int check_clean(const void *bytes, size_t n) {
    struct lk_image image;
    struct lk_image_info info;
    lk_err(0, "%s", "");
    int rc = lk_decode(&image, bytes, n, NULL);
    LK_CHECK(rc <= 0 && (rc == 0) == (image.pixels != NULL));
    LK_CHECK(rc == 0 || strlen(lk_error()) > 5);
    lk_image_free(&image);
    int rc_info = lk_decode_info(&info, bytes, n);
    LK_CHECK(rc != 0 || rc_info == 0);
    return rc;
}

/* --- PNG ----------------------------------------------------------------------------------------------------- */

static void put32(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static uint32_t crc(const uint8_t *p, size_t n) {
    uint32_t c = 0xFFFFFFFF;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++)
            c = c & 1 ? c >> 1 ^ 0xEDB88320 : c >> 1;
    }
    return ~c;
}

static void add_chunk(struct lk_buf *b, const char *kind, const void *body, uint32_t n) {
    uint8_t number[4];
    put32(number, n);
    size_t start = b->size + 4;
    int rc = lk_buf_append(b, number, 4) || lk_buf_append(b, kind, 4) || lk_buf_append(b, body, n);
    put32(number, rc ? 0 : crc(b->data + start, n + 4));
    LK_CHECK_INT(rc || lk_buf_append(b, number, 4), 0);
}

/* Signature and header; depth 8, RGB unless given. */
static void begin_png(struct lk_buf *b, uint32_t width, uint32_t height, int depth, int colour, int interlace) {
    uint8_t header[13] = {0};
    put32(header, width);
    put32(header + 4, height);
    header[8] = (uint8_t)depth, header[9] = (uint8_t)colour, header[12] = (uint8_t)interlace;
    lk_buf_clear(b);
    LK_CHECK_INT(lk_buf_append(b, "\x89PNG\r\n\x1a\n", 8), 0);
    add_chunk(b, "IHDR", header, 13);
}

/* zlib streams of stored blocks: 4 zero bytes (one row of a 1-pixel RGB picture), and only 2 of them. */
static const uint8_t one_row[] = {0x78, 0x01, 1, 4, 0, 0xFB, 0xFF, 0, 0, 0, 0, 0, 4, 0, 1};
static const uint8_t half_row[] = {0x78, 0x01, 1, 2, 0, 0xFD, 0xFF, 0, 0, 0, 2, 0, 1};

static void end_png(struct lk_buf *b, const uint8_t *data, size_t n) {
    add_chunk(b, "IDAT", data, (uint32_t)n);
    add_chunk(b, "IEND", "", 0);
}

static void a_png_written_by_this_test_is_good(void) {
    struct lk_buf b = {0};
    struct lk_image image;
    begin_png(&b, 1, 1, 8, 2, 0);
    end_png(&b, one_row, sizeof one_row);
    LK_CHECK_INT(lk_decode(&image, b.data, b.size, NULL), 0);
    lk_image_free(&image);
    lk_buf_free(&b);
}

static void png_headers_that_lie(void) {
    static const struct {
        uint32_t width, height;
        int depth, colour, interlace, code;
        const char *part;
    } lines[] = {
        {65500, 65500, 8, 2, 0, LK_ELIMIT, "65500 x 65500 pixels exceed the limit of 89478485"},
        {0x7FFFFFFF, 0x7FFFFFFF, 8, 2, 0, LK_ELIMIT, "exceed the limit"},
        {0xFFFFFFFF, 0xFFFFFFFF, 16, 6, 1, LK_ELIMIT, "exceed the limit"},
        {100000, 10, 8, 2, 0, LK_ELIMIT, "a side has at most 65535"},
        {0, 5, 8, 2, 0, LK_EFORMAT, "empty"},
        {5, 0, 8, 2, 0, LK_EFORMAT, "empty"},
        {1, 1, 3, 0, 0, LK_EFORMAT, "PNG: "},  /* no such depth */
        {1, 1, 4, 2, 0, LK_EFORMAT, "PNG: "},  /* not for RGB */
        {1, 1, 16, 3, 0, LK_EFORMAT, "PNG: "}, /* not for palettes */
        {1, 1, 8, 5, 0, LK_EFORMAT, "PNG: "},  /* no such colour type */
        {1, 1, 8, 2, 2, LK_EFORMAT, "PNG: "},  /* no such interlacing */
        {1, 1, 8, 3, 0, LK_EFORMAT, "PNG: "},  /* no palette follows */
        {1, 2, 8, 2, 0, LK_EFORMAT, "PNG: "},  /* two rows promised, one there */
    };
    struct lk_buf b = {0};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        begin_png(&b, lines[i].width, lines[i].height, lines[i].depth, lines[i].colour, lines[i].interlace);
        end_png(&b, one_row, sizeof one_row);
        check_refused(b.data, b.size, lines[i].code, lines[i].part);
    }
    lk_buf_free(&b);
}

static void png_chunks_that_are_wrong(void) {
    struct lk_buf b = {0};
    uint8_t bad[sizeof one_row];

    begin_png(&b, 1, 1, 8, 2, 0);
    check_refused(b.data, b.size, LK_EFORMAT, "ends too early"); /* nothing after the header */
    add_chunk(&b, "IEND", "", 0);
    check_refused(b.data, b.size, LK_EFORMAT, "PNG: "); /* no picture data */

    begin_png(&b, 1, 1, 8, 2, 0);
    LK_CHECK_INT(lk_buf_append(&b, "garbage garbage garbage garbage", 31), 0);
    check_refused(b.data, b.size, LK_EFORMAT, "PNG: ");

    begin_png(&b, 1, 1, 8, 2, 0);
    end_png(&b, half_row, sizeof half_row);
    check_refused(b.data, b.size, LK_EFORMAT, "PNG: ");

    memcpy(bad, one_row, sizeof bad);
    bad[2] = 7; /* a block type that deflate does not have; the CRC is right */
    begin_png(&b, 1, 1, 8, 2, 0);
    end_png(&b, bad, sizeof bad);
    check_refused(b.data, b.size, LK_EFORMAT, "PNG: ");

    memcpy(bad, one_row, sizeof bad);
    bad[0] = 0x99; /* no zlib stream */
    begin_png(&b, 1, 1, 8, 2, 0);
    end_png(&b, bad, sizeof bad);
    check_refused(b.data, b.size, LK_EFORMAT, "PNG: ");

    begin_png(&b, 1, 1, 8, 2, 0);
    add_chunk(&b, "tEXt", "a\0b", 3);
    b.data[b.size - 1] ^= 1; /* a wrong CRC in a chunk that no pixel needs */
    end_png(&b, one_row, sizeof one_row);
    check_refused(b.data, b.size, LK_EFORMAT, "CRC");

    begin_png(&b, 1, 1, 8, 2, 0);
    put32(b.data + 8, 12); /* the header's length */
    end_png(&b, one_row, sizeof one_row);
    check_refused(b.data, b.size, LK_EFORMAT, "does not begin with a header");

    begin_png(&b, 1, 1, 8, 2, 0);
    size_t at = b.size;
    end_png(&b, one_row, sizeof one_row);
    put32(b.data + at, 0xFFFFFFFF); /* a chunk of 4 GiB */
    check_refused(b.data, b.size, LK_EFORMAT, "PNG: ");
    put32(b.data + at, 0x7FFFFFFF);
    check_refused(b.data, b.size, LK_EFORMAT, "PNG: ");

    begin_png(&b, 1, 1, 8, 2, 0);
    add_chunk(&b, "ABCD", "", 0); /* a critical chunk that nobody knows */
    end_png(&b, one_row, sizeof one_row);
    check_refused(b.data, b.size, LK_EFORMAT, "PNG: ");
    lk_buf_free(&b);
}

/* A profile that would unpack to 100 MB is skipped, not unpacked. */
static void png_side_data_is_not_unpacked(void) {
    struct lk_buf b = {0}, body = {0};
    begin_png(&b, 1, 1, 8, 2, 0);
    uint8_t *text = lk_calloc(1000000, 1);
    LK_REQUIRE(text != NULL && lk_buf_append(&body, "Comment\0\0", 9) == 0 && lk_buf_append(&body, text, 1000000) == 0);
    add_chunk(&b, "zTXt", body.data, (uint32_t)body.size);
    end_png(&b, one_row, sizeof one_row);
    struct lk_image image;
    size_t total;
    LK_CHECK_INT(decode_watched(&image, b.data, b.size, 0, &total), 0);
    LK_CHECK(total < 200000);
    lk_image_free(&image);
    free(text);
    lk_buf_free(&body);
    lk_buf_free(&b);
}

/* --- JPEG ---------------------------------------------------------------------------------------------------- */

/* Where segment `marker` begins (at its FF); -1 when there is none. Entropy-coded data holds no such pair. */
static long find_marker(const struct lk_buf *b, int marker, size_t from) {
    for (size_t i = from; i + 1 < b->size; i++)
        if (b->data[i] == 0xFF && b->data[i + 1] == marker)
            return (long)i;
    return -1;
}

static void remove_bytes(struct lk_buf *b, size_t at, size_t n) {
    memmove(b->data + at, b->data + at + n, b->size - at - n);
    b->size -= n;
}

static void jpeg_headers_that_lie(void) {
    struct lk_buf b = data_read("images/rgb-444.jpg");
    long sof = find_marker(&b, 0xC0, 0);
    LK_REQUIRE(sof > 0);
    uint8_t *frame = b.data + sof; /* FF C0 length precision height width components */

    uint8_t kept[9];
    memcpy(kept, frame, sizeof kept);
    memcpy(frame + 5, "\xFF\xDC\xFF\xDC", 4);
    check_refused(b.data, b.size, LK_ELIMIT, "65500 x 65500 pixels exceed the limit of 89478485");
    memcpy(frame + 5, "\0\0\0\x20", 4);
    check_refused(b.data, b.size, LK_EFORMAT, "JPEG: ");
    memcpy(frame + 5, "\0\x20\0\0", 4);
    check_refused(b.data, b.size, LK_EFORMAT, "JPEG: ");
    memcpy(frame + 5, "\x10\0\x10\0", 4); /* 4096 x 4096, with the data of 45 x 37 */
    check_refused(b.data, b.size, LK_EFORMAT, "JPEG: ");
    memcpy(frame, kept, sizeof kept);
    frame[4] = 12; /* bits a sample */
    check_refused(b.data, b.size, LK_EUNSUPPORTED, "JPEG: ");
    memcpy(frame, kept, sizeof kept);
    frame[1] = 0xC3; /* lossless */
    check_refused(b.data, b.size, LK_EUNSUPPORTED, "JPEG: ");
    memcpy(frame, kept, sizeof kept);
    frame[9] = 9; /* components */
    check_refused(b.data, b.size, LK_EFORMAT, "JPEG: ");
    lk_buf_free(&b);
}

static void jpeg_segments_that_are_wrong(void) {
    check_refused("\xFF\xD8\xFF\xD9", 4, LK_EFORMAT, "JPEG: "); /* begin, end */
    check_refused("\xFF\xD8\xFF\xE0\0\x10JFIF", 10, LK_EFORMAT, "JPEG: ");
    check_refused("\xFF\xD8\xFFgarbage garbage garbage garbage", 34, LK_EFORMAT, "JPEG: ");

    struct lk_buf b = data_read("images/rgb-444.jpg");
    long sos = find_marker(&b, 0xDA, 0);
    struct lk_buf cut = {0};
    LK_REQUIRE(sos > 0 && lk_buf_append(&cut, b.data, (size_t)sos) == 0 && lk_buf_append(&cut, "\xFF\xD9", 2) == 0);
    check_refused(cut.data, cut.size, LK_EFORMAT, "JPEG: "); /* headers and no scan */
    lk_buf_free(&cut);

    long dqt = find_marker(&b, 0xDB, 0);
    LK_REQUIRE(dqt > 0);
    for (long at = dqt; at > 0; at = find_marker(&b, 0xDB, 0)) /* without quantisation tables */
        remove_bytes(&b, (size_t)at, 2 + ((size_t)b.data[at + 2] << 8 | b.data[at + 3]));
    check_refused(b.data, b.size, LK_EFORMAT, "JPEG: ");
    lk_buf_free(&b);

    b = data_read("images/rgb-444.jpg");
    long dht = find_marker(&b, 0xC4, 0);
    LK_REQUIRE(dht > 0);
    memset(b.data + dht + 5, 0xFF, 16); /* code counts past all bounds */
    check_refused(b.data, b.size, LK_EFORMAT, "JPEG: ");
    lk_buf_free(&b);

    b = data_read("images/rgb-444.jpg");
    b.data[2 + 3] = 0xFF, b.data[2 + 2] = 0xFF; /* the first segment reaches past the end */
    check_refused(b.data, b.size, LK_EFORMAT, "JPEG: ");
    lk_buf_free(&b);
}

/* A progressive file whose first scan is written 3,000 times: each would pass over the whole picture. */
static void jpeg_scans_are_bounded(void) {
    struct lk_buf b = data_read("images/grey-progressive.jpg"), bomb = {0};
    long first = find_marker(&b, 0xDA, 0);
    LK_REQUIRE(first > 0);
    long end = first + 2; /* the next marker ends the scan */
    while (!(b.data[end] == 0xFF && b.data[end + 1] != 0 && end > first + 10))
        end++;
    b.data[first + 9] = 0; /* full precision at once, so that a repetition is allowed */
    int rc = lk_buf_append(&bomb, b.data, (size_t)first);
    for (int i = 0; i < 3000; i++)
        rc = rc || lk_buf_append(&bomb, b.data + first, (size_t)(end - first));
    LK_REQUIRE(rc == 0 && lk_buf_append(&bomb, "\xFF\xD9", 2) == 0);
    check_refused(bomb.data, bomb.size, LK_ELIMIT, "more than 100 scans");
    lk_buf_free(&bomb);
    lk_buf_free(&b);
}

/* --- EXIF: the picture is good without it, so damage is ignored, in bounded time --------------------------------- */

static int decode_with_exif(const void *tiff, size_t n, int *width) {
    struct lk_buf good = data_read("images/rgb-444.jpg"), b = {0};
    uint8_t start[12] = {0xFF, 0xD8, 0xFF, 0xE1, (uint8_t)((n + 8) >> 8), (uint8_t)(n + 8), 'E', 'x', 'i', 'f', 0, 0};
    struct lk_image image = {0};
    int rc = lk_buf_append(&b, start, sizeof start) || lk_buf_append(&b, tiff, n) ||
             lk_buf_append(&b, good.data + 2, good.size - 2) || lk_decode(&image, b.data, b.size, NULL);
    *width = image.width;
    lk_image_free(&image);
    lk_buf_free(&good);
    lk_buf_free(&b);
    return rc;
}

static void damaged_exif_is_ignored(void) {
    static const struct {
        const char *bytes;
        size_t n;
        int width; /* 37: turned */
    } lines[] = {
        {"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0", 26, 37},
        {"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0", 26, 37},
        {"II*\0\x08\0\0\0\x01\0\x12\x01\x04\0\x01\0\0\0\x06\0\0\0\0\0\0\0", 26, 37}, /* LONG */
        {"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0\0\0\0\0", 26, 45}, /* orientation 9 */
        {"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x00\0\0\0\0\0\0", 26, 45}, /* orientation 0 */
        {"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x01\0\x06\0\0\0\0\0\0", 26, 45}, /* a text */
        {"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x05\0\x06\0\0\0\0\0\0", 26, 45}, /* five of them */
        {"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0", 19, 45},                 /* cut in the entry */
        {"MM\0*\0\0\0\x08\0", 9, 45},                                                /* cut in the count */
        {"MM\0*\0\0\0\x08", 8, 45},
        {"MM\0*", 4, 45},
        {"", 0, 45},
        {"XX\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0", 26, 45},     /* no byte order */
        {"MM\0+\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0", 26, 45},     /* not 42 */
        {"MM\0*\xFF\xFF\xFF\xFF\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06", 20, 45},           /* far outside */
        {"MM\0*\0\0\0\x1A\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0", 26, 45},     /* at the end */
        {"MM\0*\0\0\0\0\xFF\xFF\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0", 26, 45},     /* at itself */
        {"MM\0*\0\0\0\x08\xFF\xFF\x01\x13\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\x08", 26, 45}, /* 65,535 entries, a loop */
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        int width = 0;
        LK_CHECK_INT(decode_with_exif(lines[i].bytes, lines[i].n, &width), 0);
        if (!LK_CHECK_INT(width, lines[i].width))
            printf("     line %zu\n", i);
    }
}

/* The parser by itself, since libjpeg refuses most of these files before it is asked. */
static void exif_is_read_inside_its_bytes_only(void) {
    struct lk_buf file = data_read("images/orientation6.jpg");
    LK_CHECK_INT(lk_exif__orientation(file.data, file.size), 6);
    int found = 0;
    for (size_t n = 0; n < 400 && n < file.size; n++) {
        uint8_t *part = lk_calloc(n, 1); /* of exactly that size, for AddressSanitizer */
        LK_REQUIRE(part != NULL);
        memcpy(part, file.data, n);
        int orientation = lk_exif__orientation(part, n);
        LK_CHECK(orientation == 1 || orientation == 6);
        found += orientation == 6;
        for (size_t i = 2; i < n; i++)
            for (int value = 0; value < 256; value += 51) {
                uint8_t kept = part[i];
                part[i] = (uint8_t)value;
                orientation = lk_exif__orientation(part, n);
                LK_REQUIRE(orientation >= 1 && orientation <= 8);
                part[i] = kept;
            }
        free(part);
    }
    LK_CHECK(found > 0);
    long segment = find_marker(&file, 0xE1, 0);
    LK_REQUIRE(segment > 0);
    size_t end = (size_t)segment + 2 + ((size_t)file.data[segment + 2] << 8 | file.data[segment + 3]);
    LK_CHECK_INT(lk_exif__orientation(file.data, end), 6);
    LK_CHECK_INT(lk_exif__orientation(file.data, end - 1), 1); /* the segment reaches past the end */
    lk_buf_free(&file);
}

/* --- Any file ------------------------------------------------------------------------------------------------ */

static void foreign_files_are_named(void) {
    check_refused("", 0, LK_EFORMAT, "no bytes");
    check_refused("\x89", 1, LK_EFORMAT, "ends after 1 bytes");
    check_refused("\x89PNG\r\n\x1a", 7, LK_EFORMAT, "ends after 7 bytes");
    check_refused("\xFF\xD8", 2, LK_EFORMAT, "ends after 2 bytes");
    check_refused("\x89PNG\n\x1a\n.............", 20, LK_EFORMAT, "neither a PNG nor a JPEG"); /* a text-mode copy */
    check_refused("Hello, world, this is text", 26, LK_EFORMAT, "neither a PNG nor a JPEG");
    check_refused("GIF89a..........", 16, LK_EUNSUPPORTED, "a GIF file");
    check_refused("RIFF....WEBPVP8 ", 16, LK_EUNSUPPORTED, "a WebP file");
    check_refused("BM..............", 16, LK_EUNSUPPORTED, "a BMP file");
    check_refused("II*\0............", 16, LK_EUNSUPPORTED, "a TIFF file");
    check_refused("....ftypavif....", 16, LK_EUNSUPPORTED, "a AVIF file");
    check_refused("....ftypheic....", 16, LK_EUNSUPPORTED, "a HEIC file");
    check_refused("%PDF-1.7........", 16, LK_EUNSUPPORTED, "a PDF file");
}

static const char *const samples[] = {
    "images/rgb-420.jpg",     "images/rgb-420-progressive.jpg", "images/cmyk-adobe.jpg", "images/grey.jpg",
    "images/rgba8-adam7.png", "images/palette4-alpha.png",      "images/rgb16.png"};
enum { N_SAMPLES = sizeof samples / sizeof *samples };

/* Copied to memory of exactly that size, so that AddressSanitizer sees a read past the end. */
static void a_file_cut_off_anywhere_is_refused(void) {
    for (int i = 0; i < N_SAMPLES; i++) {
        struct lk_buf file = data_read(samples[i]);
        for (size_t n = 0; n < file.size; n++) {
            uint8_t *part = lk_calloc(n, 1);
            LK_REQUIRE(part != NULL);
            memcpy(part, file.data, n);
            int rc = check_clean(part, n);
            free(part);
            if (!LK_CHECK(rc == LK_EFORMAT))
                printf("     %s after %zu of %zu bytes: %s\n", samples[i], n, file.size, lk_error());
        }
        lk_buf_free(&file);
    }
}

static void a_png_with_any_byte_changed_is_refused(void) {
    struct lk_buf file = data_read("images/palette4-alpha.png");
    for (size_t i = 0; i < file.size; i++)
        for (int bit = 1; bit < 256; bit <<= 1) {
            file.data[i] ^= (uint8_t)bit;
            if (!LK_CHECK(check_clean(file.data, file.size) != 0))
                printf("     byte %zu, bit %d\n", i, bit);
            file.data[i] ^= (uint8_t)bit;
        }
    lk_buf_free(&file);
}

static void a_jpeg_with_any_byte_changed_does_no_harm(void) {
    for (int i = 0; i < 4; i++) {
        struct lk_buf file = data_read(samples[i]);
        int refused = 0;
        for (size_t at = 0; at < file.size; at++) {
            uint8_t kept = file.data[at];
            static const uint8_t values[] = {0x00, 0xFF, 0x7F};
            for (size_t v = 0; v < sizeof values; v++) {
                file.data[at] = values[v];
                refused += check_clean(file.data, file.size) != 0;
            }
            file.data[at] = kept;
        }
        LK_CHECK(refused > 100); /* a picture's own bytes may change unseen: JPEG has no checksum */
        LK_CHECK_INT(check_clean(file.data, file.size), 0);
        lk_buf_free(&file);
    }
}

static void hostile_headers_take_no_memory(void) {
    if (!WATCHED) {
        lk_skip("this build's malloc cannot be watched");
        return;
    }
    struct lk_buf b = {0};
    struct lk_image image;
    size_t total;
    begin_png(&b, 65500, 65500, 16, 6, 1);
    end_png(&b, one_row, sizeof one_row);
    LK_CHECK_INT(decode_watched(&image, b.data, b.size, 0, &total), LK_ELIMIT);
    LK_CHECK_INT(total, 0); /* refused before libpng is asked */
    lk_buf_free(&b);
    b = data_read("images/rgb-420-progressive.jpg");
    long sof = find_marker(&b, 0xC2, 0);
    LK_REQUIRE(sof > 0);
    memcpy(b.data + sof + 5, "\xFF\xDC\xFF\xDC", 4);
    LK_CHECK_INT(decode_watched(&image, b.data, b.size, 0, &total), LK_ELIMIT);
    LK_CHECK(total < 200000); /* libjpeg's own structures and tables */
    lk_buf_free(&b);
}

static void any_allocation_may_fail(void) {
    if (!WATCHED) {
        lk_skip("this build's malloc cannot be watched");
        return;
    }
    for (int i = 0; i < N_SAMPLES; i++) {
        struct lk_buf file = data_read(samples[i]);
        struct lk_image image;
        long k = 1, refused = 0;
        for (;; k++) {
            int rc = decode_watched(&image, file.data, file.size, k, NULL);
            long left = memory.live;
            LK_CHECK_INT(left, rc == 0); /* the pixels, or nothing */
            lk_image_free(&image);
            if (memory.count < k) {
                LK_CHECK_INT(rc, 0); /* no allocation was left to fail */
                break;
            }
            if (!LK_CHECK(rc == LK_ENOMEM || rc == 0)) /* libjpeg tries some again, smaller */
                printf("     %s, allocation %ld: %d, %s\n", samples[i], k, rc, lk_error());
            refused += rc != 0;
            LK_REQUIRE(k < 1000);
        }
        LK_CHECK(refused > 3);
        lk_buf_free(&file);
    }
}

static const struct lk_case cases[] = {
    LK_CASE(a_png_written_by_this_test_is_good),
    LK_CASE(png_headers_that_lie),
    LK_CASE(png_chunks_that_are_wrong),
    LK_CASE(png_side_data_is_not_unpacked),
    LK_CASE(jpeg_headers_that_lie),
    LK_CASE(jpeg_segments_that_are_wrong),
    LK_CASE(jpeg_scans_are_bounded),
    LK_CASE(damaged_exif_is_ignored),
    LK_CASE(exif_is_read_inside_its_bytes_only),
    LK_CASE(foreign_files_are_named),
    LK_CASE(a_file_cut_off_anywhere_is_refused),
    LK_CASE(a_png_with_any_byte_changed_is_refused),
    LK_CASE(a_jpeg_with_any_byte_changed_does_no_harm),
    LK_CASE(hostile_headers_take_no_memory),
    LK_CASE(any_allocation_may_fail),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
