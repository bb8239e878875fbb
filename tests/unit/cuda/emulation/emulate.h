/* CUDA's execution model on one CPU thread, for translated sources (translate.py): blocks run one after the other, the
 * threads of a block as fibers that change places at a barrier. Shared memory is static, since one block runs at a time.
 * What it cannot show: races, and anything about speed. */
#ifndef LK_TESTS_EMULATE_H
#define LK_TESTS_EMULATE_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>

#include <cuda_runtime_api.h>
#include <vector_functions.h>
#include <vector_types.h>

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#define __global__ static
#define __device__
#define __host__
#define __shared__ static

struct lk_emulated_index {
    unsigned x, y, z;
};
extern lk_emulated_index threadIdx, blockIdx, blockDim, gridDim;

/* A kernel with its arguments as they are at the launch: what a pointer among them points at is read when it runs. */
template <typename T> struct lk_emulated_as_is { using type = T; };
template <typename... P>
std::function<void()> lk_emulated_call(void (*kernel)(P...), typename lk_emulated_as_is<P>::type... arguments) {
    return [=] { kernel(arguments...); };
}

void lk_emulate(dim3 grid, dim3 block, size_t shared, cudaStream_t stream, bool barriers, std::function<void()> thread);
void lk_emulated_barrier();
void *lk_emulated_shared();
#define __syncthreads lk_emulated_barrier

template <typename T> T atomicAdd(T *to, T value) {
    T old = *to;
    *to = old + value;
    return old;
}

using std::isfinite;

#endif
