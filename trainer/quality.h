/* Quality of embeddings without labels (Wang and Isola 2020, arXiv 2005.10242), and collapse. Rows are unit vectors. */
#ifndef LK_TRAINER_QUALITY_H
#define LK_TRAINER_QUALITY_H

#include <stddef.h>

/* Mean over i of |a_i - b_i|^2, for two views of the same pictures: 0 when they agree, 2 when unrelated. */
double lk_quality_alignment(const float *a, const float *b, size_t n, size_t dim);

/* log of the mean over pairs i < j of exp(-2 |x_i - x_j|^2): 0 when all are equal, near -4 when spread out. Quadratic. */
double lk_quality_uniformity(const float *x, size_t n, size_t dim);

/* Mean over dimensions of the deviation over rows, times sqrt(dim): 1 when spread over the sphere, 0 when collapsed. */
double lk_quality_spread(const float *x, size_t n, size_t dim);

#endif
