/* Dot products of every query with every bank row: the one file that may call a BLAS. */
#ifndef LK_TRAINER_SIMILARITY_H
#define LK_TRAINER_SIMILARITY_H

#include <stddef.h>

#include "base/pool.h"

/* out[nq][nb] = query[nq][dim] . bank[nb][dim]. The pool is used where no BLAS was built in. */
void lk_similarity(float *out, const float *query, size_t nq, const float *bank, size_t nb, size_t dim,
                   struct lk_pool *pool);

/* "OpenBLAS" or "built in". */
const char *lk_similarity_name(void);

#endif
