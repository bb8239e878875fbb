/* Reading: the file's outer shape, how its tensors tile the data, and conversion to float. The JSON header is scanned
 * in st_header.c. Checks follow the reference reader (huggingface/safetensors, README.md "Format"). */
#include "model/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/st_header.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are copied as they lie in the file");

enum { HEADER_LIMIT = 100000000 };

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct lk_st_tensor *)a)->name, ((const struct lk_st_tensor *)b)->name);
}

/* Where one tensor lies in the data. */
struct place {
    size_t begin, end;
    const char *name;
};

static int by_place(const void *a, const void *b) {
    const struct place *x = a, *y = b;
    if (x->begin != y->begin) {
        return x->begin < y->begin ? -1 : 1;
    }
    return x->end < y->end ? -1 : x->end > y->end;
}

/* Tensors must lie back to back and cover the data, so that no byte is hidden or means two things. */
static int check_tiling(const struct lk_safetensors *st, const uint8_t *data, size_t data_size) {
    struct place *places = lk_calloc(st->n_tensors + 1, sizeof *places);
    if (!places) {
        return LK_ENOMEM;
    }
    for (size_t i = 0; i < st->n_tensors; i++) {
        const struct lk_st_tensor *t = &st->tensors[i];
        size_t begin = (size_t)(t->data - data);
        places[i] = (struct place){begin, begin + t->bytes, t->name};
    }
    qsort(places, st->n_tensors, sizeof *places, by_place);
    size_t next = 0;
    int rc = 0;
    for (size_t i = 0; i < st->n_tensors && !rc; i++) {
        const struct place *p = &places[i];
        if (p->begin != next) {
            rc = lk_err(LK_EFORMAT, "tensor '%.200s' begins at byte %zu of the data and %s byte %zu", p->name, p->begin,
                        p->begin < next ? "overlaps the one before it, which ends at"
                                        : "leaves a gap after the one before it, which ends at",
                        next);
        }
        next = p->end;
    }
    if (!rc && next != data_size) {
        rc = lk_err(LK_EFORMAT, "the tensors end at byte %zu of %zu bytes of data", next, data_size);
    }
    free(places);
    return rc;
}

static int read_all(struct lk_safetensors *st) {
    const uint8_t *bytes = st->map.data;
    uint64_t header = 0;
    if (st->map.size < 8) {
        return lk_err(LK_EFORMAT, "%zu bytes are too few for a safetensors file", st->map.size);
    }
    memcpy(&header, bytes, 8);
    if (header > HEADER_LIMIT) {
        return lk_err(LK_EFORMAT, "a header of %llu bytes exceeds the limit of %d", (unsigned long long)header,
                      HEADER_LIMIT);
    }
    if (header > st->map.size - 8) {
        return lk_err(LK_EFORMAT, "the header claims %llu bytes of a file of %zu", (unsigned long long)header,
                      st->map.size);
    }
    if (header < 2 || bytes[8] != '{') {
        return lk_err(LK_EFORMAT, "the header does not begin with '{'");
    }
    size_t data_size = st->map.size - 8 - (size_t)header;
    const uint8_t *data = bytes + 8 + header;
    int rc = lk_st__header(st, (const char *)bytes + 8, (size_t)header, data, data_size);
    if (rc || (rc = check_tiling(st, data, data_size))) {
        return rc;
    }
    if (st->n_tensors) {
        qsort(st->tensors, st->n_tensors, sizeof *st->tensors, by_name);
    }
    for (size_t i = 1; i < st->n_tensors; i++) {
        if (!by_name(&st->tensors[i - 1], &st->tensors[i])) {
            return lk_err(LK_EFORMAT, "the header holds tensor '%.200s' twice", st->tensors[i].name);
        }
    }
    return 0;
}

int lk_safetensors_open(struct lk_safetensors *out, const char *path) {
    memset(out, 0, sizeof *out);
    int rc = lk_fs_map(&out->map, path);
    if (!rc && (rc = read_all(out))) {
        lk_err_prefix(rc, "%s", path);
    }
    if (rc) {
        lk_safetensors_close(out);
    }
    return rc;
}

void lk_safetensors_close(struct lk_safetensors *st) {
    for (size_t i = 0; i < st->n_tensors; i++) {
        free(st->tensors[i].name);
    }
    for (size_t i = 0; i < st->n_meta; i++) {
        free(st->meta_keys[i]);
        free(st->meta_values[i]);
    }
    free(st->tensors);
    free(st->meta_keys);
    free(st->meta_values);
    lk_fs_unmap(&st->map);
    memset(st, 0, sizeof *st);
}

const struct lk_st_tensor *lk_safetensors_find(const struct lk_safetensors *st, const char *name) {
    for (size_t low = 0, high = st->n_tensors; low < high;) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, st->tensors[middle].name);
        if (order == 0) {
            return &st->tensors[middle];
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

const char *lk_safetensors_meta(const struct lk_safetensors *st, const char *key) {
    for (size_t i = 0; i < st->n_meta; i++) {
        if (!strcmp(st->meta_keys[i], key)) {
            return st->meta_values[i];
        }
    }
    return NULL;
}

/* --- Conversion ------------------------------------------------------------------------------------------------- */

static float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits. */
static float from_half(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
    if (exponent == 0) { /* zero and subnormals: fraction * 2^-24, exact in float */
        float magnitude = (float)fraction * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    if (exponent == 31) {
        return from_bits(sign | 0x7F800000u | fraction << 13);
    }
    return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

int lk_safetensors_to_float(const struct lk_st_tensor *t, float *out) {
    const uint8_t *p = t->data;
    switch (t->dtype) {
    case LK_DTYPE_F32:
        if (t->count) {
            memcpy(out, p, t->bytes);
        }
        return 0;
    case LK_DTYPE_F64:
        for (size_t i = 0; i < t->count; i++) {
            double value;
            memcpy(&value, p + 8 * i, 8);
            out[i] = (float)value;
        }
        return 0;
    case LK_DTYPE_F16:
    case LK_DTYPE_BF16:
        for (size_t i = 0; i < t->count; i++) {
            uint16_t half;
            memcpy(&half, p + 2 * i, 2);
            out[i] = t->dtype == LK_DTYPE_BF16 ? from_bits((uint32_t)half << 16) : from_half(half);
        }
        return 0;
    default:
        return lk_err(LK_EUNSUPPORTED, "tensor '%.200s' is %s, not a floating-point type", t->name,
                      lk_st__dtype_name(t->dtype));
    }
}
