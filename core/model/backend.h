/* The only door between a network and a device. Rooms above it (trainer, server, the walk) see opaque handles and this
 * table; cpu/ and cuda/ implement it and are linked, never included. The table is filled with function pointers once
 * and constant from then on.
 *
 * Plan: everything that can be prepared for one net, batch, precision and purpose: primitives, workspaces, compute
 *   copies of the weights. plan() receives the whole node array, so a backend may fuse across block borders.
 * Pass: what one forward of one view leaves behind: activations, batch statistics, gradients. Student and teacher run
 *   each view in its own pass, because batch statistics are per view in every reference implementation. Edges are
 *   opaque: only input() fills one and only output() reads one.
 * Mandatory entries are cut so that a reduction between processes fits in the gaps: statistics | finalize | apply.
 *   Optional entries (NULL allowed) replace a stretch of the default walk (model/walk.h).
 *
 * All entries run in the order of their calls, from one thread at a time per backend; results are ready on the host
 * after download(), output() or sync(). int entries return 0 or a negative lk_status with text. "Arena" pointers are
 * device pointers from alloc(). Channel sums stay in the pass, [2][C] a node, float or wider.
 */
#ifndef LK_MODEL_BACKEND_H
#define LK_MODEL_BACKEND_H

#include <stddef.h>
#include <stdint.h>

#include "image/augment.h"
#include "model/neighbor.h"
#include "model/net.h"

struct lk_backend; /* an open device; each backend's own struct begins with struct lk_backend_base */
struct lk_plan;
struct lk_pass;
struct lk_recording;

enum lk_precision { LK_FP32, LK_BF16, LK_FP16 };
enum lk_purpose {
    LK_TRAIN,    /* forward with batch statistics, everything kept for backward (student) */
    LK_FORWARD,  /* forward with batch statistics, nothing kept (teacher) */
    LK_INFERENCE /* forward with running statistics folded into the weights; output unit-length on request */
};

struct lk_backend_info {
    char device[96];        /* "Intel(R) Xeon(R) ..., 2 threads", "NVIDIA H100 ..." */
    char library[64];       /* "oneDNN 3.2.0", "cuDNN 9.19" */
    int threads;            /* CPU: threads used; GPU: multiprocessors */
    size_t memory;          /* bytes of device memory; 0: the host's */
    enum lk_precision best; /* fastest precision that keeps the accuracy contract: the default */
};

/* BYOL: loss = mean over the batch of (2 - 2 cos(p1, z2)) + (2 - 2 cos(p2, z1)), in 0..8; gradients are of
 * scale * loss. */
struct lk_byol_stats {
    float loss;           /* 0..8 */
    float projection_std; /* mean over dimensions of the deviation of z / |z| over the batch; 1/sqrt(d) when spread,
                             0 when collapsed; n - 1, of the teacher's projections of view 1 */
    int finite;           /* 0: a value was not finite */
};

enum lk_optimizer { LK_SGD, LK_ADAM, LK_LARS };
struct lk_optimizer_config {
    enum lk_optimizer kind;
    float momentum; /* SGD, LARS */
    float weight_decay;
    float beta1, beta2, epsilon; /* Adam (Kingma & Ba 2014): L2 form, as torch.optim.Adam */
    float trust;                 /* LARS eta (You et al. 2017, arXiv 1708.03888) */
    int lars_clip;               /* 1: the ratio is min(trust ratio / lr, 1), LARC's clip */
    int exclude_1d;              /* 1: biases, gamma and beta get neither weight decay nor the trust ratio */
};
/* lr, step and tau change each step. EMA: teacher = tau * teacher + (1 - tau) * student, after the update. */
struct lk_step_values {
    float lr, tau;
    uint64_t step; /* from 1: Adam's bias correction */
};
/* What changes from one training step to the next: see augment(), byol_loss() and update(). */
struct lk_step {
    uint64_t seed;
    uint32_t epoch;
    int slot;
    struct lk_step_values values;
    const uint8_t *const *pixels; /* [batch] each */
    const int *widths, *heights;
    const uint64_t *image_ids;
};
/* A tensor of the arena, as the optimiser sees it. */
struct lk_param_span {
    size_t offset, count;
    int one_dimensional;
};

struct lk_backend_options {
    int threads; /* CPU: 0 = all the cores this process may use, or OMP_NUM_THREADS when that is fewer */
};

struct lk_backend_ops {
    unsigned version; /* LK_BACKEND_VERSION */
    const char *name; /* "cpu", "cuda" */

    int (*open)(struct lk_backend **out, int ordinal, const struct lk_backend_options *options);
    void (*info)(const struct lk_backend *b, struct lk_backend_info *out);
    int (*supports)(const struct lk_backend *b, enum lk_precision precision); /* 1: natively or by emulation */

    /* Memory of the device, 64-byte aligned and zeroed. */
    int (*alloc)(struct lk_backend *b, size_t bytes, void **out);
    void (*free)(struct lk_backend *b, void *p); /* NULL is fine */
    int (*upload)(struct lk_backend *b, void *to, const void *from, size_t bytes);
    int (*download)(struct lk_backend *b, void *to, const void *from, size_t bytes);
    int (*sync)(struct lk_backend *b);

    /* Plans nodes [0, n_nodes) of net, which must outlive the plan. share (may be NULL): another plan of the same net,
     * precision and purpose whose prepared weights are used where their layout fits (batch buckets of one engine);
     * it must outlive this plan, and set_weights on it serves both. */
    int (*plan)(struct lk_backend *b, const struct lk_net *net, int n_nodes, int batch, enum lk_precision precision,
                enum lk_purpose purpose, struct lk_plan *share, struct lk_plan **out);
    void (*plan_free)(struct lk_plan *plan); /* NULL is fine; accepts a half-built plan */
    /* Converts the master weights (and for LK_INFERENCE folds the running statistics) into the plan's compute copies.
     * Called once per update. Arenas are canonical; only the prefix of n_nodes is read. */
    int (*set_weights)(struct lk_plan *plan, const float *params, const float *stats);
    int (*pass)(struct lk_plan *plan, struct lk_pass **out);
    void (*pass_free)(struct lk_pass *pass);

    /* Input: uint8 pictures [count][S][S][3] in HOST memory, normalised by (x/255 - mean)/std into edge 0. count may
     * be smaller than the batch (the rest is zero). */
    int (*input_u8)(struct lk_pass *pass, const uint8_t *pixels, int count, const float mean[3], const float std[3]);
    /* Input: float [batch][3][S][S] in HOST memory, already normalised. For tests and tools. */
    int (*input_f32)(struct lk_pass *pass, const float *chw);
    /* Input: random views. pixels[i], widths[i], heights[i] describe the picture of batch entry i (CPU: host memory;
     * CUDA: all in one device array); image_ids[i] is its number in the data set. Writes edge 0. */
    int (*augment)(struct lk_pass *pass, const struct lk_augment *a, uint64_t seed, uint32_t epoch, int view,
                   const uint8_t *const *pixels, const int *widths, const int *heights, const uint64_t *image_ids);
    /* Reads edge `edge` (node index + 1) as float [count][C*H*W] in CHW order. normalize: each row to unit length
     * (zero rows stay zero). */
    int (*output)(struct lk_pass *pass, int edge, int count, int normalize, float *host);

    /* Forward, one node. conv: the raw convolution or linear product (bias included when the node has one and no bn);
     * for LK_INFERENCE it is the whole node with bn, residual and ReLU. */
    int (*conv)(struct lk_pass *pass, int node);
    int (*bn_stats)(struct lk_pass *pass, int node); /* per-channel sum and sum of squares of the raw output */
    /* mean, inverse deviation, and running statistics (unbiased variance, momentum LK_BN_MOMENTUM) when
     * running_stats is not NULL (a device arena). */
    int (*bn_finalize)(struct lk_pass *pass, int node, float *running_stats);
    int (*bn_apply)(struct lk_pass *pass, int node); /* gamma x^ + beta [+ residual] [ReLU] */
    int (*activate)(struct lk_pass *pass, int node); /* nodes without bn: [+ residual] [ReLU] */
    int (*pool)(struct lk_pass *pass, int node);

    /* Backward, one node; gradients of an edge read by several nodes add up inside the pass. grads is a device arena
     * like params; entries ADD to it. */
    int (*output_gradient)(struct lk_pass *pass, int edge, const float *device_gradient); /* [batch][C*H*W] float,
                                                                         CHW order; the last edge of the plan */
    int (*bn_backward_reduce)(struct lk_pass *pass, int node); /* ReLU mask applied; sums of g and g x^ */
    int (*bn_backward_finalize)(struct lk_pass *pass, int node, float *grads); /* dgamma, dbeta */
    int (*bn_backward_apply)(struct lk_pass *pass, int node); /* gradient of the raw output; of the residual edge */
    int (*activate_backward)(struct lk_pass *pass, int node, float *grads); /* nodes without bn: mask, dbias */
    int (*conv_backward_weights)(struct lk_pass *pass, int node, float *grads);
    int (*conv_backward_data)(struct lk_pass *pass, int node); /* not called for nodes that read edge 0 */
    int (*pool_backward)(struct lk_pass *pass, int node);

    /* BYOL. student passes end in predictions p (last node), teacher passes in projections z (teacher_nodes - 1).
     * Writes the gradient of scale * loss into both students' output gradient. stats is read with byol_stats(), which
     * waits; slot < LK_LOSS_RING keeps several steps in flight. */
    int (*byol_loss)(struct lk_pass *student1, struct lk_pass *student2, struct lk_pass *teacher1,
                     struct lk_pass *teacher2, float scale, int slot);
    int (*byol_stats)(struct lk_backend *b, int slot, struct lk_byol_stats *out);

    /* One update over the arenas: params, grads (set to zero afterwards), state (SGD, LARS: momentum [n]; Adam: two
     * moments [2n]); teacher [teacher_count] is moved by EMA in the same walk (NULL: none). */
    int (*update)(struct lk_backend *b, const struct lk_optimizer_config *c, const struct lk_step_values *v,
                  const struct lk_param_span *spans, size_t n_spans, size_t n_params, float *params, float *grads,
                  float *state, float *teacher, size_t teacher_count);

    /* (optional) Input: what lies on edge 0 of `from`, a pass of the same shape, precision and batch whose plan keeps its
     * edges (LK_TRAIN). NULL: the same augment() once more. */
    int (*input_from)(struct lk_pass *pass, const struct lk_pass *from);
    /* (optional, all four or none) A whole training step recorded, so that from then on it is one call. Between
     * record_begin and record_end set_weights, augment, input_from, the forward and backward entries, byol_loss and
     * update are noted and not executed; an entry that waits or takes memory fails and spoils the recording. The same
     * calls must have run once as they come, so that all they need is there; batch is their passes'. record_end says why
     * a step cannot be recorded: nothing has happened then, and the calls may run as they come.
     * replay executes the step, with s in place of what augment, byol_loss and update were given of it. All else is as
     * it was recorded: arenas, passes, spans, settings of the views and of the optimiser, scale; who changes one of
     * them records again. LK_ECONFLICT, and nothing executed: memory that the recording uses has moved since (a larger
     * pass read or wrote host memory, other spans were updated); run the step as it comes once and record again.
     * A recording is freed before the plans, passes and arenas that it uses. */
    int (*record_begin)(struct lk_backend *b, int batch);
    int (*record_end)(struct lk_backend *b, struct lk_recording **out);
    int (*replay)(struct lk_recording *r, const struct lk_step *s);
    void (*recording_free)(struct lk_recording *r); /* NULL is fine */
    /* (optional, both or none) Pictures to unit vectors by an LK_INFERENCE pass: input_u8, the forward, output of the
     * plan's last edge, in two halves, so that the host has work of its own meanwhile. embed_begin takes the pictures
     * over and returns; embed_end waits for the pass's oldest batch and writes its rows. A pass holds LK_EMBED_SLOTS
     * batches that have begun and not ended, then LK_EBUSY. The first of a pass is slower than the others. keep (NULL:
     * none): device memory that the rows go to instead; embed_end then waits and writes nothing. */
    int (*embed_begin)(struct lk_pass *pass, const uint8_t *pixels, int count, const float mean[3], const float std[3],
                       float *keep);
    int (*embed_end)(struct lk_pass *pass, float *host);
    /* (optional; whoever has it has embed_begin) The k nearest rows of bank[nb][dim] to each of query[nq][dim] by dot
     * product, into out[nq][k] in HOST memory, as model/neighbor.h defines them. query and bank are device memory; query
     * NULL: query i is row self[i]. self[nq] (host; NULL: none): the row that query i does not find. LK_EINVAL: k < 1 or
     * more than a query may find. Waits; takes device memory of its own meanwhile: LK_ENOMEM. */
    int (*neighbors)(struct lk_backend *b, struct lk_neighbor *out, const float *query, size_t nq, const float *bank,
                     size_t nb, size_t dim, size_t k, const uint32_t *self);
    /* (optional) The whole inference or training forward / backward of a pass; NULL: the walk's loop. */
    int (*forward)(struct lk_pass *pass, float *running_stats);
    int (*backward)(struct lk_pass *pass, float *grads);

    void (*close)(struct lk_backend *b); /* accepts NULL and a half-open device */
};

#define LK_BACKEND_VERSION 1
#define LK_LOSS_RING 64
#define LK_EMBED_SLOTS 2

struct lk_backend_base { /* first member of every backend's struct lk_backend */
    const struct lk_backend_ops *ops;
};
static inline const struct lk_backend_ops *lk_ops(const struct lk_backend *b) {
    return ((const struct lk_backend_base *)b)->ops;
}

/* Opens "cpu", "cuda", "cuda:1" or "auto" (the first CUDA device that works, else the CPU). LK_EUNSUPPORTED says in one
 * sentence why a device cannot be used. Implemented in backend_list.c (target lk_devices). Close with
 * lk_ops(b)->close(b). */
int lk_device_open(struct lk_backend **out, const char *name, const struct lk_backend_options *options);

const char *lk_precision_name(enum lk_precision p); /* "fp32", "bf16", "fp16" */
int lk_precision_from_name(const char *name);       /* or LK_EINVAL */

#endif
