/* The default walk over a net's nodes, written once over the backend's mandatory entries. */
#ifndef LK_MODEL_WALK_H
#define LK_MODEL_WALK_H

#include "model/backend.h"

/* Forward of nodes [0, n_nodes) in a pass planned for any purpose. running_stats (device arena or NULL): updated from
 * the batch in LK_TRAIN. use_optional 0: mandatory entries only, for parity tests. */
int lk_walk_forward(const struct lk_backend_ops *ops, const struct lk_net *net, int n_nodes, enum lk_purpose purpose,
                    struct lk_pass *pass, float *running_stats, int use_optional);

/* Backward from the output gradient set in the pass down to the first layer's weights; adds into grads. */
int lk_walk_backward(const struct lk_backend_ops *ops, const struct lk_net *net, int n_nodes, struct lk_pass *pass,
                     float *grads, int use_optional);

#endif
