/* Passes: the buffers that plan.c asked for, oneDNN's memory objects over them, and the argument lists of every
 * primitive, made once. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "cpu.h"

static int alloc_slots(void ***out, const struct lk_slots *s) {
    *out = lk_calloc((size_t)s->n + 1, sizeof **out);
    for (int i = 0; *out && i < s->n; i++) {
        if (!((*out)[i] = lk_cpu__tensor(s->bytes[i]))) {
            return LK_ENOMEM;
        }
    }
    return *out ? 0 : LK_ENOMEM;
}

/* Channel vectors of all nodes in two allocations. */
static int alloc_vectors(struct lk_pass *p) {
    const struct lk_plan *plan = p->plan;
    size_t total = 0;
    for (int i = 0; i < plan->n_nodes; i++) {
        total += (size_t)plan->nodes[i].padded;
    }
    p->vectors = lk_calloc_aligned(6 * total + 1, sizeof(float));
    p->sums = lk_calloc_aligned(4 * total + 1, sizeof(double));
    if (!p->vectors || !p->sums) {
        return LK_ENOMEM;
    }
    float *v = p->vectors;
    double *s = p->sums;
    for (int i = 0; i < plan->n_nodes; i++) {
        size_t c = (size_t)plan->nodes[i].padded;
        struct lk_cpu_node_pass *k = &p->nodes[i];
        float **vectors[] = {&k->mean, &k->inverse, &k->scale, &k->a, &k->b, &k->c};
        for (size_t j = 0; j < 6; j++, v += c) {
            *vectors[j] = v;
        }
        k->sums = s, k->gradient_sums = s + 2 * c;
        s += 4 * c;
    }
    return 0;
}

static void bind(struct lk_call *call, const struct lk_prim *prim, lk_mem *scratch) {
    call->prim = prim;
    if (prim->scratch) {
        lk_dnnl__arg(call, LK_ARG_SCRATCHPAD, scratch);
    }
}

static int bind_product(struct lk_pass *p, int i) {
    struct lk_plan *plan = p->plan;
    const struct lk_dnnl *d = &plan->b->dnnl;
    struct lk_cpu_node *n = &plan->nodes[i];
    struct lk_cpu_node_pass *k = &p->nodes[i];
    lk_mem *in = p->m_edge[n->node->input];
    int rc = lk_dnnl__mem(&k->m_y, d, n->y_md, p->forward[n->y_slot]);
    if (rc) {
        return rc;
    }
    bind(&k->forward, &n->forward, plan->m_scratch);
    lk_dnnl__arg(&k->forward, LK_ARG_SRC, in);
    lk_dnnl__arg(&k->forward, LK_ARG_WEIGHTS, n->m_w);
    lk_dnnl__arg(&k->forward, LK_ARG_BIAS, n->m_bias);
    lk_dnnl__arg(&k->forward, LK_ARG_DST, k->m_y);
    if (plan->purpose != LK_TRAIN) {
        return 0;
    }
    if ((rc = lk_dnnl__mem(&k->m_dy, d, n->dy_md, p->gradient[n->dy_slot]))) {
        return rc;
    }
    bind(&k->backward_weights, &n->backward_weights, plan->m_scratch);
    lk_dnnl__arg(&k->backward_weights, LK_ARG_SRC, in);
    lk_dnnl__arg(&k->backward_weights, LK_ARG_DIFF_DST, k->m_dy);
    lk_dnnl__arg(&k->backward_weights, LK_ARG_DIFF_WEIGHTS, n->m_dw);
    if (n->dx_slot < 0) {
        return 0;
    }
    if ((rc = lk_dnnl__mem(&k->m_dx, d, plan->edges[n->node->input].md, p->gradient[n->dx_slot]))) {
        return rc;
    }
    if (n->winograd_back) {
        return 0;
    }
    bind(&k->backward_data, &n->backward_data, plan->m_scratch);
    lk_dnnl__arg(&k->backward_data, LK_ARG_DIFF_DST, k->m_dy);
    lk_dnnl__arg(&k->backward_data, LK_ARG_WEIGHTS, n->m_wd);
    lk_dnnl__arg(&k->backward_data, LK_ARG_DIFF_SRC, k->m_dx);
    return 0;
}

/* Which input each maximum came from, for the way back. */
static int keep_choices(struct lk_pass *p, int i) {
    const struct lk_cpu_edge *out = &p->plan->edges[i + 1];
    if (p->plan->purpose != LK_TRAIN) {
        return 0;
    }
    p->nodes[i].which = lk_cpu__tensor(out->bytes / lk_cpu__dt_bytes(out->dt));
    return p->nodes[i].which ? 0 : LK_ENOMEM;
}

int lk_cpu__pass(struct lk_plan *plan, struct lk_pass **out) {
    *out = NULL;
    struct lk_pass *p = lk_calloc(1, sizeof *p);
    if (!p) {
        return LK_ENOMEM;
    }
    int rc = LK_ENOMEM;
    p->plan = plan;
    p->nodes = lk_calloc((size_t)plan->n_nodes, sizeof *p->nodes);
    p->m_edge = lk_calloc((size_t)plan->n_nodes + 1, sizeof *p->m_edge);
    if (!p->nodes || !p->m_edge || alloc_slots(&p->forward, &plan->forward_slots) ||
        alloc_slots(&p->gradient, &plan->gradient_slots) || alloc_vectors(p)) {
        goto fail;
    }
    for (int e = 0; e <= plan->n_nodes; e++) {
        if ((rc = lk_dnnl__mem(&p->m_edge[e], &plan->b->dnnl, plan->edges[e].md, lk_cpu__edge(p, e)))) {
            goto fail;
        }
    }
    for (int i = 0; i < plan->n_nodes; i++) {
        const struct lk_node *n = plan->nodes[i].node;
        rc = lk_node_has_weights(n) ? bind_product(p, i) : n->kind == LK_NODE_MAX_POOL ? keep_choices(p, i) : 0;
        if (rc) {
            goto fail;
        }
    }
    *out = p;
    return 0;
fail:
    lk_cpu__pass_free(p);
    return rc;
}

void lk_cpu__pass_free(struct lk_pass *p) {
    if (!p) {
        return;
    }
    for (int i = 0; p->nodes && i < p->plan->n_nodes; i++) {
        struct lk_cpu_node_pass *k = &p->nodes[i];
        lk_mem *mems[] = {k->m_y, k->m_dy, k->m_dx};
        for (size_t j = 0; j < sizeof mems / sizeof *mems; j++) {
            lk_dnnl__mem_free(mems[j]);
        }
        free(k->which);
    }
    for (int e = 0; p->m_edge && e <= p->plan->n_nodes; e++) {
        lk_dnnl__mem_free(p->m_edge[e]);
    }
    for (int i = 0; p->forward && i < p->plan->forward_slots.n; i++) {
        free(p->forward[i]);
    }
    for (int i = 0; p->gradient && i < p->plan->gradient_slots.n; i++) {
        free(p->gradient[i]);
    }
    free(p->forward);
    free(p->gradient);
    free(p->m_edge);
    free(p->nodes);
    free(p->vectors);
    free(p->sums);
    free(p->augment_scratch);
    free(p);
}
