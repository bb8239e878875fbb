/* 3x3 convolutions of stride 1 with a quarter of the multiplications: Winograd's F(4x4, 3x3), as in Lavin and Gray, Fast
 * Algorithms for Convolutional Neural Networks, 2015 (arXiv:1509.09308), section 4.3.
 *
 * The output is cut into tiles of 4x4 pixels. A tile's 6x6 inputs d and the 3x3 weights g become 36 numbers a channel
 * each, v = B' d B and u = G g G'; 36 matrix products over the input channels give m; the output is A' m A. That rounds
 * more than a direct sum does (1.3e-6 of a ResNet-18's vectors), and u takes four times the memory of the weights, so it
 * pays where many tiles share them: lk_cpu__winograd_suits decides by shapes alone, hence equal plans give equal bits.
 *
 * The gradient of the input is the same sum with the channels exchanged and the weights turned. With AVX-512 or AVX2
 * and FMA, on float or bf16 (but not where AMX runs bf16), always computing in float; winograd_body.h holds the steps,
 * compiled for both. Only this room calls it. */
#ifndef LK_CPU_WINOGRAD_H
#define LK_CPU_WINOGRAD_H

#include <stddef.h>

struct lk_plan;
struct lk_pass;
struct lk_cpu_node;

#define LK_WINOGRAD_OUT 4 /* a tile's side of outputs */
#define LK_WINOGRAD_IN 6  /* and of inputs */
#define LK_WINOGRAD_PRODUCTS (LK_WINOGRAD_IN * LK_WINOGRAD_IN)

struct lk_winograd_image {
    int h, w;
    size_t row, pixel; /* elements from row to row, and from pixel to pixel */
};

struct lk_winograd_kernels {
    /* For one input channel and two blocks of output channels: u[p * u_step + o] = (G g G')[p], g the nine floats at
     * w + o * w_step, turned by half a circle when `turned`. */
    void (*weights)(float *u, size_t u_step, const float *w, size_t w_step, int turned);

    /* One tile of one block of channels: v[p * v_step] = (B' d B)[p], d from pixel (y0, x0) on, zeros outside. */
    void (*input)(float *v, size_t v_step, const void *x, int bf16, int y0, int x0, const struct lk_winograd_image *s);
    /* m [rows][2 blocks] = v [rows][channels], rows v_row floats apart, times u [channels][2 blocks]. */
    void (*product)(float *m, const float *v, size_t v_row, const float *u, size_t channels, int rows);
    /* One tile of one block: z = [relu](A' m A [+ bias] [+ z]) for the h x w pixels of the tile that exist. */
    void (*output)(void *z, int bf16, const float *m, size_t m_step, int h, int w, const struct lk_winograd_image *s,
                   const float *bias, int sum, int relu);
};

#if defined(__x86_64__)
extern const struct lk_winograd_kernels lk_cpu__winograd_avx2, lk_cpu__winograd_avx512;
#endif

/* Whether a node of this plan, whose shapes must be known, is computed this way, forward or (back) the gradient of its
 * input. */
int lk_cpu__winograd_suits(const struct lk_plan *plan, int node, int back);
/* Buffers for all nodes that are. Returns 0 or LK_ENOMEM; lk_cpu__plan_free frees them. */
int lk_cpu__winograd_plan(struct lk_plan *plan);
/* Bytes of a node's u, of either direction. */
size_t lk_cpu__winograd_bytes(const struct lk_cpu_node *k);
/* Those of the node's u and u_back that there are, of the canonical weights w [padded out][padded in][3][3]. */
void lk_cpu__winograd_weights(const struct lk_plan *plan, struct lk_cpu_node *k, const float *w);
void lk_cpu__winograd(struct lk_pass *pass, int node);
void lk_cpu__winograd_back(struct lk_pass *pass, int node);

#endif
