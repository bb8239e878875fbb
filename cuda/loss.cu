/* BYOL's loss: (2 - 2 cos(p1, z2)) + (2 - 2 cos(p2, z1)), mean over the batch, its gradient in both predictions, and the
 * collapse statistic. Rows are short and few: all of it is in double, in a fixed order. */
#include "element.cuh"

#include "bodies.h"

namespace {

enum { THREADS = 256 };

__device__ double block_sum(double x, double *shared) {
    shared[threadIdx.x] = x;
    for (int half = THREADS / 2; half; half /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < half) {
            shared[threadIdx.x] += shared[threadIdx.x + half];
        }
    }
    __syncthreads();
    double sum = shared[0];
    __syncthreads();
    return sum;
}

/* Block (row, direction): direction 0 pairs p1 with z2, 1 pairs p2 with z1. rows[direction * batch + row] = 2 - 2 cos. */
template <typename T>
__global__ void row_loss(const T *p1, const T *p2, const T *z1, const T *z2, T *d1, T *d2, int batch, int dim,
                         int padded, float scale, double *rows) {
    __shared__ double shared[THREADS];
    int second = (int)blockIdx.y;
    size_t row = blockIdx.x;
    const T *p = (second ? p2 : p1) + row * padded, *z = (second ? z1 : z2) + row * padded;
    T *d = (second ? d2 : d1) + row * padded;
    double pp = 0, zz = 0, pz = 0, to_z, to_p;
    for (int i = (int)threadIdx.x; i < dim; i += THREADS) {
        double x = to_float(p[i]), y = to_float(z[i]);
        pp += x * x;
        zz += y * y;
        pz += x * y;
    }
    pp = block_sum(pp, shared);
    zz = block_sum(zz, shared);
    pz = block_sum(pz, shared);
    double cosine = lk_cuda_cosine(pp, zz, pz, scale, batch, &to_z, &to_p);
    for (int i = (int)threadIdx.x; i < padded; i += THREADS) {
        double x = to_float(p[i]), y = to_float(z[i]);
        d[i] = from_float<T>(i < dim ? (float)(to_z * y + to_p * x) : 0);
    }
    if (threadIdx.x == 0) {
        rows[second * batch + row] = 2 - 2 * cosine;
    }
}

template <typename T> __global__ void row_lengths(const T *z, int dim, int padded, double *lengths) {
    __shared__ double shared[THREADS];
    double square = 0;
    for (int i = (int)threadIdx.x; i < dim; i += THREADS) {
        double x = to_float(z[(size_t)blockIdx.x * padded + i]);
        square += x * x;
    }
    square = block_sum(square, shared);
    if (threadIdx.x == 0) {
        lengths[blockIdx.x] = fmax(sqrt(square), 1e-8);
    }
}

enum { COLUMNS = 16, PARTS = THREADS / COLUMNS };

/* Deviation over the batch of z / |z|, 16 dimensions a block. */
template <typename T>
__global__ void deviation(const T *z, const double *lengths, int batch, int dim, int padded, double *out) {
    __shared__ double s1[THREADS], s2[THREADS];
    int column = (int)threadIdx.x % COLUMNS, part = (int)threadIdx.x / COLUMNS, i = (int)blockIdx.x * COLUMNS + column;
    double sum = 0, squares = 0;
    for (int row = part; row < batch && i < dim; row += PARTS) {
        double x = to_float(z[(size_t)row * padded + i]) / lengths[row];
        sum += x;
        squares += x * x;
    }
    s1[threadIdx.x] = sum;
    s2[threadIdx.x] = squares;
    for (int half = PARTS / 2; half; half /= 2) {
        __syncthreads();
        if (part < half) {
            s1[threadIdx.x] += s1[threadIdx.x + half * COLUMNS];
            s2[threadIdx.x] += s2[threadIdx.x + half * COLUMNS];
        }
    }
    if (part == 0 && i < dim) {
        out[i] = lk_cuda_deviation(s1[column], s2[column], batch);
    }
}

/* Into the step's row of the ring: loss, mean deviation, 1 when both are numbers. */
__global__ void summarize(const double *rows, int batch, const double *deviations, int dim, float *ring,
                          const lk_cuda_step *step) {
    __shared__ double shared[THREADS];
    double loss = 0, spread = 0;
    for (int i = (int)threadIdx.x; i < 2 * batch; i += THREADS) {
        loss += rows[i];
    }
    for (int i = (int)threadIdx.x; i < dim; i += THREADS) {
        spread += deviations[i];
    }
    loss = block_sum(loss, shared) / batch;
    spread = block_sum(spread, shared) / dim;
    if (threadIdx.x == 0) {
        float *out = ring + 4 * (size_t)step->slot;
        out[0] = (float)loss;
        out[1] = (float)spread;
        out[2] = isfinite(loss) && isfinite(spread) ? 1.0f : 0.0f;
    }
}

} // namespace

extern "C" size_t lk_cuda_byol_scratch(int batch, int dim) {
    return (3 * (size_t)batch + (size_t)dim) * sizeof(double);
}

extern "C" int lk_cuda_byol_loss(cudaStream_t stream, enum lk_element t, const void *p1, const void *p2, const void *z1,
                                 const void *z2, void *d1, void *d2, int batch, int dim, int padded, float scale,
                                 float *ring, const struct lk_cuda_step *step, void *scratch) {
    double *rows = (double *)scratch, *lengths = rows + 2 * (size_t)batch, *deviations = lengths + batch;
    LK_DISPATCH(t, {
        row_loss<T><<<dim3((unsigned)batch, 2), THREADS, 0, stream>>>((const T *)p1, (const T *)p2, (const T *)z1,
                                                                      (const T *)z2, (T *)d1, (T *)d2, batch, dim,
                                                                      padded, scale, rows);
        row_lengths<T><<<(unsigned)batch, THREADS, 0, stream>>>((const T *)z1, dim, padded, lengths);
        deviation<T><<<(unsigned)((dim + COLUMNS - 1) / COLUMNS), THREADS, 0, stream>>>((const T *)z1, lengths, batch,
                                                                                        dim, padded, deviations);
    });
    summarize<<<1, THREADS, 0, stream>>>(rows, batch, deviations, dim, ring, step);
    return launched("BYOL loss");
}
