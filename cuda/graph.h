/* cuDNN's graph ("backend") API in a dozen functions: describe tensors and operations, ask the heuristics, build plans,
 * time them on the device, run the best. graph.c and graph_plan.c alone include cudnn.h. Reference: NVIDIA cuDNN
 * developer guide, "Graph API"; no deprecated call is used.
 *
 * A graph is described once with a sticky error: every call after a failure does nothing, and lk_graph_build() reports
 * the first. All tensors are NHWC, 16-byte aligned; virtual ones exist only between operations of the graph. */
#ifndef LK_CUDA_GRAPH_H
#define LK_CUDA_GRAPH_H

#include <stddef.h>
#include <stdint.h>

enum lk_graph_type { LK_G_F32, LK_G_BF16, LK_G_F16, LK_G_BOOL };
enum lk_graph_conv { LK_G_FORWARD, LK_G_BACKWARD_DATA, LK_G_BACKWARD_FILTER };
enum lk_graph_pointwise { LK_G_ADD, LK_G_SUB, LK_G_MUL, LK_G_RELU, LK_G_RELU_BACKWARD, LK_G_IDENTITY };

/* Where plans are made for: a real device behind a cuDNN handle, or the description of one (JSON as cuDNN prints it),
 * on a machine without any: then graphs can be checked but not run. */
struct lk_graph_device;
int lk_graph_device_open(struct lk_graph_device **out, void *stream, const char *cache_folder); /* cache NULL: none */
int lk_graph_device_describe(struct lk_graph_device **out, const char *json, size_t bytes);
void lk_graph_device_close(struct lk_graph_device *device);
size_t lk_graph_version(void); /* cudnnGetVersion(): 91900 */

struct lk_graph;
int lk_graph_begin(struct lk_graph **out, const char *name);
void lk_graph_free(struct lk_graph *g);

/* Tensors; the value returned is the tensor's number, which lk_graph_run() uses too (negative after an error). */
int lk_graph_tensor(struct lk_graph *g, enum lk_graph_type type, int n, int c, int h, int w);
int lk_graph_virtual(struct lk_graph *g, enum lk_graph_type type, int n, int c, int h, int w);

/* Operations; compute type float. x, w, y by the forward's meaning: BACKWARD_DATA writes x, BACKWARD_FILTER writes w. */
void lk_graph_conv(struct lk_graph *g, enum lk_graph_conv kind, int x, int w, int y, int kernel, int stride, int pad);
/* b: second operand, may be broadcast over N, H, W; RELU_BACKWARD: a is the gradient, b the ReLU's input. */
void lk_graph_pointwise(struct lk_graph *g, enum lk_graph_pointwise mode, int a, int b, int y);
void lk_graph_gen_stats(struct lk_graph *g, int x, int sum, int square_sum); /* [1][C][1][1] float each */
void lk_graph_sum(struct lk_graph *g, int x, int y);                         /* y: [1][C][1][1] float */

/* Engine choice. exact: only engines without tensor-core down-conversion (TF32), for fp32 parity. deterministic: no
 * engine that adds in a varying order. candidates: how many configurations are timed (0: 8). */
struct lk_graph_policy {
    int exact, deterministic, candidates;
};

struct lk_graph_plan;
/* Builds and, on a real device, times the candidates on scratch memory and keeps the fastest; the plan is cached on disk
 * under cuDNN version, device, policy and the graph's text, so that the next start neither times nor compiles. Graphs of
 * the same text share one plan. LK_EUNSUPPORTED: no engine. Frees nothing of g; free the plan before the device. */
int lk_graph_build(struct lk_graph *g, struct lk_graph_device *device, const struct lk_graph_policy *policy,
                   struct lk_graph_plan **out);
void lk_graph_plan_free(struct lk_graph_plan *plan);
size_t lk_graph_workspace(const struct lk_graph_plan *plan);
/* pointers[n] by tensor number (virtual ones ignored). Asynchronous on the device's stream. */
int lk_graph_run(const struct lk_graph_plan *plan, void *const *pointers, void *workspace);

/* 1 when `fused` takes less time than `plain` with `rest` behind it, which is given plain's tensors and the plans' stream.
 * Timed by turns on scratch memory, and remembered beside the plans, so that the next start chooses the same. 0 when it
 * cannot be timed. */
int lk_graph_faster(const struct lk_graph_plan *fused, const struct lk_graph_plan *plain,
                    int (*rest)(void *arg, void *const *tensors), void *arg);

/* What a described device offers: engine configurations the heuristics return, and how far the plans of the first `tries`
 * get: built from pre-compiled kernels, and read back from their own text as the cache does; or generated and compiled
 * up to loading the module, which needs a driver. `why` is cuDNN's word on the last that got no further. */
struct lk_graph_support {
    int configurations, precompiled, restored, generated;
    char why[256];
};
int lk_graph_check(struct lk_graph *g, struct lk_graph_device *device, const struct lk_graph_policy *policy, int tries,
                   struct lk_graph_support *out);

#endif
