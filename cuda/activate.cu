/* Nodes without batch norm, and pooling. */
#include "element.cuh"

#include "bodies.h"

namespace {

enum { THREADS = 256 };

template <typename T>
__global__ void activate(T *z, const T *y, const float *bias, const T *residual, int relu, size_t packs, int channels) {
    size_t stride = (size_t)gridDim.x * blockDim.x;
    for (size_t p = (size_t)blockIdx.x * blockDim.x + threadIdx.x; p < packs; p += stride) {
        int c = (int)(p * 8 % channels);
        float x[8], r[8];
        load8(x, y + p * 8);
        if (residual) {
            load8(r, residual + p * 8);
        }
        for (int i = 0; i < 8; i++) {
            float v = x[i] + (bias ? bias[c + i] : 0);
            v = residual ? v + r[i] : v;
            x[i] = relu ? lk_cuda_relu(v) : v;
        }
        store8(z + p * 8, x);
    }
}

template <typename T> __global__ void activate_backward(T *g, const T *a, const T *b, const T *z, size_t packs) {
    size_t stride = (size_t)gridDim.x * blockDim.x;
    for (size_t p = (size_t)blockIdx.x * blockDim.x + threadIdx.x; p < packs; p += stride) {
        float d[8], e[8];
        load8(d, a + p * 8);
        if (b) {
            load8(e, b + p * 8);
            for (int i = 0; i < 8; i++) {
                d[i] += e[i];
            }
        }
        if (z) {
            load8(e, z + p * 8);
            for (int i = 0; i < 8; i++) {
                d[i] = e[i] > 0 ? d[i] : 0;
            }
        }
        store8(g + p * 8, d);
    }
}

__global__ void add_bias(float *dbias, const double *sums, int real) {
    int c = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (c < real) {
        dbias[c] += (float)sums[c];
    }
}

/* A thread takes eight channels of one output pixel. index NULL: not wanted. */
template <typename T>
__global__ void max_pool(T *z, uint8_t *index, const T *x, int h, int w, int packs, int oh, int ow, size_t total) {
    size_t stride = (size_t)gridDim.x * blockDim.x;
    for (size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x; at < total; at += stride) {
        size_t pixel = at / packs, image = pixel / ((size_t)oh * ow);
        int c = (int)(at - pixel * packs) * 8, inside = (int)(pixel - image * oh * ow), oy = inside / ow,
            ox = inside % ow;
        const T *from = x + image * h * w * packs * 8 + c;
        float best[8] = {0}, v[8];
        uint8_t where[8] = {0};
        int none_yet = 1;
        for (int k = 0; k < 9; k++) {
            int y, xx;
            if (!lk_cuda_pool_tap(k, oy, ox, h, w, &y, &xx)) {
                continue;
            }
            load8(v, from + ((size_t)y * w + xx) * packs * 8);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                if (lk_cuda_pool_better(v[i], best[i], none_yet)) {
                    best[i] = v[i];
                    where[i] = (uint8_t)k;
                }
            }
            none_yet = 0;
        }
        store8(z + at * 8, best);
        if (index) {
#pragma unroll
            for (int i = 0; i < 8; i++) {
                index[at * 8 + i] = where[i];
            }
        }
    }
}

/* Gathers: each input pixel adds the windows that chose it, in window order, so that the sum has one order. */
template <typename T>
__global__ void max_pool_backward(T *dx, const T *a, const T *b, const uint8_t *index, int h, int w, int packs, int oh,
                                  int ow, size_t total) {
    size_t stride = (size_t)gridDim.x * blockDim.x;
    for (size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x; at < total; at += stride) {
        size_t pixel = at / packs, image = pixel / ((size_t)h * w);
        int c = (int)(at - pixel * packs) * 8, inside = (int)(pixel - image * h * w), y = inside / w, x = inside % w;
        float sum[8] = {0}, g[8], e[8];
        for (int oy = lk_cuda_pool_first(y); oy <= lk_cuda_pool_last(y) && oy < oh; oy++) {
            for (int ox = lk_cuda_pool_first(x); ox <= lk_cuda_pool_last(x) && ox < ow; ox++) {
                int k = (y - (oy * 2 - 1)) * 3 + x - (ox * 2 - 1);
                size_t o = ((image * oh + oy) * ow + ox) * packs * 8 + c;
                load8(g, a + o);
                if (b) {
                    load8(e, b + o);
                }
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    if (index[o + i] == k) {
                        sum[i] += b ? g[i] + e[i] : g[i];
                    }
                }
            }
        }
        store8(dx + at * 8, sum);
    }
}

template <typename T> __global__ void avg_pool(T *z, const T *x, int hw, int c, size_t total) {
    size_t stride = (size_t)gridDim.x * blockDim.x;
    for (size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x; at < total; at += stride) {
        size_t image = at / c, channel = at % c;
        float sum = 0;
        for (int p = 0; p < hw; p++) {
            sum += to_float(x[(image * hw + p) * c + channel]);
        }
        z[at] = from_float<T>(sum / (float)hw);
    }
}

/* A thread takes eight channels of one picture and writes them to a few of its pixels. */
template <typename T>
__global__ void avg_pool_backward(T *dx, const T *a, const T *b, int hw, int packs, size_t total) {
    size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= total) {
        return;
    }
    size_t image = at / packs;
    int c = (int)(at - image * packs) * 8;
    float g[8], e[8];
    load8(g, a + at * 8);
    if (b) {
        load8(e, b + at * 8);
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        g[i] = (b ? g[i] + e[i] : g[i]) / (float)hw;
    }
    for (int p = (int)blockIdx.y; p < hw; p += (int)gridDim.y) {
        store8(dx + (image * hw + p) * packs * 8 + c, g);
    }
}

} // namespace

extern "C" int lk_cuda_activate(cudaStream_t stream, const struct lk_rows *r, void *z, const void *y, const float *bias,
                                const void *residual, int relu) {
    size_t packs = r->rows * (size_t)r->channels / 8;
    LK_DISPATCH(r->t, activate<T><<<blocks_for(packs, THREADS), THREADS, 0, stream>>>(
                          (T *)z, (const T *)y, bias, (const T *)residual, relu, packs, r->channels));
    return launched("activation");
}

extern "C" int lk_cuda_activate_backward(cudaStream_t stream, const struct lk_rows *r, void *g, const void *a,
                                         const void *b, const void *z) {
    size_t packs = r->rows * (size_t)r->channels / 8;
    LK_DISPATCH(r->t, activate_backward<T><<<blocks_for(packs, THREADS), THREADS, 0, stream>>>(
                          (T *)g, (const T *)a, (const T *)b, (const T *)z, packs));
    return launched("activation backward");
}

extern "C" int lk_cuda_bias_backward(cudaStream_t stream, const struct lk_rows *r, const void *g, int real,
                                     float *dbias, double *sums, void *scratch) {
    int code = lk_cuda_norm_stats(stream, r, g, sums, scratch);
    if (code) {
        return code;
    }
    add_bias<<<blocks_for((size_t)real, 128), 128, 0, stream>>>(dbias, sums, real);
    return launched("bias gradient");
}

extern "C" int lk_cuda_max_pool(cudaStream_t stream, enum lk_element t, void *z, uint8_t *index, const void *x,
                                int batch, int h, int w, int c, int oh, int ow) {
    size_t total = (size_t)batch * (size_t)oh * (size_t)ow * (size_t)(c / 8);
    LK_DISPATCH(t, max_pool<T><<<blocks_for(total, THREADS), THREADS, 0, stream>>>((T *)z, index, (const T *)x, h, w,
                                                                                   c / 8, oh, ow, total));
    return launched("max pool");
}

extern "C" int lk_cuda_max_pool_backward(cudaStream_t stream, enum lk_element t, void *dx, const void *a, const void *b,
                                         const uint8_t *index, int batch, int h, int w, int c, int oh, int ow) {
    size_t total = (size_t)batch * (size_t)h * (size_t)w * (size_t)(c / 8);
    LK_DISPATCH(t, max_pool_backward<T><<<blocks_for(total, THREADS), THREADS, 0, stream>>>(
                       (T *)dx, (const T *)a, (const T *)b, index, h, w, c / 8, oh, ow, total));
    return launched("max pool backward");
}

extern "C" int lk_cuda_avg_pool(cudaStream_t stream, enum lk_element t, void *z, const void *x, int batch, int hw,
                                int c) {
    size_t total = (size_t)batch * (size_t)c;
    LK_DISPATCH(t, avg_pool<T><<<blocks_for(total, THREADS), THREADS, 0, stream>>>((T *)z, (const T *)x, hw, c, total));
    return launched("average pool");
}

extern "C" int lk_cuda_avg_pool_backward(cudaStream_t stream, enum lk_element t, void *dx, const void *a, const void *b,
                                         int batch, int hw, int c) {
    size_t total = (size_t)batch * (size_t)(c / 8);
    dim3 grid((unsigned)((total + THREADS - 1) / THREADS), (unsigned)(hw < 16 ? hw : 16));
    LK_DISPATCH(t, avg_pool_backward<T>
                <<<grid, THREADS, 0, stream>>>((T *)dx, (const T *)a, (const T *)b, hw, c / 8, total));
    return launched("average pool backward");
}
