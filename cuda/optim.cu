/* One walk over the parameter arena: optimiser, zeroing of the gradients, moving average of the teacher. */
#include "element.cuh"

#include "bodies.h"

namespace {

enum {
    THREADS = 256,
    BLOCKS_A_SPAN = 64,
    SUM_BLOCKS = 32 /* a span's norms are sums of this many parts */
};

__device__ void block_sums(double &a, double &b, double *sa, double *sb) {
    sa[threadIdx.x] = a;
    sb[threadIdx.x] = b;
    for (int half = (int)blockDim.x / 2; half; half /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < half) {
            sa[threadIdx.x] += sa[threadIdx.x + half];
            sb[threadIdx.x] += sb[threadIdx.x + half];
        }
    }
    __syncthreads();
    a = sa[0];
    b = sb[0];
}

/* Blocks (part, span): |w|^2 and |g|^2 of every SUM_BLOCKS-th stretch of 256 elements. */
__global__ void norms(const lk_param_span *spans, const float *params, const float *grads, double2 *partial) {
    __shared__ double sa[THREADS], sb[THREADS];
    lk_param_span s = spans[blockIdx.y];
    double a = 0, b = 0;
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < s.count; i += (size_t)SUM_BLOCKS * THREADS) {
        double w = params[s.offset + i], g = grads[s.offset + i];
        a += w * w;
        b += g * g;
    }
    block_sums(a, b, sa, sb);
    if (threadIdx.x == 0) {
        partial[(size_t)blockIdx.y * SUM_BLOCKS + blockIdx.x] = make_double2(a, b);
    }
}

/* One warp a span: its ratio and decay. */
__global__ void ratios(const lk_cuda_step *step, const lk_param_span *spans, const double2 *partial, float2 *out) {
    __shared__ double sa[SUM_BLOCKS], sb[SUM_BLOCKS];
    double2 p = partial[(size_t)blockIdx.x * SUM_BLOCKS + threadIdx.x];
    block_sums(p.x, p.y, sa, sb);
    if (threadIdx.x == 0) {
        float ratio, decay;
        lk_cuda_trust(&step->rule, spans[blockIdx.x].one_dimensional, p.x, p.y, &ratio, &decay);
        out[blockIdx.x] = make_float2(ratio, decay);
    }
}

/* Blocks (part, span). */
__global__ void update(const lk_cuda_step *step, const lk_param_span *spans, const float2 *trust, size_t n_params,
                       float *params, float *grads, float *state, float *teacher, size_t teacher_count) {
    const lk_cuda_rule r = step->rule;
    lk_param_span s = spans[blockIdx.y];
    float ratio = 1, decay = r.exclude_1d && s.one_dimensional ? 0 : r.weight_decay;
    if (r.kind == LK_LARS) {
        float2 t = trust[blockIdx.y];
        ratio = t.x;
        decay = t.y;
    }
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < s.count; i += (size_t)BLOCKS_A_SPAN * THREADS) {
        size_t at = s.offset + i;
        float w = params[at], g = grads[at];
        w = r.kind == LK_ADAM ? lk_cuda_adam(&r, w, g, state + at, state + n_params + at, decay)
                              : lk_cuda_momentum(&r, w, g, state + at, ratio, decay);
        params[at] = w;
        grads[at] = 0;
        if (teacher && at < teacher_count) {
            teacher[at] = lk_cuda_ema(teacher[at], w, r.tau);
        }
    }
}

} // namespace

extern "C" size_t lk_cuda_update_scratch(size_t n_spans) {
    return n_spans * (SUM_BLOCKS * sizeof(double2) + sizeof(float2));
}

extern "C" int lk_cuda_update(cudaStream_t stream, enum lk_optimizer kind, const struct lk_cuda_step *step,
                              const struct lk_param_span *spans, size_t n_spans, size_t n_params, float *params,
                              float *grads, float *state, float *teacher, size_t teacher_count, void *scratch) {
    double2 *partial = (double2 *)scratch;
    float2 *trust = (float2 *)(partial + n_spans * SUM_BLOCKS);
    if (kind == LK_LARS) {
        norms<<<dim3(SUM_BLOCKS, (unsigned)n_spans), THREADS, 0, stream>>>(spans, params, grads, partial);
        ratios<<<(unsigned)n_spans, SUM_BLOCKS, 0, stream>>>(step, spans, partial, trust);
    }
    update<<<dim3(BLOCKS_A_SPAN, (unsigned)n_spans), THREADS, 0, stream>>>(step, spans, trust, n_params, params, grads,
                                                                           state, teacher, teacher_count);
    return launched("update");
}
