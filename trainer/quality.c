#include "quality.h"

#include <math.h>

static double squared_distance(const float *a, const float *b, size_t dim) {
    double sum = 0;
    for (size_t i = 0; i < dim; i++) {
        double d = (double)a[i] - (double)b[i];
        sum += d * d;
    }
    return sum;
}

double lk_quality_alignment(const float *a, const float *b, size_t n, size_t dim) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += squared_distance(a + i * dim, b + i * dim, dim);
    return n > 0 ? sum / (double)n : 0;
}

double lk_quality_uniformity(const float *x, size_t n, size_t dim) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++)
            sum += exp(-2 * squared_distance(x + i * dim, x + j * dim, dim));
    double pairs = (double)n * ((double)n - 1) / 2;
    return pairs > 0 ? log(sum / pairs) : 0;
}

double lk_quality_spread(const float *x, size_t n, size_t dim) {
    double total = 0;
    for (size_t c = 0; c < dim; c++) {
        double mean = 0, square = 0;
        for (size_t i = 0; i < n; i++)
            mean += (double)x[i * dim + c];
        mean /= (double)n;
        for (size_t i = 0; i < n; i++) {
            double d = (double)x[i * dim + c] - mean;
            square += d * d;
        }
        total += sqrt(square / (double)n);
    }
    return n > 0 && dim > 0 ? total / (double)dim * sqrt((double)dim) : 0;
}
