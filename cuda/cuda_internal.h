/* What the files of this room share: the device, its plans and passes. Everything above sees model/backend.h only. */
#ifndef LK_CUDA_INTERNAL_H
#define LK_CUDA_INTERNAL_H

#include <cuda_runtime_api.h>

#include "graph.h"
#include "kernels.h"
#include "model/backend.h"

/* Pinned host memory on its way to the device, used in turn: copies out of it are asynchronous, so a slot is written
 * again only when its `sent` has passed. */
enum { LK_CUDA_SLOTS = 32 };
struct lk_cuda_ring {
    struct lk_cuda_slot {
        void *host;
        size_t bytes;
        cudaEvent_t sent;
    } slots[LK_CUDA_SLOTS];
    int n, next;
};

struct lk_backend {
    struct lk_backend_base base;
    int ordinal;
    cudaStream_t stream;
    struct lk_graph_device *graphs;
    struct lk_backend_info info;
    float *losses;      /* device: [LK_LOSS_RING][4] loss, deviation, unused, unused */
    float *losses_host; /* pinned copy */
    cudaEvent_t loss_ready[LK_LOSS_RING];
    void *staging; /* device memory for input and output of host data; users follow each other on the stream */
    size_t staging_bytes;
    struct lk_cuda_ring pictures, values;     /* a few large slots; many small ones, for a training step's values */
    uint64_t moved;                           /* how often memory that a recorded step may use was given up */
    struct lk_recording *recording;           /* that the calls of this moment go into, or NULL */
    struct lk_param_span *spans, *spans_host; /* what update was given last, on the device and as it came */
    size_t n_spans;
    void *span_norms; /* device: scratch of update */
};

enum lk_cuda_epilogue {
    LK_CUDA_BARE,
    LK_CUDA_BIAS,  /* training: layers with a bias and no norm */
    LK_CUDA_STATS, /* training: the batch sums of a norm that follows, where that is faster than a pass of our own */
    LK_CUDA_WHOLE, /* inference: bias (a folded norm's too), residual, ReLU */
    /* Of a data gradient: the mask of the ReLU before the node and the sums that the norm before that needs; with the
     * other reader's gradient added first. */
    LK_CUDA_REDUCED,
    LK_CUDA_ADDED_REDUCED
};

/* Prepared work of one node. Shapes are padded: in_pad, out_pad are multiples of 8. */
struct lk_node_plan {
    struct lk_graph_plan *forward, *backward_data, *backward_weights;
    struct lk_graph_plan *with_stats, *reduced; /* offers, until timed against forward and backward_data: fused.c */
    enum lk_cuda_epilogue epilogue, gradient;   /* what forward and backward_data include */
    int reduced_by;                             /* the node whose backward_data leaves this one's backward sums, or 0 */
    int in_pad, out_pad;
    void *weights;        /* KRSC in the compute type */
    float *scale, *shift; /* [out_pad]: gamma and beta of training, folded bias of inference, or the plain bias */
    int owns_weights;
};

struct lk_plan {
    struct lk_backend *b;
    const struct lk_net *net;
    int n_nodes, batch;
    enum lk_precision precision;
    enum lk_purpose purpose;
    enum lk_element t;
    size_t element; /* bytes */
    struct lk_node_plan *nodes;
    void *workspace;
    size_t workspace_bytes;
    void *filter_gradient; /* largest padded filter in the compute type */
    void *scratch;         /* reductions */
    double *sums;          /* [2][largest channels] */
};

struct lk_pass {
    struct lk_plan *plan;
    void **edges;                /* [n_nodes + 1] activations; LK_FORWARD and LK_INFERENCE reuse buffers */
    void **raw;                  /* [n_nodes] convolution outputs before batch norm; may equal edges[i + 1] */
    float **saved;               /* [n_nodes] what batch norm keeps: bodies.h */
    double **sums;               /* [n_nodes] batch sums, then backward sums; floats by a fused graph */
    uint8_t **pool_index;        /* [n_nodes] */
    void **gradients[2];         /* [n_nodes + 1] contributions to each edge's gradient */
    int *n_gradients;            /* [n_nodes + 1] */
    void **masked;               /* [n_nodes] g, then the gradient of the raw output in place */
    struct lk_cuda_embed *embed; /* embed.c's, or NULL */
    void **owned;                /* every allocation, for free */
    size_t n_owned, owned_capacity;
};

/* cuda_backend.c */
int lk_cuda__error(cudaError_t e, const char *what);      /* LK_ENOMEM or LK_EFAIL with text; 0 for success */
void lk_cuda__use(const struct lk_backend *b);            /* makes its device this thread's: entries begin with it */
int lk_cuda__staging(struct lk_backend *b, size_t bytes); /* at least that much in b->staging */
/* Host data to the device without waiting for the stream: *host is pinned memory to fill, then send copies it. */
int lk_cuda__slot(struct lk_cuda_ring *ring, size_t bytes, void **host);
int lk_cuda__slot_send(struct lk_backend *b, struct lk_cuda_ring *ring, void *to, size_t bytes);
int lk_cuda__fetch_loss(struct lk_backend *b, int slot); /* a row of the loss ring on its way to the host */

/* plan.c */
int lk_cuda__plan(struct lk_backend *b, const struct lk_net *net, int n_nodes, int batch, enum lk_precision precision,
                  enum lk_purpose purpose, struct lk_plan *share, struct lk_plan **out);
void lk_cuda__plan_free(struct lk_plan *plan);
int lk_cuda__set_weights(struct lk_plan *plan, const float *params, const float *stats);
/* The operation graphs of one convolution or linear node, also asked by the check on machines without a device. */
int lk_cuda__conv_graph(struct lk_graph **out, const struct lk_node *node, int batch, enum lk_graph_type type,
                        enum lk_graph_conv kind, enum lk_cuda_epilogue epilogue, const char *purpose);
int lk_cuda__pad(int channels);

/* fused.c: takes the offers that are faster on this device, and frees the others. */
void lk_cuda__choose_fused(struct lk_plan *p);
/* What the data gradient of a node could include, by the network's shape. */
enum lk_cuda_epilogue lk_cuda__gradient_offer(const struct lk_net *net, int n_nodes, int node);

/* record.c */
int lk_cuda__capture_begin(struct lk_backend *b);
int lk_cuda__capture_end(struct lk_backend *b, cudaGraphExec_t *out); /* always after a begin; NULL after a failure */
int lk_cuda__record_begin(struct lk_backend *b, int batch);
int lk_cuda__record_end(struct lk_backend *b, struct lk_recording **out);
int lk_cuda__replay(struct lk_recording *r, const struct lk_step *s);
void lk_cuda__recording_free(struct lk_recording *r);
/* What kernels read of a step: device pointers, and device memory for what they pass on to each other. */
struct lk_cuda_values {
    const struct lk_cuda_step *step;
    const uint64_t *ids;
    const uint8_t *const *pixels;
    const int *widths, *heights;
    void *scratch;
};
/* Sends the values of s that a call was given, and batch entries of its lists (0: none), or points at where a recorded
 * step will find its own. optimizer may be NULL. */
int lk_cuda__values(struct lk_backend *b, const struct lk_step *s, const struct lk_optimizer_config *optimizer,
                    int batch, size_t scratch, struct lk_cuda_values *out);
/* While b->recording: replay() fetches a loss; its rule is by this configuration. */
void lk_cuda__record_loss(struct lk_backend *b);
void lk_cuda__record_optimizer(struct lk_backend *b, const struct lk_optimizer_config *c);

/* embed.c */
int lk_cuda__embed_begin(struct lk_pass *pass, const uint8_t *pixels, int count, const float mean[3],
                         const float std[3], float *keep);
int lk_cuda__embed_end(struct lk_pass *pass, float *host);
void lk_cuda__embed_free(struct lk_cuda_embed *e);

/* nearest.c */
int lk_cuda__neighbors(struct lk_backend *b, struct lk_neighbor *out, const float *query, size_t nq, const float *bank,
                       size_t nb, size_t dim, size_t k, const uint32_t *self);

/* input.c: in and out.  pass.c: memory and forward.  backward.c: the rest of a training step. */
const struct lk_plan *lk_cuda__enter(const struct lk_pass *pass); /* its plan, with its device made this thread's */
struct lk_rows lk_cuda__rows(const struct lk_plan *p, int node);  /* of the node's output */
int lk_cuda__begin_backward(struct lk_pass *pass);                /* forgets the gradients of an earlier backward */
int lk_cuda__contribute(struct lk_pass *pass, int edge, void *gradient); /* hands a buffer on to an edge */
int lk_cuda__pass(struct lk_plan *plan, struct lk_pass **out);
void lk_cuda__pass_free(struct lk_pass *pass);
int lk_cuda__input_u8(struct lk_pass *pass, const uint8_t *pixels, int count, const float mean[3], const float std[3]);
int lk_cuda__input_f32(struct lk_pass *pass, const float *chw);
int lk_cuda__augment(struct lk_pass *pass, const struct lk_augment *a, uint64_t seed, uint32_t epoch, int view,
                     const uint8_t *const *pixels, const int *widths, const int *heights, const uint64_t *image_ids);
int lk_cuda__check_pictures(const struct lk_plan *p, int count);
int lk_cuda__input_from(struct lk_pass *pass, const struct lk_pass *from);
int lk_cuda__output(struct lk_pass *pass, int edge, int count, int normalize, float *host);
int lk_cuda__conv(struct lk_pass *pass, int node);
int lk_cuda__bn_stats(struct lk_pass *pass, int node);
int lk_cuda__bn_finalize(struct lk_pass *pass, int node, float *running_stats);
int lk_cuda__bn_apply(struct lk_pass *pass, int node);
int lk_cuda__activate_node(struct lk_pass *pass, int node);
int lk_cuda__pool(struct lk_pass *pass, int node);
int lk_cuda__output_gradient(struct lk_pass *pass, int edge, const float *device_gradient);
int lk_cuda__bn_backward_reduce(struct lk_pass *pass, int node);
int lk_cuda__bn_backward_finalize(struct lk_pass *pass, int node, float *grads);
int lk_cuda__bn_backward_apply(struct lk_pass *pass, int node);
int lk_cuda__activate_backward_node(struct lk_pass *pass, int node, float *grads);
int lk_cuda__conv_backward_weights(struct lk_pass *pass, int node, float *grads);
int lk_cuda__conv_backward_data(struct lk_pass *pass, int node);
int lk_cuda__pool_backward(struct lk_pass *pass, int node);
int lk_cuda__byol_loss(struct lk_pass *student1, struct lk_pass *student2, struct lk_pass *teacher1,
                       struct lk_pass *teacher2, float scale, int slot);

#endif
