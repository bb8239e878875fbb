#include "index_faiss.h"

#include <stdlib.h>
#include <string.h>

#include <IndexFlat_c.h>
#include <Index_c.h>
#include <error_c.h>
#include <omp.h>
#include <utils/distances_c.h>

#include "base/buf.h"
#include "base/err.h"

struct lk_vectors {
    FaissIndex *index;
    size_t dim;
};

static int failed(const char *doing) {
    const char *why = faiss_get_last_error();
    int memory = why != NULL && strstr(why, "bad_alloc") != NULL;
    return lk_err(memory ? LK_ENOMEM : LK_EFAIL, "FAISS, %s: %s", doing, why != NULL ? why : "unknown error");
}

/* FAISS opens a parallel region for a search, whatever there is to do in it, and OpenBLAS takes every thread it can. The
 * setting is the calling thread's own. Returns what it was. */
static int limit_threads(int threads) {
    const int before = omp_get_max_threads();
    if (before != threads)
        omp_set_num_threads(threads);
    return before;
}

/* Room is reserved by filling and emptying it: a C++ vector keeps its capacity. */
int lk_vectors_flat(struct lk_vectors **out, int dim, size_t reserve) {
    struct lk_vectors *v = lk_calloc(1, sizeof *v);
    float *zeros = NULL;
    int rc = LK_ENOMEM;
    *out = NULL;
    if (v == NULL || (reserve > 0 && (zeros = lk_calloc(reserve * (size_t)dim, sizeof *zeros)) == NULL))
        goto fail;
    v->dim = (size_t)dim;
    if (faiss_IndexFlat_new_with(&v->index, dim, METRIC_INNER_PRODUCT) != 0 ||
        (reserve > 0 &&
         (faiss_Index_add(v->index, (faiss_idx_t)reserve, zeros) != 0 || faiss_Index_reset(v->index) != 0))) {
        rc = failed("making an index");
        goto fail;
    }
    free(zeros);
    *out = v;
    return 0;
fail:
    free(zeros);
    lk_vectors_free(v);
    return rc;
}

void lk_vectors_free(struct lk_vectors *v) {
    if (v == NULL)
        return;
    if (v->index != NULL)
        faiss_Index_free(v->index);
    free(v);
}

int lk_vectors_add(struct lk_vectors *v, size_t n, const float *vectors) {
    return faiss_Index_add(v->index, (faiss_idx_t)n, vectors) != 0 ? failed("adding vectors") : 0;
}

int lk_vectors_search(const struct lk_vectors *v, size_t n, const float *queries, size_t ask, float *scores,
                      int64_t *slots) {
    const int threads = limit_threads(1);
    const int rc = faiss_Index_search(v->index, (faiss_idx_t)n, queries, (faiss_idx_t)ask, scores, slots);
    (void)limit_threads(threads);
    return rc != 0 ? failed("searching") : 0;
}

static const float *flat_vectors(const struct lk_vectors *v) {
    float *vectors = NULL;
    faiss_IndexFlat_xb(v->index, &vectors, NULL);
    return vectors;
}

int lk_vectors_scores(const struct lk_vectors *v, const float *query, size_t n, const int64_t *slots, float *scores) {
    const float *vectors = flat_vectors(v);
    for (size_t i = 0; i < n; i++)
        faiss_fvec_inner_products_ny(&scores[i], query, vectors + (size_t)slots[i] * v->dim, v->dim, 1);
    return 0;
}

int lk_vectors_copy(const struct lk_vectors *v, size_t first, size_t n, float *out) {
    memcpy(out, flat_vectors(v) + first * v->dim, n * v->dim * sizeof *out);
    return 0;
}
