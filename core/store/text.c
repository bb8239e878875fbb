/* Ids and JSON text. SQLite checks JSON's grammar; UTF-8 and the canonical form are checked here. */
#include "store/store_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"

/* Decodes one sequence (RFC 3629). Returns its length, 0 when it is none. */
static size_t decode(const unsigned char *s, size_t n, uint32_t *out) {
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = s[0] < 0x80 ? 1 : s[0] >= 0xC2 && s[0] < 0xE0 ? 2 : (s[0] & 0xF0) == 0xE0 ? 3 : 4;
    uint32_t code = s[0];
    if (length == 1) {
        *out = code;
        return 1;
    }
    if ((length == 4 && (s[0] & 0xF8) != 0xF0) || n < length)
        return 0;
    code &= 0xFFU >> (length + 1);
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (s[i] & 0x3FU);
    }
    if (code < smallest[length] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
        return 0;
    *out = code;
    return length;
}

const char *lk_store__bad_utf8(const char *text, size_t n, int controls) {
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0; i < n;) {
        uint32_t code = 0;
        size_t length = decode(s + i, n - i, &code);
        if (length == 0)
            return "is not valid UTF-8";
        if (!controls && (code < 0x20 || (code >= 0x7F && code < 0xA0)))
            return "holds a control character";
        i += length;
    }
    return NULL;
}

int lk_store_check_id(const char *id, size_t n) {
    const char *why;
    if (id == NULL || n == 0)
        return lk_err(LK_EINVAL, "an id needs at least 1 byte");
    if (n > 255)
        return lk_err(LK_EINVAL, "an id has at most 255 bytes, not %zu", n);
    if ((why = lk_store__bad_utf8(id, n, 0)) != NULL)
        return lk_err(LK_EINVAL, "the id %s", why);
    return 0;
}

static uint32_t hex4(const char *s) {
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = s[i];
        value = value << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return value;
}

static int append_code(struct lk_buf *out, uint32_t code) {
    unsigned char b[4];
    size_t n = 0;
    if (code < 0x80) {
        b[n++] = (unsigned char)code;
    } else if (code < 0x800) {
        b[n++] = (unsigned char)(0xC0 | code >> 6);
        b[n++] = (unsigned char)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        b[n++] = (unsigned char)(0xE0 | code >> 12);
        b[n++] = (unsigned char)(0x80 | (code >> 6 & 0x3F));
        b[n++] = (unsigned char)(0x80 | (code & 0x3F));
    } else {
        b[n++] = (unsigned char)(0xF0 | code >> 18);
        b[n++] = (unsigned char)(0x80 | (code >> 12 & 0x3F));
        b[n++] = (unsigned char)(0x80 | (code >> 6 & 0x3F));
        b[n++] = (unsigned char)(0x80 | (code & 0x3F));
    }
    return lk_buf_append(out, b, n);
}

/* One escape, *s behind the backslash; moves *s past it. */
static int append_escape(struct lk_buf *out, const char **s) {
    static const char names[] = "bfnrt", values[] = "\b\f\n\r\t";
    char c = *(*s)++, text[8];
    uint32_t code = (unsigned char)c;
    const char *name = c != '\0' ? strchr(names, c) : NULL;
    if (name != NULL) {
        code = (unsigned char)values[name - names];
    } else if (c == 'u') {
        code = hex4(*s);
        *s += 4;
        if (code >= 0xD800 && code <= 0xDBFF && (*s)[0] == '\\' && (*s)[1] == 'u') {
            uint32_t low = hex4(*s + 2);
            if (low >= 0xDC00 && low <= 0xDFFF) {
                code = 0x10000 + ((code - 0xD800) << 10 | (low - 0xDC00));
                *s += 6;
            }
        }
        if (code >= 0xD800 && code <= 0xDFFF)
            return lk_err(LK_EINVAL, "the JSON holds half a surrogate pair (\\u%04x)", code);
    }
    if (code == '"' || code == '\\') {
        text[0] = '\\';
        text[1] = (char)code;
        return lk_buf_append(out, text, 2);
    }
    if (code < 0x20) {
        for (size_t i = 0; i + 1 < sizeof values; i++) {
            if (code == (unsigned char)values[i]) {
                text[0] = '\\';
                text[1] = names[i];
                return lk_buf_append(out, text, 2);
            }
        }
        (void)snprintf(text, sizeof text, "\\u%04x", code);
        return lk_buf_append(out, text, 6);
    }
    return append_code(out, code);
}

int lk_store__json_canonical(struct lk_buf *out, const char *json) {
    int in_string = 0, rc;
    for (const char *s = json; *s != '\0';) {
        char c = *s++;
        if (in_string && c == '\\') {
            if ((rc = append_escape(out, &s)) < 0)
                return rc;
            continue;
        }
        if (c == '"')
            in_string = !in_string;
        else if (!in_string && (c == ' ' || c == '\t' || c == '\n' || c == '\r'))
            continue;
        if ((rc = lk_buf_append(out, &c, 1)) < 0)
            return rc;
    }
    return lk_buf_append(out, "", 1);
}
