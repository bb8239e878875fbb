/* Our own vector loops: everything between the convolutions. kernels_body.h is compiled once for each instruction set
 * (kernels_avx512.c, kernels_avx2.c, kernels_generic.c); the backend takes the table that goes with oneDNN's choice.
 *
 * A kernel works on one block of `block` channels: `rows` pixels (or pictures, where a tensor is [N][C]) that lie
 * `stride` elements apart. Activations and their gradients are float, or bf16 when the flag says so; arithmetic is
 * float, sums are double: float over at most 64 rows at a time, in an order that depends on nothing but the shape.
 * Vectors of parameters hold `block` floats. Only this room calls them. */
#ifndef LK_CPU_KERNELS_H
#define LK_CPU_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "model/backend.h"

/* Where a ReLU's mask comes from: from nothing, from the stored output z > 0, or from the normalised raw output, which
 * is cheaper where no residual was added. */
enum lk_mask { LK_MASK_NONE, LK_MASK_OUTPUT, LK_MASK_RAW };

struct lk_norm_vectors {              /* of one block of channels */
    const float *mean, *scale, *beta; /* z = (y - mean) * scale + beta */
};

struct lk_dapply_vectors {
    const float *mean, *a, *b, *c; /* dy = a g + b (y - mean) + c */
};

struct lk_pool_shape {
    int in_h, in_w, out_h, out_w;
    size_t stride; /* elements from pixel to pixel, of what is read and of what is written */
};

/* What one element of an update needs, ready made. */
struct lk_update_scalars {
    float lr, momentum, decay;        /* SGD and LARS; LARS's ratio is in `ratio` */
    float ratio;                      /* the gradient is multiplied by it after decay was added; 1 for SGD */
    float beta1, beta2, epsilon;      /* Adam */
    float step_size, root_correction; /* lr / (1 - beta1^t), sqrt(1 - beta2^t) */
    float tau;                        /* moving average, used when teacher is not NULL */
};

struct lk_kernels {
    int block; /* channels a block */

    /* acc[0][i] += sum of y - shift[i], acc[1][i] += sum of squares of it. */
    void (*stats)(double *acc, const void *y, int bf16, size_t rows, size_t stride, const float *shift);
    /* z = [relu]((y - mean) * scale + beta [+ residual]); z may be y. */
    void (*apply)(void *z, const void *y, const void *residual, int bf16, size_t rows, size_t stride,
                  const struct lk_norm_vectors *v, int relu);
    /* g = masked(c0 [+ c1]), stored when g is not NULL (may be c0); acc[0] += sum g, acc[1] += sum g (y - mean). */
    void (*reduce)(double *acc, void *g, const void *c0, const void *c1, const void *z, const void *y, int bf16,
                   size_t rows, size_t stride, const struct lk_norm_vectors *v, enum lk_mask mask);
    /* dy may be g. */
    void (*dapply)(void *dy, const void *g, const void *y, int bf16, size_t rows, size_t stride,
                   const struct lk_dapply_vectors *v);

    /* Without a norm. z = [relu](y [+ residual]). */
    void (*activate)(void *z, const void *y, const void *residual, int bf16, size_t rows, size_t stride, int relu);
    /* g = masked by z > 0 when relu (c0 [+ c1]); acc[0] += sum g. */
    void (*activate_back)(double *acc, void *g, const void *c0, const void *c1, const void *z, int bf16, size_t rows,
                          size_t stride, int relu);

    /* One plane of the 3x3 maximum, stride 2, pad 1. which (NULL: not kept) [out_h][out_w][block]: the tap 0..8 of the
     * first largest, as PyTorch breaks ties; NaN wins. Back, in blocks only: every input takes c0 [+ c1] of the windows
     * that chose it. */
    void (*max_pool)(void *z, uint8_t *which, const void *x, int bf16, const struct lk_pool_shape *s);
    void (*max_pool_back)(void *dx, const void *c0, const void *c1, const uint8_t *which, int bf16,
                          const struct lk_pool_shape *s);

    void (*mean)(float *out, const void *x, int bf16, size_t rows, size_t stride);   /* of the rows */
    void (*spread)(void *x, int bf16, size_t rows, size_t stride, const float *row); /* every row = row */
    void (*to_bf16)(uint16_t *to, const float *from, size_t n);

    /* Optimisers over n elements; g is set to zero; teacher may be NULL. */
    void (*momentum)(float *w, float *g, float *v, float *teacher, size_t n, const struct lk_update_scalars *s);
    void (*adam)(float *w, float *g, float *m1, float *m2, float *teacher, size_t n, const struct lk_update_scalars *s);
    void (*ema)(float *teacher, const float *w, size_t n, float tau);
    double (*sum_squares)(const float *x, size_t n);
};

extern const struct lk_kernels lk_cpu__kernels_generic;
#if defined(__x86_64__)
extern const struct lk_kernels lk_cpu__kernels_avx2, lk_cpu__kernels_avx512;
#endif

#endif
