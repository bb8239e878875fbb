/* Max pooling is oneDNN's; the global average and its gradient are ours: sums are double, and
 * the pooled row is float in every precision. */
#include "cpu.h"

struct blocks {
    size_t block, blocks, hw, stride;
    int nhwc;
};

static struct blocks blocks_of(const struct lk_plan *plan, const struct lk_cpu_edge *e) {
    struct blocks s = {
        .block = (size_t)plan->b->kernels->block, .hw = (size_t)e->h * (size_t)e->w, .nhwc = plan->layout == LK_NHWC};
    s.blocks = (size_t)e->c / s.block;
    s.stride = s.nhwc ? (size_t)e->c : s.block;
    return s;
}

/* Element at which block b of picture i begins. */
static size_t begin(const struct blocks *s, size_t i, size_t b) {
    return s->nhwc ? i * s->hw * s->stride + b * s->block : (i * s->blocks + b) * s->hw * s->block;
}

static void average(struct lk_pass *pass, int node) {
    const struct lk_plan *plan = pass->plan;
    const struct lk_kernels *kernels = plan->b->kernels;
    const struct lk_cpu_edge *in = &plan->edges[plan->nodes[node].node->input], *out = &plan->edges[node + 1];
    const struct blocks s = blocks_of(plan, in);
    const char *x = lk_cpu__edge(pass, plan->nodes[node].node->input);
    float *rows = lk_cpu__edge(pass, node + 1);
    const size_t c = (size_t)out->c, size = lk_cpu__dt_bytes(in->dt), n = (size_t)plan->batch * s.blocks;
#pragma omp parallel for num_threads(plan->b->dnnl.threads) schedule(static)
    for (size_t j = 0; j < n; j++) {
        size_t i = j / s.blocks, b = j % s.blocks;
        kernels->mean(rows + i * c + b * s.block, x + begin(&s, i, b) * size, in->dt == LK_DT_BF16, s.hw, s.stride);
    }
}

static void average_backward(struct lk_pass *pass, int node) {
    const struct lk_plan *plan = pass->plan;
    const struct lk_kernels *kernels = plan->b->kernels;
    const struct lk_cpu_node *k = &plan->nodes[node];
    const struct lk_cpu_edge *in = &plan->edges[k->node->input], *out = &plan->edges[node + 1];
    const struct blocks s = blocks_of(plan, in);
    char *dx = pass->gradient[k->dx_slot];
    float *g = pass->gradient[out->gradient[0]]; /* not read again */
    const size_t c = (size_t)out->c, size = lk_cpu__dt_bytes(in->dt), n = (size_t)plan->batch * s.blocks;
    const float share = 1.0f / (float)s.hw;
#pragma omp parallel for num_threads(plan->b->dnnl.threads) schedule(static)
    for (size_t j = 0; j < n; j++) {
        size_t i = j / s.blocks, b = j % s.blocks;
        float *row = g + i * c + b * s.block;
        for (size_t q = 0; q < s.block; q++) {
            row[q] *= share;
        }
        kernels->spread(dx + begin(&s, i, b) * size, in->dt == LK_DT_BF16, s.hw, s.stride, row);
    }
}

int lk_cpu__pool(struct lk_pass *pass, int node) {
    if (pass->plan->nodes[node].node->kind == LK_NODE_MAX_POOL) {
        return lk_dnnl__run(&pass->plan->b->dnnl, &pass->nodes[node].forward);
    }
    average(pass, node);
    return 0;
}

int lk_cpu__pool_backward(struct lk_pass *pass, int node) {
    const struct lk_cpu_node *k = &pass->plan->nodes[node];
    if (k->dx_slot < 0) {
        return 0; /* it reads the picture */
    }
    lk_cpu__join_gradient(pass, node + 1);
    if (k->node->kind == LK_NODE_MAX_POOL) {
        return lk_dnnl__run(&pass->plan->b->dnnl, &pass->nodes[node].backward_data);
    }
    average_backward(pass, node);
    return 0;
}
