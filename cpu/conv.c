/* Convolutions and linear layers: oneDNN does the work, or winograd.c; these say with what. */
#include "cpu.h"

int lk_cpu__conv(struct lk_pass *pass, int node) {
    if (pass->plan->nodes[node].winograd) {
        lk_cpu__winograd(pass, node);
        return 0;
    }
    return lk_dnnl__run(&pass->plan->b->dnnl, &pass->nodes[node].forward);
}

int lk_cpu__conv_backward_weights(struct lk_pass *pass, int node, float *grads) {
    int rc = lk_dnnl__run(&pass->plan->b->dnnl, &pass->nodes[node].backward_weights);
    return rc ? rc : lk_cpu__add_weight_gradient(pass->plan, &pass->plan->nodes[node], grads);
}

int lk_cpu__conv_backward_data(struct lk_pass *pass, int node) {
    if (pass->plan->nodes[node].winograd_back) {
        lk_cpu__winograd_back(pass, node);
        return 0;
    }
    return lk_dnnl__run(&pass->plan->b->dnnl, &pass->nodes[node].backward_data);
}
