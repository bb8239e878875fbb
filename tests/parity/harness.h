/* Runs a net on a device beside the float64 reference and says how far apart they are. */
#ifndef LK_TESTS_HARNESS_H
#define LK_TESTS_HARNESS_H

#include "model/backend.h"
#include "reference.h"

struct harness {
    struct lk_backend *b;
    const struct lk_backend_ops *ops;
    const struct lk_net *net;
    int n_nodes, batch;
    enum lk_precision precision;
    enum lk_purpose purpose;
    struct lk_plan *plan;
    struct lk_pass *pass;
    float *params, *stats, *grads;       /* host */
    float *d_params, *d_stats, *d_grads; /* device */
    float *input, *out_gradient;         /* host */
    double *ref_params, *ref_stats, *ref_grads;
    struct ref ref;
};

/* Draws parameters, statistics and a normal input by `seed`, plans, makes a pass, uploads. Parameters and input are
 * rounded to bf16 for LK_BF16, so that both sides start from the same numbers. Prints and returns -1 on failure. */
int harness_open(struct harness *h, struct lk_backend *b, const struct lk_net *net, int n_nodes, int batch,
                 enum lk_precision precision, enum lk_purpose purpose, uint64_t seed);
void harness_close(struct harness *h); /* accepts a zeroed one */

int harness_forward(struct harness *h, int use_optional);  /* device and reference */
int harness_backward(struct harness *h, int use_optional); /* both, from the same normal gradient of the last edge */

/* Worst |a - b| / |b| over edges 1.., over tensors of the gradients, over running statistics. `where` (may be NULL)
 * receives the worst one's name.A gradient that is zero
 * but for rounding (a bias in front of a batch norm) is measured against a tenth of the norm of all gradients. */
double harness_edge_error(struct harness *h, int edge);
double harness_grad_error(struct harness *h, const char **where);
double harness_total_error(struct harness *h); /* |a - b| / |b| over all gradients at once */
double harness_stat_error(struct harness *h, const char **where);

float harness_bf16(float x); /* rounded to nearest even */

#endif
