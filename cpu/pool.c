/* Pooling, plane by plane of a block of channels. Maxima remember where they came from; averages are summed in double,
 * and the pooled row is float in every precision. */
#include "cpu.h"

struct planes {
    size_t count;               /* pictures times blocks of channels */
    size_t blocks;              /* blocks of channels a picture */
    size_t block;               /* channels a block */
    size_t stride;              /* elements from pixel to pixel: the block, or all channels where pixels are whole */
    size_t in, out;             /* elements a plane, block included */
    size_t in_bytes, out_bytes; /* a plane */
    int bf16;                   /* what is read; a maximum is written likewise */
};

static struct planes planes_of(const struct lk_plan *plan, int node) {
    const struct lk_cpu_edge *in = &plan->edges[plan->nodes[node].node->input], *out = &plan->edges[node + 1];
    const size_t block = (size_t)plan->b->kernels->block;
    struct planes s = {.blocks = (size_t)in->padded / block,
                       .block = block,
                       .stride = plan->layout == LK_NHWC ? (size_t)in->padded : block,
                       .in = (size_t)in->h * (size_t)in->w * block,
                       .out = (size_t)out->h * (size_t)out->w * block,
                       .bf16 = in->dt == LK_DT_BF16};
    s.count = (size_t)plan->batch * s.blocks;
    s.in_bytes = s.in * lk_cpu__dt_bytes(in->dt);
    s.out_bytes = s.out * lk_cpu__dt_bytes(out->dt);
    return s;
}

/* Bytes to the first element of plane i, of `bytes` each. */
static size_t plane_at(const struct planes *s, size_t i, size_t bytes, enum lk_dt dt) {
    return s->stride == s->block ? i * bytes
                                 : i / s->blocks * s->blocks * bytes + i % s->blocks * s->block * lk_cpu__dt_bytes(dt);
}

static void maximum(struct lk_pass *pass, int node) {
    const struct lk_plan *plan = pass->plan;
    const struct lk_node *n = plan->nodes[node].node;
    const struct planes s = planes_of(plan, node);
    const struct lk_pool_shape shape = {n->in_h, n->in_w, n->out_h, n->out_w, s.stride};
    const enum lk_dt dt = plan->edges[node + 1].dt;
    const char *x = lk_cpu__edge(pass, n->input);
    char *z = lk_cpu__edge(pass, node + 1);
    uint8_t *which = pass->nodes[node].which;
#pragma omp parallel for num_threads(plan->b->dnnl.threads) schedule(static)
    for (size_t i = 0; i < s.count; i++) {
        plan->b->kernels->max_pool(z + plane_at(&s, i, s.out_bytes, dt), which ? which + i * s.out : NULL,
                                   x + plane_at(&s, i, s.in_bytes, dt), s.bf16, &shape);
    }
}

static void maximum_backward(struct lk_pass *pass, int node) {
    const struct lk_plan *plan = pass->plan;
    const struct lk_node *n = plan->nodes[node].node;
    const struct planes s = planes_of(plan, node);
    const struct lk_pool_shape shape = {n->in_h, n->in_w, n->out_h, n->out_w, s.stride};
    const struct lk_cpu_edge *out = &plan->edges[node + 1];
    const char *first = pass->gradient[out->gradient[0]];
    const char *second = out->gradients == 2 ? pass->gradient[out->gradient[1]] : NULL;
    char *dx = pass->gradient[plan->nodes[node].dx_slot];
    const uint8_t *which = pass->nodes[node].which;
#pragma omp parallel for num_threads(plan->b->dnnl.threads) schedule(static)
    for (size_t i = 0; i < s.count; i++) {
        plan->b->kernels->max_pool_back(dx + i * s.in_bytes, first + i * s.out_bytes,
                                        second ? second + i * s.out_bytes : NULL, which + i * s.out, s.bf16, &shape);
    }
}

/* The rows of [N][C] are the planes' blocks in their order. */
static void average(struct lk_pass *pass, int node) {
    const struct lk_plan *plan = pass->plan;
    const struct lk_kernels *kernels = plan->b->kernels;
    const struct planes s = planes_of(plan, node);
    const enum lk_dt dt = plan->edges[plan->nodes[node].node->input].dt;
    const char *x = lk_cpu__edge(pass, plan->nodes[node].node->input);
    float *rows = lk_cpu__edge(pass, node + 1);
#pragma omp parallel for num_threads(plan->b->dnnl.threads) schedule(static)
    for (size_t i = 0; i < s.count; i++) {
        kernels->mean(rows + i * s.block, x + plane_at(&s, i, s.in_bytes, dt), s.bf16, s.in / s.block, s.stride);
    }
}

static void average_backward(struct lk_pass *pass, int node) {
    const struct lk_plan *plan = pass->plan;
    const struct lk_kernels *kernels = plan->b->kernels;
    const struct planes s = planes_of(plan, node);
    const size_t block = (size_t)kernels->block;
    const size_t pixels = s.in / block;
    const float share = 1.0f / (float)pixels;
    char *dx = pass->gradient[plan->nodes[node].dx_slot];
    float *g = pass->gradient[plan->edges[node + 1].gradient[0]]; /* not read again */
#pragma omp parallel for num_threads(plan->b->dnnl.threads) schedule(static)
    for (size_t i = 0; i < s.count; i++) {
        float *row = g + i * block;
        for (size_t c = 0; c < block; c++) {
            row[c] *= share;
        }
        kernels->spread(dx + i * s.in_bytes, s.bf16, pixels, block, row);
    }
}

int lk_cpu__pool(struct lk_pass *pass, int node) {
    if (pass->plan->nodes[node].node->kind == LK_NODE_MAX_POOL) {
        maximum(pass, node);
    } else {
        average(pass, node);
    }
    return 0;
}

int lk_cpu__pool_backward(struct lk_pass *pass, int node) {
    const struct lk_cpu_node *k = &pass->plan->nodes[node];
    if (k->dx_slot < 0) {
        return 0; /* it reads the picture */
    }
    if (k->node->kind == LK_NODE_MAX_POOL) {
        maximum_backward(pass, node);
    } else {
        lk_cpu__join_gradient(pass, node + 1);
        average_backward(pass, node);
    }
    return 0;
}
