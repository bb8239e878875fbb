/* The orientation tag, and nothing else, from a JPEG file's EXIF segment (EXIF 2.32, CIPA DC-008; TIFF 6.0).
 * The parser walks the JPEG's segments up to the picture data, takes the first APP1 that begins with "Exif\0\0", and
 * reads the entries of its first directory once, front to back. No other directory is entered, so that offsets cannot
 * loop, and every read is checked against the segment's end. */
#include <string.h>

#include "image/image_internal.h"

struct tiff {
    const uint8_t *bytes;
    size_t size;
    int big_endian;
};

static uint32_t read16(const struct tiff *t, size_t at) {
    const uint8_t *p = t->bytes + at;
    return t->big_endian ? (uint32_t)p[0] << 8 | p[1] : (uint32_t)p[1] << 8 | p[0];
}

static uint32_t read32(const struct tiff *t, size_t at) {
    uint32_t a = read16(t, at), b = read16(t, at + 2);
    return t->big_endian ? a << 16 | b : b << 16 | a;
}

static int parse_tiff(const uint8_t *bytes, size_t size) {
    enum { ORIENTATION = 0x0112, SHORT = 3, LONG = 4, ENTRY = 12 };
    struct tiff t = {bytes, size, 0};
    if (size < 8)
        return 1;
    if (memcmp(bytes, "MM", 2) == 0)
        t.big_endian = 1;
    else if (memcmp(bytes, "II", 2) != 0)
        return 1;
    if (read16(&t, 2) != 42)
        return 1;
    size_t at = read32(&t, 4);
    if (at > size || size - at < 2)
        return 1;
    uint32_t entries = read16(&t, at);
    at += 2;
    for (uint32_t i = 0; i < entries && size - at >= ENTRY; i++, at += ENTRY) {
        if (read16(&t, at) != ORIENTATION)
            continue;
        uint32_t type = read16(&t, at + 2), count = read32(&t, at + 4);
        if (count != 1 || (type != SHORT && type != LONG))
            return 1;
        uint32_t value = type == SHORT ? read16(&t, at + 8) : read32(&t, at + 8);
        return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

int lk_exif__orientation(const uint8_t *bytes, size_t n) {
    enum { SOI = 0xD8, EOI = 0xD9, SOS = 0xDA, APP1 = 0xE1, TEM = 0x01, RST0 = 0xD0, RST7 = 0xD7 };
    static const uint8_t tag[6] = {'E', 'x', 'i', 'f', 0, 0};
    size_t at = 2;
    while (at + 4 <= n && bytes[at] == 0xFF) {
        int marker = bytes[at + 1];
        if (marker == 0xFF) { /* a fill byte */
            at++;
            continue;
        }
        if (marker == TEM || (marker >= RST0 && marker <= RST7) || marker == SOI) { /* no length follows */
            at += 2;
            continue;
        }
        if (marker == SOS || marker == EOI)
            return 1;
        size_t length = (size_t)bytes[at + 2] << 8 | bytes[at + 3]; /* counts its own two bytes */
        if (length < 2 || length > n - at - 2)
            return 1;
        const uint8_t *content = bytes + at + 4;
        if (marker == APP1 && length - 2 >= sizeof tag && memcmp(content, tag, sizeof tag) == 0)
            return parse_tiff(content + sizeof tag, length - 2 - sizeof tag);
        at += 2 + length;
    }
    return 1;
}
