/* Buffers that take turns. Both functions here replay the order of model/walk.c at plan time and note which slot each
 * node reads and writes, so that a pass only has to allocate as many buffers as are ever alive at once. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "cpu.h"

void lk_cpu__slots_free(struct lk_slots *s) {
    free(s->bytes);
    free(s->busy);
    free(s->owner);
    memset(s, 0, sizeof *s);
}

static int slots_open(struct lk_slots *s, int capacity) {
    s->bytes = lk_calloc((size_t)capacity, sizeof *s->bytes);
    s->busy = lk_calloc((size_t)capacity, sizeof *s->busy);
    s->owner = lk_calloc((size_t)capacity, sizeof *s->owner);
    s->capacity = capacity;
    return s->bytes && s->busy && s->owner ? 0 : LK_ENOMEM;
}

/* The free slot whose size fits best (the least growth, then the least waste), or a new one. The capacity is chosen so
 * that it cannot run out: one slot for each thing that is ever acquired. */
static int acquire(struct lk_slots *s, size_t bytes, int owner) {
    int best = -1;
    for (int i = 0; i < s->n; i++) {
        if (s->busy[i]) {
            continue;
        }
        if (best < 0) {
            best = i;
        } else if (s->bytes[best] < bytes ? s->bytes[i] > s->bytes[best]
                                          : s->bytes[i] >= bytes && s->bytes[i] < s->bytes[best]) {
            best = i;
        }
    }
    if (best < 0) {
        best = s->n++;
    }
    if (s->bytes[best] < bytes) {
        s->bytes[best] = bytes;
    }
    s->busy[best] = 1;
    s->owner[best] = owner;
    return best;
}

static void release(struct lk_slots *s, int slot) { s->busy[slot] = 0; }

/* An edge's buffer is free once its last reader has run. The picture and the last edge keep theirs. */
static void release_read(struct lk_plan *plan, int node) {
    const struct lk_node *n = plan->nodes[node].node;
    int edges[2] = {n->input, n->residual};
    for (int i = 0; i < 2; i++) {
        struct lk_cpu_edge *e = edges[i] > 0 ? &plan->edges[edges[i]] : NULL;
        if (e && e->last_use == node && plan->forward_slots.owner[e->slot] == edges[i]) {
            release(&plan->forward_slots, e->slot);
        }
    }
}

static int assign_forward(struct lk_plan *plan) {
    struct lk_slots *s = &plan->forward_slots;
    plan->edges[0].slot = acquire(s, plan->edges[0].bytes, 0);
    for (int i = 0; i < plan->n_nodes; i++) {
        struct lk_cpu_node *k = &plan->nodes[i];
        const struct lk_node *n = k->node;
        struct lk_cpu_edge *e = &plan->edges[i + 1];
        if (plan->purpose == LK_INFERENCE && n->residual >= 0) {
            struct lk_cpu_edge *r = &plan->edges[n->residual];
            if (n->residual == n->input || r->last_use != i || r->dt != e->dt) {
                return lk_err(LK_EUNSUPPORTED, "%s: the sum with edge %d cannot be made in place", n->name,
                              n->residual);
            }
            e->slot = r->slot; /* the convolution adds to what lies there */
            s->owner[e->slot] = i + 1;
        } else {
            e->slot = acquire(s, e->bytes, i + 1);
        }
        k->y_slot = e->slot;
        if (plan->purpose == LK_TRAIN) {
            if (lk_node_has_weights(n) && n->bn) {
                k->y_slot = acquire(s, e->bytes, -1);
            }
        } else {
            release_read(plan, i);
        }
    }
    return 0;
}

/* Adds a contribution to an edge's gradient; returns its index. */
static int contribute(struct lk_plan *plan, int edge, int slot, int *index) {
    struct lk_cpu_edge *e = &plan->edges[edge];
    if (e->gradients == 2) {
        return lk_err(LK_EUNSUPPORTED, "edge %d has more than two readers", edge);
    }
    *index = e->gradients;
    e->gradient[e->gradients++] = slot;
    return 0;
}

static int assign_gradient(struct lk_plan *plan) {
    struct lk_slots *s = &plan->gradient_slots;
    struct lk_cpu_edge *last = &plan->edges[plan->n_nodes];
    last->gradient[0] = acquire(s, lk_dnnl__md_bytes(last->md), -1);
    last->gradients = 1;
    for (int i = plan->n_nodes - 1; i >= 0; i--) {
        struct lk_cpu_node *k = &plan->nodes[i];
        const struct lk_node *n = k->node;
        struct lk_cpu_edge *e = &plan->edges[i + 1], *in = &plan->edges[n->input];
        int rc;
        k->dy_slot = k->dx_slot = k->hand_on = -1;
        if (e->gradients == 0) {
            return lk_err(LK_EUNSUPPORTED, "nothing reads the output of %s", n->name);
        }
        if (e->gradients == 2 && lk_node_has_weights(n)) {
            release(s, e->gradient[1]); /* added into the first one before anything else is written */
        }
        if (lk_node_has_weights(n)) {
            k->dy_slot = e->gradient[0];
            if (n->residual > 0 && (rc = contribute(plan, n->residual, e->gradient[0], &k->hand_on))) {
                return rc;
            }
            if (n->residual > 0) {
                k->dy_slot = acquire(s, e->bytes, -1);
            }
        }
        if (n->input > 0) {
            k->dx_slot = acquire(s, in->bytes, -1);
            if ((rc = contribute(plan, n->input, k->dx_slot, &k->dx_index))) {
                return rc;
            }
        }
        release(s, lk_node_has_weights(n) ? k->dy_slot : e->gradient[0]);
        if (e->gradients == 2 && !lk_node_has_weights(n)) {
            release(s, e->gradient[1]);
        }
    }
    return 0;
}

int lk_cpu__assign_slots(struct lk_plan *plan) {
    if (slots_open(&plan->forward_slots, 2 * plan->n_nodes + 2) ||
        slots_open(&plan->gradient_slots, 3 * plan->n_nodes + 2)) {
        return LK_ENOMEM;
    }
    int rc = assign_forward(plan);
    return rc || plan->purpose != LK_TRAIN ? rc : assign_gradient(plan);
}
