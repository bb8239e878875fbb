/* Backward entries and BYOL's loss. A gradient's contributions are buffers with one owner each, so that a node may write
 * its masked gradient over the first of them and hand it on to the residual edge without a copy; the gradient of a raw
 * convolution output takes the place of that output, which nothing reads any more. */
#include <string.h>

#include "base/err.h"
#include "bodies.h"
#include "cuda_internal.h"

int lk_cuda__contribute(struct lk_pass *pass, int edge, void *gradient) {
    if (pass->n_gradients[edge] == 2) {
        return lk_err(LK_EFAIL, "edge %d has more than two readers", edge);
    }
    pass->gradients[pass->n_gradients[edge]++][edge] = gradient;
    return LK_OK;
}

static void *contribution(const struct lk_pass *pass, int edge, int which) {
    return which < pass->n_gradients[edge] ? pass->gradients[which][edge] : NULL;
}

/* The gradient that a node's output received: one or two buffers. */
static int received(const struct lk_pass *pass, int node, void **a, void **b) {
    *a = contribution(pass, node + 1, 0);
    *b = contribution(pass, node + 1, 1);
    return *a ? LK_OK : lk_err(LK_EFAIL, "no gradient has reached %s", pass->plan->net->nodes[node].name);
}

int lk_cuda__begin_backward(struct lk_pass *pass) {
    if (pass->plan->purpose != LK_TRAIN) {
        return lk_err(LK_EINVAL, "this pass was not planned for training");
    }
    memset(pass->n_gradients, 0, ((size_t)pass->plan->n_nodes + 1) * sizeof *pass->n_gradients);
    return LK_OK;
}

int lk_cuda__bn_backward_reduce(struct lk_pass *pass, int node) {
    const struct lk_plan *p = lk_cuda__enter(pass);
    struct lk_rows rows = lk_cuda__rows(p, node);
    void *a, *b;
    int code = received(pass, node, &a, &b);
    if (code || p->nodes[node].reduced_by) { /* then the data gradient has left the sums */
        return code;
    }
    return lk_cuda_norm_backward_reduce(p->b->stream, &rows, a, a, b,
                                        p->net->nodes[node].relu ? pass->edges[node + 1] : NULL, pass->raw[node],
                                        pass->saved[node], pass->sums[node], p->scratch);
}

int lk_cuda__bn_backward_finalize(struct lk_pass *pass, int node, float *grads) {
    const struct lk_plan *p = lk_cuda__enter(pass);
    const struct lk_node *n = &p->net->nodes[node];
    struct lk_rows rows = lk_cuda__rows(p, node);
    return lk_cuda_norm_backward_finalize(p->b->stream, pass->sums[node], p->nodes[node].reduced_by != 0, rows.rows,
                                          rows.channels, n->out_c, p->nodes[node].scale, pass->saved[node],
                                          grads + n->gamma, grads + n->beta);
}

int lk_cuda__bn_backward_apply(struct lk_pass *pass, int node) {
    const struct lk_plan *p = lk_cuda__enter(pass);
    const struct lk_node *n = &p->net->nodes[node];
    struct lk_rows rows = lk_cuda__rows(p, node);
    void *g = contribution(pass, node + 1, 0);
    int code = lk_cuda_norm_backward_apply(p->b->stream, &rows, pass->raw[node], g, pass->raw[node], pass->saved[node]);
    return code || n->residual < 0 ? code : lk_cuda__contribute(pass, n->residual, g);
}

int lk_cuda__activate_backward_node(struct lk_pass *pass, int node, float *grads) {
    const struct lk_plan *p = lk_cuda__enter(pass);
    const struct lk_node *n = &p->net->nodes[node];
    struct lk_rows rows = lk_cuda__rows(p, node);
    size_t bytes = rows.rows * (size_t)rows.channels * p->element;
    void *a, *b, *g = pass->raw[node];
    int code = received(pass, node, &a, &b);
    if (code) {
        return code;
    }
    (void)((code = lk_cuda_activate_backward(p->b->stream, &rows, g, a, b, n->relu ? pass->edges[node + 1] : NULL)) ||
           (n->bias &&
            (code = lk_cuda_bias_backward(p->b->stream, &rows, g, n->out_c, grads + n->beta, p->sums, p->scratch))));
    if (!code && n->residual >= 0) {
        (void)((code = lk_cuda__error(cudaMemcpyAsync(a, g, bytes, cudaMemcpyDeviceToDevice, p->b->stream),
                                      "gradient")) ||
               (code = lk_cuda__contribute(pass, n->residual, a)));
    }
    return code;
}

int lk_cuda__conv_backward_weights(struct lk_pass *pass, int node, float *grads) {
    const struct lk_plan *p = lk_cuda__enter(pass);
    const struct lk_node *n = &p->net->nodes[node];
    const struct lk_node_plan *np = &p->nodes[node];
    void *pointers[3] = {pass->edges[n->input], p->filter_gradient, pass->raw[node]};
    int code = lk_graph_run(np->backward_weights, pointers, p->workspace);
    if (code) {
        return code;
    }
    return lk_cuda_weights_add(p->b->stream, p->t, grads + n->weight, p->filter_gradient, n->out_c, n->in_c, np->in_pad,
                               n->kind == LK_NODE_LINEAR ? 1 : n->kernel);
}

int lk_cuda__conv_backward_data(struct lk_pass *pass, int node) {
    const struct lk_plan *p = lk_cuda__enter(pass);
    const struct lk_node *n = &p->net->nodes[node];
    const struct lk_node_plan *np = &p->nodes[node];
    void *pointers[9] = {pass->masked[node], np->weights, pass->raw[node]};
    if (np->gradient != LK_CUDA_BARE) {
        int before = n->input - 1;
        float *sums = (float *)(void *)pass->sums[before];
        pointers[3] = pass->edges[n->input];
        pointers[4] = pass->raw[before];
        pointers[5] = pass->saved[before] + (size_t)LK_SAVED_MEAN * (size_t)np->in_pad;
        pointers[6] = sums;
        pointers[7] = sums + np->in_pad;
        pointers[8] = contribution(pass, n->input, 0);
        pass->n_gradients[n->input] = 0; /* it goes into the sum */
    }
    int code = lk_graph_run(np->backward_data, pointers, p->workspace);
    return code ? code : lk_cuda__contribute(pass, n->input, pass->masked[node]);
}

int lk_cuda__pool_backward(struct lk_pass *pass, int node) {
    const struct lk_plan *p = lk_cuda__enter(pass);
    const struct lk_node *n = &p->net->nodes[node];
    int c = lk_cuda__pad(n->out_c);
    void *a, *b;
    int code;
    if (!n->input) {
        return LK_OK; /* nobody asks for the picture's gradient */
    }
    if ((code = received(pass, node, &a, &b))) {
        return code;
    }
    if (n->kind == LK_NODE_MAX_POOL) {
        code = lk_cuda_max_pool_backward(p->b->stream, p->t, pass->masked[node], a, b, pass->pool_index[node], p->batch,
                                         n->in_h, n->in_w, c, n->out_h, n->out_w);
    } else {
        code = lk_cuda_avg_pool_backward(p->b->stream, p->t, pass->masked[node], a, b, p->batch, n->in_h * n->in_w, c);
    }
    return code ? code : lk_cuda__contribute(pass, n->input, pass->masked[node]);
}

/* Two passes of one plan for `purpose`, ending in vectors of `dim`. */
static int check_pair(const struct lk_pass *a, const struct lk_pass *b, enum lk_purpose purpose, int dim,
                      const char *who) {
    const struct lk_node *last = &a->plan->net->nodes[a->plan->n_nodes - 1];
    if (a == b || a->plan != b->plan || a->plan->purpose != purpose || last->out_h * last->out_w != 1 ||
        last->out_c != dim) {
        return lk_err(LK_EINVAL, "the %s's two passes are not two of one plan that ends in %d values", who, dim);
    }
    return LK_OK;
}

int lk_cuda__byol_loss(struct lk_pass *student1, struct lk_pass *student2, struct lk_pass *teacher1,
                       struct lk_pass *teacher2, float scale, int slot) {
    const struct lk_plan *s = lk_cuda__enter(student1), *t = teacher1->plan;
    struct lk_backend *b = s->b;
    int dim = s->net->nodes[s->n_nodes - 1].out_c, code;
    void *d1 = student1->masked[s->n_nodes], *d2 = student2->masked[s->n_nodes];
    const struct lk_step step = {.slot = slot};
    struct lk_cuda_values v;
    if ((code = check_pair(student1, student2, LK_TRAIN, dim, "student")) ||
        (code = check_pair(teacher1, teacher2, LK_FORWARD, dim, "teacher"))) {
        return code;
    }
    if (slot < 0 || slot >= LK_LOSS_RING || t->batch != s->batch || t->precision != s->precision) {
        return lk_err(LK_EINVAL, "BYOL loss: slot %d, batches %d and %d, %s and %s", slot, s->batch, t->batch,
                      lk_precision_name(s->precision), lk_precision_name(t->precision));
    }
    (void)((code = lk_cuda__begin_backward(student1)) || (code = lk_cuda__begin_backward(student2)) ||
           (code = lk_cuda__values(b, &step, NULL, 0, lk_cuda_byol_scratch(s->batch, dim), &v)) ||
           (code = lk_cuda_byol_loss(b->stream, s->t, student1->edges[s->n_nodes], student2->edges[s->n_nodes],
                                     teacher1->edges[t->n_nodes], teacher2->edges[t->n_nodes], d1, d2, s->batch, dim,
                                     lk_cuda__pad(dim), scale, b->losses, v.step, v.scratch)) ||
           (code = lk_cuda__contribute(student1, s->n_nodes, d1)) ||
           (code = lk_cuda__contribute(student2, s->n_nodes, d2)));
    if (code) {
        return code;
    }
    if (b->recording) {
        lk_cuda__record_loss(b);
        return LK_OK;
    }
    return lk_cuda__fetch_loss(b, slot);
}
