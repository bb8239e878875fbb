#include "graph.h"

#include <cuda_runtime_api.h>
#include <cudnn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/sha256.h"

enum { MAX_TENSORS = 32, MAX_OPERATIONS = 16, MAX_DESCRIPTORS = 96, MAX_CONFIGS = 64 };

struct lk_graph_device {
    cudnnHandle_t handle;                 /* NULL for a described device */
    cudnnBackendDescriptor_t description; /* device properties: of the handle's device, or from JSON */
    cudaStream_t stream;
    char *cache_folder; /* NULL: choices are not kept */
    char name[256];
};

struct lk_graph {
    char name[96];
    cudnnBackendDescriptor_t all[MAX_DESCRIPTORS]; /* everything to destroy, in order of creation */
    int n_all;
    cudnnBackendDescriptor_t tensors[MAX_TENSORS];
    size_t tensor_bytes[MAX_TENSORS];
    int is_virtual[MAX_TENSORS];
    int n_tensors;
    cudnnBackendDescriptor_t operations[MAX_OPERATIONS];
    int n_operations;
    struct lk_buf text; /* canonical description: the cache's key */
    int status;         /* first failure */
    char error[512];
};

struct lk_graph_plan {
    cudnnHandle_t handle;
    cudnnBackendDescriptor_t plan;
    int64_t workspace;
    int n_tensors, is_virtual[MAX_TENSORS];
};

/* ------------------------------------------------------------------------------------------- descriptors */

static int cudnn_failure(cudnnStatus_t s, const char *what) {
    char detail[320] = "";
    cudnnGetLastErrorString(detail, sizeof detail);
    return lk_err(LK_EUNSUPPORTED, "%s: %s%s%s", what, cudnnGetErrorString(s), detail[0] ? ": " : "", detail);
}

static void keep(struct lk_graph *g, cudnnStatus_t s, const char *what) {
    if (s == CUDNN_STATUS_SUCCESS || g->status) {
        return;
    }
    g->status = cudnn_failure(s, what);
    snprintf(g->error, sizeof g->error, "%s", lk_error());
}

static cudnnBackendDescriptor_t create(struct lk_graph *g, cudnnBackendDescriptorType_t type) {
    cudnnBackendDescriptor_t d = NULL;
    if (g->status) {
        return NULL;
    }
    if (g->n_all == MAX_DESCRIPTORS) {
        g->status = LK_ELIMIT;
        snprintf(g->error, sizeof g->error, "graph %s has too many descriptors", g->name);
        return NULL;
    }
    keep(g, cudnnBackendCreateDescriptor(type, &d), "create descriptor");
    if (d) {
        g->all[g->n_all++] = d;
    }
    return d;
}

static void set(struct lk_graph *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t n, const void *values) {
    if (!g->status) {
        keep(g, cudnnBackendSetAttribute(d, name, type, n, values), "set attribute");
    }
}

static void set_descriptor(struct lk_graph *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                           cudnnBackendDescriptor_t value) {
    set(g, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static void finalize(struct lk_graph *g, cudnnBackendDescriptor_t d, const char *what) {
    if (!g->status) {
        keep(g, cudnnBackendFinalize(d), what);
    }
}

static cudnnDataType_t cudnn_type(enum lk_graph_type t) {
    return t == LK_G_BF16   ? CUDNN_DATA_BFLOAT16
           : t == LK_G_F16  ? CUDNN_DATA_HALF
           : t == LK_G_BOOL ? CUDNN_DATA_BOOLEAN
                            : CUDNN_DATA_FLOAT;
}

static size_t type_bits(enum lk_graph_type t) { return t == LK_G_F32 ? 32 : t == LK_G_BOOL ? 1 : 16; }

/* ------------------------------------------------------------------------------------------- description */

int lk_graph_begin(struct lk_graph **out, const char *name) {
    struct lk_graph *g = lk_calloc(1, sizeof *g);
    *out = g;
    if (!g) {
        return LK_ENOMEM;
    }
    snprintf(g->name, sizeof g->name, "%s", name);
    return LK_OK;
}

void lk_graph_free(struct lk_graph *g) {
    if (!g) {
        return;
    }
    while (g->n_all) {
        cudnnBackendDestroyDescriptor(g->all[--g->n_all]);
    }
    lk_buf_free(&g->text);
    free(g);
}

static int tensor(struct lk_graph *g, enum lk_graph_type type, int n, int c, int h, int w, int is_virtual) {
    int64_t number = g->n_tensors, uid = number + 1, alignment = 16;
    int64_t dims[4] = {n, c, h, w};
    int64_t strides[4] = {(int64_t)c * h * w, 1, (int64_t)c * w, c};
    cudnnDataType_t t = cudnn_type(type);
    bool yes = true;
    cudnnBackendDescriptor_t d;
    if (g->n_tensors == MAX_TENSORS && !g->status) {
        g->status = LK_ELIMIT;
        snprintf(g->error, sizeof g->error, "graph %s has too many tensors", g->name);
    }
    d = create(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &t);
    set(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    set(g, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    set(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    set(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    if (is_virtual) {
        set(g, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &yes);
    }
    finalize(g, d, "tensor");
    if (!g->status) {
        g->status = lk_buf_printf(&g->text, "t%d:%d,%d,%d,%d,%d%s;", (int)type, n, c, h, w, (int)number,
                                  is_virtual ? "v" : "");
    }
    if (g->status) {
        return -1;
    }
    g->tensors[number] = d;
    g->is_virtual[number] = is_virtual;
    g->tensor_bytes[number] = ((size_t)n * (size_t)c * (size_t)h * (size_t)w * type_bits(type) + 7) / 8;
    return g->n_tensors++;
}

int lk_graph_tensor(struct lk_graph *g, enum lk_graph_type type, int n, int c, int h, int w) {
    return tensor(g, type, n, c, h, w, 0);
}

int lk_graph_virtual(struct lk_graph *g, enum lk_graph_type type, int n, int c, int h, int w) {
    return tensor(g, type, n, c, h, w, 1);
}

static void add_operation(struct lk_graph *g, cudnnBackendDescriptor_t d, const char *text) {
    finalize(g, d, "operation");
    if (!g->status && g->n_operations == MAX_OPERATIONS) {
        g->status = LK_ELIMIT;
        snprintf(g->error, sizeof g->error, "graph %s has too many operations", g->name);
    }
    if (!g->status) {
        g->operations[g->n_operations++] = d;
        g->status = lk_buf_printf(&g->text, "%s;", text);
    }
}

static cudnnBackendDescriptor_t tensor_of(const struct lk_graph *g, int number) {
    return number >= 0 && number < g->n_tensors ? g->tensors[number] : NULL;
}

void lk_graph_conv(struct lk_graph *g, enum lk_graph_conv kind, int x, int w, int y, int kernel, int stride, int pad) {
    static const struct {
        cudnnBackendDescriptorType_t type;
        cudnnBackendAttributeName_t x, w, y, convolution, alpha, beta;
    } names[3] = {
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
    };
    int64_t dimensions = 2, pads[2] = {pad, pad}, strides[2] = {stride, stride}, dilations[2] = {1, 1};
    cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    float one = 1, zero = 0;
    char text[96];
    cudnnBackendDescriptor_t c = create(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR), op;
    set(g, c, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    set(g, c, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(g, c, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &dimensions);
    set(g, c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
    set(g, c, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
    set(g, c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
    set(g, c, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilations);
    finalize(g, c, "convolution");
    op = create(g, names[kind].type);
    set_descriptor(g, op, names[kind].x, tensor_of(g, x));
    set_descriptor(g, op, names[kind].w, tensor_of(g, w));
    set_descriptor(g, op, names[kind].y, tensor_of(g, y));
    set_descriptor(g, op, names[kind].convolution, c);
    set(g, op, names[kind].alpha, CUDNN_TYPE_FLOAT, 1, &one);
    set(g, op, names[kind].beta, CUDNN_TYPE_FLOAT, 1, &zero);
    snprintf(text, sizeof text, "c%d:%d,%d,%d,%d,%d,%d", (int)kind, x, w, y, kernel, stride, pad);
    add_operation(g, op, text);
}

void lk_graph_pointwise(struct lk_graph *g, enum lk_graph_pointwise mode, int a, int b, int y) {
    static const cudnnPointwiseMode_t modes[] = {CUDNN_POINTWISE_ADD,      CUDNN_POINTWISE_SUB,
                                                 CUDNN_POINTWISE_MUL,      CUDNN_POINTWISE_RELU_FWD,
                                                 CUDNN_POINTWISE_RELU_BWD, CUDNN_POINTWISE_IDENTITY};
    cudnnDataType_t precision = CUDNN_DATA_FLOAT;
    char text[64];
    cudnnBackendDescriptor_t d = create(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR), op;
    set(g, d, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &modes[mode]);
    set(g, d, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &precision);
    finalize(g, d, "pointwise");
    op = create(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_descriptor(g, op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, d);
    if (mode == LK_G_RELU_BACKWARD) {
        set_descriptor(g, op, CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, tensor_of(g, a));
        set_descriptor(g, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, tensor_of(g, b));
        set_descriptor(g, op, CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, tensor_of(g, y));
    } else {
        set_descriptor(g, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, tensor_of(g, a));
        if (mode != LK_G_RELU && mode != LK_G_IDENTITY) {
            set_descriptor(g, op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, tensor_of(g, b));
        }
        set_descriptor(g, op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, tensor_of(g, y));
    }
    snprintf(text, sizeof text, "p%d:%d,%d,%d", (int)mode, a, b, y);
    add_operation(g, op, text);
}

void lk_graph_gen_stats(struct lk_graph *g, int x, int sum, int square_sum) {
    cudnnGenStatsMode_t mode = CUDNN_GENSTATS_SUM_SQSUM;
    cudnnDataType_t precision = CUDNN_DATA_FLOAT;
    char text[64];
    cudnnBackendDescriptor_t op = create(g, CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR);
    set(g, op, CUDNN_ATTR_OPERATION_GENSTATS_MODE, CUDNN_TYPE_GENSTATS_MODE, 1, &mode);
    set(g, op, CUDNN_ATTR_OPERATION_GENSTATS_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &precision);
    set_descriptor(g, op, CUDNN_ATTR_OPERATION_GENSTATS_XDESC, tensor_of(g, x));
    set_descriptor(g, op, CUDNN_ATTR_OPERATION_GENSTATS_SUMDESC, tensor_of(g, sum));
    set_descriptor(g, op, CUDNN_ATTR_OPERATION_GENSTATS_SQSUMDESC, tensor_of(g, square_sum));
    snprintf(text, sizeof text, "s:%d,%d,%d", x, sum, square_sum);
    add_operation(g, op, text);
}

/* ------------------------------------------------------------------------------------------------ device */

size_t lk_graph_version(void) { return cudnnGetVersion(); }

int lk_graph_device_open(struct lk_graph_device **out, void *stream, const char *cache_folder) {
    struct lk_graph_device *d = lk_calloc(1, sizeof *d);
    struct cudaDeviceProp properties;
    int ordinal = 0, code;
    cudnnStatus_t s;
    *out = NULL;
    if (!d) {
        return LK_ENOMEM;
    }
    d->stream = stream;
    if (cache_folder && !(d->cache_folder = lk_strdup(cache_folder))) {
        code = LK_ENOMEM;
        goto fail;
    }
    if (cudaGetDevice(&ordinal) != cudaSuccess || cudaGetDeviceProperties(&properties, ordinal) != cudaSuccess) {
        code = lk_err(LK_EUNSUPPORTED, "no CUDA device: %s", cudaGetErrorString(cudaGetLastError()));
        goto fail;
    }
    snprintf(d->name, sizeof d->name, "%s", properties.name);
    if ((s = cudnnCreate(&d->handle)) != CUDNN_STATUS_SUCCESS ||
        (s = cudnnSetStream(d->handle, d->stream)) != CUDNN_STATUS_SUCCESS) {
        code = cudnn_failure(s, "cudnnCreate");
        goto fail;
    }
    if ((s = cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &d->description)) ||
        (s = cudnnBackendSetAttribute(d->description, CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, 1,
                                      &d->handle)) ||
        (s = cudnnBackendFinalize(d->description))) {
        code = cudnn_failure(s, "device properties");
        goto fail;
    }
    *out = d;
    return LK_OK;
fail:
    lk_graph_device_close(d);
    return code;
}

int lk_graph_device_describe(struct lk_graph_device **out, const char *json, size_t bytes) {
    struct lk_graph_device *d = lk_calloc(1, sizeof *d);
    cudnnStatus_t s;
    *out = NULL;
    if (!d) {
        return LK_ENOMEM;
    }
    snprintf(d->name, sizeof d->name, "described");
    if ((s = cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &d->description)) ||
        (s = cudnnBackendSetAttribute(d->description, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                      (int64_t)bytes, json)) ||
        (s = cudnnBackendFinalize(d->description))) {
        int code = cudnn_failure(s, "device description");
        lk_graph_device_close(d);
        return code;
    }
    *out = d;
    return LK_OK;
}

void lk_graph_device_close(struct lk_graph_device *d) {
    if (!d) {
        return;
    }
    if (d->handle) {
        cudnnDestroy(d->handle);
    }
    if (d->description) {
        cudnnBackendDestroyDescriptor(d->description);
    }
    free(d->cache_folder);
    free(d);
}

/* ------------------------------------------------------------------------------------------------- plans */

struct configs {
    cudnnBackendDescriptor_t list[MAX_CONFIGS];
    int n;
};

static void configs_free(struct configs *c) {
    while (c->n) {
        cudnnBackendDestroyDescriptor(c->list[--c->n]);
    }
}

/* 1 when the engine of a configuration carries one of the numerical notes that the policy forbids. */
static int forbidden(cudnnBackendDescriptor_t config, const struct lk_graph_policy *policy) {
    cudnnBackendDescriptor_t engine = NULL;
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t n = 0;
    int bad = 0;
    if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine)) {
        return 1;
    }
    if (cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine) ||
        cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                 CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &n, notes)) {
        bad = 1;
    }
    for (int64_t i = 0; !bad && i < n; i++) {
        bad = (policy->exact &&
               (notes[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE || notes[i] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS ||
                notes[i] == CUDNN_NUMERICAL_NOTE_FFT || notes[i] == CUDNN_NUMERICAL_NOTE_WINOGRAD)) ||
              (policy->deterministic && notes[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
    }
    cudnnBackendDestroyDescriptor(engine);
    return bad;
}

static int finish_graph(struct lk_graph *g, cudnnBackendDescriptor_t *graph) {
    *graph = create(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(g, *graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->n_operations, g->operations);
    finalize(g, *graph, "operation graph");
    return g->status ? lk_err(g->status, "cuDNN graph %s: %s", g->name, g->error) : LK_OK;
}

/* Appends what one heuristic mode offers and the policy allows. A mode that declines is no error. */
static int ask(cudnnBackendDescriptor_t graph, const struct lk_graph_device *device, cudnnBackendHeurMode_t mode,
               const struct lk_graph_policy *policy, struct configs *out) {
    cudnnBackendDescriptor_t heuristics = NULL, list[MAX_CONFIGS] = {NULL};
    int64_t found = 0;
    int made = 0, n_before = out->n;
    if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristics)) {
        return 0;
    }
    if (cudnnBackendSetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                 &graph) ||
        cudnnBackendSetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode) ||
        cudnnBackendSetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                 &device->description) ||
        cudnnBackendFinalize(heuristics)) {
        goto done;
    }
    for (; made < MAX_CONFIGS; made++) {
        if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &list[made])) {
            break;
        }
    }
    if (cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, made, &found,
                                 list)) {
        found = 0;
    }
    for (int i = 0; i < found && i < made && out->n < MAX_CONFIGS; i++) {
        if (!forbidden(list[i], policy)) {
            out->list[out->n++] = list[i];
            list[i] = NULL;
        }
    }
done:
    for (int i = 0; i < made; i++) {
        if (list[i]) {
            cudnnBackendDestroyDescriptor(list[i]);
        }
    }
    cudnnBackendDestroyDescriptor(heuristics);
    return out->n - n_before;
}

static cudnnStatus_t build(cudnnBackendDescriptor_t config, const struct lk_graph_device *device,
                           cudnnBackendDescriptor_t *plan) {
    cudnnStatus_t s = cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, plan);
    if (s) {
        return s;
    }
    if ((s = cudnnBackendSetAttribute(*plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                      &config)) ||
        (s = cudnnBackendSetAttribute(*plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                      &device->description)) ||
        (s = cudnnBackendFinalize(*plan))) {
        cudnnBackendDestroyDescriptor(*plan);
        *plan = NULL;
    }
    return s;
}

int lk_graph_run(const struct lk_graph_plan *p, void *const *pointers, void *workspace) {
    cudnnBackendDescriptor_t pack = NULL;
    int64_t uids[MAX_TENSORS];
    void *data[MAX_TENSORS];
    int64_t n = 0;
    cudnnStatus_t s;
    for (int i = 0; i < p->n_tensors; i++) {
        if (!p->is_virtual[i]) {
            uids[n] = i + 1;
            data[n++] = pointers[i];
        }
    }
    if ((s = cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack)) == CUDNN_STATUS_SUCCESS &&
        (s = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, uids)) ==
            CUDNN_STATUS_SUCCESS &&
        (s = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, data)) ==
            CUDNN_STATUS_SUCCESS &&
        (s = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace)) ==
            CUDNN_STATUS_SUCCESS &&
        (s = cudnnBackendFinalize(pack)) == CUDNN_STATUS_SUCCESS) {
        s = cudnnBackendExecute(p->handle, p->plan, pack);
    }
    if (pack) {
        cudnnBackendDestroyDescriptor(pack);
    }
    return s ? lk_err(LK_EFAIL, "cuDNN execution: %s", cudnnGetErrorString(s)) : LK_OK;
}

size_t lk_graph_workspace(const struct lk_graph_plan *p) { return (size_t)p->workspace; }

void lk_graph_plan_free(struct lk_graph_plan *p) {
    if (p) {
        if (p->plan) {
            cudnnBackendDestroyDescriptor(p->plan);
        }
        free(p);
    }
}

/* Where the chosen configuration's number is kept; the text names everything that the choice depends on. */
static int cache_path(const struct lk_graph *g, const struct lk_graph_device *d, const struct lk_graph_policy *policy,
                      char *path, size_t size) {
    struct lk_sha256 hash;
    uint8_t digest[32];
    char hex[65], head[320];
    int n = snprintf(head, sizeof head, "%zu|%s|%d%d|", cudnnGetVersion(), d->name, policy->exact,
                     policy->deterministic);
    lk_sha256_init(&hash);
    lk_sha256_update(&hash, head, (size_t)n);
    lk_sha256_update(&hash, g->text.data, g->text.size);
    lk_sha256_final(&hash, digest);
    lk_sha256_hex(digest, hex);
    return snprintf(path, size, "%s/%.40s.plan", d->cache_folder, hex) < (int)size;
}

static int cached_choice(const struct lk_graph *g, const struct lk_graph_device *d,
                         const struct lk_graph_policy *policy, int n) {
    char path[1024], text[16];
    struct lk_buf b = {0};
    int choice = -1;
    if (d->cache_folder && cache_path(g, d, policy, path, sizeof path) && lk_fs_exists(path) &&
        lk_fs_read(&b, path, 15) == LK_OK) {
        memcpy(text, b.data, b.size);
        text[b.size] = 0;
        choice = atoi(text);
    }
    lk_buf_free(&b);
    return choice >= 0 && choice < n ? choice : -1;
}

static void remember_choice(const struct lk_graph *g, const struct lk_graph_device *d,
                            const struct lk_graph_policy *policy, int choice) {
    char path[1024], text[16];
    if (d->cache_folder && cache_path(g, d, policy, path, sizeof path) &&
        lk_fs_mkdir_parents(d->cache_folder) == LK_OK) {
        int n = snprintf(text, sizeof text, "%d\n", choice);
        (void)lk_fs_write_atomic(path, text, (size_t)n); /* a cache: the next start times again */
    }
}

/* Milliseconds of the fastest of five runs, or a negative number when the plan cannot run. */
static float time_plan(const struct lk_graph_plan *p, const struct lk_graph_device *d, void *const *pointers,
                       void *workspace) {
    cudaEvent_t begin = NULL, end = NULL;
    float best = -1, ms;
    if (cudaEventCreate(&begin) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess &&
        lk_graph_run(p, pointers, workspace) == LK_OK && cudaStreamSynchronize(d->stream) == cudaSuccess) {
        for (int i = 0; i < 5; i++) {
            if (cudaEventRecord(begin, d->stream) != cudaSuccess || lk_graph_run(p, pointers, workspace) != LK_OK ||
                cudaEventRecord(end, d->stream) != cudaSuccess || cudaEventSynchronize(end) != cudaSuccess ||
                cudaEventElapsedTime(&ms, begin, end) != cudaSuccess) {
                best = -1;
                break;
            }
            best = best < 0 || ms < best ? ms : best;
        }
    }
    if (begin) {
        cudaEventDestroy(begin);
    }
    if (end) {
        cudaEventDestroy(end);
    }
    return best;
}

static int make_plan(const struct lk_graph *g, const struct lk_graph_device *d, cudnnBackendDescriptor_t config,
                     struct lk_graph_plan **out) {
    struct lk_graph_plan *p = lk_calloc(1, sizeof *p);
    int64_t n = 0;
    cudnnStatus_t s;
    *out = NULL;
    if (!p) {
        return LK_ENOMEM;
    }
    p->handle = d->handle;
    p->n_tensors = g->n_tensors;
    memcpy(p->is_virtual, g->is_virtual, sizeof p->is_virtual);
    if ((s = build(config, d, &p->plan)) ||
        (s = cudnnBackendGetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n,
                                      &p->workspace))) {
        lk_graph_plan_free(p);
        return cudnn_failure(s, "execution plan");
    }
    *out = p;
    return LK_OK;
}

/* Times up to policy->candidates configurations on scratch memory of the graph's own sizes. */
static int choose(struct lk_graph *g, struct lk_graph_device *d, const struct lk_graph_policy *policy,
                  const struct configs *configs, struct lk_graph_plan **out) {
    void *scratch[MAX_TENSORS] = {NULL}, *workspace = NULL;
    size_t workspace_size = 0;
    int limit = policy->candidates ? policy->candidates : 8, timed = 0, best = -1;
    float best_ms = 0;
    for (int i = 0; i < g->n_tensors; i++) {
        if (!g->is_virtual[i] && (cudaMalloc(&scratch[i], g->tensor_bytes[i]) != cudaSuccess ||
                                  cudaMemsetAsync(scratch[i], 0, g->tensor_bytes[i], d->stream) != cudaSuccess)) {
            for (int k = 0; k <= i; k++) {
                cudaFree(scratch[k]);
            }
            return lk_err(LK_ENOMEM, "no device memory to time %s", g->name);
        }
    }
    for (int i = 0; i < configs->n && timed < limit; i++) {
        struct lk_graph_plan *p;
        float ms;
        if (make_plan(g, d, configs->list[i], &p) != LK_OK) {
            continue;
        }
        if (lk_graph_workspace(p) > workspace_size) {
            cudaFree(workspace);
            workspace = NULL;
            workspace_size = lk_graph_workspace(p);
            if (cudaMalloc(&workspace, workspace_size) != cudaSuccess) {
                (void)cudaGetLastError();
                workspace_size = 0;
                lk_graph_plan_free(p);
                continue;
            }
        }
        ms = time_plan(p, d, scratch, workspace);
        timed++;
        if (ms >= 0 && (best < 0 || ms < best_ms)) {
            lk_graph_plan_free(*out);
            *out = p;
            best = i;
            best_ms = ms;
        } else {
            lk_graph_plan_free(p);
        }
    }
    for (int i = 0; i < g->n_tensors; i++) {
        cudaFree(scratch[i]);
    }
    cudaFree(workspace);
    if (best < 0) {
        return lk_err(LK_EUNSUPPORTED, "cuDNN has no engine that runs %s", g->name);
    }
    remember_choice(g, d, policy, best);
    return LK_OK;
}

int lk_graph_build(struct lk_graph *g, struct lk_graph_device *device, const struct lk_graph_policy *policy,
                   struct lk_graph_plan **out) {
    cudnnBackendDescriptor_t graph;
    struct configs configs = {.n = 0};
    int code, choice;
    *out = NULL;
    if (!device->handle) {
        return lk_err(LK_EUNSUPPORTED, "graph %s: a described device runs nothing", g->name);
    }
    if ((code = finish_graph(g, &graph))) {
        return code;
    }
    if (ask(graph, device, CUDNN_HEUR_MODE_A, policy, &configs) == 0) {
        ask(graph, device, CUDNN_HEUR_MODE_FALLBACK, policy, &configs);
    }
    choice = cached_choice(g, device, policy, configs.n);
    if (choice < 0 || make_plan(g, device, configs.list[choice], out) != LK_OK) {
        code = choose(g, device, policy, &configs, out);
    }
    configs_free(&configs);
    return code;
}

int lk_graph_check(struct lk_graph *g, struct lk_graph_device *device, const struct lk_graph_policy *policy, int tries,
                   struct lk_graph_support *out) {
    cudnnBackendDescriptor_t graph, plan = NULL;
    struct configs configs = {.n = 0};
    char detail[512];
    int code;
    memset(out, 0, sizeof *out);
    if ((code = finish_graph(g, &graph))) {
        return code;
    }
    if (ask(graph, device, CUDNN_HEUR_MODE_A, policy, &configs) == 0) {
        ask(graph, device, CUDNN_HEUR_MODE_FALLBACK, policy, &configs);
    }
    out->configurations = configs.n;
    for (int i = 0; i < configs.n && i < tries; i++) {
        if (build(configs.list[i], device, &plan) == CUDNN_STATUS_SUCCESS) {
            out->precompiled++;
            cudnnBackendDestroyDescriptor(plan);
            continue;
        }
        detail[0] = 0;
        cudnnGetLastErrorString(detail, sizeof detail); /* code generation ended, only the module cannot be loaded */
        out->generated += strstr(detail, "cuLibraryLoadData") != NULL;
    }
    configs_free(&configs);
    return LK_OK;
}
