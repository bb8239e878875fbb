/* What a network is, without who computes it: a flat array of block nodes in execution order over numbered edges.
 * Edge 0 is the input picture; node i reads edge `input`, writes edge i + 1. ResNet (He et al. 2015, arXiv 1512.03385)
 * and the BYOL heads (Grill et al. 2020, arXiv 2006.07733) are built from four kinds. No layer in front of a batch
 * norm has a bias.
 *
 * Parameters live in one flat float arena in canonical (PyTorch) layout: convolution OIHW, linear [out][in], then
 * gamma, beta or bias of the same node. Running statistics live in a second arena: mean then variance. BYOL's student
 * is backbone, projector, predictor in one array, so backbone and teacher are prefixes of nodes and of both arenas. */
#ifndef LK_MODEL_NET_H
#define LK_MODEL_NET_H

#include <stddef.h>
#include <stdint.h>

enum lk_node_kind {
    LK_NODE_CONV,     /* convolution [+ batch norm] [+ residual edge] [+ ReLU] */
    LK_NODE_LINEAR,   /* linear [+ bias] [+ batch norm] [+ ReLU]; H = W = 1 */
    LK_NODE_MAX_POOL, /* 3x3, stride 2, pad 1 */
    LK_NODE_AVG_POOL  /* global average: [C][H][W] -> [C] */
};

struct lk_node {
    enum lk_node_kind kind;
    int input;    /* edge read */
    int residual; /* edge added after the batch norm and before the ReLU, or -1 */
    int bn, relu, bias;
    int in_c, in_h, in_w, out_c, out_h, out_w;
    int kernel, stride, pad;
    size_t weight, gamma, beta; /* offsets in the parameter arena; beta is the bias when bias is set */
    size_t mean, var;           /* offsets in the statistics arena (bn only) */
    char name[48];              /* "layer1.0.conv1", "projector.0": tensor name is name + ".weight" */
    char bn_name[48];           /* "layer1.0.bn1", "projector.1"; "" without bn */
};

/* 1 for the kinds that multiply by weights; 0 for pooling. */
static inline int lk_node_has_weights(const struct lk_node *n) {
    return n->kind == LK_NODE_CONV || n->kind == LK_NODE_LINEAR;
}

#define LK_BN_EPSILON 1e-5f
#define LK_BN_MOMENTUM 0.1f

struct lk_net {
    struct lk_node *nodes; /* owned */
    int n_nodes, capacity;
    int backbone_nodes;                     /* the prefix that ends in the global average pool */
    int teacher_nodes;                      /* backbone + projector; equals backbone_nodes when there are no heads */
    int image_size;                         /* input is [3][image_size][image_size] */
    int feature_dim;                        /* backbone output */
    int output_dim;                         /* output of the last node */
    size_t n_params, n_stats;               /* floats in the arenas */
    size_t backbone_params, backbone_stats; /* prefix lengths */
    size_t teacher_params, teacher_stats;
};

enum lk_stem { LK_STEM_CIFAR, LK_STEM_IMAGENET }; /* 3x3 stride 1 without pooling; 7x7 stride 2 and max pool */

struct lk_arch {
    int depth; /* 18, 34 (basic blocks), 50 (bottlenecks) */
    int width; /* channels of the first stage: 64 is the standard; a multiple of 8 in 8..512 */
    enum lk_stem stem;
    int image_size; /* 8..4096 */
};

struct lk_heads {                                   /* BYOL's MLPs: linear-(bn)-relu-linear */
    int projector_hidden, predictor_hidden, output; /* multiples of 16; 1024, 1024, 256 in the default recipe */
    int projector_bn, predictor_bn;
};

/* Builds the backbone, and the heads after it when `heads` is not NULL. LK_EINVAL names the field that is out of
 * range. On failure *out is zeroed. Free with lk_net_free. */
int lk_net_build(struct lk_net *out, const struct lk_arch *arch, const struct lk_heads *heads);
void lk_net_free(struct lk_net *net); /* accepts a zeroed one */

/* "resnet18" -> 18, LK_EINVAL otherwise; and back. */
int lk_arch_depth(const char *name);
const char *lk_arch_name(int depth);
const char *lk_stem_name(enum lk_stem stem); /* "cifar", "imagenet" */

/* Draws initial weights: convolutions Kaiming normal, fan out, ReLU gain; linear layers and their biases uniform
 * +-1/sqrt(in), as PyTorch's defaults; gamma 1, beta 0; running mean 0, variance 1. Philox numbers of (seed, number of
 * the tensor), so that Python draws the same; tensors are numbered from 0 in the order of lk_net_tensors, statistics
 * not counted. params[n_params], stats[n_stats]. */
void lk_net_init(const struct lk_net *net, uint64_t seed, float *params, float *stats);

/* Visits every tensor of the nodes [0, n_nodes) in arena order. `stat` says which arena offset is for; ndim 1..4. */
struct lk_net_tensor {
    char name[64]; /* "layer1.0.bn1.running_mean" */
    int stat, node, ndim;
    int shape[4];
    size_t offset, count;
};
int lk_net_tensors(const struct lk_net *net, int n_nodes, int (*visit)(void *arg, const struct lk_net_tensor *t),
                   void *arg); /* stops at, and returns, the first non-zero */

/* Multiply-accumulates of one picture's forward pass through nodes [0, n_nodes). */
double lk_net_macs(const struct lk_net *net, int n_nodes);

#endif
