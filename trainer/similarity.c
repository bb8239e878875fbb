#include "similarity.h"

#ifdef LK_HAVE_CBLAS
#include <cblas.h>

/* Called from one thread; OpenBLAS spreads the product over its own. */
void lk_similarity(float *out, const float *query, size_t nq, const float *bank, size_t nb, size_t dim,
                   struct lk_pool *pool) {
    (void)pool;
    if (nq > 0 && nb > 0)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)nq, (int)nb, (int)dim, 1, query, (int)dim, bank,
                    (int)dim, 0, out, (int)nb);
}

const char *lk_similarity_name(void) { return "OpenBLAS"; }

#else

#include "model/neighbor.h"

struct product {
    float *out;
    const float *query, *bank;
    size_t nb, dim;
};

static void one_query(void *arg, size_t i) {
    const struct product *p = arg;
    for (size_t j = 0; j < p->nb; j++)
        p->out[i * p->nb + j] = lk_dot(p->query + i * p->dim, p->bank + j * p->dim, p->dim);
}

void lk_similarity(float *out, const float *query, size_t nq, const float *bank, size_t nb, size_t dim,
                   struct lk_pool *pool) {
    struct product p = {out, query, bank, nb, dim};
    lk_pool_for(pool, nq, one_query, &p);
}

const char *lk_similarity_name(void) { return "built in"; }
#endif
