/* The JSON header of a safetensors file. Nobody outside core/model includes it. */
#ifndef LK_MODEL_ST_HEADER_H
#define LK_MODEL_ST_HEADER_H

#include "model/safetensors.h"

/* Reads the header's n bytes into out->tensors (in file order, data and bytes set from data_offsets, which are checked
 * against dtype, shape and data_size) and out->meta_*. LK_EFORMAT says what is wrong and at which byte. On failure
 * what was read stays in out, for lk_safetensors_close to free. */
int lk_st__header(struct lk_safetensors *out, const char *json, size_t n, const uint8_t *data, size_t data_size);

/* Bytes of one element, 0 for a value outside the enum; and the name in the file. */
size_t lk_st__dtype_size(enum lk_dtype dtype);
const char *lk_st__dtype_name(enum lk_dtype dtype);

/* The bf16 nearest to value (ties to even), as a float; to_float of what the writer stores. */
float lk_st__round_bf16(float value);

/* 1 when the n bytes are UTF-8 (RFC 3629: no overlong forms, no surrogates) without NUL. */
int lk_st__utf8(const char *s, size_t n);

#endif
