/* Nearest neighbours by dot product, exactly as model/neighbor.h has them: rows with their columns in the order of the
 * sum, products of a tile of queries with a tile of the bank, and each query's best in a heap. */
#include "element.cuh"

#include "model/neighbor.h"

namespace {

enum { PACK_THREADS = 256 };

/* from: rows of `rows`, or NULL for the first n. */
__global__ void pack(float *out, const float *rows, const uint32_t *from, size_t n, size_t dim) {
    size_t stride = (size_t)gridDim.x * blockDim.x;
    for (size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x; at < n * dim; at += stride) {
        size_t row = at / dim;
        out[at] = rows[(from ? from[row] : row) * dim + lk_dot_column(at % dim, dim)];
    }
}

/* A block has 64 queries by 128 rows of the bank, a thread 4 by 8 of them, in two halves so that neighbouring threads
 * read neighbouring words of shared memory. */
enum { QUERIES = 64, ROWS = 128, DEPTH = 16, TX = 16, TY = 16, PRODUCT_THREADS = TX * TY, PAD = 4 };

struct alignas(16) pack4 {
    float v[4];
};
__device__ inline void load4(float out[4], const float *p) {
    const pack4 x = *reinterpret_cast<const pack4 *>(p);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        out[i] = x.v[i];
    }
}

__device__ inline void load_tile(float *tile, int width, const float *rows, size_t first, size_t n, size_t dim,
                                 size_t depth) {
    for (int i = (int)threadIdx.x; i < width * DEPTH; i += PRODUCT_THREADS) {
        size_t row = first + (size_t)(i / DEPTH), column = depth + (size_t)(i % DEPTH);
        tile[i % DEPTH * (width + PAD) + i / DEPTH] = row < n && column < dim ? rows[row * dim + column] : 0;
    }
}

__global__ void products(float *scores, size_t pitch, const float *query, size_t nq, const float *bank, size_t nb,
                         size_t dim) {
    alignas(16) __shared__ float a[DEPTH * (QUERIES + PAD)];
    alignas(16) __shared__ float b[DEPTH * (ROWS + PAD)];
    size_t q0 = (size_t)blockIdx.y * QUERIES, b0 = (size_t)blockIdx.x * ROWS;
    int x = (int)threadIdx.x % TX * 4, y = (int)threadIdx.x / TX * 4;
    float part[4][8] = {{0}}, sum[4][8] = {{0}};
    size_t end = lk_dot_first_run(dim);
    for (size_t depth = 0; depth < dim; depth += DEPTH) {
        __syncthreads();
        load_tile(a, QUERIES, query, q0, nq, dim, depth);
        load_tile(b, ROWS, bank, b0, nb, dim, depth);
        __syncthreads();
        for (int k = 0; k < DEPTH; k++) {
            const float *qs = a + k * (QUERIES + PAD) + y, *bs = b + k * (ROWS + PAD) + x;
            float q[4], r[8];
            load4(q, qs);
            load4(r, bs);
            load4(r + 4, bs + ROWS / 2);
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    part[i][j] += q[i] * r[j];
                }
            }
            if (depth + (size_t)k + 1 == end) { /* a run ends here, for all threads */
#pragma unroll
                for (int i = 0; i < 4; i++) {
#pragma unroll
                    for (int j = 0; j < 8; j++) {
                        sum[i][j] += part[i][j];
                        part[i][j] = 0;
                    }
                }
                end += dim / LK_DOT_LANES;
            }
        }
    }
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 8; j++) {
            size_t row = q0 + (size_t)(y + i), column = b0 + (size_t)(x + j % 4 + j / 4 * (ROWS / 2));
            if (row < nq && column < nb) {
                scores[row * pitch + column] = sum[i][j];
            }
        }
    }
}

enum { SELECT_THREADS = 128, CHUNK = 1024 };

/* A block a query. All threads look for scores that the worst kept neighbour does not beat, one takes them in. */
__global__ void select_best(lk_neighbor *out, const float *scores, size_t pitch, size_t first, size_t n, size_t k,
                            const uint32_t *self, int last) {
    __shared__ uint32_t found[CHUNK];
    __shared__ unsigned count;
    __shared__ size_t kept;
    __shared__ lk_neighbor worst;
    const float *score = scores + blockIdx.x * pitch;
    lk_neighbor *heap = out + blockIdx.x * k;
    uint32_t own = self ? self[blockIdx.x] : UINT32_MAX; /* which is no row */
    if (threadIdx.x == 0) {
        kept = first - (own < first ? 1 : 0); /* of the tiles before */
        kept = kept < k ? kept : k;
    }
    for (size_t chunk = 0; chunk < n; chunk += CHUNK) {
        if (threadIdx.x == 0) {
            count = 0;
            if (kept > 0) {
                worst = heap[0];
            }
        }
        __syncthreads();
        for (size_t j = chunk + threadIdx.x; j < n && j < chunk + CHUNK; j += SELECT_THREADS) {
            lk_neighbor candidate = {score[j], (uint32_t)(first + j)};
            if (candidate.index != own && (kept < k || lk_neighbor_worse(worst, candidate))) {
                found[atomicAdd(&count, 1u)] = (uint32_t)j;
            }
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            for (unsigned i = 0; i < count; i++) {
                lk_neighbor candidate = {score[found[i]], (uint32_t)(first + found[i])};
                kept = lk_neighbor_take(heap, kept, k, candidate);
            }
        }
    }
    if (last && threadIdx.x == 0) {
        lk_neighbor_sort(heap, k);
    }
}

} // namespace

extern "C" int lk_cuda_nearest_pack(cudaStream_t stream, float *out, const float *rows, const uint32_t *from, size_t n,
                                    size_t dim) {
    pack<<<blocks_for(n * dim, PACK_THREADS), PACK_THREADS, 0, stream>>>(out, rows, from, n, dim);
    return launched("rows to compare");
}

extern "C" int lk_cuda_nearest_products(cudaStream_t stream, float *scores, size_t pitch, const float *query, size_t nq,
                                        const float *bank, size_t nb, size_t dim) {
    dim3 grid((unsigned)((nb + ROWS - 1) / ROWS), (unsigned)((nq + QUERIES - 1) / QUERIES));
    products<<<grid, PRODUCT_THREADS, 0, stream>>>(scores, pitch, query, nq, bank, nb, dim);
    return launched("dot products");
}

extern "C" int lk_cuda_nearest_select(cudaStream_t stream, struct lk_neighbor *out, const float *scores, size_t pitch,
                                      size_t nq, size_t first, size_t n, size_t k, const uint32_t *self, int last) {
    select_best<<<(unsigned)nq, SELECT_THREADS, 0, stream>>>(out, scores, pitch, first, n, k, self, last);
    return launched("nearest rows");
}
