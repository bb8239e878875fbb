/* The plan's own copies of the weights, in the layout and type that its primitives want: made when the plan is made,
 * filled by set_weights from the canonical float arena. An inference plan folds the batch norm in first, in double. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "cpu.h"

static int own_copy(void **out, int *owned, const lk_md *md) {
    *out = lk_cpu__tensor(lk_dnnl__md_bytes(md));
    *owned = 1;
    return *out ? 0 : LK_ENOMEM;
}

/* A plan that joins after set_weights takes over what is there, in its own layout. */
static int take_over(struct lk_plan *plan, const lk_md *from, void *source, lk_mem *to, const lk_md *to_md) {
    const struct lk_dnnl *d = &plan->b->dnnl;
    struct lk_prim reorder = {0};
    struct lk_call call = {.prim = &reorder};
    lk_mem *mem = NULL;
    int rc;
    if (!(rc = lk_dnnl__mem(&mem, d, from, source)) && !(rc = lk_dnnl__reorder(&reorder, d, from, to_md, 0))) {
        lk_dnnl__arg(&call, LK_ARG_SRC, mem);
        lk_dnnl__arg(&call, LK_ARG_DST, to);
        rc = lk_dnnl__run(d, &call);
    }
    lk_dnnl__prim_free(&reorder);
    lk_dnnl__mem_free(mem);
    return rc;
}

static int plan_copy(struct lk_plan *plan, struct lk_cpu_node *k, const lk_md *md, void **copy, int *owned,
                     void *shared, const lk_md *shared_md, struct lk_prim *reorder, lk_mem **mem,
                     struct lk_call *call) {
    const struct lk_dnnl *d = &plan->b->dnnl;
    int rc;
    if (shared && lk_dnnl__md_equal(md, shared_md)) {
        *copy = shared;
    } else if ((rc = own_copy(copy, owned, md))) {
        return rc;
    }
    if ((rc = lk_dnnl__mem(mem, d, md, *copy)) || !*owned || (rc = lk_dnnl__reorder(reorder, d, k->canonical, md, 0)) ||
        (shared && (rc = take_over(plan, shared_md, shared, *mem, md)))) {
        return rc;
    }
    call->prim = reorder;
    lk_dnnl__arg(call, LK_ARG_SRC, k->m_from);
    lk_dnnl__arg(call, LK_ARG_DST, *mem);
    lk_dnnl__arg(call, LK_ARG_SCRATCHPAD, plan->m_scratch);
    return 0;
}

/* The root keeps u for itself and for the plans that share with it; for one that joins after set_weights it is made of
 * the weights that are there, as the root has them: rounded in bf16, until the next set_weights. */
static int plan_winograd(struct lk_plan *plan, struct lk_cpu_node *k, struct lk_cpu_node *root) {
    float **of[] = {&root->u, &root->u_back}, **made[2] = {0};
    const int want[] = {k->winograd, k->winograd_back};
    int rc = 0;
    for (int i = 0; i < 2 && !rc; i++) {
        if (want[i] && !*of[i]) {
            made[i] = of[i];
            rc = (*of[i] = lk_cpu__tensor(lk_cpu__winograd_bytes(k))) ? 0 : LK_ENOMEM;
        }
    }
    k->u = root->u, k->u_back = root->u_back;
    if (!rc && root != k && (made[0] || made[1])) {
        lk_mem *mem = NULL;
        if (!(rc = lk_dnnl__mem(&mem, &plan->b->dnnl, k->canonical, plan->staging)) &&
            !(rc = take_over(plan, root->w_md, root->w, mem, k->canonical))) {
            lk_cpu__winograd_weights(plan, k, plan->staging);
        }
        lk_dnnl__mem_free(mem);
    }
    for (int i = 0; i < 2 && rc; i++) {
        if (made[i]) { /* the next plan that joins would take it for made */
            free(*made[i]);
            *made[i] = NULL;
        }
    }
    return rc;
}

int lk_cpu__plan_weights(struct lk_plan *plan, int node) {
    const struct lk_dnnl *d = &plan->b->dnnl;
    struct lk_cpu_node *k = &plan->nodes[node];
    struct lk_cpu_node *root = &plan->root->nodes[node], *shared = root != k ? root : NULL;
    int rc;
    if ((rc = lk_dnnl__mem(&k->m_from, d, k->canonical, NULL)) || (rc = plan_winograd(plan, k, root))) {
        return rc;
    }
    if (!(k->winograd && shared) && (rc = plan_copy(plan, k, k->w_md, &k->w, &k->w_owned, shared ? shared->w : NULL,
                                                    shared ? shared->w_md : NULL, &k->w_reorder, &k->m_w, &k->set_w))) {
        return rc;
    }
    const struct lk_cpu_node *from = k->w ? k : root; /* a plan that shares tiled weights has no direct ones */
    if (k->wd_md && (rc = plan_copy(plan, k, k->wd_md, &k->wd, &k->wd_owned, from->w, from->w_md, &k->wd_reorder,
                                    &k->m_wd, &k->set_wd))) {
        return rc;
    }
    if (shared) {
        k->gamma = shared->gamma, k->beta = shared->beta;
    } else {
        k->gamma = lk_calloc_aligned(2 * (size_t)k->padded, sizeof(float));
        if (!k->gamma) {
            return LK_ENOMEM;
        }
        k->beta = k->gamma + k->padded;
        k->vectors_owned = 1;
    }
    if (k->bias_md && (rc = lk_dnnl__mem(&k->m_bias, d, k->bias_md, k->beta))) {
        return rc;
    }
    if (!k->dw_md) {
        return 0;
    }
    k->dw = lk_cpu__tensor(lk_dnnl__md_bytes(k->dw_md));
    if (!k->dw) {
        return LK_ENOMEM;
    }
    if ((rc = lk_dnnl__mem(&k->m_dw, d, k->dw_md, k->dw)) || (rc = lk_dnnl__mem(&k->m_grad, d, k->canonical, NULL)) ||
        (rc = lk_dnnl__reorder(&k->dw_add, d, k->dw_md, k->canonical, 1))) {
        return rc;
    }
    k->add_dw.prim = &k->dw_add;
    lk_dnnl__arg(&k->add_dw, LK_ARG_SRC, k->m_dw);
    lk_dnnl__arg(&k->add_dw, LK_ARG_DST, k->m_grad);
    lk_dnnl__arg(&k->add_dw, LK_ARG_SCRATCHPAD, plan->m_scratch);
    return 0;
}

/* The canonical weights with channels padded by zeros, times a gain for each output channel: for inference the folded
 * batch norm, w' = w gamma / sqrt(var + epsilon), bias' = beta - mean gamma / sqrt(var + epsilon). */
static void stage(float *to, float *bias, const struct lk_cpu_node *k, const float *params, const float *stats,
                  int fold) {
    const struct lk_node *n = k->node;
    const size_t in = (size_t)n->in_c, area = (size_t)n->kernel * (size_t)n->kernel;
    const size_t row = (size_t)k->in_padded * area;
    memset(to, 0, (size_t)k->padded * row * sizeof *to);
    for (size_t o = 0; o < (size_t)n->out_c; o++) {
        const float *w = params + n->weight + o * in * area;
        double gain = 1.0;
        if (fold) {
            double offset = n->bias && !n->bn ? (double)params[n->beta + o] : 0.0;
            if (n->bn) {
                gain = (double)params[n->gamma + o] / sqrt((double)stats[n->var + o] + (double)LK_BN_EPSILON);
                offset = (double)params[n->beta + o] - (double)stats[n->mean + o] * gain;
            }
            bias[o] = (float)offset;
        }
        for (size_t i = 0; i < in * area; i++) {
            to[o * row + i] = (float)((double)w[i] * gain);
        }
    }
}

static int is_padded(const struct lk_cpu_node *k) {
    return k->padded != k->node->out_c || k->in_padded != k->node->in_c;
}

static int set_node(struct lk_plan *plan, struct lk_cpu_node *k, const float *params, const float *stats) {
    const struct lk_dnnl *d = &plan->b->dnnl;
    const struct lk_node *n = k->node;
    const float *from = params + n->weight;
    size_t c = (size_t)n->out_c;
    int rc, fold = plan->purpose == LK_INFERENCE;
    if (!k->w_owned && !k->wd_owned && !k->vectors_owned) {
        return 0;
    }
    if (fold || is_padded(k)) {
        stage(plan->staging, k->beta, k, params, stats, fold);
        from = plan->staging;
    }
    if (!fold && k->vectors_owned && n->bn) {
        memcpy(k->gamma, params + n->gamma, c * sizeof(float));
    }
    if (!fold && k->vectors_owned && (n->bn || n->bias)) {
        memcpy(k->beta, params + n->beta, c * sizeof(float));
    }
    if (plan->root == plan) {
        lk_cpu__winograd_weights(plan, k, from);
    }
    if ((rc = lk_dnnl__mem_set(k->m_from, from)) || (k->w_owned && (rc = lk_dnnl__run(d, &k->set_w)))) {
        return rc;
    }
    return k->wd_owned ? lk_dnnl__run(d, &k->set_wd) : 0;
}

int lk_cpu__set_weights(struct lk_plan *plan, const float *params, const float *stats) {
    if (plan->purpose == LK_INFERENCE && !stats) {
        return lk_err(LK_EINVAL, "an inference plan needs running statistics");
    }
    plan = plan->root;
    for (struct lk_plan *p = plan; p; p = p == plan ? plan->dependents : p->next_dependent) {
        for (int i = 0; i < p->n_nodes; i++) {
            int rc = p->nodes[i].canonical ? set_node(p, &p->nodes[i], params, stats) : 0;
            if (rc) {
                return lk_err_prefix(rc, "%s", p->nodes[i].node->name);
            }
        }
    }
    return 0;
}

int lk_cpu__add_weight_gradient(struct lk_plan *plan, struct lk_cpu_node *k, float *grads) {
    const struct lk_dnnl *d = &plan->b->dnnl;
    const struct lk_node *n = k->node;
    float *to = grads + n->weight;
    int rc;
    if (!is_padded(k)) {
        return (rc = lk_dnnl__mem_set(k->m_grad, to)) ? rc : lk_dnnl__run(d, &k->add_dw);
    }
    const size_t each = (size_t)n->in_c * (size_t)n->kernel * (size_t)n->kernel;
    const size_t row = (size_t)k->in_padded * (size_t)n->kernel * (size_t)n->kernel;
    memset(plan->staging, 0, (size_t)k->padded * row * sizeof(float));
    if ((rc = lk_dnnl__mem_set(k->m_grad, plan->staging)) || (rc = lk_dnnl__run(d, &k->add_dw))) {
        return rc;
    }
    for (size_t o = 0; o < (size_t)n->out_c; o++) {
        for (size_t i = 0; i < each; i++) {
            to[o * each + i] += plan->staging[o * row + i];
        }
    }
    return 0;
}
