/* Element types, conversion, launch arithmetic and error reporting for the kernels of this room. */
#ifndef LK_CUDA_ELEMENT_CUH
#define LK_CUDA_ELEMENT_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels.h"

extern "C" {
#include "base/err.h"
}

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float to_float(__half x) { return __half2float(x); }

template <typename T> __device__ inline T from_float(float x);
template <> __device__ inline float from_float<float>(float x) { return x; }
template <> __device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) { return __float2bfloat16_rn(x); }
template <> __device__ inline __half from_float<__half>(float x) { return __float2half_rn(x); }

/* Eight channels at once: 16 or 32 bytes, aligned because channel counts are multiples of 8. */
template <typename T> struct alignas(16) pack8 { T v[8]; };
template <typename T> __device__ inline void load8(float out[8], const T *p) {
    const pack8<T> x = *reinterpret_cast<const pack8<T> *>(p);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        out[i] = to_float(x.v[i]);
    }
}
template <typename T> __device__ inline void store8(T *p, const float in[8]) {
    pack8<T> x;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        x.v[i] = from_float<T>(in[i]);
    }
    *reinterpret_cast<pack8<T> *>(p) = x;
}

static inline unsigned blocks_for(size_t work, unsigned threads) {
    size_t n = (work + threads - 1) / threads;
    return (unsigned)(n < 1 ? 1 : n > 1u << 20 ? 1u << 20 : n); /* kernels stride by the grid */
}

static inline int launched(const char *what) {
    cudaError_t e = cudaGetLastError();
    return e == cudaSuccess ? 0 : lk_err(LK_EFAIL, "%s: %s", what, cudaGetErrorString(e));
}

/* Calls body with T bound to the element type. */
#define LK_DISPATCH(t, ...)      \
    switch (t) {                 \
    case LK_E_F32: {             \
        using T = float;         \
        __VA_ARGS__;             \
        break;                   \
    }                            \
    case LK_E_BF16: {            \
        using T = __nv_bfloat16; \
        __VA_ARGS__;             \
        break;                   \
    }                            \
    default: {                   \
        using T = __half;        \
        __VA_ARGS__;             \
        break;                   \
    }                            \
    }

#endif
