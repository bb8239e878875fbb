/* The node array itself: growing it, naming its tensors, counting and initialising them. What a ResNet looks like is in
 * resnet.c. */
#include "model/net.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "model/net_build.h"

static const struct {
    int depth;
    const char *name;
} depths[] = {{18, "resnet18"}, {34, "resnet34"}, {50, "resnet50"}};

int lk_arch_depth(const char *name) {
    for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
        if (!strcmp(name, depths[i].name)) {
            return depths[i].depth;
        }
    }
    return lk_err(LK_EINVAL, "unknown architecture '%s': resnet18, resnet34 or resnet50", name);
}

const char *lk_arch_name(int depth) {
    for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
        if (depth == depths[i].depth) {
            return depths[i].name;
        }
    }
    return "unknown";
}

const char *lk_stem_name(enum lk_stem stem) { return stem == LK_STEM_CIFAR ? "cifar" : "imagenet"; }

static size_t weight_count(const struct lk_node *n) {
    return (size_t)n->out_c * (size_t)n->in_c * (size_t)n->kernel * (size_t)n->kernel;
}

/* Every array that a node owns, in arena order: weight, bias or gamma and beta, running mean and variance. */
static void place(struct lk_net *net, struct lk_node *n) {
    if (n->kind != LK_NODE_CONV && n->kind != LK_NODE_LINEAR) {
        return;
    }
    size_t c = (size_t)n->out_c;
    n->weight = net->n_params;
    net->n_params += weight_count(n);
    if (n->bn) {
        n->gamma = net->n_params;
        n->beta = n->gamma + c;
        net->n_params += 2 * c;
        n->mean = net->n_stats;
        n->var = n->mean + c;
        net->n_stats += 2 * c;
    } else if (n->bias) {
        n->beta = net->n_params;
        net->n_params += c;
    }
}

static int grow(struct lk_net *net) {
    if (net->n_nodes < net->capacity) {
        return 0;
    }
    int capacity = net->capacity ? 2 * net->capacity : 32;
    struct lk_node *nodes = realloc(net->nodes, (size_t)capacity * sizeof *nodes);
    if (!nodes) {
        return lk_err(LK_ENOMEM, "out of memory for %d network nodes", capacity);
    }
    net->nodes = nodes;
    net->capacity = capacity;
    return 0;
}

int lk_net__push(struct lk_net *net, const struct lk_node_spec *spec) {
    int rc = grow(net);
    if (rc) {
        return rc;
    }
    struct lk_node *n = &net->nodes[net->n_nodes];
    *n = (struct lk_node){.kind = spec->kind,
                          .input = spec->input,
                          .residual = spec->residual,
                          .bn = spec->bn,
                          .relu = spec->relu,
                          .bias = spec->bias,
                          .kernel = spec->kernel,
                          .stride = spec->stride,
                          .pad = spec->kernel / 2};
    if (spec->input == 0) {
        n->in_c = 3;
        n->in_h = n->in_w = net->image_size;
    } else {
        const struct lk_node *from = &net->nodes[spec->input - 1];
        n->in_c = from->out_c, n->in_h = from->out_h, n->in_w = from->out_w;
    }
    n->out_c = spec->out_c ? spec->out_c : n->in_c;
    if (spec->kind == LK_NODE_AVG_POOL || spec->kind == LK_NODE_LINEAR) {
        n->kernel = n->stride = 1;
        n->pad = 0;
        n->out_h = n->out_w = 1;
    } else {
        n->out_h = (n->in_h + 2 * n->pad - n->kernel) / n->stride + 1;
        n->out_w = (n->in_w + 2 * n->pad - n->kernel) / n->stride + 1;
    }
    snprintf(n->name, sizeof n->name, "%s", spec->name);
    snprintf(n->bn_name, sizeof n->bn_name, "%s", spec->bn_name ? spec->bn_name : "");
    place(net, n);
    return ++net->n_nodes;
}

void lk_net_free(struct lk_net *net) {
    free(net->nodes);
    memset(net, 0, sizeof *net);
}

static int visit_tensor(int (*visit)(void *, const struct lk_net_tensor *), void *arg, int node, const char *owner,
                        const char *what, int stat, size_t offset, int ndim, const int shape[4]) {
    struct lk_net_tensor t = {.stat = stat, .node = node, .ndim = ndim, .offset = offset, .count = 1};
    snprintf(t.name, sizeof t.name, "%s.%s", owner, what);
    for (int i = 0; i < ndim; i++) {
        t.shape[i] = shape[i];
        t.count *= (size_t)shape[i];
    }
    return visit(arg, &t);
}

int lk_net_tensors(const struct lk_net *net, int n_nodes, int (*visit)(void *arg, const struct lk_net_tensor *t),
                   void *arg) {
    for (int i = 0; i < n_nodes; i++) {
        const struct lk_node *n = &net->nodes[i];
        if (n->kind != LK_NODE_CONV && n->kind != LK_NODE_LINEAR) {
            continue;
        }
        int shape[4] = {n->out_c, n->in_c, n->kernel, n->kernel};
        int ndim = n->kind == LK_NODE_CONV ? 4 : 2, rc;
        if ((rc = visit_tensor(visit, arg, i, n->name, "weight", 0, n->weight, ndim, shape))) {
            return rc;
        }
        if (n->bn && ((rc = visit_tensor(visit, arg, i, n->bn_name, "weight", 0, n->gamma, 1, shape)) ||
                      (rc = visit_tensor(visit, arg, i, n->bn_name, "bias", 0, n->beta, 1, shape)) ||
                      (rc = visit_tensor(visit, arg, i, n->bn_name, "running_mean", 1, n->mean, 1, shape)) ||
                      (rc = visit_tensor(visit, arg, i, n->bn_name, "running_var", 1, n->var, 1, shape)))) {
            return rc;
        }
        if (!n->bn && n->bias && (rc = visit_tensor(visit, arg, i, n->name, "bias", 0, n->beta, 1, shape))) {
            return rc;
        }
    }
    return 0;
}

double lk_net_macs(const struct lk_net *net, int n_nodes) {
    double macs = 0;
    for (int i = 0; i < n_nodes; i++) {
        const struct lk_node *n = &net->nodes[i];
        if (n->kind == LK_NODE_CONV || n->kind == LK_NODE_LINEAR) {
            macs += (double)weight_count(n) * n->out_h * n->out_w;
        }
    }
    return macs;
}

struct init {
    const struct lk_net *net;
    float *params, *stats;
    uint64_t seed;
    uint32_t number; /* of the parameter tensor, statistics not counted */
};

static int init_tensor(void *arg, const struct lk_net_tensor *t) {
    struct init *in = arg;
    const struct lk_node *n = &in->net->nodes[t->node];
    float *x = (t->stat ? in->stats : in->params) + t->offset;
    if (t->stat) {
        for (size_t i = 0; i < t->count; i++) {
            x[i] = t->offset == n->var ? 1.0f : 0.0f;
        }
        return 0;
    }
    uint32_t number = in->number++;
    if (t->ndim == 4) {
        double fan_out = (double)n->out_c * n->kernel * n->kernel;
        lk_rng_normal(x, t->count, (float)sqrt(2.0 / fan_out), in->seed, number);
    } else if (t->ndim == 2 || !n->bn) {
        lk_rng_uniform(x, t->count, (float)(1.0 / sqrt((double)n->in_c)), in->seed, number);
    } else {
        for (size_t i = 0; i < t->count; i++) {
            x[i] = t->offset == n->gamma ? 1.0f : 0.0f;
        }
    }
    return 0;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): init_tensor writes through both */
void lk_net_init(const struct lk_net *net, uint64_t seed, float *params, float *stats) {
    struct init in = {.net = net, .params = params, .stats = stats, .seed = seed};
    lk_net_tensors(net, net->n_nodes, init_tensor, &in);
}
