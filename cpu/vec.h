/* The compiler's own vectors of one block of channels, and their elements in memory, float or bf16, for bodies that are
 * compiled once for each instruction set: LK_BLOCK (8 or 16) is defined by the file that includes them. */
#ifndef LK_CPU_VEC_H
#define LK_CPU_VEC_H

#include <stddef.h>
#include <stdint.h>

#define BODY static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(4 * LK_BLOCK)));
typedef int32_t vi __attribute__((vector_size(4 * LK_BLOCK)));
typedef uint32_t vu __attribute__((vector_size(4 * LK_BLOCK)));
typedef uint16_t vh __attribute__((vector_size(2 * LK_BLOCK)));
typedef uint16_t vh_mem __attribute__((vector_size(2 * LK_BLOCK), aligned(2), may_alias));
typedef float vf_mem __attribute__((vector_size(4 * LK_BLOCK), aligned(4), may_alias));

BODY vf load_f32(const float *p) { return *(const vf_mem *)p; }
BODY void store_f32(float *p, vf x) { *(vf_mem *)p = x; }

BODY vf bf16_to_vf(vh h) { return (vf)(__builtin_convertvector(h, vu) << 16); }

BODY vi is_nan(vf x) { return ((vi)x & 0x7fffffff) > 0x7f800000; }

/* Round to nearest, ties to even; NaN stays NaN. */
BODY vh vf_to_bf16(vf x) {
    vu u = (vu)x;
    vu rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    vu quiet = (u >> 16) | 0x40u;
    vu nan = (vu)is_nan(x);
    return __builtin_convertvector((rounded & ~nan) | (quiet & nan), vh);
}

BODY vf load(const void *p, size_t i, int bf16) {
    return bf16 ? bf16_to_vf(*(const vh_mem *)((const uint16_t *)p + i)) : load_f32((const float *)p + i);
}

BODY void store(void *p, size_t i, int bf16, vf x) {
    if (bf16) {
        *(vh_mem *)((uint16_t *)p + i) = vf_to_bf16(x);
    } else {
        store_f32((float *)p + i, x);
    }
}

/* max(0, x) that lets NaN through, so that a broken step is seen in its loss. */
BODY vf relu_of(vf x) {
    vf zero = {0};
    return (vf)((vi)x & ~(x < zero));
}

#endif
