/* Between the canonical float arena (OIHW) and the compute copies (KRSC, channels padded). */
#include "element.cuh"

namespace {

enum { THREADS = 256 };

template <typename T>
__global__ void pack(T *krsc, const float *oihw, const float *fold, int o, int o_pad, int i, int i_pad, int taps) {
    size_t total = (size_t)o_pad * taps * i_pad, stride = (size_t)gridDim.x * blockDim.x;
    for (size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x; at < total; at += stride) {
        int ci = (int)(at % i_pad), tap = (int)(at / i_pad % taps), co = (int)(at / ((size_t)i_pad * taps));
        float w = ci < i && co < o ? oihw[((size_t)co * i + ci) * taps + tap] : 0;
        krsc[at] = from_float<T>(fold && co < o ? w * fold[co] : w);
    }
}

template <typename T> __global__ void add(float *grads, const T *krsc, int o, int i, int i_pad, int taps) {
    size_t total = (size_t)o * i * taps, stride = (size_t)gridDim.x * blockDim.x;
    for (size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x; at < total; at += stride) {
        int tap = (int)(at % taps), ci = (int)(at / taps % i), co = (int)(at / ((size_t)taps * i));
        grads[at] += to_float(krsc[((size_t)co * taps + tap) * i_pad + ci]);
    }
}

__global__ void fold_norm(float *scale, float *shift, const float *gamma, const float *beta, const float *mean,
                          const float *var, int channels, int padded) {
    int c = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (c < padded) {
        double s = c < channels ? gamma[c] / sqrt((double)var[c] + (double)LK_BN_EPSILON) : 0;
        scale[c] = (float)s;
        shift[c] = c < channels ? (float)(beta[c] - mean[c] * s) : 0;
    }
}

__global__ void pad(float *out, const float *source, int channels, int padded) {
    int c = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (c < padded) {
        out[c] = c < channels ? source[c] : 0;
    }
}

} // namespace

extern "C" int lk_cuda_weights_pack(cudaStream_t stream, enum lk_element t, void *krsc, const float *oihw,
                                    const float *fold, int o, int o_pad, int i, int i_pad, int k) {
    size_t total = (size_t)o_pad * (size_t)(k * k) * (size_t)i_pad;
    LK_DISPATCH(t, pack<T>
                <<<blocks_for(total, THREADS), THREADS, 0, stream>>>((T *)krsc, oihw, fold, o, o_pad, i, i_pad, k * k));
    return launched("pack weights");
}

extern "C" int lk_cuda_weights_add(cudaStream_t stream, enum lk_element t, float *grads, const void *krsc, int o, int i,
                                   int i_pad, int k) {
    size_t total = (size_t)o * (size_t)i * (size_t)(k * k);
    LK_DISPATCH(t,
                add<T><<<blocks_for(total, THREADS), THREADS, 0, stream>>>(grads, (const T *)krsc, o, i, i_pad, k * k));
    return launched("add filter gradient");
}

extern "C" int lk_cuda_fold(cudaStream_t stream, float *scale, float *shift, const float *gamma, const float *beta,
                            const float *mean, const float *var, int channels, int padded) {
    fold_norm<<<blocks_for((size_t)padded, 128), 128, 0, stream>>>(scale, shift, gamma, beta, mean, var, channels,
                                                                   padded);
    return launched("fold batch norm");
}

extern "C" int lk_cuda_pad(cudaStream_t stream, float *out, const float *source, int channels, int padded) {
    pad<<<blocks_for((size_t)padded, 128), 128, 0, stream>>>(out, source, channels, padded);
    return launched("pad channels");
}
