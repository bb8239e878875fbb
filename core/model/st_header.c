/* A scanner for the one shape of JSON (RFC 8259) that a safetensors header has:
 *
 *   { "__metadata__": {"key": "value", ...},
 *     "tensor": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ... }
 *
 * It is a scanner of our own, and stricter than a JSON library, because every file that the server loads passes here:
 * no recursion, no numbers but non-negative integers, no name twice, no unknown member, and a trainer that needs no
 * JSON library. */
#include "model/st_header.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {[LK_DTYPE_F64] = {"F64", 8},   [LK_DTYPE_F32] = {"F32", 4}, [LK_DTYPE_F16] = {"F16", 2},
              [LK_DTYPE_BF16] = {"BF16", 2}, [LK_DTYPE_I64] = {"I64", 8}, [LK_DTYPE_I32] = {"I32", 4},
              [LK_DTYPE_I16] = {"I16", 2},   [LK_DTYPE_I8] = {"I8", 1},   [LK_DTYPE_U8] = {"U8", 1},
              [LK_DTYPE_BOOL] = {"BOOL", 1}};

enum {
    N_DTYPES = sizeof dtypes / sizeof *dtypes,
    METADATA_LIMIT = 4096 /* keys: each is compared with all before it */
};

size_t lk_st__dtype_size(enum lk_dtype dtype) { return (unsigned)dtype < N_DTYPES ? dtypes[dtype].size : 0; }
const char *lk_st__dtype_name(enum lk_dtype dtype) { return (unsigned)dtype < N_DTYPES ? dtypes[dtype].name : "?"; }

/* Length of the UTF-8 sequence at s (of at most n bytes), 0 when there is none. */
static size_t utf8_length(const unsigned char *s, size_t n) {
    if (s[0] < 0x80) {
        return s[0] ? 1 : 0;
    }
    size_t length = s[0] < 0xC2 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : s[0] < 0xF5 ? 4 : 0;
    if (length == 0 || length > n) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    int overlong = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xF0 && s[1] < 0x90);
    int outside = (s[0] == 0xED && s[1] > 0x9F) || (s[0] == 0xF4 && s[1] > 0x8F);
    return overlong || outside ? 0 : length;
}

int lk_st__utf8(const char *s, size_t n) {
    for (size_t i = 0, step; i < n; i += step) {
        if (!(step = utf8_length((const unsigned char *)s + i, n - i))) {
            return 0;
        }
    }
    return 1;
}

/* --- Scanning ------------------------------------------------------------------------------------------------- */

struct scan {
    const char *begin, *at, *end;
    struct lk_buf text; /* the last string read, NUL-terminated */
};

static int bad(const struct scan *s, const char *what) {
    return lk_err(LK_EFORMAT, "the header has no %s at byte %zu", what, (size_t)(s->at - s->begin));
}

static char peek(struct scan *s) {
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r')) {
        s->at++;
    }
    return s->at < s->end ? *s->at : '\0';
}

static int expect(struct scan *s, char c) {
    char what[] = "'?'";
    what[1] = c;
    if (peek(s) != c) {
        return bad(s, what);
    }
    s->at++;
    return 0;
}

/* After an element: 1 when a comma says that another follows, 0 at `close`, negative otherwise. */
static int more(struct scan *s, char close) {
    char c = peek(s);
    if (c != ',' && c != close) {
        return bad(s, close == '}' ? "',' or '}'" : "',' or ']'");
    }
    s->at++;
    return c == ',';
}

static int hex4(struct scan *s, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < 4; i++, s->at++) {
        char c = s->at < s->end ? *s->at : '\0';
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) {
            return bad(s, "four hexadecimal digits");
        }
        *out = *out << 4 | (uint32_t)digit;
    }
    return 0;
}

static int append_code_point(struct scan *s, uint32_t c) {
    char b[4];
    size_t n;
    if (c < 0x80) {
        b[0] = (char)c, n = 1;
    } else if (c < 0x800) {
        b[0] = (char)(0xC0 | c >> 6), b[1] = (char)(0x80 | (c & 63)), n = 2;
    } else if (c < 0x10000) {
        b[0] = (char)(0xE0 | c >> 12), b[1] = (char)(0x80 | (c >> 6 & 63)), b[2] = (char)(0x80 | (c & 63)), n = 3;
    } else {
        b[0] = (char)(0xF0 | c >> 18), b[1] = (char)(0x80 | (c >> 12 & 63)), b[2] = (char)(0x80 | (c >> 6 & 63));
        b[3] = (char)(0x80 | (c & 63)), n = 4;
    }
    return lk_buf_append(&s->text, b, n);
}

static int unicode_escape(struct scan *s) {
    uint32_t c, low;
    int rc = hex4(s, &c);
    if (rc) {
        return rc;
    }
    if (c >= 0xD800 && c < 0xDC00) {
        if (s->end - s->at < 6 || s->at[0] != '\\' || s->at[1] != 'u') {
            return bad(s, "second half of a surrogate pair");
        }
        s->at += 2;
        if ((rc = hex4(s, &low))) {
            return rc;
        }
        if (low < 0xDC00 || low > 0xDFFF) {
            return bad(s, "second half of a surrogate pair");
        }
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    } else if (c == 0 || (c >= 0xDC00 && c < 0xE000)) {
        return bad(s, "character that a name can hold");
    }
    return append_code_point(s, c);
}

static int escape(struct scan *s) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = s->at < s->end ? *s->at : '\0';
    if (c == 'u') {
        s->at++;
        return unicode_escape(s);
    }
    const char *found = c ? strchr(from, c) : NULL;
    if (!found) {
        return bad(s, "escape that JSON knows");
    }
    s->at++;
    return lk_buf_append(&s->text, &to[found - from], 1);
}

/* Reads a string into s->text. */
static int string(struct scan *s) {
    if (peek(s) != '"') {
        return bad(s, "string");
    }
    s->at++;
    lk_buf_clear(&s->text);
    for (;;) {
        const char *run = s->at;
        while (s->at < s->end && (unsigned char)*s->at >= 0x20 && *s->at != '"' && *s->at != '\\') {
            s->at++;
        }
        if (!lk_st__utf8(run, (size_t)(s->at - run))) {
            s->at = run;
            return bad(s, "valid UTF-8");
        }
        int rc = lk_buf_append(&s->text, run, (size_t)(s->at - run));
        if (rc) {
            return rc;
        }
        if (s->at == s->end || (unsigned char)*s->at < 0x20) {
            return bad(s, "end of the string");
        }
        if (*s->at++ == '"') {
            return lk_buf_append(&s->text, "", 1);
        }
        if ((rc = escape(s))) {
            return rc;
        }
    }
}

static const char *text(const struct scan *s) { return (const char *)s->text.data; }

/* A non-negative integer up to INT64_MAX. */
static int integer(struct scan *s, int64_t *out) {
    char c = peek(s);
    if (c < '0' || c > '9') {
        return bad(s, "non-negative integer");
    }
    const char *first = s->at;
    int64_t value = 0;
    for (; s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++) {
        int digit = *s->at - '0';
        if (value > (INT64_MAX - digit) / 10) {
            return bad(s, "integer below 2^63");
        }
        value = value * 10 + digit;
    }
    int leading_zero = *first == '0' && s->at - first > 1;
    if (leading_zero || (s->at < s->end && (*s->at == '.' || *s->at == 'e' || *s->at == 'E'))) {
        return bad(s, "plain integer");
    }
    *out = value;
    return 0;
}

/* [a, b, ...]: at most `limit` numbers. Returns how many, or a negative status. */
static int integers(struct scan *s, int64_t *out, int limit, const char *too_many) {
    int rc = expect(s, '[');
    if (rc) {
        return rc;
    }
    if (peek(s) == ']') {
        s->at++;
        return 0;
    }
    int n = 0;
    do {
        if (n == limit) {
            return lk_err(LK_EFORMAT, "%s", too_many);
        }
        if ((rc = integer(s, &out[n]))) {
            return rc;
        }
        n++;
    } while ((rc = more(s, ']')) > 0);
    return rc < 0 ? rc : n;
}

/* --- Members ---------------------------------------------------------------------------------------------------- */

/* Room for one element more in an array that doubles. */
static int reserve(void **array, size_t n, size_t size) {
    if (n & (n - 1)) { /* capacity is the next power of two */
        return 0;
    }
    size_t capacity = n ? 2 * n : 1;
    void *grown = capacity > SIZE_MAX / size ? NULL : realloc(*array, capacity * size);
    if (!grown) {
        return lk_err(LK_ENOMEM, "out of memory for %zu header entries", capacity);
    }
    *array = grown;
    return 0;
}

static int metadata(struct scan *s, struct lk_safetensors *out) {
    int rc = expect(s, '{');
    if (rc || peek(s) == '}') {
        s->at += !rc;
        return rc;
    }
    do {
        if (out->n_meta == METADATA_LIMIT) {
            return lk_err(LK_EFORMAT, "the metadata holds more than %d keys", METADATA_LIMIT);
        }
        void *keys = out->meta_keys, *values = out->meta_values;
        rc = reserve(&keys, out->n_meta, sizeof *out->meta_keys);
        out->meta_keys = keys;
        if (!rc) {
            rc = reserve(&values, out->n_meta, sizeof *out->meta_values);
            out->meta_values = values;
        }
        if (rc || (rc = string(s))) {
            return rc;
        }
        for (size_t i = 0; i < out->n_meta; i++) {
            if (!strcmp(out->meta_keys[i], text(s))) {
                return lk_err(LK_EFORMAT, "the metadata holds the key '%.200s' twice", text(s));
            }
        }
        char *key = lk_strdup(text(s)), *value = NULL;
        if (!key) {
            return LK_ENOMEM;
        }
        if (!(rc = expect(s, ':')) && !(rc = string(s))) {
            rc = (value = lk_strdup(text(s))) ? 0 : LK_ENOMEM;
        }
        if (rc) {
            free(key);
            return rc;
        }
        out->meta_keys[out->n_meta] = key;
        out->meta_values[out->n_meta++] = value;
    } while ((rc = more(s, '}')) > 0);
    return rc;
}

static int read_dtype(struct scan *s, struct lk_st_tensor *t) {
    int rc = string(s);
    if (rc) {
        return rc;
    }
    for (int d = 0; d < N_DTYPES; d++) {
        if (!strcmp(dtypes[d].name, text(s))) {
            t->dtype = (enum lk_dtype)d;
            return 0;
        }
    }
    return lk_err(LK_EFORMAT, "tensor '%.200s' has the unknown dtype '%.40s'", t->name, text(s));
}

/* Elements and bytes of t, which must fill [begin, end) of the data exactly. */
static int place(struct lk_st_tensor *t, const int64_t offsets[2], const uint8_t *data, size_t data_size) {
    size_t bytes = lk_st__dtype_size(t->dtype);
    t->count = 1;
    for (int i = 0; i < t->ndim; i++) {
        if (__builtin_mul_overflow(t->count, (size_t)t->shape[i], &t->count)) {
            return lk_err(LK_EFORMAT, "the shape of tensor '%.200s' overflows", t->name);
        }
    }
    if (__builtin_mul_overflow(bytes, t->count, &bytes)) {
        return lk_err(LK_EFORMAT, "the shape of tensor '%.200s' overflows", t->name);
    }
    size_t begin = (size_t)offsets[0], end = (size_t)offsets[1];
    if (begin > end || end > data_size) {
        return lk_err(LK_EFORMAT, "tensor '%.200s' spans bytes %zu to %zu of %zu bytes of data", t->name, begin, end,
                      data_size);
    }
    if (end - begin != bytes) {
        return lk_err(LK_EFORMAT, "tensor '%.200s' spans %zu bytes, but its shape needs %zu", t->name, end - begin,
                      bytes);
    }
    t->data = data + begin;
    t->bytes = bytes;
    return 0;
}

static int tensor(struct scan *s, struct lk_st_tensor *t, const uint8_t *data, size_t data_size) {
    enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4 };
    int64_t offsets[2] = {0, 0};
    int rc = expect(s, '{'), seen = 0;
    if (rc) {
        return rc;
    }
    do {
        if ((rc = string(s))) {
            return rc;
        }
        int member = !strcmp(text(s), "dtype")          ? DTYPE
                     : !strcmp(text(s), "shape")        ? SHAPE
                     : !strcmp(text(s), "data_offsets") ? OFFSETS
                                                        : 0;
        if (!member || (seen & member)) {
            return lk_err(LK_EFORMAT, "tensor '%.200s' has the %s member '%.40s'", t->name,
                          member ? "double" : "unknown", text(s));
        }
        seen |= member;
        if ((rc = expect(s, ':'))) {
            return rc;
        }
        if (member == DTYPE) {
            rc = read_dtype(s, t);
        } else if (member == SHAPE) {
            rc = t->ndim = integers(s, t->shape, 8, "a tensor has more than 8 dimensions");
        } else {
            rc = integers(s, offsets, 2, "data_offsets holds more than two numbers");
            if (rc == 0 || rc == 1) {
                return lk_err(LK_EFORMAT, "data_offsets of tensor '%.200s' holds %d numbers, not two", t->name, rc);
            }
        }
        if (rc < 0) {
            return lk_err_prefix(rc, "tensor '%.200s'", t->name);
        }
    } while ((rc = more(s, '}')) > 0);
    if (rc) {
        return rc;
    }
    if (seen != (DTYPE | SHAPE | OFFSETS)) {
        return lk_err(LK_EFORMAT, "tensor '%.200s' lacks %s", t->name,
                      !(seen & DTYPE) ? "dtype"
                      : seen & SHAPE  ? "data_offsets"
                                      : "shape");
    }
    return place(t, offsets, data, data_size);
}

static int members(struct scan *s, struct lk_safetensors *out, const uint8_t *data, size_t data_size) {
    int rc = expect(s, '{'), seen_metadata = 0;
    if (rc || peek(s) == '}') {
        s->at += !rc;
        return rc;
    }
    do {
        if ((rc = string(s))) {
            return rc;
        }
        if (!strcmp(text(s), "__metadata__")) {
            if (seen_metadata++) {
                return lk_err(LK_EFORMAT, "the header holds __metadata__ twice");
            }
            rc = expect(s, ':');
            rc = rc ? rc : metadata(s, out);
        } else {
            void *tensors = out->tensors;
            rc = reserve(&tensors, out->n_tensors, sizeof *out->tensors);
            out->tensors = tensors;
            if (rc) {
                return rc;
            }
            struct lk_st_tensor *t = &out->tensors[out->n_tensors];
            memset(t, 0, sizeof *t);
            if (!(t->name = lk_strdup(text(s)))) {
                return LK_ENOMEM;
            }
            out->n_tensors++;
            rc = expect(s, ':');
            rc = rc ? rc : tensor(s, t, data, data_size);
        }
        if (rc) {
            return rc;
        }
    } while ((rc = more(s, '}')) > 0);
    return rc;
}

int lk_st__header(struct lk_safetensors *out, const char *json, size_t n, const uint8_t *data, size_t data_size) {
    struct scan s = {.begin = json, .at = json, .end = json + n};
    int rc = members(&s, out, data, data_size);
    if (!rc && (peek(&s), s.at != s.end)) {
        rc = bad(&s, "end after its last brace");
    }
    lk_buf_free(&s.text);
    return rc;
}
