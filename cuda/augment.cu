/* Random views, one block a picture, from uint8 pictures in device memory to the network's input. The planes of a small
 * picture live in shared memory, those of a large one in scratch. */
#include "element.cuh"

#include "augment_block.h"
#include "bodies.h"

namespace {

enum { THREADS = 256, SHARED_BYTES = 40960, PLANES = 4 /* three colours and one to blur into */ };

size_t plane_bytes(int size) { return PLANES * (size_t)size * (size_t)size * sizeof(float); }

template <typename T>
__global__ void augment(T *nhwc, int packs, lk_augment a, int view, const lk_cuda_step *step,
                        const uint8_t *const *pixels, const int *widths, const int *heights, const uint64_t *ids,
                        float *scratch) {
    extern __shared__ float shared[];
    __shared__ lk_block b;
    int size = a.size, n = size * size, thread = (int)threadIdx.x;
    float *planes = scratch ? scratch + (size_t)blockIdx.x * PLANES * n : shared, *spare = planes + 3 * n;
    if (thread == 0) {
        lk_block_draw(&b, &a, widths[blockIdx.x], heights[blockIdx.x], step->seed, step->epoch, ids[blockIdx.x], view);
    }
    __syncthreads();
    lk_block_crop(planes, &b.view, size, pixels[blockIdx.x], widths[blockIdx.x], thread, THREADS);
    for (int i = 0; i < 4; i++) {
        if (b.view.op[i] == LK_JITTER_CONTRAST) { /* once a view at most */
            atomicAdd(&b.luma, lk_block_luma(planes, n, thread, THREADS));
            __syncthreads();
        }
        lk_block_jitter(planes, n, &b, b.view.op[i], thread, THREADS);
    }
    if (b.view.grey) {
        lk_block_grey(planes, n, thread, THREADS);
    }
    for (int c = 0; c < 3 && b.view.blur_radius > 0; c++) {
        __syncthreads(); /* the plane is whole, and nobody reads spare any more */
        lk_block_blur(spare, planes + c * n, 0, size, &b, thread, THREADS);
        __syncthreads();
        lk_block_blur(planes + c * n, spare, 1, size, &b, thread, THREADS);
    }
    T *to = nhwc + (size_t)blockIdx.x * n * packs * 8;
    for (int i = thread; i < n; i += THREADS) {
        lk_rgb p = lk_block_finish(planes, n, i, &b, &a);
        float x[8] = {p.r, p.g, p.b, 0, 0, 0, 0, 0};
        for (int k = 0; k < packs; k++) {
            store8(to + ((size_t)i * packs + k) * 8, x);
            x[0] = x[1] = x[2] = 0;
        }
    }
}

} // namespace

extern "C" size_t lk_cuda_augment_scratch(int batch, int size) {
    return plane_bytes(size) > SHARED_BYTES ? (size_t)batch * plane_bytes(size) : 0;
}

extern "C" int lk_cuda_augment(cudaStream_t stream, enum lk_element t, void *nhwc, int c_pad, int batch,
                               const struct lk_augment *a, int view, const struct lk_cuda_step *step,
                               const uint8_t *const *pixels, const int *widths, const int *heights, const uint64_t *ids,
                               void *scratch) {
    int in_shared = plane_bytes(a->size) <= SHARED_BYTES;
    size_t bytes = in_shared ? plane_bytes(a->size) : 0;
    float *planes = in_shared ? NULL : (float *)scratch;
    LK_DISPATCH(t, augment<T><<<(unsigned)batch, THREADS, bytes, stream>>>((T *)nhwc, c_pad / 8, *a, view, step, pixels,
                                                                           widths, heights, ids, planes));
    return launched("augmentation");
}
