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

void lk_emulate(dim3 grid, dim3 block, size_t shared, cudaStream_t stream, bool barriers,
                const std::function<void()> &thread);
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
