/* Plans: for each edge its shape, type and layout; for each node its primitives in every direction that the purpose
 * needs, and its weights (weights.c); then the buffers (slots.c). */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "cpu.h"

static int round_up(int c, int block) { return (c + block - 1) / block * block; }

/* Blocks of channels, but for a single picture in fp32 by AVX-512: there oneDNN's matrix kernels for pixel-by-pixel tensors
 * are faster (they read the weights better), as long as no channels have to be padded. */
static enum lk_layout layout_of(const struct lk_plan *plan) {
    const int block = plan->b->kernels->block;
    if (block != 16) {
        return LK_NCHW8C;
    }
    int pixels = plan->purpose == LK_INFERENCE && plan->batch == 1 && plan->precision == LK_FP32;
    for (int i = 0; i < plan->n_nodes && pixels; i++) {
        const struct lk_node *n = plan->nodes[i].node;
        pixels = n->out_c % block == 0 && (n->in_c % block == 0 || n->in_c == 3);
    }
    return pixels ? LK_NHWC : LK_NCHW16C;
}

static int plan_edge(struct lk_plan *plan, int edge) {
    struct lk_cpu_edge *e = &plan->edges[edge];
    int block = plan->b->kernels->block;
    e->last_use = -1;
    if (edge == 0) {
        const struct lk_node *n = plan->nodes[0].node;
        e->c = n->in_c, e->h = n->in_h, e->w = n->in_w;
        e->flat = n->kind == LK_NODE_LINEAR;
    } else {
        const struct lk_node *n = plan->nodes[edge - 1].node;
        e->c = n->out_c, e->h = n->out_h, e->w = n->out_w;
        e->flat = n->kind == LK_NODE_LINEAR || n->kind == LK_NODE_AVG_POOL;
    }
    e->dt = e->flat ? LK_DT_F32 : plan->dt;
    e->padded = edge == 0 && e->c <= 4 ? e->c : round_up(e->c, block);
    if (e->flat && e->c % block) {
        return lk_err(LK_EUNSUPPORTED, "edge %d has %d features, not a multiple of %d", edge, e->c, block);
    }
    enum lk_layout layout = e->flat ? LK_NC : e->padded > 4 || plan->layout == LK_NHWC ? plan->layout : LK_NCHW;
    int rc;
    if ((rc = lk_dnnl__md(&e->md, e->dt, layout, plan->batch, e->padded, e->h, e->w)) ||
        (rc = lk_dnnl__md(&e->true_md, e->dt, layout, plan->batch, e->c, e->h, e->w))) {
        return rc;
    }
    e->bytes = lk_dnnl__md_bytes(e->md);
    return 0;
}

static int plan_reads(struct lk_plan *plan) {
    for (int i = 0; i < plan->n_nodes; i++) {
        const struct lk_node *n = plan->nodes[i].node;
        if (n->input < 0 || n->input > i || n->residual > i) {
            return lk_err(LK_EINVAL, "%s reads an edge that nothing has written yet", n->name);
        }
        plan->edges[n->input].last_use = i;
        if (n->residual >= 0) {
            plan->edges[n->residual].last_use = i;
        }
        const struct lk_cpu_edge *in = &plan->edges[n->input];
        if ((n->kind == LK_NODE_LINEAR) != in->flat ||
            (!lk_node_has_weights(n) && in->padded % plan->b->kernels->block)) { /* pooling works on blocks */
            return lk_err(LK_EUNSUPPORTED, "%s cannot read an edge of this shape", n->name);
        }
    }
    return 0;
}

static int right_pad(int out, int in, const struct lk_node *n) {
    int pad = (out - 1) * n->stride + n->kernel - in - n->pad;
    return pad > 0 ? pad : 0;
}

/* The primitives of a convolution or a linear layer. */
static int plan_product(struct lk_plan *plan, int i) {
    struct lk_cpu_node *k = &plan->nodes[i];
    const struct lk_node *n = k->node;
    const struct lk_dnnl *d = &plan->b->dnnl;
    struct lk_cpu_edge *in = &plan->edges[n->input], *out = &plan->edges[i + 1];
    int linear = n->kind == LK_NODE_LINEAR, inference = plan->purpose == LK_INFERENCE;
    int side = linear ? 0 : n->kernel;
    lk_md *any = NULL, *any_f32 = NULL, *bias = NULL;
    int rc = 0;

    k->padded = out->padded, k->in_padded = in->padded;
    k->winograd = lk_cpu__winograd_suits(plan, i, 0);
    k->winograd_back = plan->purpose == LK_TRAIN && n->input > 0 && lk_cpu__winograd_suits(plan, i, 1);
    k->mask = !n->relu ? LK_MASK_NONE : n->residual >= 0 ? LK_MASK_OUTPUT : LK_MASK_RAW;
    if ((rc = lk_dnnl__md(&k->canonical, LK_DT_F32, linear ? LK_NC : LK_NCHW, k->padded, k->in_padded, side, side)) ||
        (rc = lk_dnnl__md(&any, out->dt, LK_ANY, k->padded, k->in_padded, side, side)) ||
        (rc = lk_dnnl__md(&any_f32, LK_DT_F32, LK_ANY, k->padded, k->in_padded, side, side)) ||
        (rc = lk_dnnl__md_clone(&k->y_md, out->md)) ||
        (rc = lk_dnnl__md(&k->dy_md, out->dt, linear ? LK_NC : plan->layout, plan->batch, k->padded, out->h, out->w))) {
        goto done;
    }
    if ((inference || (n->bias && !n->bn)) && (rc = lk_dnnl__md(&bias, LK_DT_F32, LK_C, k->padded, 0, 0, 0))) {
        goto done;
    }
    struct lk_conv_spec spec = {.linear = linear,
                                .inference = inference,
                                .stride = n->stride,
                                .pad = n->pad,
                                .pad_right_h = right_pad(n->out_h, n->in_h, n),
                                .pad_right_w = right_pad(n->out_w, n->in_w, n),
                                .sum = inference && n->residual >= 0,
                                .relu = inference && n->relu,
                                .src = in->md,
                                .weights = any,
                                .bias = bias,
                                .dst = k->y_md,
                                .macs = (double)plan->batch * n->out_c * n->in_c * n->kernel * n->kernel * n->out_h *
                                        n->out_w};
    if ((rc = lk_dnnl__forward(&k->forward, d, &spec)) ||
        (rc = lk_dnnl__md_clone(&k->w_md, lk_dnnl__query(&k->forward, LK_ARG_WEIGHTS)))) {
        goto done;
    }
    if (plan->purpose == LK_TRAIN) {
        struct lk_conv_spec back = spec;
        back.dst = k->dy_md;
        if (n->input > 0 && !k->winograd_back &&
            ((rc = lk_dnnl__backward_data(&k->backward_data, d, &back, &k->forward)) ||
             (rc = lk_dnnl__md_clone(&k->wd_md, lk_dnnl__query(&k->backward_data, LK_ARG_WEIGHTS))))) {
            goto done;
        }
        back.weights = any_f32;
        if ((rc = lk_dnnl__backward_weights(&k->backward_weights, d, &back, &k->forward)) ||
            (rc = lk_dnnl__md_clone(&k->dw_md, lk_dnnl__query(&k->backward_weights, LK_ARG_DIFF_WEIGHTS)))) {
            goto done;
        }
    }
done:
    k->bias_md = bias;
    lk_dnnl__md_free(any);
    lk_dnnl__md_free(any_f32);
    return rc;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static int plan_memory(struct lk_plan *plan) {
    size_t scratch = 64, staging = 64, partials = 0;
    for (int i = 0; i < plan->n_nodes; i++) {
        const struct lk_cpu_node *k = &plan->nodes[i];
        const struct lk_node *n = k->node;
        scratch = larger(scratch,
                         larger(k->forward.scratch, larger(k->backward_data.scratch, k->backward_weights.scratch)));
        if (lk_node_has_weights(n)) {
            if (plan->purpose == LK_INFERENCE || k->winograd || k->winograd_back || k->padded != n->out_c ||
                k->in_padded != n->in_c) {
                staging = larger(staging, lk_dnnl__md_bytes(k->canonical));
            }
            partials = larger(partials, lk_cpu__norm_partials(plan, i));
        }
    }
    plan->scratch_bytes = scratch;
    plan->scratch = lk_cpu__tensor(scratch);
    plan->partials = lk_calloc_aligned(partials ? partials : 1, sizeof(double));
    plan->staging = lk_cpu__tensor(staging);
    if (!plan->scratch || !plan->partials || !plan->staging) {
        return LK_ENOMEM;
    }
    lk_md *md = NULL;
    int rc = lk_dnnl__md(&md, LK_DT_F32, LK_C, (int)(scratch / 4), 0, 0, 0);
    if (!rc) {
        rc = lk_dnnl__mem(&plan->m_scratch, &plan->b->dnnl, md, plan->scratch);
    }
    lk_dnnl__md_free(md);
    return rc;
}

static int check(const struct lk_backend *b, const struct lk_net *net, int n_nodes, int batch,
                 enum lk_precision precision, enum lk_purpose purpose, const struct lk_plan *share) {
    if (n_nodes < 1 || n_nodes > net->n_nodes || batch < 1 || batch > 65536) {
        return lk_err(LK_EINVAL, "cannot plan %d of %d nodes for a batch of %d", n_nodes, net->n_nodes, batch);
    }
    if (!b->base.ops->supports(b, precision)) {
        return lk_err(LK_EUNSUPPORTED, "this processor cannot run %s", lk_precision_name(precision));
    }
    if (share && (share->net != net || share->precision != precision || share->purpose != purpose ||
                  share->n_nodes != n_nodes || share->b != b)) {
        return lk_err(LK_EINVAL, "the plan to share weights with is for another net, precision or purpose");
    }
    return 0;
}

int lk_cpu__plan(struct lk_backend *b, const struct lk_net *net, int n_nodes, int batch, enum lk_precision precision,
                 enum lk_purpose purpose, struct lk_plan *share, struct lk_plan **out) {
    *out = NULL;
    int rc = check(b, net, n_nodes, batch, precision, purpose, share);
    if (rc) {
        return rc;
    }
    struct lk_plan *plan = lk_calloc(1, sizeof *plan);
    if (!plan) {
        return LK_ENOMEM;
    }
    plan->b = b, plan->net = net, plan->n_nodes = n_nodes, plan->batch = batch;
    plan->precision = precision, plan->purpose = purpose;
    plan->dt = precision == LK_BF16 ? LK_DT_BF16 : LK_DT_F32;
    plan->root = plan;
    plan->edges = lk_calloc((size_t)n_nodes + 1, sizeof *plan->edges);
    plan->nodes = lk_calloc((size_t)n_nodes, sizeof *plan->nodes);
    if (!plan->edges || !plan->nodes) {
        rc = LK_ENOMEM;
        goto fail;
    }
    for (int i = 0; i < n_nodes; i++) {
        plan->nodes[i].node = &net->nodes[i];
    }
    plan->layout = layout_of(plan);
    for (int e = 0; e <= n_nodes; e++) {
        if ((rc = plan_edge(plan, e))) {
            goto fail;
        }
    }
    if ((rc = plan_reads(plan))) {
        goto fail;
    }
    for (int i = 0; i < n_nodes; i++) {
        const struct lk_node *n = plan->nodes[i].node;
        rc = lk_node_has_weights(n) ? plan_product(plan, i) : 0;
        if (rc) {
            lk_err_prefix(rc, "%s", n->name);
            goto fail;
        }
    }
    if ((rc = plan_memory(plan)) || (rc = lk_cpu__winograd_plan(plan)) || (rc = lk_cpu__assign_slots(plan))) {
        goto fail;
    }
    if (share) {
        plan->root = share->root;
        plan->next_dependent = plan->root->dependents;
        plan->root->dependents = plan;
    }
    for (int i = 0; i < n_nodes; i++) {
        if (lk_node_has_weights(plan->nodes[i].node) && (rc = lk_cpu__plan_weights(plan, i))) {
            goto fail;
        }
    }
    *out = plan;
    return 0;
fail:
    lk_cpu__plan_free(plan);
    return rc;
}

static void free_node(struct lk_cpu_node *k) {
    lk_mem *mems[] = {k->m_from, k->m_w, k->m_wd, k->m_dw, k->m_grad, k->m_bias};
    for (size_t i = 0; i < sizeof mems / sizeof *mems; i++) {
        lk_dnnl__mem_free(mems[i]);
    }
    lk_md *mds[] = {k->canonical, k->w_md, k->wd_md, k->dw_md, k->y_md, k->dy_md, k->bias_md};
    for (size_t i = 0; i < sizeof mds / sizeof *mds; i++) {
        lk_dnnl__md_free(mds[i]);
    }
    struct lk_prim *prims[] = {&k->forward,   &k->backward_data, &k->backward_weights,
                               &k->w_reorder, &k->wd_reorder,    &k->dw_add};
    for (size_t i = 0; i < sizeof prims / sizeof *prims; i++) {
        lk_dnnl__prim_free(prims[i]);
    }
    if (k->w_owned) {
        free(k->w);
    }
    if (k->wd_owned) {
        free(k->wd);
    }
    if (k->vectors_owned) {
        free(k->gamma);
    }
    free(k->dw);
}

void lk_cpu__plan_free(struct lk_plan *plan) {
    if (!plan) {
        return;
    }
    if (plan->root != plan) {
        struct lk_plan **link = &plan->root->dependents;
        while (*link && *link != plan) {
            link = &(*link)->next_dependent;
        }
        if (*link) {
            *link = plan->next_dependent;
        }
    }
    for (int i = 0; plan->nodes && i < plan->n_nodes; i++) {
        if (plan->root == plan) {
            free(plan->nodes[i].u);
            free(plan->nodes[i].u_back);
        }
        free_node(&plan->nodes[i]);
    }
    for (int e = 0; plan->edges && e <= plan->n_nodes; e++) {
        lk_dnnl__md_free(plan->edges[e].md);
        lk_dnnl__md_free(plan->edges[e].true_md);
    }
    lk_cpu__slots_free(&plan->forward_slots);
    lk_cpu__slots_free(&plan->gradient_slots);
    lk_dnnl__mem_free(plan->m_scratch);
    free(plan->winograd_v);
    free(plan->winograd_m);
    free(plan->scratch);
    free(plan->partials);
    free(plan->staging);
    free(plan->edges);
    free(plan->nodes);
    free(plan);
}
