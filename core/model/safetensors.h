/* safetensors files (huggingface/safetensors, format of README.md): 8 bytes header length, JSON header, little-endian
 * data. Reading maps the file; every number is checked before use; overlapping, gapped or out-of-range offsets, double
 * names, unknown dtypes and headers above 100 MB are LK_EFORMAT. */
#ifndef LK_MODEL_SAFETENSORS_H
#define LK_MODEL_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/fs.h"

enum lk_dtype {
    LK_DTYPE_F64,
    LK_DTYPE_F32,
    LK_DTYPE_F16,
    LK_DTYPE_BF16,
    LK_DTYPE_I64,
    LK_DTYPE_I32,
    LK_DTYPE_I16,
    LK_DTYPE_I8,
    LK_DTYPE_U8,
    LK_DTYPE_BOOL
};

struct lk_st_tensor {
    char *name;
    enum lk_dtype dtype;
    int ndim;
    int64_t shape[8];
    size_t count;        /* elements */
    const uint8_t *data; /* into the map; may be unaligned */
    size_t bytes;
};

struct lk_safetensors {
    struct lk_fs_map map;
    struct lk_st_tensor *tensors; /* sorted by name */
    size_t n_tensors;
    char **meta_keys, **meta_values; /* __metadata__, in file order */
    size_t n_meta;
};

int lk_safetensors_open(struct lk_safetensors *out, const char *path);
void lk_safetensors_close(struct lk_safetensors *st); /* accepts a zeroed or half-open one */
const struct lk_st_tensor *lk_safetensors_find(const struct lk_safetensors *st, const char *name); /* or NULL */
const char *lk_safetensors_meta(const struct lk_safetensors *st, const char *key);                 /* or NULL */
/* Converts to float (F64, F32, F16, BF16); LK_EUNSUPPORTED for the integer types. out[count]. */
int lk_safetensors_to_float(const struct lk_st_tensor *t, float *out);

/* Writing: tensors given as float, stored as F32, BF16 (round to nearest even) or F16. Atomic. */
struct lk_st_write {
    const char *name;
    enum lk_dtype dtype; /* F32, BF16, F16, or I64 (then data is int64_t) */
    int ndim;
    int64_t shape[8];
    const void *data; /* float[], or int64_t[] for I64 */
};
int lk_safetensors_write(const char *path, const struct lk_st_write *tensors, size_t n_tensors,
                         const char *const *meta_keys, const char *const *meta_values, size_t n_meta);

#endif
