/* The default walk: one place that knows in which order the entries of a backend make a forward and a backward. */
#include "model/walk.h"

int lk_walk_forward(const struct lk_backend_ops *ops, const struct lk_net *net, int n_nodes, enum lk_purpose purpose,
                    struct lk_pass *pass, float *running_stats, int use_optional) {
    if (use_optional && ops->forward) {
        return ops->forward(pass, running_stats);
    }
    for (int i = 0; i < n_nodes; i++) {
        const struct lk_node *n = &net->nodes[i];
        int rc;
        if (!lk_node_has_weights(n)) {
            rc = ops->pool(pass, i);
        } else if ((rc = ops->conv(pass, i)) || purpose == LK_INFERENCE) {
            /* failed, or the convolution did the whole node */
        } else if (n->bn) {
            (void)((rc = ops->bn_stats(pass, i)) || (rc = ops->bn_finalize(pass, i, running_stats)) ||
                   (rc = ops->bn_apply(pass, i)));
        } else {
            rc = ops->activate(pass, i);
        }
        if (rc) {
            return rc;
        }
    }
    return 0;
}

int lk_walk_backward(const struct lk_backend_ops *ops, const struct lk_net *net, int n_nodes, struct lk_pass *pass,
                     float *grads, int use_optional) {
    if (use_optional && ops->backward) {
        return ops->backward(pass, grads);
    }
    for (int i = n_nodes - 1; i >= 0; i--) {
        const struct lk_node *n = &net->nodes[i];
        int rc;
        if (!lk_node_has_weights(n)) {
            rc = ops->pool_backward(pass, i);
        } else {
            if (n->bn) {
                (void)((rc = ops->bn_backward_reduce(pass, i)) || (rc = ops->bn_backward_finalize(pass, i, grads)) ||
                       (rc = ops->bn_backward_apply(pass, i)));
            } else {
                rc = ops->activate_backward(pass, i, grads);
            }
            if (!rc) {
                rc = ops->conv_backward_weights(pass, i, grads);
            }
            if (!rc && n->input != 0) {
                rc = ops->conv_backward_data(pass, i);
            }
        }
        if (rc) {
            return rc;
        }
    }
    return 0;
}
