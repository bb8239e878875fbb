/* Launchers of this room's own kernels: everything that is no convolution. Callers are plain C; the bodies are in *.cu.
 * All pointers are device memory unless a name says host. Activations are NHWC in element type `t`; channel counts are
 * padded to multiples of 8. Launches are asynchronous on `stream`; a launcher returns 0 or LK_EFAIL with the CUDA error.
 * Reductions add in a fixed order, so that equal inputs give equal bits. */
#ifndef LK_CUDA_KERNELS_H
#define LK_CUDA_KERNELS_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#include "image/augment.h"
#include "model/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

struct lk_neighbor;
struct lk_cuda_step; /* bodies.h; a pointer to it is device memory too */

enum lk_element { LK_E_F32, LK_E_BF16, LK_E_F16 };

/* A block of rows: [rows][channels], channels contiguous; rows = N * H * W. */
struct lk_rows {
    enum lk_element t;
    size_t rows;
    int channels;
};

/* --- weights.cu: between the canonical arena and the compute copies. */
/* krsc[o_pad][k*k][i_pad] from oihw[o][i][k*k], times fold[o] when fold is not NULL; padding is zero. */
int lk_cuda_weights_pack(cudaStream_t stream, enum lk_element t, void *krsc, const float *oihw, const float *fold,
                         int o, int o_pad, int i, int i_pad, int k);
/* grads[oihw] += krsc: the filter gradient back into the canonical arena. */
int lk_cuda_weights_add(cudaStream_t stream, enum lk_element t, float *grads, const void *krsc, int o, int i, int i_pad,
                        int k);
/* scale[c] = gamma / sqrt(var + eps), shift[c] = beta - mean * scale; zero from `channels` to `padded`. */
int lk_cuda_fold(cudaStream_t stream, float *scale, float *shift, const float *gamma, const float *beta,
                 const float *mean, const float *var, int channels, int padded);
/* bias[padded] = source[channels], rest zero. */
int lk_cuda_pad(cudaStream_t stream, float *out, const float *source, int channels, int padded);

/* --- edges.cu: into edge 0 and out of any edge. */
int lk_cuda_input_u8(cudaStream_t stream, enum lk_element t, void *nhwc, const uint8_t *pixels, int count, int batch,
                     int side, int c_pad, const float mean[3], const float std[3]);
/* nhwc from float [batch][c][hw]. */
int lk_cuda_from_chw(cudaStream_t stream, enum lk_element t, void *nhwc, const float *chw, int batch, int c, int hw,
                     int c_pad);
/* out[count][c][h*w] float; normalize: each row divided by its length, zero rows stay zero. */
int lk_cuda_output(cudaStream_t stream, enum lk_element t, float *out, const void *nhwc, int count, int c, int c_pad,
                   int hw, int normalize);
/* --- norm.cu: batch norm over rows (Ioffe & Szegedy 2015). sums: double [2][channels]; saved: float [LK_SAVED_COUNT of
 * bodies.h][channels]; gamma, beta: [channels], padded with zeros. scratch: lk_cuda_norm_scratch() bytes. */
size_t lk_cuda_norm_scratch(const struct lk_rows *r);
/* Sums of y and of y^2. */
int lk_cuda_norm_stats(cudaStream_t stream, const struct lk_rows *r, const void *y, double *sums, void *scratch);
/* narrow: sums are floats. running_* NULL, or [real] floats moved by LK_BN_MOMENTUM (unbiased variance). */
int lk_cuda_norm_finalize(cudaStream_t stream, const void *sums, int narrow, size_t rows, int channels, int real,
                          const float *gamma, float *saved, float *running_mean, float *running_var);
/* z = gamma (y - mean) inv + beta [+ residual] [ReLU]; z may be y. */
int lk_cuda_norm_apply(cudaStream_t stream, const struct lk_rows *r, void *z, const void *y, const float *saved,
                       const float *beta, const void *residual, int relu);
/* g = (a [+ b]) where z > 0 (z NULL: everywhere), written to g, which may be a; sums of g and of g (y - mean). */
int lk_cuda_norm_backward_reduce(cudaStream_t stream, const struct lk_rows *r, void *g, const void *a, const void *b,
                                 const void *z, const void *y, const float *saved, double *sums, void *scratch);
/* dgamma[real] += sum of g x^, dbeta[real] += sum of g. narrow: sums are floats. */
int lk_cuda_norm_backward_finalize(cudaStream_t stream, const void *sums, int narrow, size_t rows, int channels,
                                   int real, const float *gamma, float *saved, float *dgamma, float *dbeta);
/* dy = gamma inv (g - sum g / rows - x^ sum(g x^) / rows); dy may be y. */
int lk_cuda_norm_backward_apply(cudaStream_t stream, const struct lk_rows *r, void *dy, const void *g, const void *y,
                                const float *saved);

/* --- activate.cu: what stands where there is no batch norm, and pooling. */
/* z = y [+ bias] [+ residual] [ReLU]; bias is [channels] float. */
int lk_cuda_activate(cudaStream_t stream, const struct lk_rows *r, void *z, const void *y, const float *bias,
                     const void *residual, int relu);
/* g = (a [+ b]) where z > 0 (z NULL: everywhere). */
int lk_cuda_activate_backward(cudaStream_t stream, const struct lk_rows *r, void *g, const void *a, const void *b,
                              const void *z);
/* dbias[real] += column sums of g. */
int lk_cuda_bias_backward(cudaStream_t stream, const struct lk_rows *r, const void *g, int real, float *dbias,
                          double *sums, void *scratch);
/* 3x3, stride 2, pad 1; index[n][oh][ow][c] (may be NULL) is the window position of the first maximum. */
int lk_cuda_max_pool(cudaStream_t stream, enum lk_element t, void *z, uint8_t *index, const void *x, int batch, int h,
                     int w, int c, int oh, int ow);
int lk_cuda_max_pool_backward(cudaStream_t stream, enum lk_element t, void *dx, const void *a, const void *b,
                              const uint8_t *index, int batch, int h, int w, int c, int oh, int ow);
int lk_cuda_avg_pool(cudaStream_t stream, enum lk_element t, void *z, const void *x, int batch, int hw, int c);
int lk_cuda_avg_pool_backward(cudaStream_t stream, enum lk_element t, void *dx, const void *a, const void *b, int batch,
                              int hw, int c);

/* --- loss.cu: BYOL's cross-view loss (Grill et al. 2020, equation 2) and the collapse statistic.
 * p, z: [batch][padded]; d1, d2: gradient of scale * loss, type t; ring: [LK_LOSS_RING][4], of which row step->slot
 * receives loss, projection deviation of z1, finite (0 or 1). scratch: lk_cuda_byol_scratch() bytes. */
size_t lk_cuda_byol_scratch(int batch, int dim);
int lk_cuda_byol_loss(cudaStream_t stream, enum lk_element t, const void *p1, const void *p2, const void *z1,
                      const void *z2, void *d1, void *d2, int batch, int dim, int padded, float scale, float *ring,
                      const struct lk_cuda_step *step, void *scratch);

/* --- optim.cu: one walk over the arena by step->rule, which is of `kind`. spans is a device copy; scratch:
 * lk_cuda_update_scratch() bytes. */
size_t lk_cuda_update_scratch(size_t n_spans);
int lk_cuda_update(cudaStream_t stream, enum lk_optimizer kind, const struct lk_cuda_step *step,
                   const struct lk_param_span *spans, size_t n_spans, size_t n_params, float *params, float *grads,
                   float *state, float *teacher, size_t teacher_count, void *scratch);

/* --- augment.cu: the views of image/augment.h, one block a picture. pixels, widths, heights, ids: device arrays;
 * scratch: lk_cuda_augment_scratch() bytes. */
size_t lk_cuda_augment_scratch(int batch, int size);
int lk_cuda_augment(cudaStream_t stream, enum lk_element t, void *nhwc, int c_pad, int batch,
                    const struct lk_augment *a, int view, const struct lk_cuda_step *step, const uint8_t *const *pixels,
                    const int *widths, const int *heights, const uint64_t *ids, void *scratch);

/* --- nearest.cu: nearest rows as model/neighbor.h defines them. All of it is float, whatever a net computes in. */
/* out[n][dim]: rows from[i] of `rows` (from NULL: row i), columns in lk_dot_column()'s order. */
int lk_cuda_nearest_pack(cudaStream_t stream, float *out, const float *rows, const uint32_t *from, size_t n,
                         size_t dim);
/* scores[nq][pitch], of which nb are written: dot products of packed rows. */
int lk_cuda_nearest_products(cudaStream_t stream, float *scores, size_t pitch, const float *query, size_t nq,
                             const float *bank, size_t nb, size_t dim);
/* Takes bank rows first..first + n, whose scores these are, into the heaps out[nq][k]; tiles come in their order from row 0.
 * self (NULL: none): the row that each query must not find. last: heaps become lists, best first. */
int lk_cuda_nearest_select(cudaStream_t stream, struct lk_neighbor *out, const float *scores, size_t pitch, size_t nq,
                           size_t first, size_t n, size_t k, const uint32_t *self, int last);

#ifdef __cplusplus
}
#endif

#endif
