/* See reference.h. Loops in the order of the definitions; no attempt at speed. */
#include "reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EPSILON ((double)LK_BN_EPSILON)
#define MOMENTUM ((double)LK_BN_MOMENTUM)

static size_t out_size(const struct lk_node *n) { return (size_t)n->out_c * (size_t)n->out_h * (size_t)n->out_w; }

size_t ref_edge_size(const struct ref *r, int edge) {
    const struct lk_node *n = &r->net->nodes[edge ? edge - 1 : 0];
    return (size_t)r->batch * (edge ? out_size(n) : (size_t)n->in_c * (size_t)n->in_h * (size_t)n->in_w);
}

static double **table(int rows) { return calloc((size_t)rows, sizeof(double *)); }

int ref_open(struct ref *r, const struct lk_net *net, int n_nodes, int batch) {
    *r = (struct ref){.net = net, .n_nodes = n_nodes, .batch = batch};
    r->edge = table(n_nodes + 1), r->gradient = table(n_nodes + 1);
    r->raw = table(n_nodes), r->raw_gradient = table(n_nodes), r->mean = table(n_nodes), r->var = table(n_nodes);
    int ok = r->edge && r->gradient && r->raw && r->raw_gradient && r->mean && r->var;
    for (int e = 0; ok && e <= n_nodes; e++) {
        r->edge[e] = calloc(ref_edge_size(r, e), sizeof(double));
        r->gradient[e] = calloc(ref_edge_size(r, e), sizeof(double));
        ok = r->edge[e] && r->gradient[e];
    }
    for (int i = 0; ok && i < n_nodes; i++) {
        size_t c = (size_t)net->nodes[i].out_c;
        r->raw[i] = calloc(ref_edge_size(r, i + 1), sizeof(double));
        r->raw_gradient[i] = calloc(ref_edge_size(r, i + 1), sizeof(double));
        r->mean[i] = calloc(c, sizeof(double));
        r->var[i] = calloc(c, sizeof(double));
        ok = r->raw[i] && r->raw_gradient[i] && r->mean[i] && r->var[i];
    }
    size_t largest_edge = 1;
    for (int e = 0; e <= n_nodes; e++) {
        size_t size = ref_edge_size(r, e);
        largest_edge = size > largest_edge ? size : largest_edge;
    }
    r->scratch = calloc(largest_edge, sizeof(double));
    if (!ok || !r->scratch) {
        ok = 0;
        ref_close(r);
    }
    return ok ? 0 : -1;
}

static void free_table(double **t, int rows) {
    for (int i = 0; t && i < rows; i++) {
        free(t[i]);
    }
    free(t);
}

void ref_close(struct ref *r) {
    free(r->scratch);
    free_table(r->edge, r->n_nodes + 1);
    free_table(r->gradient, r->n_nodes + 1);
    free_table(r->raw, r->n_nodes);
    free_table(r->raw_gradient, r->n_nodes);
    free_table(r->mean, r->n_nodes);
    free_table(r->var, r->n_nodes);
    memset(r, 0, sizeof *r);
}

static void round_bf16(double *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float f = (float)x[i];
        uint32_t u;
        memcpy(&u, &f, 4);
        u = (u + 0x7fffu + (u >> 16 & 1u)) & 0xffff0000u;
        memcpy(&f, &u, 4);
        x[i] = (double)f;
    }
}

/* Is this edge stored in bf16 by the backend? */
static int is_rounded(const struct ref *r, int edge) {
    const struct lk_node *n = edge ? &r->net->nodes[edge - 1] : NULL;
    enum lk_node_kind reader = r->net->nodes[0].kind;
    int flat = n ? n->kind == LK_NODE_AVG_POOL || n->kind == LK_NODE_LINEAR : reader == LK_NODE_LINEAR;
    int leaves = n && flat && edge == r->n_nodes && !n->bn;
    return r->bf16 && (!flat || (r->bf16_heads && !leaves));
}

static void store(const struct ref *r, int edge, double *x) {
    if (is_rounded(r, edge)) {
        round_bf16(x, ref_edge_size(r, edge));
    }
}

/* Calls one of three sums over all (image, output, input) triples of a convolution or linear layer: the index
 * arithmetic is written once. y += w x; dx += w dy; dw += dy x. */
enum product { FORWARD, TO_INPUT, TO_WEIGHTS };

static void product(const struct lk_node *n, int batch, enum product what, double *x, double *w, double *y) {
    for (int b = 0; b < batch; b++) {
        for (int o = 0; o < n->out_c; o++) {
            for (int i = 0; i < n->in_c; i++) {
                double *xi = x + ((size_t)b * (size_t)n->in_c + (size_t)i) * (size_t)(n->in_h * n->in_w);
                double *yo = y + ((size_t)b * (size_t)n->out_c + (size_t)o) * (size_t)(n->out_h * n->out_w);
                double *wk = w + ((size_t)o * (size_t)n->in_c + (size_t)i) * (size_t)(n->kernel * n->kernel);
                for (int oy = 0; oy < n->out_h; oy++) {
                    for (int ox = 0; ox < n->out_w; ox++) {
                        for (int k = 0; k < n->kernel * n->kernel; k++) {
                            int iy = oy * n->stride - n->pad + k / n->kernel;
                            int ix = ox * n->stride - n->pad + k % n->kernel;
                            if (iy < 0 || ix < 0 || iy >= n->in_h || ix >= n->in_w) {
                                continue;
                            }
                            double *px = &xi[iy * n->in_w + ix], *py = &yo[oy * n->out_w + ox];
                            if (what == FORWARD) {
                                *py += wk[k] * *px;
                            } else if (what == TO_INPUT) {
                                *px += wk[k] * *py;
                            } else {
                                wk[k] += *py * *px;
                            }
                        }
                    }
                }
            }
        }
    }
}

/* The value of channel c at position j of [batch][hw]. */
static double *at(double *t, const struct lk_node *n, int c, size_t j) {
    size_t hw = (size_t)n->out_h * (size_t)n->out_w;
    return &t[((j / hw) * (size_t)n->out_c + (size_t)c) * hw + j % hw];
}

static void normalise(struct ref *r, int i, const double *params, double *stats, int training) {
    const struct lk_node *n = &r->net->nodes[i];
    size_t count = (size_t)r->batch * (size_t)n->out_h * (size_t)n->out_w;
    for (int c = 0; c < n->out_c; c++) {
        double mean = 0.0, var = 0.0;
        if (training) {
            for (size_t j = 0; j < count; j++) {
                mean += *at(r->raw[i], n, c, j);
            }
            mean /= (double)count;
            for (size_t j = 0; j < count; j++) {
                double d = *at(r->raw[i], n, c, j) - mean;
                var += d * d;
            }
            if (stats) {
                double unbiased = count > 1 ? var / (double)(count - 1) : 0.0;
                double *m = &stats[n->mean + (size_t)c], *v = &stats[n->var + (size_t)c];
                *m += MOMENTUM * (mean - *m);
                *v += MOMENTUM * (unbiased - *v);
            }
            var /= (double)count;
        } else {
            mean = stats[n->mean + (size_t)c], var = stats[n->var + (size_t)c];
        }
        r->mean[i][c] = mean, r->var[i][c] = var;
        double gamma = params[n->gamma + (size_t)c], beta = params[n->beta + (size_t)c];
        for (size_t j = 0; j < count; j++) {
            *at(r->edge[i + 1], n, c, j) = gamma * (*at(r->raw[i], n, c, j) - mean) / sqrt(var + EPSILON) + beta;
        }
    }
}

/* For every output of a 3x3 maximum the position of its first largest input. */
static size_t largest(const struct lk_node *n, const double *plane, int oy, int ox) {
    size_t best = 0;
    double value = -INFINITY;
    for (int k = 0; k < 9; k++) {
        int iy = oy * 2 - 1 + k / 3, ix = ox * 2 - 1 + k % 3;
        if (iy >= 0 && ix >= 0 && iy < n->in_h && ix < n->in_w && plane[iy * n->in_w + ix] > value) {
            best = (size_t)iy * (size_t)n->in_w + (size_t)ix;
            value = plane[best];
        }
    }
    return best;
}

static void pool(const struct ref *r, int i, int backward) {
    const struct lk_node *n = &r->net->nodes[i];
    size_t in = (size_t)n->in_h * (size_t)n->in_w, out = (size_t)n->out_h * (size_t)n->out_w;
    for (size_t p = 0; p < (size_t)r->batch * (size_t)n->out_c; p++) {
        double *x = r->edge[n->input] + p * in, *y = r->edge[i + 1] + p * out;
        double *dx = r->scratch + p * in, *dy = r->gradient[i + 1] + p * out;
        if (n->kind == LK_NODE_AVG_POOL) {
            double sum = 0.0;
            for (size_t j = 0; j < in; j++) {
                sum += x[j];
                dx[j] += backward ? dy[0] / (double)in : 0.0;
            }
            y[0] = backward ? y[0] : sum / (double)in;
            continue;
        }
        for (int o = 0; o < (int)out; o++) {
            size_t from = largest(n, x, o / n->out_w, o % n->out_w);
            if (backward) {
                dx[from] += dy[o];
            } else {
                y[o] = x[from];
            }
        }
    }
}

void ref_forward(struct ref *r, const double *params, double *stats, int training) {
    for (int i = 0; i < r->n_nodes; i++) {
        const struct lk_node *n = &r->net->nodes[i];
        if (!lk_node_has_weights(n)) {
            pool(r, i, 0);
            store(r, i + 1, r->edge[i + 1]);
            continue;
        }
        size_t size = ref_edge_size(r, i + 1);
        memset(r->raw[i], 0, size * sizeof(double));
        product(n, r->batch, FORWARD, r->edge[n->input], (double *)(size_t)(params + n->weight), r->raw[i]);
        size_t hw = (size_t)n->out_h * (size_t)n->out_w;
        if (n->bias && !n->bn) {
            for (size_t j = 0; j < size; j++) {
                r->raw[i][j] += params[n->beta + j / hw % (size_t)n->out_c];
            }
        }
        if (training || !n->bn) { /* else norm, sum and ReLU are done before anything is stored */
            store(r, i + 1, r->raw[i]);
        }
        if (n->bn) {
            normalise(r, i, params, stats, training);
        } else {
            memcpy(r->edge[i + 1], r->raw[i], size * sizeof(double));
        }
        for (size_t j = 0; j < size; j++) {
            double *z = &r->edge[i + 1][j];
            *z += n->residual >= 0 ? r->edge[n->residual][j] : 0.0;
            *z = n->relu && *z < 0.0 ? 0.0 : *z;
        }
        store(r, i + 1, r->edge[i + 1]);
    }
}

static void normalise_backward(struct ref *r, int i, const double *params, double *grads) {
    const struct lk_node *n = &r->net->nodes[i];
    size_t count = (size_t)r->batch * (size_t)n->out_h * (size_t)n->out_w;
    for (int c = 0; c < n->out_c; c++) {
        double inverse = 1.0 / sqrt(r->var[i][c] + EPSILON), mean = r->mean[i][c], sum = 0.0, sum_x = 0.0;
        for (size_t j = 0; j < count; j++) {
            double g = *at(r->gradient[i + 1], n, c, j);
            sum += g;
            sum_x += g * (*at(r->raw[i], n, c, j) - mean) * inverse;
        }
        grads[n->gamma + (size_t)c] += sum_x;
        grads[n->beta + (size_t)c] += sum;
        for (size_t j = 0; j < count; j++) {
            double x = (*at(r->raw[i], n, c, j) - mean) * inverse, g = *at(r->gradient[i + 1], n, c, j);
            *at(r->raw_gradient[i], n, c, j) = params[n->gamma + (size_t)c] * inverse *
                                               (g - sum / (double)count - x * sum_x / (double)count);
        }
    }
}

/* What a node left in scratch is one contribution to its input's gradient. */
static void add_gradient(struct ref *r, int edge) {
    store(r, edge, r->scratch);
    for (size_t j = 0; j < ref_edge_size(r, edge); j++) {
        r->gradient[edge][j] += r->scratch[j];
    }
}

void ref_backward(struct ref *r, const double *params, double *grads) {
    for (int e = 0; e < r->n_nodes; e++) {
        memset(r->gradient[e], 0, ref_edge_size(r, e) * sizeof(double));
    }
    for (int i = r->n_nodes - 1; i >= 0; i--) {
        const struct lk_node *n = &r->net->nodes[i];
        if (!lk_node_has_weights(n)) {
            memset(r->scratch, 0, ref_edge_size(r, n->input) * sizeof(double));
            pool(r, i, 1);
            add_gradient(r, n->input);
            continue;
        }
        size_t size = ref_edge_size(r, i + 1), hw = (size_t)n->out_h * (size_t)n->out_w;
        for (size_t j = 0; j < size; j++) {
            double *g = &r->gradient[i + 1][j];
            *g = n->relu && r->edge[i + 1][j] <= 0.0 ? 0.0 : *g;
            if (is_rounded(r, i + 1)) {
                round_bf16(g, 1);
            }
            if (n->residual >= 0) {
                r->gradient[n->residual][j] += *g;
            }
            if (n->bias && !n->bn) {
                grads[n->beta + j / hw % (size_t)n->out_c] += *g;
            }
        }
        if (n->bn) {
            normalise_backward(r, i, params, grads);
        } else {
            memcpy(r->raw_gradient[i], r->gradient[i + 1], size * sizeof(double));
        }
        if (r->bf16 && (r->bf16_heads || n->kind == LK_NODE_CONV)) {
            round_bf16(r->raw_gradient[i], size);
        }
        product(n, r->batch, TO_WEIGHTS, r->edge[n->input], grads + n->weight, r->raw_gradient[i]);
        memset(r->scratch, 0, ref_edge_size(r, n->input) * sizeof(double));
        product(n, r->batch, TO_INPUT, r->scratch, (double *)(size_t)(params + n->weight), r->raw_gradient[i]);
        add_gradient(r, n->input);
    }
}

static double cosine(const double *p, const double *z, int d, double k, double *g) {
    double pp = 0.0, zz = 0.0, pz = 0.0;
    for (int j = 0; j < d; j++) {
        pp += p[j] * p[j], zz += z[j] * z[j], pz += p[j] * z[j];
    }
    double c = pz / sqrt(pp * zz);
    for (int j = 0; j < d; j++) {
        g[j] = k * (z[j] / sqrt(pp * zz) - c * p[j] / pp);
    }
    return c;
}

double ref_byol(const double *p1, const double *p2, const double *z1, const double *z2, int batch, int d, double scale,
                double *g1, double *g2) {
    double loss = 0.0;
    for (int i = 0; i < batch; i++) {
        size_t row = (size_t)i * (size_t)d;
        loss += 2.0 - 2.0 * cosine(p1 + row, z2 + row, d, -2.0 * scale / batch, g1 + row);
        loss += 2.0 - 2.0 * cosine(p2 + row, z1 + row, d, -2.0 * scale / batch, g2 + row);
    }
    return loss / batch;
}

double ref_error(const float *a, const double *b, size_t n) {
    double difference = 0.0, norm = 0.0;
    for (size_t i = 0; i < n; i++) {
        double e = (double)a[i] - b[i];
        difference += e * e;
        norm += b[i] * b[i];
    }
    return norm > 0.0 ? sqrt(difference / norm) : sqrt(difference);
}
