/* Batch norm over rows [rows][channels]. A thread keeps eight neighbouring channels and walks down the rows, so that
 * its channels' vectors stay in registers and a warp reads whole lines. Sums: float over at most MOST_ROWS rows of one
 * thread, double from there on, in an order that depends on the shape alone. */
#include "element.cuh"

#include "bodies.h"

namespace {

enum { THREADS = 256 };
constexpr size_t MOST_ROWS = 64;     /* of one thread in a reduction */
constexpr size_t LEAST_ROWS = 4;     /* below this a thread's own set-up costs more than its rows */
constexpr size_t MANY_BLOCKS = 2048; /* two waves on 132 multiprocessors */

/* A block covers 8 * lanes channels and `lines` rows at a time. */
struct shape {
    int lanes, lines;
    unsigned columns;
};

shape shape_of(const lk_rows *r) {
    shape s;
    int packs = r->channels / 8;
    s.lanes = 1;
    while (s.lanes < packs && s.lanes < 32) {
        s.lanes *= 2;
    }
    s.lines = THREADS / s.lanes;
    s.columns = (unsigned)((packs + s.lanes - 1) / s.lanes);
    return s;
}

size_t up(size_t a, size_t b) { return (a + b - 1) / b; }

/* Rows of one block in a reduction: a multiple of `lines`. */
size_t chunk_of(const lk_rows *r, const shape &s) {
    size_t groups = up(r->rows, (size_t)s.lines), each = up(groups * s.columns, MANY_BLOCKS);
    each = each < LEAST_ROWS ? LEAST_ROWS : each > MOST_ROWS ? MOST_ROWS : each;
    return each * (size_t)s.lines;
}

dim3 grid_of(const lk_rows *r, const shape &s) {
    size_t groups = up(r->rows, (size_t)s.lines), blocks = up(groups, LEAST_ROWS), most = up(MANY_BLOCKS, s.columns);
    return dim3((unsigned)(blocks < most ? blocks : most), s.columns);
}

/* Adds eight pairs over the block's lines and writes partial[block][2][channels]. */
__device__ void block_sums(const float a[8], const float b[8], int lane, int line, shape s, int channels,
                           double *partial) {
    __shared__ float sa[8 * THREADS], sb[8 * THREADS];
    int first = (int)blockIdx.y * s.lanes * 8;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        sa[i * THREADS + line * s.lanes + lane] = a[i];
        sb[i * THREADS + line * s.lanes + lane] = b[i];
    }
    __syncthreads();
    for (int job = (int)threadIdx.x; job < 8 * s.lanes; job += THREADS) {
        int l = job % s.lanes, i = job / s.lanes, c = first + l * 8 + i;
        double x = 0, y = 0;
        for (int k = 0; k < s.lines; k++) {
            x += sa[i * THREADS + k * s.lanes + l];
            y += sb[i * THREADS + k * s.lanes + l];
        }
        if (c < channels) {
            double *to = partial + (size_t)blockIdx.x * 2 * channels;
            to[c] = x;
            to[channels + c] = y;
        }
    }
}

enum { COMBINE_COLUMNS = 8, COMBINE_PARTS = THREADS / COMBINE_COLUMNS };

/* sums[2][channels] over the chunks. Where y is given the partial sums are of y - y[0], which a mean far from zero needs,
 * and are shifted back here. */
template <typename T>
__global__ void combine(double *sums, const double *partial, unsigned chunks, int channels, const T *y, double rows) {
    __shared__ double sa[THREADS], sb[THREADS];
    int column = (int)threadIdx.x % COMBINE_COLUMNS, part = (int)threadIdx.x / COMBINE_COLUMNS;
    int c = (int)blockIdx.x * COMBINE_COLUMNS + column; /* channels are a multiple of 8 */
    double a = 0, b = 0;
    for (unsigned k = (unsigned)part; k < chunks; k += COMBINE_PARTS) {
        a += partial[(size_t)k * 2 * channels + c];
        b += partial[(size_t)k * 2 * channels + channels + c];
    }
    sa[threadIdx.x] = a;
    sb[threadIdx.x] = b;
    for (int half = COMBINE_PARTS / 2; half; half /= 2) {
        __syncthreads();
        if (part < half) {
            sa[threadIdx.x] += sa[threadIdx.x + half * COMBINE_COLUMNS];
            sb[threadIdx.x] += sb[threadIdx.x + half * COMBINE_COLUMNS];
        }
    }
    if (part == 0) {
        double sum = sa[column], squares = sb[column], shift = y ? (double)to_float(y[c]) : 0;
        sums[c] = sum + rows * shift;
        sums[channels + c] = squares + 2 * shift * sum + rows * shift * shift;
    }
}

template <typename T>
__global__ void stats(const T *y, size_t rows, int channels, shape s, size_t chunk, double *partial) {
    int lane = (int)threadIdx.x % s.lanes, line = (int)threadIdx.x / s.lanes;
    int c = ((int)blockIdx.y * s.lanes + lane) * 8;
    float a[8] = {0}, b[8] = {0}, x[8], shift[8];
    size_t begin = blockIdx.x * chunk, end = begin + chunk < rows ? begin + chunk : rows;
    if (c < channels) {
        load8(shift, y + c);
#pragma unroll 4
        for (size_t row = begin + line; row < end; row += s.lines) {
            load8(x, y + row * channels + c);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float d = x[i] - shift[i];
                a[i] += d;
                b[i] += d * d;
            }
        }
    }
    block_sums(a, b, lane, line, s, channels, partial);
}

template <typename S>
__global__ void finalize(const S *sums, double rows, int channels, int real, const float *gamma, float *saved,
                         float *running_mean, float *running_var) {
    int c = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (c < channels) {
        int running = running_mean && c < real;
        lk_cuda_norm_forward_channel(saved + c, (size_t)channels, (double)sums[c], (double)sums[channels + c], rows,
                                     gamma[c], running ? running_mean + c : NULL, running ? running_var + c : NULL);
    }
}

template <typename T, bool ADD, bool RELU>
__global__ void apply(T *z, const T *y, const float *saved, const float *beta, const T *residual, size_t rows,
                      int channels, shape s) {
    int lane = (int)threadIdx.x % s.lanes, line = (int)threadIdx.x / s.lanes;
    int c = ((int)blockIdx.y * s.lanes + lane) * 8;
    float mean[8], scale[8], add[8];
    if (c >= channels) {
        return;
    }
    load8(mean, saved + (size_t)LK_SAVED_MEAN * channels + c);
    load8(scale, saved + (size_t)LK_SAVED_SCALE * channels + c);
    load8(add, beta + c);
#pragma unroll 2
    for (size_t row = (size_t)blockIdx.x * s.lines + line; row < rows; row += (size_t)gridDim.x * s.lines) {
        size_t at = row * channels + c;
        float x[8], r[8];
        load8(x, y + at);
        if (ADD) {
            load8(r, residual + at);
        }
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float v = lk_cuda_normalise(x[i], mean[i], scale[i], add[i]);
            v = ADD ? v + r[i] : v;
            x[i] = RELU ? lk_cuda_relu(v) : v;
        }
        store8(z + at, x);
    }
}

/* g may be a. */
template <typename T>
__global__ void backward_reduce(T *g, const T *a, const T *b, const T *z, const T *y, const float *saved, size_t rows,
                                int channels, shape s, size_t chunk, double *partial) {
    int lane = (int)threadIdx.x % s.lanes, line = (int)threadIdx.x / s.lanes;
    int c = ((int)blockIdx.y * s.lanes + lane) * 8;
    float sg[8] = {0}, sx[8] = {0}, mean[8], d[8], e[8], x[8];
    size_t begin = blockIdx.x * chunk, end = begin + chunk < rows ? begin + chunk : rows;
    if (c < channels) {
        load8(mean, saved + (size_t)LK_SAVED_MEAN * channels + c);
#pragma unroll 2
        for (size_t row = begin + line; row < end; row += s.lines) {
            size_t at = row * channels + c;
            load8(d, a + at);
            load8(x, y + at);
            if (b) {
                load8(e, b + at);
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    d[i] += e[i];
                }
            }
            if (z) {
                load8(e, z + at);
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    d[i] = e[i] > 0 ? d[i] : 0;
                }
            }
            if (b || z || g != a) {
                store8(g + at, d);
            }
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float stored = to_float(from_float<T>(d[i])); /* what the apply will read */
                sg[i] += stored;
                sx[i] += stored * (x[i] - mean[i]);
            }
        }
    }
    block_sums(sg, sx, lane, line, s, channels, partial);
}

template <typename S>
__global__ void backward_finalize(const S *sums, double rows, int channels, int real, const float *gamma, float *saved,
                                  float *dgamma, float *dbeta) {
    int c = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (c < channels) {
        lk_cuda_norm_backward_channel(saved + c, (size_t)channels, (double)sums[c], (double)sums[channels + c], rows,
                                      gamma[c], c < real ? dgamma + c : NULL, c < real ? dbeta + c : NULL);
    }
}

template <typename T>
__global__ void backward_apply(T *dy, const T *g, const T *y, const float *saved, size_t rows, int channels, shape s) {
    int lane = (int)threadIdx.x % s.lanes, line = (int)threadIdx.x / s.lanes;
    int c = ((int)blockIdx.y * s.lanes + lane) * 8;
    float mean[8], ka[8], kb[8], kc[8];
    if (c >= channels) {
        return;
    }
    load8(mean, saved + (size_t)LK_SAVED_MEAN * channels + c);
    load8(ka, saved + (size_t)LK_SAVED_A * channels + c);
    load8(kb, saved + (size_t)LK_SAVED_B * channels + c);
    load8(kc, saved + (size_t)LK_SAVED_C * channels + c);
#pragma unroll 2
    for (size_t row = (size_t)blockIdx.x * s.lines + line; row < rows; row += (size_t)gridDim.x * s.lines) {
        size_t at = row * channels + c;
        float d[8], x[8];
        load8(d, g + at);
        load8(x, y + at);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            d[i] = lk_cuda_norm_backward(d[i], x[i], mean[i], ka[i], kb[i], kc[i]);
        }
        store8(dy + at, d);
    }
}

template <typename T>
int combine_sums(cudaStream_t stream, double *sums, const double *partial, size_t chunks, int channels, const T *y,
                 size_t rows) {
    combine<T><<<(unsigned)(channels / COMBINE_COLUMNS), THREADS, 0, stream>>>(sums, partial, (unsigned)chunks,
                                                                               channels, y, (double)rows);
    return launched("column sums");
}

template <typename T>
int launch_apply(cudaStream_t stream, const lk_rows *r, T *z, const T *y, const float *saved, const float *beta,
                 const T *residual, int relu) {
    shape s = shape_of(r);
    dim3 grid = grid_of(r, s);
    if (residual && relu) {
        apply<T, true, true><<<grid, THREADS, 0, stream>>>(z, y, saved, beta, residual, r->rows, r->channels, s);
    } else if (residual) {
        apply<T, true, false><<<grid, THREADS, 0, stream>>>(z, y, saved, beta, residual, r->rows, r->channels, s);
    } else if (relu) {
        apply<T, false, true><<<grid, THREADS, 0, stream>>>(z, y, saved, beta, residual, r->rows, r->channels, s);
    } else {
        apply<T, false, false><<<grid, THREADS, 0, stream>>>(z, y, saved, beta, residual, r->rows, r->channels, s);
    }
    return launched("batch norm apply");
}

} // namespace

extern "C" size_t lk_cuda_norm_scratch(const struct lk_rows *r) {
    return up(r->rows, chunk_of(r, shape_of(r))) * 2 * (size_t)r->channels * sizeof(double);
}

extern "C" int lk_cuda_norm_stats(cudaStream_t stream, const struct lk_rows *r, const void *y, double *sums,
                                  void *scratch) {
    shape s = shape_of(r);
    size_t chunk = chunk_of(r, s), chunks = up(r->rows, chunk);
    double *partial = (double *)scratch;
    int code = 0;
    LK_DISPATCH(r->t, {
        stats<T><<<dim3((unsigned)chunks, s.columns), THREADS, 0, stream>>>((const T *)y, r->rows, r->channels, s,
                                                                            chunk, partial);
        code = combine_sums<T>(stream, sums, partial, chunks, r->channels, (const T *)y, r->rows);
    });
    return code;
}

extern "C" int lk_cuda_norm_finalize(cudaStream_t stream, const void *sums, int narrow, size_t rows, int channels,
                                     int real, const float *gamma, float *saved, float *running_mean,
                                     float *running_var) {
    unsigned blocks = blocks_for((size_t)channels, 128);
    if (narrow) {
        finalize<float><<<blocks, 128, 0, stream>>>((const float *)sums, (double)rows, channels, real, gamma, saved,
                                                    running_mean, running_var);
    } else {
        finalize<double><<<blocks, 128, 0, stream>>>((const double *)sums, (double)rows, channels, real, gamma, saved,
                                                     running_mean, running_var);
    }
    return launched("batch norm finalize");
}

extern "C" int lk_cuda_norm_apply(cudaStream_t stream, const struct lk_rows *r, void *z, const void *y,
                                  const float *saved, const float *beta, const void *residual, int relu) {
    int code = 0;
    LK_DISPATCH(r->t, code = launch_apply<T>(stream, r, (T *)z, (const T *)y, saved, beta, (const T *)residual, relu));
    return code;
}

extern "C" int lk_cuda_norm_backward_reduce(cudaStream_t stream, const struct lk_rows *r, void *g, const void *a,
                                            const void *b, const void *z, const void *y, const float *saved,
                                            double *sums, void *scratch) {
    shape s = shape_of(r);
    size_t chunk = chunk_of(r, s), chunks = up(r->rows, chunk);
    double *partial = (double *)scratch;
    int code = 0;
    LK_DISPATCH(r->t, {
        backward_reduce<T><<<dim3((unsigned)chunks, s.columns), THREADS, 0, stream>>>(
            (T *)g, (const T *)a, (const T *)b, (const T *)z, (const T *)y, saved, r->rows, r->channels, s, chunk,
            partial);
        code = combine_sums<T>(stream, sums, partial, chunks, r->channels, NULL, r->rows);
    });
    return code;
}

extern "C" int lk_cuda_norm_backward_finalize(cudaStream_t stream, const void *sums, int narrow, size_t rows,
                                              int channels, int real, const float *gamma, float *saved, float *dgamma,
                                              float *dbeta) {
    unsigned blocks = blocks_for((size_t)channels, 128);
    if (narrow) {
        backward_finalize<float><<<blocks, 128, 0, stream>>>((const float *)sums, (double)rows, channels, real, gamma,
                                                             saved, dgamma, dbeta);
    } else {
        backward_finalize<double><<<blocks, 128, 0, stream>>>((const double *)sums, (double)rows, channels, real, gamma,
                                                              saved, dgamma, dbeta);
    }
    return launched("batch norm gradients");
}

extern "C" int lk_cuda_norm_backward_apply(cudaStream_t stream, const struct lk_rows *r, void *dy, const void *g,
                                           const void *y, const float *saved) {
    shape s = shape_of(r);
    LK_DISPATCH(r->t, backward_apply<T><<<grid_of(r, s), THREADS, 0, stream>>>((T *)dy, (const T *)g, (const T *)y,
                                                                               saved, r->rows, r->channels, s));
    return launched("batch norm backward");
}
