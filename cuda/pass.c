/* Passes: the memory of one view's forward, and the forward entries. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "bodies.h"
#include "cuda_internal.h"

const struct lk_plan *lk_cuda__enter(const struct lk_pass *pass) {
    lk_cuda__use(pass->plan->b);
    return pass->plan;
}

struct lk_rows lk_cuda__rows(const struct lk_plan *p, int node) {
    const struct lk_node *n = &p->net->nodes[node];
    struct lk_rows r = {p->t, (size_t)p->batch * (size_t)n->out_h * (size_t)n->out_w, lk_cuda__pad(n->out_c)};
    return r;
}

static size_t edge_bytes(const struct lk_plan *p, int edge) {
    const struct lk_node *n = &p->net->nodes[edge ? edge - 1 : 0];
    size_t pixels = edge ? (size_t)n->out_h * (size_t)n->out_w : (size_t)n->in_h * (size_t)n->in_w;
    return (size_t)p->batch * pixels * (size_t)lk_cuda__pad(edge ? n->out_c : n->in_c) * p->element;
}

static int take(struct lk_pass *pass, size_t bytes, void *out) {
    void *memory = NULL;
    int code;
    if (pass->n_owned == pass->owned_capacity) {
        size_t capacity = pass->owned_capacity ? 2 * pass->owned_capacity : 64;
        void **grown = realloc(pass->owned, capacity * sizeof *grown);
        if (!grown) {
            return lk_err(LK_ENOMEM, "no memory for a pass");
        }
        pass->owned = grown;
        pass->owned_capacity = capacity;
    }
    if ((code = lk_cuda__error(cudaMalloc(&memory, bytes), "activations")) ||
        (code = lk_cuda__error(cudaMemsetAsync(memory, 0, bytes, pass->plan->b->stream), "activations"))) {
        cudaFree(memory);
        return code;
    }
    pass->owned[pass->n_owned++] = memory;
    memcpy(out, &memory, sizeof memory);
    return LK_OK;
}

/* Number of the last node that reads an edge; the last node's own edge is read by output(). */
static int last_use(const struct lk_plan *p, int edge) {
    int last = edge == p->n_nodes ? p->n_nodes : edge - 1;
    for (int i = 0; i < p->n_nodes; i++) {
        const struct lk_node *n = &p->net->nodes[i];
        last = n->input == edge || n->residual == edge ? i : last;
    }
    return edge == p->net->backbone_nodes ? p->n_nodes : last; /* features stay readable */
}

/* Nothing is kept for backward: an edge's memory is used again when its last reader has run. */
static int share_edges(struct lk_pass *pass) {
    const struct lk_plan *p = pass->plan;
    size_t largest = 0;
    int *free_from = lk_calloc((size_t)p->n_nodes + 1, sizeof *free_from); /* by buffer: first node that may take it */
    void **buffers = lk_calloc((size_t)p->n_nodes + 1, sizeof *buffers);
    int n_buffers = 0, code = free_from && buffers ? LK_OK : LK_ENOMEM;
    for (int e = 0; e <= p->n_nodes; e++) {
        largest = edge_bytes(p, e) > largest ? edge_bytes(p, e) : largest;
    }
    for (int e = 0; !code && e <= p->n_nodes; e++) {
        int chosen = 0;
        while (chosen < n_buffers && free_from[chosen] > e - 1) {
            chosen++;
        }
        if (chosen == n_buffers && !(code = take(pass, largest, &buffers[chosen]))) {
            n_buffers++;
        }
        if (!code) {
            pass->edges[e] = buffers[chosen];
            free_from[chosen] = last_use(p, e) + 1;
        }
    }
    free(free_from);
    free(buffers);
    return code;
}

static int allocate_node(struct lk_pass *pass, int i) {
    const struct lk_plan *p = pass->plan;
    const struct lk_node *n = &p->net->nodes[i];
    size_t channels = (size_t)lk_cuda__pad(n->out_c);
    int code = LK_OK;
    if (p->purpose == LK_TRAIN) {
        code = take(pass, edge_bytes(p, i + 1), &pass->edges[i + 1]);
        if (!code && lk_node_has_weights(n)) {
            code = take(pass, edge_bytes(p, i + 1), &pass->raw[i]);
        }
        if (!code && n->input) {
            code = take(pass, edge_bytes(p, n->input), &pass->masked[i]);
        }
    }
    if (!code && !pass->raw[i]) {
        pass->raw[i] = pass->edges[i + 1]; /* the epilogue runs in place */
    }
    if (!code && n->kind == LK_NODE_MAX_POOL && p->purpose == LK_TRAIN) {
        code = take(pass, edge_bytes(p, i + 1) / p->element, &pass->pool_index[i]);
    }
    if (!code && n->bn && p->purpose != LK_INFERENCE) {
        (void)((code = take(pass, LK_SAVED_COUNT * channels * sizeof(float), &pass->saved[i])) ||
               (code = take(pass, 2 * channels * sizeof(double), &pass->sums[i])));
    }
    return code;
}

int lk_cuda__pass(struct lk_plan *p, struct lk_pass **out) {
    struct lk_pass *pass = lk_calloc(1, sizeof *pass);
    size_t n = (size_t)p->n_nodes + 1;
    int code = LK_OK;
    *out = NULL;
    if (!pass) {
        return LK_ENOMEM;
    }
    lk_cuda__use(p->b);
    pass->plan = p;
    if (!(pass->edges = lk_calloc(n, sizeof *pass->edges)) || !(pass->raw = lk_calloc(n, sizeof *pass->raw)) ||
        !(pass->saved = lk_calloc(n, sizeof *pass->saved)) || !(pass->sums = lk_calloc(n, sizeof *pass->sums)) ||
        !(pass->pool_index = lk_calloc(n, sizeof *pass->pool_index)) ||
        !(pass->gradients[0] = lk_calloc(n, sizeof(void *))) || !(pass->gradients[1] = lk_calloc(n, sizeof(void *))) ||
        !(pass->n_gradients = lk_calloc(n, sizeof *pass->n_gradients)) ||
        !(pass->masked = lk_calloc(n + 1, sizeof *pass->masked))) {
        code = LK_ENOMEM;
        goto fail;
    }
    if (p->purpose == LK_TRAIN) {
        (void)((code = take(pass, edge_bytes(p, 0), &pass->edges[0])) ||
               (code = take(pass, edge_bytes(p, p->n_nodes), &pass->masked[p->n_nodes]))); /* the output's gradient */
    } else {
        code = share_edges(pass);
    }
    for (int i = 0; !code && i < p->n_nodes; i++) {
        code = allocate_node(pass, i);
    }
    if (code) {
        goto fail;
    }
    *out = pass;
    return LK_OK;
fail:
    lk_cuda__pass_free(pass);
    return code;
}

void lk_cuda__pass_free(struct lk_pass *pass) {
    if (!pass) {
        return;
    }
    lk_cuda__use(pass->plan->b);
    cudaStreamSynchronize(pass->plan->b->stream);
    while (pass->n_owned) {
        cudaFree(pass->owned[--pass->n_owned]);
    }
    lk_cuda__embed_free(pass->embed);
    free(pass->owned);
    free(pass->edges);
    free(pass->raw);
    free(pass->saved);
    free(pass->sums);
    free(pass->pool_index);
    free(pass->gradients[0]);
    free(pass->gradients[1]);
    free(pass->n_gradients);
    free(pass->masked);
    free(pass);
}

/* --------------------------------------------------------------------------------------- forward */

int lk_cuda__conv(struct lk_pass *pass, int node) {
    const struct lk_plan *p = lk_cuda__enter(pass);
    const struct lk_node *n = &p->net->nodes[node];
    const struct lk_node_plan *np = &p->nodes[node];
    void *residual = n->residual >= 0 ? pass->edges[n->residual] : NULL;
    void *pointers[8] = {pass->edges[n->input], np->weights, pass->raw[node], np->shift, residual};
    if (np->epilogue == LK_CUDA_STATS) {
        float *sums = (float *)(void *)pass->sums[node];
        pointers[3] = sums;
        pointers[4] = sums + np->out_pad;
    }
    int code = lk_graph_run(np->forward, pointers, p->workspace);
    if (!code && p->purpose == LK_INFERENCE && np->epilogue == LK_CUDA_BARE) {
        struct lk_rows rows = lk_cuda__rows(p, node);
        code = lk_cuda_activate(p->b->stream, &rows, pass->edges[node + 1], pass->raw[node], np->shift, residual,
                                n->relu);
    }
    return code;
}

int lk_cuda__bn_stats(struct lk_pass *pass, int node) {
    const struct lk_plan *p = lk_cuda__enter(pass);
    struct lk_rows rows = lk_cuda__rows(p, node);
    if (p->nodes[node].epilogue == LK_CUDA_STATS) {
        return LK_OK; /* the convolution left them */
    }
    return lk_cuda_norm_stats(p->b->stream, &rows, pass->raw[node], pass->sums[node], p->scratch);
}

int lk_cuda__bn_finalize(struct lk_pass *pass, int node, float *running_stats) {
    const struct lk_plan *p = lk_cuda__enter(pass);
    const struct lk_node *n = &p->net->nodes[node];
    struct lk_rows rows = lk_cuda__rows(p, node);
    return lk_cuda_norm_finalize(p->b->stream, pass->sums[node], p->nodes[node].epilogue == LK_CUDA_STATS, rows.rows,
                                 rows.channels, n->out_c, p->nodes[node].scale, pass->saved[node],
                                 running_stats ? running_stats + n->mean : NULL,
                                 running_stats ? running_stats + n->var : NULL);
}

int lk_cuda__bn_apply(struct lk_pass *pass, int node) {
    const struct lk_plan *p = lk_cuda__enter(pass);
    const struct lk_node *n = &p->net->nodes[node];
    struct lk_rows rows = lk_cuda__rows(p, node);
    return lk_cuda_norm_apply(p->b->stream, &rows, pass->edges[node + 1], pass->raw[node], pass->saved[node],
                              p->nodes[node].shift, n->residual >= 0 ? pass->edges[n->residual] : NULL, n->relu);
}

int lk_cuda__activate_node(struct lk_pass *pass, int node) {
    const struct lk_plan *p = lk_cuda__enter(pass);
    const struct lk_node *n = &p->net->nodes[node];
    const struct lk_node_plan *np = &p->nodes[node];
    struct lk_rows rows = lk_cuda__rows(p, node);
    return lk_cuda_activate(p->b->stream, &rows, pass->edges[node + 1], pass->raw[node],
                            np->epilogue == LK_CUDA_BARE ? np->shift : NULL,
                            n->residual >= 0 ? pass->edges[n->residual] : NULL, n->relu);
}

int lk_cuda__pool(struct lk_pass *pass, int node) {
    const struct lk_plan *p = lk_cuda__enter(pass);
    const struct lk_node *n = &p->net->nodes[node];
    int c = lk_cuda__pad(n->out_c);
    if (n->kind == LK_NODE_MAX_POOL) {
        return lk_cuda_max_pool(p->b->stream, p->t, pass->edges[node + 1], pass->pool_index[node],
                                pass->edges[n->input], p->batch, n->in_h, n->in_w, c, n->out_h, n->out_w);
    }
    return lk_cuda_avg_pool(p->b->stream, p->t, pass->edges[node + 1], pass->edges[n->input], p->batch,
                            n->in_h * n->in_w, c);
}
