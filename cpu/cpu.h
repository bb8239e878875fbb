/* What the files of this room share: the open device, the plan and the pass. Entries of backend.h are in conv.c
 * (convolutions and linear layers), norm.c (batch norm, activations), pool.c, loss.c, optim.c and input.c; plan.c
 * decides layouts, primitives and buffers; pass.c binds them to memory; cpu_backend.c holds the table.
 *
 * Layout: activations are in blocks of 16 channels (8 without AVX-512), padded with zeros, and edges of one pixel are
 * plain [N][C], which is the same bytes when the block divides C. Pictures enter as planes. A plan for the inference of a
 * single picture may be pixel by pixel throughout (plan.c). Most 3x3 convolutions are winograd.c's. LK_BF16 stores
 * activations and their gradients in bf16; sums, statistics and weight gradients are float, and so is everything behind
 * the average pool: the heads are a four-hundredth of the work and sit where rounding does most harm.
 *
 * Buffers: LK_TRAIN keeps every raw output y and every edge z; the other purposes, and all gradients, take turns in a
 * few slots that plan.c hands out by following the walk's order. A residual's gradient is handed on, not copied. */
#ifndef LK_CPU_CPU_H
#define LK_CPU_CPU_H

#include <stddef.h>
#include <stdint.h>

#include "dnnl.h"
#include "kernels.h"
#include "model/backend.h"
#include "winograd.h"

struct lk_backend {
    struct lk_backend_base base;
    struct lk_dnnl dnnl;
    const struct lk_kernels *kernels;
    const struct lk_winograd_kernels *winograd; /* NULL where the processor has none */
    enum lk_isa isa;
    enum lk_precision best;
    struct lk_byol_stats stats[LK_LOSS_RING];
    struct lk_cpu_chunk *chunks; /* optim.c's cut of the arena, kept between updates */
    size_t n_chunks, chunk_capacity;
    double *chunk_sums; /* [chunk_capacity][2] */
};

struct lk_cpu_edge {
    int c, h, w;
    int flat; /* [N][C] */
    enum lk_dt dt;
    int padded;     /* channels as stored; a picture's are not padded */
    lk_md *md;      /* of the padded channels */
    lk_md *true_md; /* the same bytes seen with c channels, for what the outside reads and writes */
    size_t bytes;
    int last_use;    /* the last node that reads it, or -1 */
    int slot;        /* its buffer in a pass */
    int gradient[2]; /* slots of its gradient's contributions; the first is the sum when its producer runs */
    int gradients;   /* how many: 0..2 */
};

struct lk_cpu_node {
    const struct lk_node *node;
    lk_md *canonical, *w_md, *wd_md, *dw_md, *y_md, *dy_md, *bias_md; /* w: forward, wd: backward data */
    struct lk_prim forward, backward_data, backward_weights;
    struct lk_prim w_reorder, wd_reorder, dw_add;

    void *w, *wd;                /* compute copies; owned unless shared */
    int winograd, winograd_back; /* forward and backward data by winograd.c */
    float *u, *u_back;           /* from these weights; the root's, shared by its dependents */
    float *gamma, *beta;         /* [padded C]; beta also holds the bias and the folded bias */
    int w_owned, wd_owned, vectors_owned;
    float *dw; /* weight gradient of one pass in the primitive's layout */
    lk_mem *m_from, *m_w, *m_wd, *m_dw, *m_grad, *m_bias;
    struct lk_call set_w, set_wd, add_dw;

    int y_slot;    /* raw output; the edge's own slot when nothing tells them apart */
    int dy_slot;   /* its gradient (a gradient slot) */
    int dx_slot;   /* what it adds to the input edge's gradient, or -1 */
    int dx_index;  /* which contribution that is */
    int hand_on;   /* contribution index of the residual edge that receives g, or -1 */
    int padded;    /* output channels as stored */
    int in_padded; /* input channels as stored */
    enum lk_mask mask;
};

struct lk_slots {
    size_t *bytes; /* of each slot */
    int *busy, *owner;
    int n, capacity;
};

struct lk_plan {
    struct lk_backend *b;
    const struct lk_net *net;
    int n_nodes, batch;
    enum lk_precision precision;
    enum lk_purpose purpose;
    enum lk_dt dt;
    enum lk_layout layout;
    struct lk_cpu_edge *edges; /* [n_nodes + 1] */
    struct lk_cpu_node *nodes; /* [n_nodes] */
    struct lk_slots forward_slots, gradient_slots;
    void *scratch;
    lk_mem *m_scratch;
    size_t scratch_bytes;
    float *winograd_v, *winograd_m; /* [threads][winograd_m_floats], see winograd.c */
    size_t winograd_m_floats;
    double *partials; /* channel sums of parts of a batch, see norm.c */
    size_t n_partials;
    float *staging;       /* one layer's weights, canonical: folded or padded */
    struct lk_plan *root; /* whose weights are shared; itself when none */
    struct lk_plan *dependents, *next_dependent;
};

struct lk_cpu_node_pass {
    lk_mem *m_y, *m_dy, *m_dx;
    uint8_t *which; /* max pooling in training: the tap that each maximum came from */
    struct lk_call forward, backward_data, backward_weights;
    float *mean, *inverse, *scale; /* [padded C] each: batch mean, 1 / deviation, gamma / deviation */
    float *a, *b, *c;              /* dy = a g + b (y - mean) + c */
    double *sums, *gradient_sums;  /* [2][padded C]: of y; of g and g (y - mean) */
};

struct lk_pass {
    struct lk_plan *plan;
    void **forward, **gradient; /* buffers, one a slot */
    lk_mem **m_edge;            /* [n_nodes + 1] */
    struct lk_cpu_node_pass *nodes;
    float *vectors; /* what nodes[].mean ... point into */
    double *sums;
    float *augment_scratch; /* [threads][augment_floats] */
    size_t augment_floats;
};

static inline void *lk_cpu__y(struct lk_pass *p, int node) { return p->forward[p->plan->nodes[node].y_slot]; }
static inline void *lk_cpu__edge(struct lk_pass *p, int edge) { return p->forward[p->plan->edges[edge].slot]; }
static inline size_t lk_cpu__dt_bytes(enum lk_dt dt) { return dt == LK_DT_BF16 ? 2 : 4; }

/* memory.c: zeroed, 64-byte aligned; NULL and LK_ENOMEM. Free with free(). */
void *lk_cpu__tensor(size_t bytes);

/* plan.c */
int lk_cpu__plan(struct lk_backend *b, const struct lk_net *net, int n_nodes, int batch, enum lk_precision precision,
                 enum lk_purpose purpose, struct lk_plan *share, struct lk_plan **out);
void lk_cpu__plan_free(struct lk_plan *plan);
/* slots.c: which buffers each node reads and writes; fills slot fields of plan->edges and plan->nodes. */
int lk_cpu__assign_slots(struct lk_plan *plan);
void lk_cpu__slots_free(struct lk_slots *s);
/* weights.c: compute copies of the weights. */
int lk_cpu__plan_weights(struct lk_plan *plan, int node);
int lk_cpu__set_weights(struct lk_plan *plan, const float *params, const float *stats);
/* grads += what the last backward_weights of this node left in its dw. */
int lk_cpu__add_weight_gradient(struct lk_plan *plan, struct lk_cpu_node *k, float *grads);
/* pass.c */
int lk_cpu__pass(struct lk_plan *plan, struct lk_pass **out);
void lk_cpu__pass_free(struct lk_pass *pass);

/* input.c */
int lk_cpu__input_u8(struct lk_pass *pass, const uint8_t *pixels, int count, const float mean[3], const float std[3]);
int lk_cpu__input_f32(struct lk_pass *pass, const float *chw);
int lk_cpu__input_from(struct lk_pass *pass, const struct lk_pass *from);
int lk_cpu__augment(struct lk_pass *pass, const struct lk_augment *a, uint64_t seed, uint32_t epoch, int view,
                    const uint8_t *const *pixels, const int *widths, const int *heights, const uint64_t *image_ids);
int lk_cpu__output(struct lk_pass *pass, int edge, int count, int normalize, float *host);
int lk_cpu__output_gradient(struct lk_pass *pass, int edge, const float *gradient);

/* conv.c */
int lk_cpu__conv(struct lk_pass *pass, int node);
int lk_cpu__conv_backward_weights(struct lk_pass *pass, int node, float *grads);
int lk_cpu__conv_backward_data(struct lk_pass *pass, int node);

/* norm.c */
size_t lk_cpu__norm_partials(const struct lk_plan *plan, int node); /* doubles that its sums need */
int lk_cpu__bn_stats(struct lk_pass *pass, int node);
int lk_cpu__bn_finalize(struct lk_pass *pass, int node, float *running_stats);
int lk_cpu__bn_apply(struct lk_pass *pass, int node);
int lk_cpu__activate(struct lk_pass *pass, int node);
int lk_cpu__bn_backward_reduce(struct lk_pass *pass, int node);
int lk_cpu__bn_backward_finalize(struct lk_pass *pass, int node, float *grads);
int lk_cpu__bn_backward_apply(struct lk_pass *pass, int node);
int lk_cpu__activate_backward(struct lk_pass *pass, int node, float *grads);

/* pool.c */
int lk_cpu__pool(struct lk_pass *pass, int node);
int lk_cpu__pool_backward(struct lk_pass *pass, int node);
/* c0 += c1 of an edge whose gradient came from two readers. */
void lk_cpu__join_gradient(struct lk_pass *pass, int edge);

/* loss.c */
int lk_cpu__byol_loss(struct lk_pass *student1, struct lk_pass *student2, struct lk_pass *teacher1,
                      struct lk_pass *teacher2, float scale, int slot);
int lk_cpu__byol_stats(struct lk_backend *b, int slot, struct lk_byol_stats *out);

/* optim.c */
int lk_cpu__update(struct lk_backend *b, const struct lk_optimizer_config *c, const struct lk_step_values *v,
                   const struct lk_param_span *spans, size_t n_spans, size_t n_params, float *params, float *grads,
                   float *state, float *teacher, size_t teacher_count);

#endif
