/* The search behind neighbors(): blocks of queries, tiles of the bank, and the best of each query carried from tile to
 * tile. Everything but the answer stays on the device. */
#include "base/err.h"
#include "cuda_internal.h"
#include "model/neighbor.h"

/* A block's scores of a tile are 64 MB; its neighbours no more, unless one query's are. */
enum { QUERY_BLOCK = 4096, BANK_TILE = 4096, MOST_FOUND = 8 << 20 };

struct search {
    float *query, *bank; /* packed: a block, a tile */
    float *scores;
    struct lk_neighbor *found;
    uint32_t *self;
};

/* One allocation, so that there is one thing to give back. */
static int take_memory(void **memory, struct search *s, size_t block, size_t dim, size_t k) {
    size_t sizes[] = {block * dim * sizeof *s->query, BANK_TILE * dim * sizeof *s->bank,
                      block * BANK_TILE * sizeof *s->scores, block * k * sizeof *s->found, block * sizeof *s->self};
    size_t at[sizeof sizes / sizeof *sizes], end = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        at[i] = end;
        end += (sizes[i] + 255) / 256 * 256;
    }
    int code = lk_cuda__error(cudaMalloc(memory, end), "memory of a search");
    if (!code) {
        char *m = *memory;
        *s = (struct search){(void *)m, (void *)(m + at[1]), (void *)(m + at[2]), (void *)(m + at[3]),
                             (void *)(m + at[4])};
    }
    return code;
}

int lk_cuda__neighbors(struct lk_backend *b, struct lk_neighbor *out, const float *query, size_t nq, const float *bank,
                       size_t nb, size_t dim, size_t k, const uint32_t *self) {
    const struct lk_backend_ops *ops = b->base.ops;
    size_t block = k > 0 && MOST_FOUND / k < QUERY_BLOCK ? MOST_FOUND / k : QUERY_BLOCK;
    void *memory = NULL;
    struct search s;
    int code;
    if (k < 1 || k + (self != NULL) > nb || nb > UINT32_MAX || dim < 1 || (!query && !self)) {
        return lk_err(LK_EINVAL, "%zu neighbours from a bank of %zu rows of %zu values", k, nb, dim);
    }
    block = block < 1 ? 1 : block < nq ? block : nq;
    lk_cuda__use(b);
    if (nq < 1 || (code = take_memory(&memory, &s, block, dim, k))) {
        return nq < 1 ? LK_OK : code;
    }
    for (size_t q = 0; !code && q < nq; q += block) {
        size_t n = nq - q < block ? nq - q : block;
        for (size_t i = q; !query && !code && i < q + n; i++) {
            code = self[i] < nb ? LK_OK : lk_err(LK_EINVAL, "row %u of a bank of %zu", (unsigned)self[i], nb);
        }
        if (code || (self && (code = ops->upload(b, s.self, self + q, n * sizeof *self)))) {
            break;
        }
        code = query ? lk_cuda_nearest_pack(b->stream, s.query, query + q * dim, NULL, n, dim)
                     : lk_cuda_nearest_pack(b->stream, s.query, bank, s.self, n, dim);
        for (size_t row = 0; !code && row < nb; row += BANK_TILE) {
            size_t rows = nb - row < BANK_TILE ? nb - row : BANK_TILE;
            (void)((code = lk_cuda_nearest_pack(b->stream, s.bank, bank + row * dim, NULL, rows, dim)) ||
                   (code = lk_cuda_nearest_products(b->stream, s.scores, BANK_TILE, s.query, n, s.bank, rows, dim)) ||
                   (code = lk_cuda_nearest_select(b->stream, s.found, s.scores, BANK_TILE, n, row, rows, k,
                                                  self ? s.self : NULL, row + rows == nb)));
        }
        if (!code) {
            code = ops->download(b, out + q * k, s.found, n * k * sizeof *out);
        }
    }
    cudaFree(memory);
    return code;
}
