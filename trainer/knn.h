/* k nearest neighbours by cosine, exact, and the two evaluation protocols built on them:
 *   A  weighted vote of k = 200 with weights exp(cos / 0.1) over the whole training split: the number that the field
 *      publishes (Wu et al. 2018, arXiv 1805.01978; lightly's benchmark);
 *   B  the nearest neighbour alone, over the same bank.
 * Without a test split each training picture asks all the others (leave one out). The protocol's sentence belongs beside
 * every number: lk_knn_protocol writes it. */
#ifndef LK_TRAINER_KNN_H
#define LK_TRAINER_KNN_H

#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"
#include "model/backend.h"
#include "model/neighbor.h"

/* On the host. out[nq][k]: by falling cosine, equal ones by rising index. Rows are unit vectors [dim]. k <= nb, or k <= nb - 1 with
 * self (self[nq]: a row of the bank that this query must not find; NULL: none). LK_EINVAL, LK_ENOMEM. */
int lk_knn_search(struct lk_neighbor *out, const float *query, size_t nq, const float *bank, size_t nb, size_t dim,
                  size_t k, const uint32_t *self, struct lk_pool *pool);

struct lk_knn_score {
    double knn, nn1; /* per cent right */
    size_t queries, bank, k;
    double temperature;
    int leave_one_out;
};

/* Votes. k and temperature as asked for (k is cut to the bank); labels are class numbers 0..n_classes-1. device (NULL:
 * none; it has ops->neighbors): query and bank are its memory, and it searches; query NULL is as there. */
int lk_knn_evaluate(struct lk_knn_score *out, const float *query, const int *query_label, size_t nq, const float *bank,
                    const int *bank_label, size_t nb, size_t dim, size_t n_classes, size_t k, double temperature,
                    const uint32_t *self, struct lk_pool *pool, struct lk_backend *device);

/* "k=200 T=0.1 cosine, 50000 training pictures as bank, 10000 test queries". */
void lk_knn_protocol(char *text, size_t n, const struct lk_knn_score *s);

/* Class of the highest sum of exp(cos / temperature); ties go to the lower class. votes[n_classes] is scratch. */
int lk_knn_vote(const struct lk_neighbor *found, size_t k, const int *bank_label, double temperature, double *votes,
                size_t n_classes);

#endif
