/* Plans: cuDNN graphs chosen per node, compute copies of the weights, workspace. */
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "cuda_internal.h"

int lk_cuda__pad(int channels) { return (channels + 7) / 8 * 8; }

/* y = w * x [+ residual] + bias [ReLU], in float until y is stored. Tensors 3 and 4 are bias and residual. */
static void conv_with_epilogue(struct lk_graph *g, const struct lk_node *n, int batch, int co, enum lk_graph_type t,
                               const int xwy[3], const int filter[3], int whole) {
    int bias = lk_graph_tensor(g, LK_G_F32, 1, co, 1, 1), y = xwy[2];
    int residual = whole && n->residual >= 0 ? lk_graph_tensor(g, t, batch, co, n->out_h, n->out_w) : -1;
    int at = lk_graph_virtual(g, LK_G_F32, batch, co, n->out_h, n->out_w);
    lk_graph_conv(g, LK_G_FORWARD, xwy[0], xwy[1], at, filter[0], filter[1], filter[2]);
    if (residual >= 0) {
        int next = lk_graph_virtual(g, LK_G_F32, batch, co, n->out_h, n->out_w);
        lk_graph_pointwise(g, LK_G_ADD, at, residual, next);
        at = next;
    }
    if (whole && n->relu) {
        int next = lk_graph_virtual(g, LK_G_F32, batch, co, n->out_h, n->out_w);
        lk_graph_pointwise(g, LK_G_ADD, at, bias, next);
        lk_graph_pointwise(g, LK_G_RELU, next, -1, y);
    } else {
        lk_graph_pointwise(g, LK_G_ADD, at, bias, y);
    }
}

/* The data gradient [+ the other's], masked where the ReLU's output z is not positive, and for the norm before it the sums
 * of that and of that times (y - mean). Tensors 3 to 8: z, y, mean, sum, the other sum, the other gradient. */
static void gradient_with_sums(struct lk_graph *g, const struct lk_node *n, int batch, int ci, enum lk_graph_type t,
                               const int xwy[3], const int filter[3], int add) {
    int z = lk_graph_tensor(g, t, batch, ci, n->in_h, n->in_w), y = lk_graph_tensor(g, t, batch, ci, n->in_h, n->in_w);
    int mean = lk_graph_tensor(g, LK_G_F32, 1, ci, 1, 1), sum = lk_graph_tensor(g, LK_G_F32, 1, ci, 1, 1);
    int sum_y = lk_graph_tensor(g, LK_G_F32, 1, ci, 1, 1);
    int other = add ? lk_graph_tensor(g, t, batch, ci, n->in_h, n->in_w) : -1;
    int at = lk_graph_virtual(g, LK_G_F32, batch, ci, n->in_h, n->in_w);
    int centred = lk_graph_virtual(g, LK_G_F32, batch, ci, n->in_h, n->in_w);
    int product = lk_graph_virtual(g, LK_G_F32, batch, ci, n->in_h, n->in_w);
    lk_graph_conv(g, LK_G_BACKWARD_DATA, at, xwy[1], xwy[2], filter[0], filter[1], filter[2]);
    if (add) {
        int both = lk_graph_virtual(g, LK_G_F32, batch, ci, n->in_h, n->in_w);
        lk_graph_pointwise(g, LK_G_ADD, at, other, both);
        at = both;
    }
    lk_graph_pointwise(g, LK_G_RELU_BACKWARD, at, z, xwy[0]);
    lk_graph_sum(g, xwy[0], sum);
    lk_graph_pointwise(g, LK_G_SUB, y, mean, centred);
    lk_graph_pointwise(g, LK_G_MUL, xwy[0], centred, product);
    lk_graph_sum(g, product, sum_y);
}

int lk_cuda__conv_graph(struct lk_graph **out, const struct lk_node *n, int batch, enum lk_graph_type t,
                        enum lk_graph_conv kind, enum lk_cuda_epilogue epilogue, const char *purpose) {
    int ci = lk_cuda__pad(n->in_c), co = lk_cuda__pad(n->out_c), linear = n->kind == LK_NODE_LINEAR, x, w, y, code;
    int kernel = linear ? 1 : n->kernel, stride = linear ? 1 : n->stride, pad = linear ? 0 : n->pad;
    const char *what = kind == LK_G_FORWARD         ? "forward"
                       : kind == LK_G_BACKWARD_DATA ? "data gradient"
                                                    : "filter gradient";
    char name[96];
    snprintf(name, sizeof name, "%s of %s (batch %d, %s)", what, n->name, batch, purpose);
    if ((code = lk_graph_begin(out, name))) {
        return code;
    }
    x = lk_graph_tensor(*out, t, batch, ci, n->in_h, n->in_w);
    w = lk_graph_tensor(*out, t, co, ci, kernel, kernel);
    y = lk_graph_tensor(*out, t, batch, co, n->out_h, n->out_w);
    if (epilogue == LK_CUDA_BARE) {
        lk_graph_conv(*out, kind, x, w, y, kernel, stride, pad);
    } else if (epilogue == LK_CUDA_STATS) { /* tensors 3 and 4: sums of y and of y^2 */
        int sum = lk_graph_tensor(*out, LK_G_F32, 1, co, 1, 1), squares = lk_graph_tensor(*out, LK_G_F32, 1, co, 1, 1);
        lk_graph_conv(*out, kind, x, w, y, kernel, stride, pad);
        lk_graph_gen_stats(*out, y, sum, squares);
    } else if (epilogue == LK_CUDA_REDUCED || epilogue == LK_CUDA_ADDED_REDUCED) {
        const int xwy[3] = {x, w, y}, filter[3] = {kernel, stride, pad};
        gradient_with_sums(*out, n, batch, ci, t, xwy, filter, epilogue == LK_CUDA_ADDED_REDUCED);
    } else {
        const int xwy[3] = {x, w, y}, filter[3] = {kernel, stride, pad};
        conv_with_epilogue(*out, n, batch, co, t, xwy, filter, epilogue == LK_CUDA_WHOLE);
    }
    return LK_OK;
}

static int build_one(struct lk_plan *p, const struct lk_node *n, enum lk_graph_conv kind,
                     enum lk_cuda_epilogue epilogue, struct lk_graph_plan **out) {
    static const enum lk_graph_type types[] = {[LK_E_F32] = LK_G_F32, [LK_E_BF16] = LK_G_BF16, [LK_E_F16] = LK_G_F16};
    struct lk_graph_policy policy = {.exact = p->precision == LK_FP32, .deterministic = 1};
    struct lk_graph *g = NULL;
    int code = lk_cuda__conv_graph(&g, n, p->batch, types[p->t], kind, epilogue, lk_precision_name(p->precision));
    if (!code) {
        code = lk_graph_build(g, p->b->graphs, &policy, out);
    }
    lk_graph_free(g);
    if (!code && lk_graph_workspace(*out) > p->workspace_bytes) {
        p->workspace_bytes = lk_graph_workspace(*out);
    }
    return code;
}

static int plan_node(struct lk_plan *p, int i) {
    const struct lk_node *n = &p->net->nodes[i];
    struct lk_node_plan *np = &p->nodes[i];
    int code;
    np->in_pad = lk_cuda__pad(n->in_c);
    np->out_pad = lk_cuda__pad(n->out_c);
    if (!lk_node_has_weights(n)) {
        return LK_OK;
    }
    /* A fused epilogue is an offer: where no engine takes it the plain convolution and our own epilogue run. A bias is
     * fused in training too, so that it is added before the sum is rounded. */
    np->epilogue = p->purpose == LK_INFERENCE ? LK_CUDA_WHOLE : n->bias && !n->bn ? LK_CUDA_BIAS : LK_CUDA_BARE;
    if (np->epilogue != LK_CUDA_BARE && build_one(p, n, LK_G_FORWARD, np->epilogue, &np->forward) != LK_OK) {
        np->epilogue = LK_CUDA_BARE;
    }
    if (np->epilogue == LK_CUDA_BARE && (code = build_one(p, n, LK_G_FORWARD, LK_CUDA_BARE, &np->forward))) {
        return code;
    }
    /* Another offer. fp32 keeps sums in double, which parity needs. */
    if (p->purpose != LK_INFERENCE && n->bn && p->precision == LK_BF16 &&
        build_one(p, n, LK_G_FORWARD, LK_CUDA_STATS, &np->with_stats) != LK_OK) {
        np->with_stats = NULL;
    }
    if (p->purpose == LK_TRAIN) {
        if ((code = build_one(p, n, LK_G_BACKWARD_FILTER, LK_CUDA_BARE, &np->backward_weights)) ||
            (n->input && (code = build_one(p, n, LK_G_BACKWARD_DATA, LK_CUDA_BARE, &np->backward_data)))) {
            return code;
        }
        np->gradient = p->precision == LK_BF16 ? lk_cuda__gradient_offer(p->net, p->n_nodes, i) : LK_CUDA_BARE;
        if (np->gradient != LK_CUDA_BARE && build_one(p, n, LK_G_BACKWARD_DATA, np->gradient, &np->reduced) != LK_OK) {
            np->reduced = NULL;
        }
    }
    return LK_OK;
}

static size_t filter_count(const struct lk_node *n, const struct lk_node_plan *np) {
    int k = n->kind == LK_NODE_LINEAR ? 1 : n->kernel;
    return (size_t)np->out_pad * (size_t)np->in_pad * (size_t)(k * k);
}

static int allocate(struct lk_plan *p, struct lk_plan *share) {
    size_t largest_filter = 0, scratch = 0, channels = 8;
    for (int i = 0; i < p->n_nodes; i++) {
        const struct lk_node *n = &p->net->nodes[i];
        struct lk_node_plan *np = &p->nodes[i];
        size_t count, norm;
        struct lk_rows rows = lk_cuda__rows(p, i);
        if (!lk_node_has_weights(n)) {
            continue;
        }
        count = filter_count(n, np);
        norm = lk_cuda_norm_scratch(&rows);
        largest_filter = count > largest_filter ? count : largest_filter;
        scratch = norm > scratch ? norm : scratch;
        channels = (size_t)np->out_pad > channels ? (size_t)np->out_pad : channels;
        if (share && i < share->n_nodes) {
            np->weights = share->nodes[i].weights;
            np->scale = share->nodes[i].scale;
            np->shift = share->nodes[i].shift;
            continue;
        }
        np->owns_weights = 1;
        int code = lk_cuda__error(cudaMalloc(&np->weights, count * p->element), "weights");
        if (!code) {
            code = lk_cuda__error(cudaMalloc((void **)&np->scale, 2 * (size_t)np->out_pad * sizeof(float)), "weights");
        }
        if (code) {
            return code;
        }
        np->shift = np->scale + np->out_pad;
    }
    int code = lk_cuda__error(cudaMalloc(&p->workspace, p->workspace_bytes + 16), "workspace");
    if (!code && p->purpose != LK_INFERENCE) {
        (void)((code = lk_cuda__error(cudaMalloc(&p->filter_gradient, largest_filter * p->element),
                                      "filter gradient")) ||
               (code = lk_cuda__error(cudaMalloc(&p->scratch, scratch + 16), "scratch")) ||
               (code = lk_cuda__error(cudaMalloc((void **)&p->sums, 2 * channels * sizeof(double)), "scratch")));
    }
    return code;
}

int lk_cuda__plan(struct lk_backend *b, const struct lk_net *net, int n_nodes, int batch, enum lk_precision precision,
                  enum lk_purpose purpose, struct lk_plan *share, struct lk_plan **out) {
    struct lk_plan *p = lk_calloc(1, sizeof *p);
    int code = LK_OK;
    *out = NULL;
    if (!p) {
        return LK_ENOMEM;
    }
    lk_cuda__use(b);
    p->b = b;
    p->net = net;
    p->n_nodes = n_nodes;
    p->batch = batch;
    p->precision = precision;
    p->purpose = purpose;
    p->t = precision == LK_FP32 ? LK_E_F32 : precision == LK_BF16 ? LK_E_BF16 : LK_E_F16;
    p->element = precision == LK_FP32 ? 4 : 2;
    if (n_nodes < 1 || n_nodes > net->n_nodes || batch < 1) {
        code = lk_err(LK_EINVAL, "plan: %d nodes of %d, batch %d", n_nodes, net->n_nodes, batch);
        goto fail;
    }
    if (precision == LK_FP16 && purpose != LK_INFERENCE) {
        code = lk_err(LK_EUNSUPPORTED, "fp16 serves inference only; train in bf16 or fp32");
        goto fail;
    }
    if (share && (share->net != net || share->precision != precision || share->purpose != purpose)) {
        code = lk_err(LK_EINVAL, "a plan shares weights with one of the same network, precision and purpose");
        goto fail;
    }
    if (!(p->nodes = lk_calloc((size_t)n_nodes, sizeof *p->nodes))) {
        code = LK_ENOMEM;
        goto fail;
    }
    for (int i = 0; i < n_nodes; i++) {
        if ((code = plan_node(p, i))) {
            goto fail;
        }
    }
    if ((code = allocate(p, share))) {
        goto fail;
    }
    lk_cuda__choose_fused(p);
    *out = p;
    return LK_OK;
fail:
    lk_cuda__plan_free(p);
    return code;
}

void lk_cuda__plan_free(struct lk_plan *p) {
    if (!p) {
        return;
    }
    lk_cuda__use(p->b);
    cudaStreamSynchronize(p->b->stream);
    for (int i = 0; p->nodes && i < p->n_nodes; i++) {
        struct lk_node_plan *np = &p->nodes[i];
        lk_graph_plan_free(np->forward);
        lk_graph_plan_free(np->with_stats);
        lk_graph_plan_free(np->backward_data);
        lk_graph_plan_free(np->reduced);
        lk_graph_plan_free(np->backward_weights);
        if (np->owns_weights) {
            cudaFree(np->weights);
            cudaFree(np->scale);
        }
    }
    cudaFree(p->workspace);
    cudaFree(p->filter_gradient);
    cudaFree(p->scratch);
    cudaFree(p->sums);
    free(p->nodes);
    free(p);
}

int lk_cuda__set_weights(struct lk_plan *p, const float *params, const float *stats) {
    cudaStream_t s = p->b->stream;
    lk_cuda__use(p->b);
    for (int i = 0; i < p->n_nodes; i++) {
        const struct lk_node *n = &p->net->nodes[i];
        const struct lk_node_plan *np = &p->nodes[i];
        int code = LK_OK, k = n->kind == LK_NODE_LINEAR ? 1 : n->kernel;
        const float *fold = NULL;
        if (!lk_node_has_weights(n)) {
            continue;
        }
        if (n->bn && p->purpose == LK_INFERENCE) {
            code = lk_cuda_fold(s, np->scale, np->shift, params + n->gamma, params + n->beta, stats + n->mean,
                                stats + n->var, n->out_c, np->out_pad);
            fold = np->scale;
        } else if (n->bn) {
            (void)((code = lk_cuda_pad(s, np->scale, params + n->gamma, n->out_c, np->out_pad)) ||
                   (code = lk_cuda_pad(s, np->shift, params + n->beta, n->out_c, np->out_pad)));
        } else {
            code = lk_cuda_pad(s, np->shift, params + (n->bias ? n->beta : 0), n->bias ? n->out_c : 0, np->out_pad);
        }
        if (code || (code = lk_cuda_weights_pack(s, p->t, np->weights, params + n->weight, fold, n->out_c, np->out_pad,
                                                 n->in_c, np->in_pad, k))) {
            return code;
        }
    }
    return LK_OK;
}
