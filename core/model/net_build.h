/* How the files of this room put a network together. Nobody outside core/model includes it. */
#ifndef LK_MODEL_NET_BUILD_H
#define LK_MODEL_NET_BUILD_H

#include "model/net.h"

/* What lk_net__push needs to know of one node; the rest follows from the edge that it reads. */
struct lk_node_spec {
    enum lk_node_kind kind;
    int input, residual; /* edges; residual -1: none */
    int out_c, kernel, stride;
    int bn, relu, bias;
    const char *name, *bn_name; /* bn_name NULL without bn */
};

/* Appends a node, gives it its place in both arenas, and returns the edge that it writes (>= 1) or a negative status.
 * Edge 0 is [3][image_size][image_size]. */
int lk_net__push(struct lk_net *net, const struct lk_node_spec *spec);

/* Appends the residual network of `arch` to a zeroed net whose image_size is set; ends in the global average pool. */
int lk_net__push_resnet(struct lk_net *net, const struct lk_arch *arch);

#endif
