/* See harness.h. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/rng.h"
#include "model/walk.h"

float harness_bf16(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    u = (u + 0x7fffu + (u >> 16 & 1u)) & 0xffff0000u;
    memcpy(&x, &u, 4);
    return x;
}

static int failed(const char *what, int rc) {
    printf("%s: %d: %s\n", what, rc, lk_error());
    return -1;
}

static void widen(double *to, const float *from, size_t n) {
    for (size_t i = 0; i < n; i++) {
        to[i] = (double)from[i];
    }
}

/* Batch norms that do something: gamma around 1, beta around 0, statistics that are no identity. */
static void stir(struct harness *h, uint64_t seed) {
    for (int i = 0; i < h->net->n_nodes; i++) {
        const struct lk_node *n = &h->net->nodes[i];
        if (!n->bn) {
            continue;
        }
        size_t c = (size_t)n->out_c;
        float *noise = lk_calloc(4 * c, sizeof *noise);
        if (!noise) {
            return;
        }
        lk_rng_normal(noise, 4 * c, 0.25f, seed + 1000, (uint32_t)i);
        for (size_t j = 0; j < c; j++) {
            h->params[n->gamma + j] += noise[j];
            h->params[n->beta + j] += noise[c + j];
            h->stats[n->mean + j] += noise[2 * c + j];
            h->stats[n->var + j] += noise[3 * c + j] * noise[3 * c + j];
        }
        free(noise);
    }
}

int harness_open(struct harness *h, struct lk_backend *b, const struct lk_net *net, int n_nodes, int batch,
                 enum lk_precision precision, enum lk_purpose purpose, uint64_t seed) {
    memset(h, 0, sizeof *h);
    h->b = b, h->ops = lk_ops(b), h->net = net, h->n_nodes = n_nodes, h->batch = batch;
    h->precision = precision, h->purpose = purpose;
    if (ref_open(&h->ref, net, n_nodes, batch)) {
        printf("no memory for the reference\n");
        return -1;
    }
    h->ref.bf16 = precision == LK_BF16;
    h->ref.bf16_heads = strcmp(h->ops->name, "cpu") != 0;
    size_t n = net->n_params, s = net->n_stats + 1, in = ref_edge_size(&h->ref, 0);
    size_t out = ref_edge_size(&h->ref, n_nodes);
    h->params = lk_calloc(n, sizeof(float)), h->grads = lk_calloc(n, sizeof(float));
    h->stats = lk_calloc(s, sizeof(float));
    h->input = lk_calloc(in, sizeof(float)), h->out_gradient = lk_calloc(out, sizeof(float));
    h->ref_params = lk_calloc(n, sizeof(double)), h->ref_grads = lk_calloc(n, sizeof(double));
    h->ref_stats = lk_calloc(s, sizeof(double));
    if (!h->params || !h->grads || !h->stats || !h->input || !h->out_gradient || !h->ref_params || !h->ref_grads ||
        !h->ref_stats) {
        return failed("memory", LK_ENOMEM);
    }
    lk_net_init(net, seed, h->params, h->stats);
    stir(h, seed);
    lk_rng_normal(h->input, in, 1.0f, seed, 10001);
    lk_rng_normal(h->out_gradient, out, 1.0f, seed, 10002);
    if (precision == LK_BF16) {
        for (int i = 0; i < net->n_nodes; i++) { /* weights only: norms and biases stay float on every device */
            const struct lk_node *k = &net->nodes[i];
            size_t count = (size_t)k->out_c * (size_t)k->in_c * (size_t)k->kernel * (size_t)k->kernel;
            for (size_t j = 0; (k->kind == LK_NODE_CONV || k->kind == LK_NODE_LINEAR) && j < count; j++) {
                h->params[k->weight + j] = harness_bf16(h->params[k->weight + j]);
            }
        }
        for (size_t j = 0; j < in; j++) {
            h->input[j] = harness_bf16(h->input[j]);
        }
        for (size_t j = 0; j < out; j++) {
            h->out_gradient[j] = harness_bf16(h->out_gradient[j]);
        }
    }
    widen(h->ref_params, h->params, n);
    widen(h->ref_stats, h->stats, net->n_stats);
    widen(h->ref.edge[0], h->input, in);
    widen(h->ref.gradient[n_nodes], h->out_gradient, out);
    const struct lk_backend_ops *o = h->ops;
    int rc;
    if ((rc = o->alloc(b, n * sizeof(float), (void **)&h->d_params)) ||
        (rc = o->alloc(b, n * sizeof(float), (void **)&h->d_grads)) ||
        (rc = o->alloc(b, s * sizeof(float), (void **)&h->d_stats)) ||
        (rc = o->upload(b, h->d_params, h->params, n * sizeof(float))) ||
        (rc = o->upload(b, h->d_stats, h->stats, s * sizeof(float))) ||
        (rc = o->plan(b, net, n_nodes, batch, precision, purpose, NULL, &h->plan)) ||
        (rc = o->set_weights(h->plan, h->d_params, h->d_stats)) || (rc = o->pass(h->plan, &h->pass)) ||
        (rc = o->input_f32(h->pass, h->input))) {
        return failed("opening", rc);
    }
    return 0;
}

void harness_close(struct harness *h) {
    if (h->ops) {
        h->ops->pass_free(h->pass);
        h->ops->plan_free(h->plan);
        h->ops->free(h->b, h->d_params);
        h->ops->free(h->b, h->d_stats);
        h->ops->free(h->b, h->d_grads);
    }
    ref_close(&h->ref);
    void *all[] = {h->params, h->stats, h->grads, h->input, h->out_gradient, h->ref_params, h->ref_stats, h->ref_grads};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        free(all[i]);
    }
    memset(h, 0, sizeof *h);
}

int harness_forward(struct harness *h, int use_optional) {
    int training = h->purpose != LK_INFERENCE;
    int rc = lk_walk_forward(h->ops, h->net, h->n_nodes, h->purpose, h->pass, training ? h->d_stats : NULL,
                             use_optional);
    if (rc || (rc = h->ops->sync(h->b))) {
        return failed("forward", rc);
    }
    ref_forward(&h->ref, h->ref_params, h->ref_stats, training);
    return 0;
}

int harness_backward(struct harness *h, int use_optional) {
    float *gradient = NULL;
    size_t bytes = ref_edge_size(&h->ref, h->n_nodes) * sizeof(float);
    int rc;
    if ((rc = h->ops->alloc(h->b, bytes, (void **)&gradient)) ||
        (rc = h->ops->upload(h->b, gradient, h->out_gradient, bytes)) ||
        (rc = h->ops->output_gradient(h->pass, h->n_nodes, gradient)) ||
        (rc = lk_walk_backward(h->ops, h->net, h->n_nodes, h->pass, h->d_grads, use_optional)) ||
        (rc = h->ops->download(h->b, h->grads, h->d_grads, h->net->n_params * sizeof(float)))) {
        failed("backward", rc);
    }
    h->ops->free(h->b, gradient);
    ref_backward(&h->ref, h->ref_params, h->ref_grads);
    return rc ? -1 : 0;
}

double harness_edge_error(struct harness *h, int edge) {
    size_t n = ref_edge_size(&h->ref, edge);
    float *x = lk_calloc(n, sizeof *x);
    double error = 1e30;
    if (x && !h->ops->output(h->pass, edge, h->batch, 0, x)) {
        error = ref_error(x, h->ref.edge[edge], n);
    } else {
        failed("output", LK_EFAIL);
    }
    free(x);
    return error;
}

struct worst {
    struct harness *h;
    int stat;
    double error, all; /* all: norm of all gradients */
    char name[64];
};

static double norm_of(const double *x, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        sum += x[i] * x[i];
    }
    return sqrt(sum);
}

static int compare(void *arg, const struct lk_net_tensor *t) {
    struct worst *w = arg;
    if (t->stat != w->stat) {
        return 0;
    }
    const float *got = (t->stat ? w->h->stats : w->h->grads) + t->offset;
    const double *want = (t->stat ? w->h->ref_stats : w->h->ref_grads) + t->offset;
    double error = ref_error(got, want, t->count), norm = norm_of(want, t->count);
    if (norm < (w->h->precision == LK_BF16 ? 1e-3 : 1e-9) *
                   w->all) { /* a bias in front of a batch norm: no gradient but rounding */
        error *= (norm > 0.0 ? norm : 1.0) / (0.1 * w->all);
    }
    if (!(error <= w->error)) {
        w->error = error;
        memcpy(w->name, t->name, sizeof w->name);
    }
    return 0;
}

static double worst_of(struct harness *h, int stat, const char **where) {
    static char name[64]; /* of the last call: tests are single threaded */
    struct worst w = {.h = h, .stat = stat};
    w.all = stat ? 0.0 : norm_of(h->ref_grads, h->net->n_params);
    lk_net_tensors(h->net, h->n_nodes, compare, &w);
    memcpy(name, w.name, sizeof name);
    if (where) {
        *where = name;
    }
    return w.error;
}

double harness_grad_error(struct harness *h, const char **where) { return worst_of(h, 0, where); }

double harness_total_error(struct harness *h) { return ref_error(h->grads, h->ref_grads, h->net->n_params); }

double harness_stat_error(struct harness *h, const char **where) {
    if (h->ops->download(h->b, h->stats, h->d_stats, h->net->n_stats * sizeof(float))) {
        return 1e30;
    }
    return worst_of(h, 1, where);
}
