#include "knn.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "similarity.h"

enum { QUERY_BLOCK = 256, BANK_BLOCK = 4096 };

struct select {
    const float *scores; /* [queries of the block][nb] */
    struct lk_neighbor *out;
    size_t first_query, first_row, nb, k, *kept; /* kept: how many each query's heap holds */
    const uint32_t *self;
};

static void select_one(void *arg, size_t i) {
    const struct select *s = arg;
    const float *score = s->scores + i * s->nb;
    size_t query = s->first_query + i, kept = s->kept[i];
    struct lk_neighbor *heap = s->out + query * s->k;
    for (size_t j = 0; j < s->nb; j++) {
        struct lk_neighbor n = {score[j], (uint32_t)(s->first_row + j)};
        if (s->self != NULL && s->self[query] == n.index)
            continue;
        kept = lk_neighbor_take(heap, kept, s->k, n);
    }
    s->kept[i] = kept;
}

static void sort_one(void *arg, size_t i) {
    const struct select *s = arg;
    lk_neighbor_sort(s->out + (s->first_query + i) * s->k, s->k);
}

int lk_knn_search(struct lk_neighbor *out, const float *query, size_t nq, const float *bank, size_t nb, size_t dim,
                  size_t k, const uint32_t *self, struct lk_pool *pool) {
    if (k == 0 || k + (self != NULL) > nb || nb > UINT32_MAX)
        return lk_err(LK_EINVAL, "%zu neighbours from a bank of %zu", k, nb);
    float *scores = lk_calloc((size_t)QUERY_BLOCK * BANK_BLOCK, sizeof *scores);
    size_t *kept = lk_calloc(QUERY_BLOCK, sizeof *kept);
    if (scores == NULL || kept == NULL) {
        free(scores);
        free(kept);
        return LK_ENOMEM;
    }
    for (size_t q = 0; q < nq; q += QUERY_BLOCK) {
        size_t queries = nq - q < QUERY_BLOCK ? nq - q : QUERY_BLOCK;
        struct select s = {scores, out, q, 0, 0, k, kept, self};
        memset(kept, 0, QUERY_BLOCK * sizeof *kept);
        for (size_t b = 0; b < nb; b += BANK_BLOCK) {
            s.first_row = b, s.nb = nb - b < BANK_BLOCK ? nb - b : BANK_BLOCK;
            lk_similarity(scores, query + q * dim, queries, bank + b * dim, s.nb, dim, pool);
            lk_pool_for(pool, queries, select_one, &s);
        }
        lk_pool_for(pool, queries, sort_one, &s);
    }
    free(scores);
    free(kept);
    return 0;
}

int lk_knn_vote(const struct lk_neighbor *found, size_t k, const int *bank_label, double temperature, double *votes,
                size_t n_classes) {
    memset(votes, 0, n_classes * sizeof *votes);
    for (size_t i = 0; i < k; i++) /* against the nearest, so that a small temperature cannot overflow */
        votes[bank_label[found[i].index]] += exp(((double)found[i].cosine - (double)found[0].cosine) / temperature);
    size_t best = 0;
    for (size_t c = 1; c < n_classes; c++)
        if (votes[c] > votes[best])
            best = c;
    return (int)best;
}

int lk_knn_evaluate(struct lk_knn_score *out, const float *query, const int *query_label, size_t nq, const float *bank,
                    const int *bank_label, size_t nb, size_t dim, size_t n_classes, size_t k, double temperature,
                    const uint32_t *self, struct lk_pool *pool, struct lk_backend *device) {
    size_t others = nb - (self != NULL && nb > 0), right = 0, right1 = 0;
    memset(out, 0, sizeof *out);
    if (nq == 0 || others == 0 || n_classes == 0)
        return lk_err(LK_EINVAL, "nothing to evaluate: %zu queries, %zu pictures as bank, %zu classes", nq, nb,
                      n_classes);
    k = k < others ? k : others;
    struct lk_neighbor *found = lk_calloc(nq * k, sizeof *found);
    double *votes = lk_calloc(n_classes, sizeof *votes);
    int rc = found == NULL || votes == NULL ? LK_ENOMEM
             : device != NULL ? lk_ops(device)->neighbors(device, found, query, nq, bank, nb, dim, k, self)
                              : lk_knn_search(found, query, nq, bank, nb, dim, k, self, pool);
    for (size_t i = 0; i < nq && rc == 0; i++) {
        const struct lk_neighbor *f = found + i * k;
        right += lk_knn_vote(f, k, bank_label, temperature, votes, n_classes) == query_label[i];
        right1 += bank_label[f[0].index] == query_label[i];
    }
    free(found);
    free(votes);
    if (rc == 0)
        *out = (struct lk_knn_score){.knn = 100.0 * (double)right / (double)nq,
                                     .nn1 = 100.0 * (double)right1 / (double)nq,
                                     .queries = nq,
                                     .bank = nb,
                                     .k = k,
                                     .temperature = temperature,
                                     .leave_one_out = self != NULL};
    return rc;
}

void lk_knn_protocol(char *text, size_t n, const struct lk_knn_score *s) {
    if (s->leave_one_out)
        snprintf(text, n, "k=%zu T=%g cosine, %zu training pictures against the other %zu (leave one out)", s->k,
                 s->temperature, s->queries, s->bank - 1);
    else
        snprintf(text, n, "k=%zu T=%g cosine, %zu training pictures as bank, %zu test queries", s->k, s->temperature,
                 s->bank, s->queries);
}
