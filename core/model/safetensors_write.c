/* Writing: header first, then each tensor converted in pieces, into a temporary file that is renamed at the end. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "model/safetensors.h"
#include "model/st_header.h"

enum { PIECE = 8192 }; /* elements converted at a time */

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

/* Round to nearest even; a NaN stays one. */
static uint16_t to_bf16(float value) {
    uint32_t bits = bits_of(value);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {
        return (uint16_t)(bits >> 16 | 0x40);
    }
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1)) >> 16);
}

float lk_st__round_bf16(float value) {
    uint32_t bits = (uint32_t)to_bf16(value) << 16;
    memcpy(&value, &bits, 4);
    return value;
}

static uint16_t to_half(float value) {
    uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) {
        return (uint16_t)(sign | 0x7E00);
    }
    if (magnitude >= 0x477FF000u) { /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7C00);
    }
    if (magnitude < 0x38800000u) { /* below 2^-14: a multiple of 2^-24, rounded to even by the addition */
        float shifted;
        memcpy(&shifted, &magnitude, 4);
        shifted += 0.5f; /* ulp of floats in [0.5, 1) is 2^-24 */
        return (uint16_t)(sign | (bits_of(shifted) - bits_of(0.5f)));
    }
    uint32_t rounded = magnitude + 0xFFFu + (magnitude >> 13 & 1) - (112u << 23);
    return (uint16_t)(sign | rounded >> 13);
}

static int append_string(struct lk_buf *b, const char *s) {
    int rc = lk_buf_append(b, "\"", 1);
    for (; *s && !rc; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') {
            char pair[2] = {'\\', (char)c};
            rc = lk_buf_append(b, pair, 2);
        } else if (c < 0x20) {
            char code[8];
            snprintf(code, sizeof code, "\\u%04x", c);
            rc = lk_buf_append(b, code, 6);
        } else {
            rc = lk_buf_append(b, s, 1);
        }
    }
    return rc ? rc : lk_buf_append(b, "\"", 1);
}

static int append_text(struct lk_buf *b, const char *s) { return lk_buf_append(b, s, strlen(s)); }

static int append_metadata(struct lk_buf *b, const char *const *keys, const char *const *values, size_t n) {
    int rc = append_text(b, "\"__metadata__\":{");
    for (size_t i = 0; i < n && !rc; i++) {
        if (!lk_st__utf8(keys[i], strlen(keys[i])) || !lk_st__utf8(values[i], strlen(values[i]))) {
            return lk_err(LK_EINVAL, "metadata number %zu is not UTF-8", i);
        }
        for (size_t j = 0; j < i; j++) {
            if (!strcmp(keys[i], keys[j])) {
                return lk_err(LK_EINVAL, "metadata key '%s' is given twice", keys[i]);
            }
        }
        (void)((i && (rc = append_text(b, ","))) || (rc = append_string(b, keys[i])) || (rc = append_text(b, ":")) ||
               (rc = append_string(b, values[i])));
    }
    return rc ? rc : append_text(b, "}");
}

/* Elements of t, and its checks. */
static int measure(const struct lk_st_write *t, size_t *count) {
    *count = 0;
    if (t->dtype != LK_DTYPE_F32 && t->dtype != LK_DTYPE_BF16 && t->dtype != LK_DTYPE_F16 && t->dtype != LK_DTYPE_I64) {
        return lk_err(LK_EINVAL, "tensor '%s': only F32, BF16, F16 and I64 are written", t->name);
    }
    if (!lk_st__utf8(t->name, strlen(t->name)) || !strcmp(t->name, "__metadata__")) {
        return lk_err(LK_EINVAL, "'%s' cannot be the name of a tensor", t->name);
    }
    if (t->ndim < 0 || t->ndim > 8) {
        return lk_err(LK_EINVAL, "tensor '%s' has %d dimensions, not 0 to 8", t->name, t->ndim);
    }
    *count = 1;
    for (int i = 0; i < t->ndim; i++) {
        if (t->shape[i] < 0 || __builtin_mul_overflow(*count, (size_t)t->shape[i], count) || *count > SIZE_MAX / 16) {
            return lk_err(LK_EINVAL, "tensor '%s' has an impossible shape", t->name);
        }
    }
    return 0;
}

static int append_entry(struct lk_buf *b, const struct lk_st_write *t, size_t *offset) {
    size_t count;
    char number[64];
    int rc = measure(t, &count);
    if (rc || (rc = append_string(b, t->name)) || (rc = append_text(b, ":{\"dtype\":\"")) ||
        (rc = append_text(b, lk_st__dtype_name(t->dtype))) || (rc = append_text(b, "\",\"shape\":["))) {
        return rc;
    }
    for (int i = 0; i < t->ndim && !rc; i++) {
        snprintf(number, sizeof number, "%s%lld", i ? "," : "", (long long)t->shape[i]);
        rc = append_text(b, number);
    }
    size_t end = *offset + count * lk_st__dtype_size(t->dtype);
    snprintf(number, sizeof number, "%zu,%zu]}", *offset, end);
    *offset = end;
    return rc || (rc = append_text(b, "],\"data_offsets\":[")) ? rc : append_text(b, number);
}

static int build_header(struct lk_buf *b, const struct lk_st_write *tensors, size_t n_tensors, const char *const *keys,
                        const char *const *values, size_t n_meta) {
    static const char length[8];
    size_t offset = 0;
    int rc = lk_buf_append(b, length, 8);
    if (rc || (rc = append_text(b, "{")) || (n_meta && (rc = append_metadata(b, keys, values, n_meta)))) {
        return rc;
    }
    for (size_t i = 0; i < n_tensors; i++) {
        for (size_t j = 0; j < i; j++) {
            if (!strcmp(tensors[i].name, tensors[j].name)) {
                return lk_err(LK_EINVAL, "tensor '%s' is given twice", tensors[i].name);
            }
        }
        if (((i || n_meta) && (rc = append_text(b, ","))) || (rc = append_entry(b, &tensors[i], &offset))) {
            return rc;
        }
    }
    rc = append_text(b, "}");
    while (!rc && b->size % 8) { /* so that the data is aligned in a map */
        rc = lk_buf_append(b, " ", 1);
    }
    if (!rc) {
        uint64_t n = b->size - 8;
        memcpy(b->data, &n, 8);
    }
    return rc;
}

static int append_data(struct lk_fs_writer *w, const struct lk_st_write *t) {
    size_t count;
    int rc = measure(t, &count);
    if (rc || t->dtype == LK_DTYPE_F32 || t->dtype == LK_DTYPE_I64) {
        return rc || !count ? rc : lk_fs_writer_append(w, t->data, count * lk_st__dtype_size(t->dtype));
    }
    const float *from = t->data;
    uint16_t piece[PIECE];
    for (size_t at = 0; at < count && !rc; at += PIECE) {
        size_t n = count - at < PIECE ? count - at : PIECE;
        for (size_t i = 0; i < n; i++) {
            piece[i] = t->dtype == LK_DTYPE_BF16 ? to_bf16(from[at + i]) : to_half(from[at + i]);
        }
        rc = lk_fs_writer_append(w, piece, 2 * n);
    }
    return rc;
}

int lk_safetensors_write(const char *path, const struct lk_st_write *tensors, size_t n_tensors,
                         const char *const *meta_keys, const char *const *meta_values, size_t n_meta) {
    struct lk_buf header = {0};
    struct lk_fs_writer w = {.fd = -1};
    int begun = 0;
    int rc = build_header(&header, tensors, n_tensors, meta_keys, meta_values, n_meta);
    if (rc) {
        lk_err_prefix(rc, "%s", path);
        goto done;
    }
    if ((rc = lk_fs_writer_begin(&w, path))) {
        goto done;
    }
    begun = 1;
    rc = lk_fs_writer_append(&w, header.data, header.size);
    for (size_t i = 0; i < n_tensors && !rc; i++) {
        rc = append_data(&w, &tensors[i]);
    }
    if (!rc) {
        rc = lk_fs_writer_commit(&w);
    }
done:
    if (rc && begun) {
        lk_fs_writer_abort(&w);
    }
    lk_buf_free(&header);
    return rc;
}
