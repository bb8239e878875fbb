/* See dnnl.h. oneDNN's v3 C API: a primitive descriptor is created from memory descriptors, then the primitive. */
#include "dnnl.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

_Static_assert((int)LK_ARG_SRC == DNNL_ARG_SRC && (int)LK_ARG_DST == DNNL_ARG_DST &&
                   (int)LK_ARG_WEIGHTS == DNNL_ARG_WEIGHTS && (int)LK_ARG_BIAS == DNNL_ARG_BIAS &&
                   (int)LK_ARG_SCRATCHPAD == DNNL_ARG_SCRATCHPAD && (int)LK_ARG_DIFF_SRC == DNNL_ARG_DIFF_SRC &&
                   (int)LK_ARG_DIFF_DST == DNNL_ARG_DIFF_DST && (int)LK_ARG_DIFF_WEIGHTS == DNNL_ARG_DIFF_WEIGHTS,
               "argument ids are oneDNN's");

/* A reference primitive of less work than this costs no time worth refusing for. */
#define TINY_MACS 1e6

static int failed(dnnl_status_t status, const char *what) {
    static const char *const names[] = {"success",    "out of memory", "invalid arguments", "unimplemented",
                                        "last impl",  "runtime error", "not required",      "invalid graph",
                                        "invalid op", "invalid shape", "invalid data type"};
    size_t i = (size_t)status;
    int code = status == dnnl_out_of_memory ? LK_ENOMEM : status == dnnl_unimplemented ? LK_EUNSUPPORTED : LK_EFAIL;
    return lk_err(code, "oneDNN: %s: %s", what, i < sizeof names / sizeof *names ? names[i] : "unknown status");
}

int lk_dnnl__open(struct lk_dnnl *d, int threads) {
    memset(d, 0, sizeof *d);
    d->threads = threads;
    dnnl_status_t status = dnnl_engine_create(&d->engine, dnnl_cpu, 0);
    if (status == dnnl_success) {
        status = dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags);
    }
    if (status != dnnl_success) {
        lk_dnnl__close(d);
        return failed(status, "opening the CPU engine");
    }
    return 0;
}

void lk_dnnl__close(struct lk_dnnl *d) {
    if (d->stream) {
        dnnl_stream_destroy(d->stream);
    }
    if (d->engine) {
        dnnl_engine_destroy(d->engine);
    }
    memset(d, 0, sizeof *d);
}

static int has_isa(dnnl_cpu_isa_t isa) {
    unsigned have = (unsigned)dnnl_get_effective_cpu_isa();
    return (have & (unsigned)isa) == (unsigned)isa;
}

enum lk_isa lk_dnnl__isa(void) {
    return has_isa(dnnl_cpu_isa_avx512_core) ? LK_ISA_AVX512
           : has_isa(dnnl_cpu_isa_avx2)      ? LK_ISA_AVX2
                                             : LK_ISA_GENERIC;
}

void lk_dnnl__version(char *text, size_t n) {
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, n, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
}

int lk_dnnl__md(lk_md **out, enum lk_dt dt, enum lk_layout layout, int n, int c, int h, int w) {
    static const struct {
        int ndims;
        dnnl_format_tag_t tag;
    } layouts[] = {[LK_ANY] = {4, dnnl_format_tag_any},
                   [LK_NCHW] = {4, dnnl_nchw},
                   [LK_NHWC] = {4, dnnl_nhwc},
                   [LK_NCHW16C] = {4, dnnl_nChw16c},
                   [LK_NCHW8C] = {4, dnnl_nChw8c},
                   [LK_NC] = {2, dnnl_nc},
                   [LK_C] = {1, dnnl_x}};
    dnnl_dims_t dims = {n, c, h, w};
    int ndims = layout == LK_ANY && !h ? 2 : layouts[layout].ndims;
    dnnl_status_t status = dnnl_memory_desc_create_with_tag(out, ndims, dims, dt == LK_DT_BF16 ? dnnl_bf16 : dnnl_f32,
                                                            layouts[layout].tag);
    return status == dnnl_success ? 0 : failed(status, "describing a tensor");
}

int lk_dnnl__md_clone(lk_md **out, const lk_md *md) {
    dnnl_status_t status = dnnl_memory_desc_clone(out, md);
    return status == dnnl_success ? 0 : failed(status, "copying a description");
}

void lk_dnnl__md_free(lk_md *md) {
    if (md) {
        dnnl_memory_desc_destroy(md);
    }
}

int lk_dnnl__md_equal(const lk_md *a, const lk_md *b) { return dnnl_memory_desc_equal(a, b); }

size_t lk_dnnl__md_bytes(const lk_md *md) { return dnnl_memory_desc_get_size(md); }

int lk_dnnl__mem(lk_mem **out, const struct lk_dnnl *d, const lk_md *md, void *data) {
    dnnl_status_t status = dnnl_memory_create(out, md, d->engine, data);
    return status == dnnl_success ? 0 : failed(status, "wrapping a tensor");
}

void lk_dnnl__mem_free(lk_mem *mem) {
    if (mem) {
        dnnl_memory_destroy(mem);
    }
}

int lk_dnnl__mem_set(lk_mem *mem, const void *data) {
    dnnl_status_t status = dnnl_memory_set_data_handle(mem, (void *)(size_t)data); /* sources are only read */
    return status == dnnl_success ? 0 : failed(status, "pointing at a tensor");
}

/* Attributes with the caller's scratchpad and at most sum and ReLU after the product. */
static dnnl_status_t make_attr(dnnl_primitive_attr_t *out, int sum, int relu) {
    dnnl_status_t s = dnnl_primitive_attr_create(out);
    if (s != dnnl_success) {
        return s;
    }
    dnnl_post_ops_t ops = NULL;
    s = dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user);
    if (s == dnnl_success && (sum || relu)) {
        s = dnnl_post_ops_create(&ops);
        if (s == dnnl_success && sum) {
            s = dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
        }
        if (s == dnnl_success && relu) {
            s = dnnl_post_ops_append_eltwise(ops, dnnl_eltwise_relu, 0.0f, 0.0f);
        }
        if (s == dnnl_success) {
            s = dnnl_primitive_attr_set_post_ops(*out, ops);
        }
        dnnl_post_ops_destroy(ops);
    }
    if (s != dnnl_success) {
        dnnl_primitive_attr_destroy(*out);
    }
    return s;
}

/* The second half of every creation: look at what was chosen, refuse reference code, build. Frees attr. */
static int finish(struct lk_prim *out, dnnl_status_t status, dnnl_primitive_attr_t attr, double macs,
                  const char *what) {
    dnnl_primitive_attr_destroy(attr);
    if (status != dnnl_success) {
        out->desc = NULL;
        return failed(status, what);
    }
    const char *implementation = "";
    dnnl_primitive_desc_query(out->desc, dnnl_query_impl_info_str, 0, (void *)&implementation);
    if (!strncmp(implementation, "ref", 3) && macs > TINY_MACS) {
        int rc = lk_err(LK_EUNSUPPORTED, "oneDNN has only reference code (%s) for %s here", implementation, what);
        lk_dnnl__prim_free(out);
        return rc;
    }
    const_dnnl_memory_desc_t scratch = dnnl_primitive_desc_query_md(out->desc, dnnl_query_scratchpad_md, 0);
    out->scratch = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
    status = dnnl_primitive_create(&out->primitive, out->desc);
    if (status != dnnl_success) {
        out->primitive = NULL;
        lk_dnnl__prim_free(out);
        return failed(status, what);
    }
    return 0;
}

/* Creation depends on the number of threads, as running does. */
static int begin(struct lk_prim *out, const struct lk_dnnl *d, dnnl_primitive_attr_t *attr, int sum, int relu) {
    memset(out, 0, sizeof *out);
    omp_set_num_threads(d->threads);
    dnnl_status_t status = make_attr(attr, sum, relu);
    return status == dnnl_success ? 0 : failed(status, "attributes");
}

#define WINDOW(s)                                                                                    \
    dnnl_dims_t strides = {(s)->stride, (s)->stride}, dilates = {0, 0}, left = {(s)->pad, (s)->pad}, \
                right = {(s)->pad_right_h, (s)->pad_right_w}

int lk_dnnl__forward(struct lk_prim *out, const struct lk_dnnl *d, const struct lk_conv_spec *s) {
    dnnl_primitive_attr_t attr;
    int rc = begin(out, d, &attr, s->sum, s->relu);
    if (rc) {
        return rc;
    }
    dnnl_prop_kind_t kind = s->inference ? dnnl_forward_inference : dnnl_forward_training;
    dnnl_status_t status;
    if (s->linear) {
        status = dnnl_inner_product_forward_primitive_desc_create(&out->desc, d->engine, kind, s->src, s->weights,
                                                                  s->bias, s->dst, attr);
    } else {
        WINDOW(s);
        status = dnnl_convolution_forward_primitive_desc_create(&out->desc, d->engine, kind, dnnl_convolution_direct,
                                                                s->src, s->weights, s->bias, s->dst, strides, dilates,
                                                                left, right, attr);
    }
    return finish(out, status, attr, s->macs, s->linear ? "a linear layer" : "a convolution");
}

int lk_dnnl__backward_data(struct lk_prim *out, const struct lk_dnnl *d, const struct lk_conv_spec *s,
                           const struct lk_prim *forward) {
    dnnl_primitive_attr_t attr;
    int rc = begin(out, d, &attr, 0, 0);
    if (rc) {
        return rc;
    }
    dnnl_status_t status;
    if (s->linear) {
        status = dnnl_inner_product_backward_data_primitive_desc_create(&out->desc, d->engine, s->src, s->weights,
                                                                        s->dst, forward->desc, attr);
    } else {
        WINDOW(s);
        status = dnnl_convolution_backward_data_primitive_desc_create(&out->desc, d->engine, dnnl_convolution_direct,
                                                                      s->src, s->weights, s->dst, strides, dilates,
                                                                      left, right, forward->desc, attr);
    }
    return finish(out, status, attr, s->macs,
                  s->linear ? "a linear layer's input gradient" : "a convolution's input gradient");
}

int lk_dnnl__backward_weights(struct lk_prim *out, const struct lk_dnnl *d, const struct lk_conv_spec *s,
                              const struct lk_prim *forward) {
    dnnl_primitive_attr_t attr;
    int rc = begin(out, d, &attr, 0, 0);
    if (rc) {
        return rc;
    }
    dnnl_status_t status;
    if (s->linear) {
        status = dnnl_inner_product_backward_weights_primitive_desc_create(&out->desc, d->engine, s->src, s->weights,
                                                                           NULL, s->dst, forward->desc, attr);
    } else {
        WINDOW(s);
        status = dnnl_convolution_backward_weights_primitive_desc_create(&out->desc, d->engine, dnnl_convolution_direct,
                                                                         s->src, s->weights, NULL, s->dst, strides,
                                                                         dilates, left, right, forward->desc, attr);
    }
    return finish(out, status, attr, s->macs,
                  s->linear ? "a linear layer's weight gradient" : "a convolution's weight gradient");
}

int lk_dnnl__reorder(struct lk_prim *out, const struct lk_dnnl *d, const lk_md *from, const lk_md *to, int add) {
    dnnl_primitive_attr_t attr;
    int rc = begin(out, d, &attr, add, 0);
    if (rc) {
        return rc;
    }
    dnnl_status_t status = dnnl_reorder_primitive_desc_create(&out->desc, from, d->engine, to, d->engine, attr);
    return finish(out, status, attr, 0, "a change of layout"); /* once a step at most: any implementation will do */
}

/* Asked of one layer of a ResNet at 32 x 32. */
int lk_dnnl__amx(const struct lk_dnnl *d, enum lk_layout layout) {
    lk_md *x = NULL, *w = NULL;
    struct lk_prim conv = {0};
    const char *implementation = "";
    struct lk_conv_spec spec = {.inference = 1, .stride = 1, .pad = 1, .pad_right_h = 1, .pad_right_w = 1};
    if (has_isa(dnnl_cpu_isa_avx512_core_amx) && !lk_dnnl__md(&x, LK_DT_BF16, layout, 8, 64, 32, 32) &&
        !lk_dnnl__md(&w, LK_DT_BF16, LK_ANY, 64, 64, 3, 3)) {
        spec.src = spec.dst = x, spec.weights = w;
        if (!lk_dnnl__forward(&conv, d, &spec)) {
            dnnl_primitive_desc_query(conv.desc, dnnl_query_impl_info_str, 0, (void *)&implementation);
        }
    }
    int amx = strstr(implementation, "amx") != NULL;
    lk_dnnl__prim_free(&conv);
    lk_dnnl__md_free(x);
    lk_dnnl__md_free(w);
    return amx;
}

const lk_md *lk_dnnl__query(const struct lk_prim *p, enum lk_arg_id what) {
    dnnl_query_t query = what == LK_ARG_WEIGHTS ? dnnl_query_weights_md : dnnl_query_diff_weights_md;
    return dnnl_primitive_desc_query_md(p->desc, query, 0);
}

void lk_dnnl__prim_free(struct lk_prim *p) {
    if (p->primitive) {
        dnnl_primitive_destroy(p->primitive);
    }
    if (p->desc) {
        dnnl_primitive_desc_destroy(p->desc);
    }
    memset(p, 0, sizeof *p);
}

void lk_dnnl__arg(struct lk_call *call, enum lk_arg_id id, lk_mem *mem) {
    if (mem) {
        call->id[call->n] = (int)id;
        call->mem[call->n++] = mem;
    }
}

int lk_dnnl__run(const struct lk_dnnl *d, const struct lk_call *call) {
    dnnl_exec_arg_t args[8];
    for (int i = 0; i < call->n; i++) {
        args[i].arg = call->id[i];
        args[i].memory = call->mem[i];
    }
    omp_set_num_threads(d->threads); /* a setting of the calling thread, which may not be the one that opened us */
    dnnl_status_t status = dnnl_primitive_execute(call->prim->primitive, d->stream, call->n, args);
    return status == dnnl_success ? 0 : failed(status, "running a primitive");
}
