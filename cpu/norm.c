/* Batch norm (Ioffe & Szegedy 2015, arXiv 1502.03167) and the activations without one, on the blocked layout.
 *
 * A batch is cut into items of at least 64 rows (pictures, or groups of pictures where these are small), by a rule that
 * looks at the shape alone; each item's sums are kept and added up in the items' order. So the result does not depend
 * on the number of threads. Sums are taken of y minus one sample of its channel and shifted back in double, so that a
 * mean far from zero costs no precision. */
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "cpu.h"

#define ITEM_ROWS 64

struct shape {
    size_t block, blocks, padded; /* channels a block, blocks, channels with padding */
    size_t hw, batch;
    size_t items, images; /* items, and pictures an item */
    int flat;
};

static struct shape shape_of(const struct lk_plan *plan, int edge) {
    const struct lk_cpu_edge *e = &plan->edges[edge];
    struct shape s = {.block = (size_t)plan->b->kernels->block, .batch = (size_t)plan->batch, .flat = e->flat};
    s.blocks = (size_t)e->padded / s.block;
    s.padded = s.blocks * s.block;
    s.hw = (size_t)e->h * (size_t)e->w;
    s.images = s.hw >= ITEM_ROWS ? 1 : ITEM_ROWS / s.hw;
    s.items = (s.batch + s.images - 1) / s.images;
    return s;
}

/* A kernel's view of part of an item: `rows` rows from element `offset`. */
struct view {
    size_t offset, rows, stride;
};

/* Views of item i in block b: one for a flat tensor, one a picture otherwise. */
static size_t views_of(const struct shape *s, size_t item) {
    size_t from = item * s->images, images = s->batch - from < s->images ? s->batch - from : s->images;
    return s->flat ? 1 : images;
}

static struct view view_of(const struct shape *s, size_t item, size_t b, size_t v) {
    size_t image = item * s->images + v;
    if (s->flat) {
        size_t left = s->batch - image;
        return (struct view){image * s->padded + b * s->block, left < s->images ? left : s->images, s->padded};
    }
    return (struct view){(image * s->blocks + b) * s->hw * s->block, s->hw, s->block};
}

size_t lk_cpu__norm_partials(const struct lk_plan *plan, int node) {
    struct shape s = shape_of(plan, node + 1);
    return 2 * s.items * s.padded;
}

/* partials [item][block][2][block channels] -> sums [2][padded]. */
static void add_items(const struct lk_plan *plan, const struct shape *s, double *sums) {
    for (size_t b = 0; b < s->blocks; b++) {
        double *to[2] = {sums + b * s->block, sums + s->padded + b * s->block};
        for (size_t c = 0; c < s->block; c++) {
            to[0][c] = to[1][c] = 0.0;
        }
        for (size_t item = 0; item < s->items; item++) {
            const double *from = plan->partials + (item * s->blocks + b) * 2 * s->block;
            for (size_t c = 0; c < s->block; c++) {
                to[0][c] += from[c];
                to[1][c] += from[s->block + c];
            }
        }
    }
}

static const void *element(const void *p, size_t i, enum lk_dt dt) {
    return (const char *)p + i * lk_cpu__dt_bytes(dt);
}

static void *element_out(void *p, size_t i, enum lk_dt dt) { return (char *)p + i * lk_cpu__dt_bytes(dt); }

int lk_cpu__bn_stats(struct lk_pass *pass, int node) {
    const struct lk_plan *plan = pass->plan;
    const struct lk_kernels *kernels = plan->b->kernels;
    struct lk_cpu_node_pass *k = &pass->nodes[node];
    const struct shape s = shape_of(plan, node + 1);
    const enum lk_dt dt = plan->edges[node + 1].dt;
    const int bf16 = dt == LK_DT_BF16;
    const void *y = lk_cpu__y(pass, node);
    for (size_t b = 0; b < s.blocks; b++) { /* the first row is the sample */
        kernels->mean(k->c + b * s.block, element(y, view_of(&s, 0, b, 0).offset, dt), bf16, 1, s.block);
    }
    const size_t n = s.items * s.blocks;
#pragma omp parallel for num_threads(plan->b->dnnl.threads) schedule(static)
    for (size_t i = 0; i < n; i++) {
        size_t item = i / s.blocks, b = i % s.blocks;
        double *acc = plan->partials + i * 2 * s.block;
        memset(acc, 0, 2 * s.block * sizeof *acc);
        for (size_t v = 0; v < views_of(&s, item); v++) {
            struct view w = view_of(&s, item, b, v);
            kernels->stats(acc, element(y, w.offset, dt), bf16, w.rows, w.stride, k->c + b * s.block);
        }
    }
    add_items(plan, &s, k->sums);
    const double count = (double)(s.batch * s.hw);
    for (size_t c = 0; c < s.padded; c++) {
        double shift = (double)k->c[c], sum = k->sums[c];
        k->sums[c] = sum + count * shift;
        k->sums[s.padded + c] += 2.0 * shift * sum + count * shift * shift;
    }
    return 0;
}

int lk_cpu__bn_finalize(struct lk_pass *pass, int node, float *running_stats) {
    const struct lk_plan *plan = pass->plan;
    const struct lk_cpu_node *p = &plan->nodes[node];
    const struct lk_node *n = p->node;
    struct lk_cpu_node_pass *k = &pass->nodes[node];
    const struct shape s = shape_of(plan, node + 1);
    const double count = (double)(s.batch * s.hw), momentum = (double)LK_BN_MOMENTUM;
    for (size_t c = 0; c < s.padded; c++) {
        double mean = k->sums[c] / count, var = k->sums[s.padded + c] / count - mean * mean;
        var = var < 0.0 ? 0.0 : var;
        double inverse = 1.0 / sqrt(var + (double)LK_BN_EPSILON);
        k->mean[c] = (float)mean;
        k->inverse[c] = (float)inverse;
        k->scale[c] = (float)((double)p->gamma[c] * inverse);
        if (running_stats && c < (size_t)n->out_c) {
            float *m = running_stats + n->mean + c, *v = running_stats + n->var + c;
            double unbiased = count > 1.0 ? var * count / (count - 1.0) : var;
            *m = (float)((1.0 - momentum) * (double)*m + momentum * mean);
            *v = (float)((1.0 - momentum) * (double)*v + momentum * unbiased);
        }
    }
    return 0;
}

int lk_cpu__bn_apply(struct lk_pass *pass, int node) {
    const struct lk_plan *plan = pass->plan;
    const struct lk_kernels *kernels = plan->b->kernels;
    const struct lk_cpu_node *p = &plan->nodes[node];
    const struct lk_node *n = p->node;
    const struct lk_cpu_node_pass *k = &pass->nodes[node];
    const struct shape s = shape_of(plan, node + 1);
    const enum lk_dt dt = plan->edges[node + 1].dt;
    const void *y = lk_cpu__y(pass, node);
    const void *residual = n->residual >= 0 ? lk_cpu__edge(pass, n->residual) : NULL;
    void *z = lk_cpu__edge(pass, node + 1);
    const size_t count = s.items * s.blocks;
#pragma omp parallel for num_threads(plan->b->dnnl.threads) schedule(static)
    for (size_t i = 0; i < count; i++) {
        size_t item = i / s.blocks, b = i % s.blocks, c = b * s.block;
        struct lk_norm_vectors vectors = {k->mean + c, k->scale + c, p->beta + c};
        for (size_t v = 0; v < views_of(&s, item); v++) {
            struct view w = view_of(&s, item, b, v);
            kernels->apply(element_out(z, w.offset, dt), element(y, w.offset, dt),
                           residual ? element(residual, w.offset, dt) : NULL, dt == LK_DT_BF16, w.rows, w.stride,
                           &vectors, n->relu);
        }
    }
    return 0;
}

int lk_cpu__activate(struct lk_pass *pass, int node) {
    const struct lk_plan *plan = pass->plan;
    const struct lk_kernels *kernels = plan->b->kernels;
    const struct lk_node *n = plan->nodes[node].node;
    if (!n->relu && n->residual < 0) {
        return 0; /* y is the edge already */
    }
    const struct shape s = shape_of(plan, node + 1);
    const enum lk_dt dt = plan->edges[node + 1].dt;
    const void *y = lk_cpu__y(pass, node);
    const void *residual = n->residual >= 0 ? lk_cpu__edge(pass, n->residual) : NULL;
    void *z = lk_cpu__edge(pass, node + 1);
    const size_t count = s.items * s.blocks;
#pragma omp parallel for num_threads(plan->b->dnnl.threads) schedule(static)
    for (size_t i = 0; i < count; i++) {
        size_t item = i / s.blocks, b = i % s.blocks;
        for (size_t v = 0; v < views_of(&s, item); v++) {
            struct view w = view_of(&s, item, b, v);
            kernels->activate(element_out(z, w.offset, dt), element(y, w.offset, dt),
                              residual ? element(residual, w.offset, dt) : NULL, dt == LK_DT_BF16, w.rows, w.stride,
                              n->relu);
        }
    }
    return 0;
}

/* The gradient that arrived at an edge: its first contribution, where the sum is written, and the second or NULL. */
static void *arrived(struct lk_pass *pass, int edge, const void **second) {
    const struct lk_cpu_edge *e = &pass->plan->edges[edge];
    *second = e->gradients == 2 ? pass->gradient[e->gradient[1]] : NULL;
    return pass->gradient[e->gradient[0]];
}

int lk_cpu__bn_backward_reduce(struct lk_pass *pass, int node) {
    const struct lk_plan *plan = pass->plan;
    const struct lk_kernels *kernels = plan->b->kernels;
    const struct lk_cpu_node *p = &plan->nodes[node];
    const struct lk_cpu_node_pass *k = &pass->nodes[node];
    const struct shape s = shape_of(plan, node + 1);
    const enum lk_dt dt = plan->edges[node + 1].dt;
    const void *y = lk_cpu__y(pass, node), *z = lk_cpu__edge(pass, node + 1), *second;
    void *first = arrived(pass, node + 1, &second);
    const int unchanged = !second && p->mask == LK_MASK_NONE;
    const size_t count = s.items * s.blocks;
#pragma omp parallel for num_threads(plan->b->dnnl.threads) schedule(static)
    for (size_t i = 0; i < count; i++) {
        size_t item = i / s.blocks, b = i % s.blocks, c = b * s.block;
        struct lk_norm_vectors vectors = {k->mean + c, k->scale + c, p->beta + c};
        double *acc = plan->partials + i * 2 * s.block;
        memset(acc, 0, 2 * s.block * sizeof *acc);
        for (size_t v = 0; v < views_of(&s, item); v++) {
            struct view w = view_of(&s, item, b, v);
            void *g = element_out(first, w.offset, dt);
            kernels->reduce(acc, unchanged ? NULL : g, g, second ? element(second, w.offset, dt) : NULL,
                            element(z, w.offset, dt), element(y, w.offset, dt), dt == LK_DT_BF16, w.rows, w.stride,
                            &vectors, p->mask);
        }
    }
    add_items(plan, &s, k->gradient_sums);
    return 0;
}

int lk_cpu__bn_backward_finalize(struct lk_pass *pass, int node, float *grads) {
    const struct lk_plan *plan = pass->plan;
    const struct lk_cpu_node *p = &plan->nodes[node];
    const struct lk_node *n = p->node;
    const struct lk_cpu_node_pass *k = &pass->nodes[node];
    const struct shape s = shape_of(plan, node + 1);
    const double count = (double)(s.batch * s.hw);
    for (size_t c = 0; c < s.padded; c++) {
        double inverse = (double)k->inverse[c], a = (double)p->gamma[c] * inverse;
        double sum_g = k->gradient_sums[c], sum_gx = k->gradient_sums[s.padded + c] * inverse;
        k->a[c] = (float)a;
        k->b[c] = (float)(-a * inverse * sum_gx / count);
        k->c[c] = (float)(-a * sum_g / count);
        if (c < (size_t)n->out_c) {
            grads[n->gamma + c] += (float)sum_gx;
            grads[n->beta + c] += (float)sum_g;
        }
    }
    return 0;
}

int lk_cpu__bn_backward_apply(struct lk_pass *pass, int node) {
    const struct lk_plan *plan = pass->plan;
    const struct lk_kernels *kernels = plan->b->kernels;
    const struct lk_cpu_node *p = &plan->nodes[node];
    const struct lk_cpu_node_pass *k = &pass->nodes[node];
    const struct shape s = shape_of(plan, node + 1);
    const enum lk_dt dt = plan->edges[node + 1].dt;
    const void *y = lk_cpu__y(pass, node), *g = pass->gradient[plan->edges[node + 1].gradient[0]];
    void *dy = pass->gradient[p->dy_slot];
    const size_t count = s.items * s.blocks;
#pragma omp parallel for num_threads(plan->b->dnnl.threads) schedule(static)
    for (size_t i = 0; i < count; i++) {
        size_t item = i / s.blocks, b = i % s.blocks, c = b * s.block;
        struct lk_dapply_vectors vectors = {k->mean + c, k->a + c, k->b + c, k->c + c};
        for (size_t v = 0; v < views_of(&s, item); v++) {
            struct view w = view_of(&s, item, b, v);
            kernels->dapply(element_out(dy, w.offset, dt), element(g, w.offset, dt), element(y, w.offset, dt),
                            dt == LK_DT_BF16, w.rows, w.stride, &vectors);
        }
    }
    return 0;
}

int lk_cpu__activate_backward(struct lk_pass *pass, int node, float *grads) {
    const struct lk_plan *plan = pass->plan;
    const struct lk_kernels *kernels = plan->b->kernels;
    const struct lk_cpu_node *p = &plan->nodes[node];
    const struct lk_node *n = p->node;
    const struct lk_cpu_node_pass *k = &pass->nodes[node];
    const struct shape s = shape_of(plan, node + 1);
    const enum lk_dt dt = plan->edges[node + 1].dt;
    const void *z = lk_cpu__edge(pass, node + 1), *second;
    void *g = arrived(pass, node + 1, &second), *dy = pass->gradient[p->dy_slot];
    const size_t count = s.items * s.blocks;
#pragma omp parallel for num_threads(plan->b->dnnl.threads) schedule(static)
    for (size_t i = 0; i < count; i++) {
        size_t item = i / s.blocks, b = i % s.blocks;
        double *acc = plan->partials + i * 2 * s.block;
        memset(acc, 0, 2 * s.block * sizeof *acc);
        for (size_t v = 0; v < views_of(&s, item); v++) {
            struct view w = view_of(&s, item, b, v);
            void *to = element_out(g, w.offset, dt);
            kernels->activate_back(acc, to, to, second ? element(second, w.offset, dt) : NULL, element(z, w.offset, dt),
                                   dt == LK_DT_BF16, w.rows, w.stride, n->relu);
        }
    }
    add_items(plan, &s, k->gradient_sums);
    for (size_t c = 0; n->bias && c < (size_t)n->out_c; c++) {
        grads[n->beta + c] += (float)k->gradient_sums[c];
    }
    if (dy != g) { /* g goes on to a residual edge */
        memcpy(dy, g, s.batch * s.padded * s.hw * lk_cpu__dt_bytes(dt));
    }
    return 0;
}

void lk_cpu__join_gradient(struct lk_pass *pass, int edge) {
    const struct lk_plan *plan = pass->plan;
    const struct lk_cpu_edge *e = &plan->edges[edge];
    if (e->gradients < 2) {
        return;
    }
    const struct shape s = shape_of(plan, edge);
    const size_t images = s.batch, each = s.hw * s.padded;
    void *first = pass->gradient[e->gradient[0]];
    const void *second = pass->gradient[e->gradient[1]];
#pragma omp parallel for num_threads(plan->b->dnnl.threads) schedule(static)
    for (size_t i = 0; i < images; i++) {
        double unused[2 * 16] = {0};
        void *g = element_out(first, i * each, e->dt);
        plan->b->kernels->activate_back(unused, g, g, element(second, i * each, e->dt), NULL, e->dt == LK_DT_BF16,
                                        each / s.block, s.block, 0);
    }
}
