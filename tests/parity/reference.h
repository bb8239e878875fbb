/* A network in float64, written as plainly as the mathematics: what every backend is held to. Forward in training mode
 * (batch statistics) or evaluation mode (running statistics), and backward. test_reference.c holds its gradients to
 * finite differences, so the backends' gradients may be compared with these.
 *
 * Everything is [batch][C][H][W] and canonical, parameters too. The caller owns params, stats and grads. */
#ifndef LK_TESTS_REFERENCE_H
#define LK_TESTS_REFERENCE_H

#include "model/net.h"

struct ref {
    const struct lk_net *net;
    int n_nodes, batch;
    int bf16; /* 1: what a bf16 backend stores (raw outputs, edges, their gradients) is rounded to bf16 here too, so that
                 both sides have the same ReLU masks and what is left to compare is arithmetic */
    int bf16_heads; /* 1: also behind the average pool, but for a last edge without norm; 0: that backend keeps float */
    double **edge;  /* [n_nodes + 1]: outputs of nodes; edge 0 is the input */
    double **raw;   /* [n_nodes]: before batch norm, residual and ReLU */
    double **gradient;     /* [n_nodes + 1]: of edges; the last one is set by the caller before ref_backward */
    double **raw_gradient; /* [n_nodes]: of raw */
    double **mean, **var;  /* [n_nodes][out_c], of the last training forward */
    double *scratch;       /* as large as the largest edge */
};

int ref_open(struct ref *r, const struct lk_net *net, int n_nodes, int batch); /* 0, or -1 without memory */
void ref_close(struct ref *r);
size_t ref_edge_size(const struct ref *r, int edge); /* doubles */

/* training 1: batch statistics, and stats (may be NULL) takes their moving average; 0: stats are used. */
void ref_forward(struct ref *r, const double *params, double *stats, int training);
void ref_backward(struct ref *r, const double *params, double *grads); /* adds to grads */

/* BYOL: 4 terms as backend.h defines them, [batch][d] each; g1, g2 receive the gradients of scale * loss. */
double ref_byol(const double *p1, const double *p2, const double *z1, const double *z2, int batch, int d, double scale,
                double *g1, double *g2);

/* |a - b| / |b| over n values, float against double. */
double ref_error(const float *a, const double *b, size_t n);

#endif
