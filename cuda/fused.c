/* Fused graphs of training in bf16: sums in the epilogue of a convolution instead of a pass of our own over what it wrote.
 * They are offers of plan.c's, and each is taken where it is faster on the device than the plain graph and our pass. */
#include "base/err.h"
#include "bodies.h"
#include "cuda_internal.h"

/* The last of at most two gradients that reach an edge, if the edge is the output of a norm and a ReLU. A strided one with
 * sums does not compile in cuDNN 9.19. */
enum lk_cuda_epilogue lk_cuda__gradient_offer(const struct lk_net *net, int n_nodes, int node) {
    const struct lk_node *n = &net->nodes[node];
    int readers = 0;
    if (!lk_node_has_weights(n) || !n->input || !net->nodes[n->input - 1].bn || !net->nodes[n->input - 1].relu ||
        (n->kind == LK_NODE_CONV && n->stride != 1)) {
        return LK_CUDA_BARE;
    }
    for (int i = 0; i < n_nodes; i++) {
        int reads = (net->nodes[i].input == n->input) + (net->nodes[i].residual == n->input);
        if (reads && i < node) {
            return LK_CUDA_BARE; /* that one's comes later */
        }
        readers += reads;
    }
    return readers == 1 ? LK_CUDA_REDUCED : readers == 2 ? LK_CUDA_ADDED_REDUCED : LK_CUDA_BARE;
}

/* The passes that are saved, over memory of the same sizes. */
struct own_pass {
    const struct lk_plan *p;
    int node;
    void *edges[3]; /* z, y, the other gradient */
    float *saved;
};

static int run_stats(void *arg, void *const *tensors) {
    const struct own_pass *own = arg;
    struct lk_rows rows = lk_cuda__rows(own->p, own->node);
    return lk_cuda_norm_stats(own->p->b->stream, &rows, tensors[2], own->p->sums, own->p->scratch);
}

static int run_reduce(void *arg, void *const *tensors) {
    const struct own_pass *own = arg;
    const struct lk_plan *p = own->p;
    struct lk_rows rows = lk_cuda__rows(p, p->net->nodes[own->node].input - 1);
    return lk_cuda_norm_backward_reduce(p->b->stream, &rows, tensors[0], tensors[0],
                                        p->nodes[own->node].gradient == LK_CUDA_ADDED_REDUCED ? own->edges[2] : NULL,
                                        own->edges[0], own->edges[1], own->saved, p->sums, p->scratch);
}

static int take(void **out, size_t bytes, cudaStream_t stream) {
    int code = lk_cuda__error(cudaMalloc(out, bytes), "memory to time with");
    return code ? code : lk_cuda__error(cudaMemsetAsync(*out, 0, bytes, stream), "memory to time with");
}

static int take_memory(struct own_pass *own) {
    const struct lk_plan *p = own->p;
    struct lk_rows rows = lk_cuda__rows(p, p->net->nodes[own->node].input - 1);
    size_t channels = (size_t)rows.channels;
    void *saved = NULL;
    int code = take(&saved, LK_SAVED_COUNT * channels * sizeof(float), p->b->stream);
    own->saved = saved;
    for (int i = 0; i < 3 && !code; i++) {
        code = take(&own->edges[i], rows.rows * channels * p->element, p->b->stream);
    }
    return code;
}

static void give_memory(struct own_pass *own) {
    cudaFree(own->saved);
    for (int i = 0; i < 3; i++) {
        cudaFree(own->edges[i]);
    }
}

/* 1: the offer has taken the plain graph's place; 0: it is freed. */
static int take_faster(struct lk_graph_plan **plain, struct lk_graph_plan **offer,
                       int (*rest)(void *arg, void *const *tensors), struct own_pass *own) {
    int faster = lk_graph_faster(*offer, *plain, rest, own);
    lk_graph_plan_free(faster ? *plain : *offer);
    *plain = faster ? *offer : *plain;
    *offer = NULL;
    return faster;
}

void lk_cuda__choose_fused(struct lk_plan *p) {
    for (int i = 0; i < p->n_nodes; i++) {
        struct lk_node_plan *np = &p->nodes[i];
        struct own_pass own = {.p = p, .node = i};
        if (np->with_stats && take_faster(&np->forward, &np->with_stats, run_stats, &own)) {
            np->epilogue = LK_CUDA_STATS;
        }
        if (np->reduced && take_memory(&own) == LK_OK &&
            take_faster(&np->backward_data, &np->reduced, run_reduce, &own)) {
            p->nodes[p->net->nodes[i].input - 1].reduced_by = i;
        } else {
            np->gradient = LK_CUDA_BARE;
        }
        give_memory(&own);
        lk_graph_plan_free(np->reduced); /* where there was no memory to time it */
        np->reduced = NULL;
    }
}
