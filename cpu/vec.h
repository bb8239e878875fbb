/* The compiler's own vectors of one block of channels, for bodies that are compiled once for each instruction set:
 * LK_BLOCK (8 or 16) is defined by the file that includes them. */
#ifndef LK_CPU_VEC_H
#define LK_CPU_VEC_H

#include <stddef.h>
#include <stdint.h>

#define BODY static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(4 * LK_BLOCK)));
typedef int32_t vi __attribute__((vector_size(4 * LK_BLOCK)));
typedef float vf_mem __attribute__((vector_size(4 * LK_BLOCK), aligned(4), may_alias));

BODY vf load_f32(const float *p) { return *(const vf_mem *)p; }
BODY void store_f32(float *p, vf x) { *(vf_mem *)p = x; }

/* max(0, x) that lets NaN through, so that a broken step is seen in its loss. */
BODY vf relu_of(vf x) {
    vf zero = {0};
    return (vf)((vi)x & ~(x < zero));
}

#endif
