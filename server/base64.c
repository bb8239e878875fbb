#include "base64.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"

static int digit(char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int lk_base64_decode(struct lk_buf *out, const char *text, size_t n) {
    int rc = lk_buf_reserve(out, out->size + n / 4 * 3 + 3);
    if (rc)
        return rc;
    uint8_t *to = out->data + out->size;
    uint32_t bits = 0;
    size_t digits = 0, padding = 0, written = 0;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (c == '\r' || c == '\n' || c == ' ' || c == '\t')
            continue;
        if (c == '=') {
            padding++;
            continue;
        }
        int value = digit(c);
        if (value < 0)
            return lk_err(LK_EINVAL, "character %zu is not of the base64 alphabet", i + 1);
        if (padding)
            return lk_err(LK_EINVAL, "base64 goes on after its padding");
        bits = bits << 6 | (uint32_t)value;
        if (++digits % 4 == 0) {
            to[written++] = (uint8_t)(bits >> 16);
            to[written++] = (uint8_t)(bits >> 8);
            to[written++] = (uint8_t)bits;
            bits = 0;
        }
    }
    size_t rest = digits % 4;
    if (rest == 1 || (padding && padding != (4 - rest) % 4))
        return lk_err(LK_EINVAL, "the base64 text is cut short or wrongly padded");
    if ((rest == 2 && (bits & 0xF)) || (rest == 3 && (bits & 0x3)))
        return lk_err(LK_EINVAL, "the base64 text has bits set after its last byte");
    if (rest == 2)
        to[written++] = (uint8_t)(bits >> 4);
    if (rest == 3) {
        to[written++] = (uint8_t)(bits >> 10);
        to[written++] = (uint8_t)(bits >> 2);
    }
    out->size += written;
    return 0;
}

int lk_base64_picture(struct lk_buf *out, const char *text, size_t n) {
    if (n >= 5 && strncasecmp(text, "data:", 5) == 0) {
        const char *comma = memchr(text, ',', n);
        if (!comma)
            return lk_err(LK_EINVAL, "the data URI has no comma");
        size_t head = (size_t)(comma - text);
        if (head < 12 || strncasecmp(comma - 7, ";base64", 7) != 0)
            return lk_err(LK_EINVAL, "the data URI is not base64");
        n -= head + 1;
        text = comma + 1;
    } else if ((n >= 7 && strncasecmp(text, "http://", 7) == 0) || (n >= 8 && strncasecmp(text, "https://", 8) == 0)) {
        return lk_err(LK_EINVAL, "the server does not fetch URLs; send the picture itself");
    }
    return lk_base64_decode(out, text, n);
}
