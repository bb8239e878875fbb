/* Describing a graph: tensors, operations, and the text that names it. */
#include "graph.h"

#include <cudnn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "graph_internal.h"

/* ------------------------------------------------------------------------------------------- descriptors */

int lk_graph__failure(int status, const char *what) {
    cudnnStatus_t s = (cudnnStatus_t)status;
    char detail[320] = "";
    cudnnGetLastErrorString(detail, sizeof detail);
    return lk_err(LK_EUNSUPPORTED, "%s: %s%s%s", what, cudnnGetErrorString(s), detail[0] ? ": " : "", detail);
}

static void keep(struct lk_graph *g, cudnnStatus_t s, const char *what) {
    if (s == CUDNN_STATUS_SUCCESS || g->status) {
        return;
    }
    g->status = lk_graph__failure((int)s, what);
    snprintf(g->error, sizeof g->error, "%s", lk_error());
}

static cudnnBackendDescriptor_t create(struct lk_graph *g, cudnnBackendDescriptorType_t type) {
    cudnnBackendDescriptor_t d = NULL;
    if (g->status) {
        return NULL;
    }
    if (g->n_all == LK_GRAPH_DESCRIPTORS) {
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
    if (g->n_tensors == LK_GRAPH_TENSORS && !g->status) {
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
    if (!g->status && g->n_operations == LK_GRAPH_OPERATIONS) {
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

void lk_graph_sum(struct lk_graph *g, int x, int y) {
    cudnnReduceTensorOp_t add = CUDNN_REDUCE_TENSOR_ADD;
    cudnnDataType_t precision = CUDNN_DATA_FLOAT;
    char text[64];
    cudnnBackendDescriptor_t d = create(g, CUDNN_BACKEND_REDUCTION_DESCRIPTOR), op;
    set(g, d, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &add);
    set(g, d, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &precision);
    finalize(g, d, "reduction");
    op = create(g, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    set_descriptor(g, op, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, tensor_of(g, x));
    set_descriptor(g, op, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, tensor_of(g, y));
    set_descriptor(g, op, CUDNN_ATTR_OPERATION_REDUCTION_DESC, d);
    snprintf(text, sizeof text, "r:%d,%d", x, y);
    add_operation(g, op, text);
}

int lk_graph__finish(struct lk_graph *g, void **graph) {
    *graph = create(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(g, *graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->n_operations, g->operations);
    finalize(g, *graph, "operation graph");
    return g->status ? lk_err(g->status, "cuDNN graph %s: %s", g->name, g->error) : LK_OK;
}
