/* What graph.c, which describes, graph_plan.c, which chooses and runs, and graph_time.c, which times, know of each other.
 * cudnn.h is the first two's alone: a descriptor is a void * here, as it is there. */
#ifndef LK_CUDA_GRAPH_INTERNAL_H
#define LK_CUDA_GRAPH_INTERNAL_H

#include <cuda_runtime_api.h>

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

/* A plan that someone uses. Graphs with the same text under the same policy share one. */
struct lk_graph_plan {
    struct lk_graph_device *device;
    struct lk_graph_plan *next;
    int users;
    char key[65];
    void *plan;
    int64_t workspace;
    int n_tensors, is_virtual[LK_GRAPH_TENSORS];
    size_t tensor_bytes[LK_GRAPH_TENSORS];
};

struct lk_graph_device {
    struct cudnnContext *handle; /* NULL for a described device */
    void *description;           /* device properties: of the handle's device, or from JSON */
    cudaStream_t stream;
    char *cache_folder; /* NULL: choices are not kept */
    char name[320];
    struct lk_graph_plan *plans;
};

int lk_graph__failure(int cudnn_status, const char *what); /* sets the text; LK_EUNSUPPORTED */
int lk_graph__finish(struct lk_graph *g, void **graph);    /* the operation graph, owned by g; the first failure */

/* Where a choice is kept, if anywhere: "<key>.<kind>". */
int lk_graph__cache_path(const struct lk_graph_device *d, const char *key, const char *kind, char *path, size_t size);

/* --- graph_time.c */
/* What is timed: a plan, and what is launched behind it. */
struct lk_graph__timed {
    const struct lk_graph_plan *plan;
    void *const *pointers;
    void *workspace;
    int (*rest)(void *arg, void *const *pointers); /* NULL: nothing */
    void *arg;
};
/* Milliseconds of the fastest of five runs, or a negative number when it cannot run. */
float lk_graph__time(const struct lk_graph__timed *t);

/* Scratch memory of a graph's own sizes. */
struct lk_graph__bench {
    void *tensors[LK_GRAPH_TENSORS], *workspace;
    size_t workspace_size;
};
int lk_graph__bench_open(struct lk_graph__bench *b, int n, const int *is_virtual, const size_t *bytes,
                         cudaStream_t stream);
int lk_graph__bench_workspace(struct lk_graph__bench *b, size_t bytes); /* 1: there is as much */
void lk_graph__bench_close(struct lk_graph__bench *b);

#endif
