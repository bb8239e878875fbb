/* What graph.c, which describes, and graph_plan.c, which chooses and runs, know of each other. cudnn.h is theirs alone:
 * a descriptor is a void * here, as it is there. */
#ifndef LK_CUDA_GRAPH_INTERNAL_H
#define LK_CUDA_GRAPH_INTERNAL_H

#include "base/buf.h"
#include "graph.h"

enum { LK_GRAPH_TENSORS = 32, LK_GRAPH_OPERATIONS = 16, LK_GRAPH_DESCRIPTORS = 96 };

struct lk_graph {
    char name[96];
    void *all[LK_GRAPH_DESCRIPTORS]; /* everything to destroy, in order of creation */
    int n_all;
    void *tensors[LK_GRAPH_TENSORS];
    size_t tensor_bytes[LK_GRAPH_TENSORS];
    int is_virtual[LK_GRAPH_TENSORS];
    int n_tensors;
    void *operations[LK_GRAPH_OPERATIONS];
    int n_operations;
    struct lk_buf text; /* canonical description: the caches' key */
    int status;         /* first failure */
    char error[512];
};

int lk_graph__failure(int cudnn_status, const char *what); /* sets the text; LK_EUNSUPPORTED */
int lk_graph__finish(struct lk_graph *g, void **graph);    /* the operation graph, owned by g; the first failure */

#endif
