/* Into edge 0 and out of any edge: layouts, normalisation of pixels, unit length. */
#include "element.cuh"

namespace {

enum { THREADS = 256 };

struct rgb {
    float mean[3], std[3];
};

/* The operations of the CPU's table of 256 values a channel, so that both devices see the same numbers. */
template <typename T>
__global__ void input_u8(T *nhwc, const uint8_t *pixels, size_t filled, size_t total, int packs, rgb n) {
    size_t stride = (size_t)gridDim.x * blockDim.x;
    for (size_t p = (size_t)blockIdx.x * blockDim.x + threadIdx.x; p < total; p += stride) {
        float x[8] = {0};
        if (p < filled) {
#pragma unroll
            for (int c = 0; c < 3; c++) {
                x[c] = ((float)pixels[p * 3 + c] / 255.0f - n.mean[c]) / n.std[c];
            }
        }
        for (int k = 0; k < packs; k++) {
            store8(nhwc + (p * packs + k) * 8, x);
            x[0] = x[1] = x[2] = 0;
        }
    }
}

/* One block a picture; the length is summed in double by a fixed tree. */
template <typename T> __global__ void output(float *out, const T *nhwc, int c, int c_pad, int hw, int normalize) {
    __shared__ double sums[THREADS];
    size_t n = (size_t)c * hw;
    const T *from = nhwc + (size_t)blockIdx.x * hw * c_pad;
    float *to = out + blockIdx.x * n;
    double square = 0;
    for (size_t at = threadIdx.x; at < n; at += THREADS) {
        int channel = (int)(at / hw), pixel = (int)(at % hw);
        float x = to_float(from[(size_t)pixel * c_pad + channel]);
        to[at] = x;
        square += (double)x * x;
    }
    if (!normalize) {
        return;
    }
    sums[threadIdx.x] = square;
    for (int half = THREADS / 2; half; half /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < half) {
            sums[threadIdx.x] += sums[threadIdx.x + half];
        }
    }
    __syncthreads();
    double length = sqrt(sums[0]);
    for (size_t at = threadIdx.x; at < n && length > 0; at += THREADS) {
        to[at] = (float)(to[at] / length);
    }
}

template <typename T> __global__ void from_chw(T *nhwc, const float *chw, size_t total, int c, int hw, int c_pad) {
    size_t stride = (size_t)gridDim.x * blockDim.x;
    for (size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x; at < total; at += stride) {
        size_t pixel = at / c_pad, image = pixel / hw;
        int channel = (int)(at % c_pad);
        nhwc[at] = from_float<T>(channel < c ? chw[(image * c + channel) * hw + pixel % hw] : 0);
    }
}

} // namespace

extern "C" int lk_cuda_input_u8(cudaStream_t stream, enum lk_element t, void *nhwc, const uint8_t *pixels, int count,
                                int batch, int side, int c_pad, const float mean[3], const float std[3]) {
    size_t plane = (size_t)side * (size_t)side, total = (size_t)batch * plane, filled = (size_t)count * plane;
    rgb n;
    for (int c = 0; c < 3; c++) {
        n.mean[c] = mean[c];
        n.std[c] = std[c];
    }
    LK_DISPATCH(t, input_u8<T>
                <<<blocks_for(total, THREADS), THREADS, 0, stream>>>((T *)nhwc, pixels, filled, total, c_pad / 8, n));
    return launched("input");
}

extern "C" int lk_cuda_output(cudaStream_t stream, enum lk_element t, float *out, const void *nhwc, int count, int c,
                              int c_pad, int hw, int normalize) {
    LK_DISPATCH(t, output<T><<<(unsigned)count, THREADS, 0, stream>>>(out, (const T *)nhwc, c, c_pad, hw, normalize));
    return launched("output");
}

extern "C" int lk_cuda_from_chw(cudaStream_t stream, enum lk_element t, void *nhwc, const float *chw, int batch, int c,
                                int hw, int c_pad) {
    size_t total = (size_t)batch * (size_t)hw * (size_t)c_pad;
    LK_DISPATCH(t,
                from_chw<T><<<blocks_for(total, THREADS), THREADS, 0, stream>>>((T *)nhwc, chw, total, c, hw, c_pad));
    return launched("change of layout");
}
