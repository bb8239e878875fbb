/* oneDNN behind a dozen functions: dnnl.c is the only file that includes oneapi/dnnl. Only this room may include this
 * header.
 *
 * oneDNN's own struct tags are declared here incomplete, so that its objects keep their types. Descriptors, memory
 * objects and primitives are created while planning and run with cached argument lists: nothing is allocated a step.
 * Every primitive uses the caller's scratchpad. A primitive that oneDNN would run by its reference code (50 to 100
 * times slower, chosen without a word for some mixes of layouts) is refused with LK_EUNSUPPORTED unless it is tiny. */
#ifndef LK_CPU_DNNL_H
#define LK_CPU_DNNL_H

#include <stddef.h>

typedef struct dnnl_memory_desc lk_md; /* shape, type and layout */
typedef struct dnnl_memory lk_mem;     /* a descriptor and a pointer that it does not own */

enum lk_dt { LK_DT_F32, LK_DT_BF16 };

enum lk_layout {
    LK_ANY,     /* weights: what the primitive likes best */
    LK_NCHW,    /* also the canonical layout of convolution weights, OIHW */
    LK_NHWC,    /* pixel by pixel */
    LK_NCHW16C, /* channels in blocks of 16 (AVX-512), padded with zeros */
    LK_NCHW8C,  /* in blocks of 8 */
    LK_NC,      /* two dimensions; also the canonical layout of linear weights */
    LK_C        /* one dimension */
};

enum lk_isa { LK_ISA_GENERIC, LK_ISA_AVX2, LK_ISA_AVX512 };

struct lk_dnnl {
    struct dnnl_engine *engine;
    struct dnnl_stream *stream;
    int threads;
};

struct lk_prim {
    struct dnnl_primitive *primitive;
    struct dnnl_primitive_desc *desc;
    size_t scratch; /* bytes */
};

/* Values of DNNL_ARG_*, checked against them in dnnl.c. */
enum lk_arg_id {
    LK_ARG_SRC = 1,
    LK_ARG_DST = 17,
    LK_ARG_WEIGHTS = 33,
    LK_ARG_BIAS = 41,
    LK_ARG_SCRATCHPAD = 80,
    LK_ARG_DIFF_SRC = 129,
    LK_ARG_DIFF_DST = 145,
    LK_ARG_DIFF_WEIGHTS = 161
};

struct lk_call { /* a primitive and its arguments, none of them owned */
    const struct lk_prim *prim;
    int n, id[8];
    lk_mem *mem[8];
};

/* A convolution, or with linear = 1 an inner product; the same spec describes all three directions. */
struct lk_conv_spec {
    int linear, inference;
    int stride, pad, pad_right_h, pad_right_w;
    int sum, relu; /* forward post-ops: dst += ..., then max(0, .) */
    const lk_md *src, *weights, *bias /* or NULL */, *dst;
    double macs; /* for the refusal of reference code */
};

int lk_dnnl__open(struct lk_dnnl *d, int threads);
void lk_dnnl__close(struct lk_dnnl *d);                           /* accepts a zeroed one */
enum lk_isa lk_dnnl__isa(void);                                   /* what oneDNN uses, ONEDNN_MAX_CPU_ISA respected */
int lk_dnnl__amx(const struct lk_dnnl *d, enum lk_layout layout); /* whether convolutions of bf16 in it run by AMX */
void lk_dnnl__version(char *text, size_t n);

int lk_dnnl__md(lk_md **out, enum lk_dt dt, enum lk_layout layout, int n, int c, int h, int w);
int lk_dnnl__md_clone(lk_md **out, const lk_md *md);
void lk_dnnl__md_free(lk_md *md); /* NULL is fine */
int lk_dnnl__md_equal(const lk_md *a, const lk_md *b);
size_t lk_dnnl__md_bytes(const lk_md *md);

int lk_dnnl__mem(lk_mem **out, const struct lk_dnnl *d, const lk_md *md, void *data);
void lk_dnnl__mem_free(lk_mem *mem); /* NULL is fine */
int lk_dnnl__mem_set(lk_mem *mem, const void *data);

int lk_dnnl__forward(struct lk_prim *out, const struct lk_dnnl *d, const struct lk_conv_spec *s);
/* src and dst stand for their gradients; forward is the primitive of the same layer. */
int lk_dnnl__backward_data(struct lk_prim *out, const struct lk_dnnl *d, const struct lk_conv_spec *s,
                           const struct lk_prim *forward);
int lk_dnnl__backward_weights(struct lk_prim *out, const struct lk_dnnl *d, const struct lk_conv_spec *s,
                              const struct lk_prim *forward);
/* add: to += from. */
int lk_dnnl__reorder(struct lk_prim *out, const struct lk_dnnl *d, const lk_md *from, const lk_md *to, int add);

/* What a primitive chose for weights (WEIGHTS) or their gradient (DIFF_WEIGHTS). Owned by the primitive. */
const lk_md *lk_dnnl__query(const struct lk_prim *p, enum lk_arg_id what);
void lk_dnnl__prim_free(struct lk_prim *p); /* accepts a zeroed one */

void lk_dnnl__arg(struct lk_call *call, enum lk_arg_id id, lk_mem *mem);
int lk_dnnl__run(const struct lk_dnnl *d, const struct lk_call *call); /* returns when it is done */

#endif
