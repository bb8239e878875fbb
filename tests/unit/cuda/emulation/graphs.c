/* cuda/graph.h without cuDNN: operations in the order in which they were described, by plain loops, sums in double, results
 * rounded to the tensor's type. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "cuda/graph.h"
#include "stream.h"

enum { MOST = 32, CONV = 100, STATS = 200, SUM = 300 };

struct tensor {
    enum lk_graph_type type;
    int n, c, h, w, is_virtual;
};

struct operation {
    int mode; /* lk_graph_pointwise, CONV + lk_graph_conv, STATS of a into b and y, SUM of a into y */
    int a, b, y, kernel, stride, pad;
};

struct lk_graph {
    struct tensor tensors[MOST];
    struct operation operations[MOST];
    int n_tensors, n_operations;
};

struct lk_graph_device {
    void *stream;
};

struct lk_graph_plan {
    struct lk_graph g;
    struct lk_graph_device *device;
};

int lk_graph_device_open(struct lk_graph_device **out, void *stream, const char *cache_folder) {
    (void)cache_folder;
    *out = lk_calloc(1, sizeof **out);
    if (*out) {
        (*out)->stream = stream;
    }
    return *out ? LK_OK : LK_ENOMEM;
}

void lk_graph_device_close(struct lk_graph_device *device) { free(device); }

size_t lk_graph_version(void) { return 90800; }

int lk_graph_begin(struct lk_graph **out, const char *name) {
    (void)name;
    *out = lk_calloc(1, sizeof **out);
    return *out ? LK_OK : LK_ENOMEM;
}

void lk_graph_free(struct lk_graph *g) { free(g); }

static int add(struct lk_graph *g, enum lk_graph_type type, int n, int c, int h, int w, int is_virtual) {
    g->tensors[g->n_tensors] = (struct tensor){type, n, c, h, w, is_virtual};
    return g->n_tensors++;
}

int lk_graph_tensor(struct lk_graph *g, enum lk_graph_type type, int n, int c, int h, int w) {
    return add(g, type, n, c, h, w, 0);
}

int lk_graph_virtual(struct lk_graph *g, enum lk_graph_type type, int n, int c, int h, int w) {
    return add(g, type, n, c, h, w, 1);
}

void lk_graph_conv(struct lk_graph *g, enum lk_graph_conv kind, int x, int w, int y, int kernel, int stride, int pad) {
    g->operations[g->n_operations++] = (struct operation){CONV + (int)kind, x, w, y, kernel, stride, pad};
}

void lk_graph_pointwise(struct lk_graph *g, enum lk_graph_pointwise mode, int a, int b, int y) {
    g->operations[g->n_operations++] = (struct operation){(int)mode, a, b, y, 0, 0, 0};
}

void lk_graph_gen_stats(struct lk_graph *g, int x, int sum, int square_sum) {
    g->operations[g->n_operations++] = (struct operation){STATS, x, sum, square_sum, 0, 0, 0};
}

void lk_graph_sum(struct lk_graph *g, int x, int y) {
    g->operations[g->n_operations++] = (struct operation){SUM, x, -1, y, 0, 0, 0};
}

int lk_graph_build(struct lk_graph *g, struct lk_graph_device *device, const struct lk_graph_policy *policy,
                   struct lk_graph_plan **out) {
    (void)policy;
    *out = lk_calloc(1, sizeof **out);
    if (!*out) {
        return LK_ENOMEM;
    }
    (*out)->g = *g;
    (*out)->device = device;
    return LK_OK;
}

/* Nothing is timed here: fused graphs are taken where a test wants them, by LK_EMULATED_FUSED: "stats" of a forward,
 * "gradients", or "all". */
static size_t fused_runs;
size_t lk_emulated_fused_runs(void) { return fused_runs; }
int lk_graph_faster(const struct lk_graph_plan *fused, const struct lk_graph_plan *plain,
                    int (*rest)(void *arg, void *const *tensors), void *arg) {
    const char *wanted = getenv("LK_EMULATED_FUSED");
    int forward = fused->g.operations[0].mode == CONV + LK_G_FORWARD;
    (void)plain, (void)rest, (void)arg;
    return wanted && (!strcmp(wanted, "all") || !strcmp(wanted, forward ? "stats" : "gradients"));
}

void lk_graph_plan_free(struct lk_graph_plan *plan) { free(plan); }

size_t lk_graph_workspace(const struct lk_graph_plan *plan) {
    (void)plan;
    return 0;
}

static size_t count(const struct tensor *t) { return (size_t)t->n * (size_t)t->c * (size_t)t->h * (size_t)t->w; }

/* NHWC; a side of 1 is broadcast. */
static size_t at(const struct tensor *t, int n, int c, int h, int w) {
    n = t->n == 1 ? 0 : n, h = t->h == 1 ? 0 : h, w = t->w == 1 ? 0 : w;
    return (((size_t)n * (size_t)t->h + (size_t)h) * (size_t)t->w + (size_t)w) * (size_t)t->c + (size_t)c;
}

static double get(const struct tensor *t, const void *p, size_t i) {
    if (t->type == LK_G_F32) {
        return (double)((const float *)p)[i];
    }
    uint32_t u = ((const uint16_t *)p)[i];
    if (t->type == LK_G_BF16) {
        u <<= 16;
    } else if ((u & 0x7fffu) == 0) { /* fp16: zero, then normal numbers; others do not occur here */
        u = (u & 0x8000u) << 16;
    } else {
        u = (u & 0x8000u) << 16 | (((u >> 10 & 31u) + 112u) << 23) | (u & 0x3ffu) << 13;
    }
    float f;
    memcpy(&f, &u, 4);
    return (double)f;
}

static void put(const struct tensor *t, void *p, size_t i, double x) {
    float f = (float)x;
    uint32_t u;
    memcpy(&u, &f, 4);
    if (t->type == LK_G_F32) {
        ((float *)p)[i] = f;
    } else if (t->type == LK_G_BF16) {
        ((uint16_t *)p)[i] = (uint16_t)(f != f ? 0x7fc0u : (u + 0x7fffu + (u >> 16 & 1u)) >> 16);
    } else {
        int exponent = (int)(u >> 23 & 255u) - 112;
        uint32_t h = (u >> 16 & 0x8000u);
        if (exponent > 0 && exponent < 31) {
            uint32_t bits = (uint32_t)exponent << 10 | (u & 0x7fffffu) >> 13, rest = u & 0x1fffu;
            h |= bits + (rest > 0x1000u || (rest == 0x1000u && (bits & 1u)));
        } else if (exponent >= 31) {
            h |= 0x7c00u;
        }
        ((uint16_t *)p)[i] = (uint16_t)h;
    }
}

/* One tap at a time: x[n][ci][iy][ix] * w[co][ci][ky][kx] belongs to y[n][co][oy][ox]. */
static int run_conv(const struct lk_graph *g, const struct operation *o, void *const *data) {
    const struct tensor *x = &g->tensors[o->a], *w = &g->tensors[o->b], *y = &g->tensors[o->y];
    int kind = o->mode - CONV, target = kind == LK_G_FORWARD ? o->y : kind == LK_G_BACKWARD_DATA ? o->a : o->b;
    const struct tensor *t = &g->tensors[target];
    double *sums = lk_calloc(count(t), sizeof *sums), *vx = lk_calloc(count(x), sizeof *vx);
    double *vw = lk_calloc(count(w), sizeof *vw), *vy = lk_calloc(count(y), sizeof *vy);
    int good = sums && vx && vw && vy;
    for (size_t i = 0; good && i < count(x) && target != o->a; i++) {
        vx[i] = get(x, data[o->a], i);
    }
    for (size_t i = 0; good && i < count(w) && target != o->b; i++) {
        vw[i] = get(w, data[o->b], i);
    }
    for (size_t i = 0; good && i < count(y) && target != o->y; i++) {
        vy[i] = get(y, data[o->y], i);
    }
    for (int n = 0; good && n < y->n; n++) {
        for (int oy = 0; oy < y->h; oy++) {
            for (int ox = 0; ox < y->w; ox++) {
                for (int k = 0; k < o->kernel * o->kernel; k++) {
                    int ky = k / o->kernel, kx = k % o->kernel;
                    int iy = oy * o->stride + ky - o->pad, ix = ox * o->stride + kx - o->pad;
                    if (iy < 0 || iy >= x->h || ix < 0 || ix >= x->w) {
                        continue;
                    }
                    size_t ax = at(x, n, 0, iy, ix), ay = at(y, n, 0, oy, ox);
                    for (int co = 0; co < y->c; co++) {
                        size_t aw = (((size_t)co * (size_t)o->kernel + (size_t)ky) * (size_t)o->kernel + (size_t)kx) *
                                    (size_t)x->c;
                        double sum = 0, d = vy[ay + (size_t)co];
                        for (size_t ci = 0; ci < (size_t)x->c; ci++) {
                            if (kind == LK_G_FORWARD) {
                                sum += vx[ax + ci] * vw[aw + ci];
                            } else if (kind == LK_G_BACKWARD_DATA) {
                                sums[ax + ci] += d * vw[aw + ci];
                            } else {
                                sums[aw + ci] += d * vx[ax + ci];
                            }
                        }
                        if (kind == LK_G_FORWARD) {
                            sums[ay + (size_t)co] += sum;
                        }
                    }
                }
            }
        }
    }
    for (size_t i = 0; good && i < count(t); i++) {
        put(t, data[target], i, sums[i]);
    }
    free(sums), free(vx), free(vw), free(vy);
    return good ? LK_OK : LK_ENOMEM;
}

static int run_pointwise(const struct lk_graph *g, const struct operation *o, void *const *data) {
    const struct tensor *a = &g->tensors[o->a], *b = o->b >= 0 ? &g->tensors[o->b] : NULL, *y = &g->tensors[o->y];
    for (int n = 0; n < y->n; n++) {
        for (int h = 0; h < y->h; h++) {
            for (int w = 0; w < y->w; w++) {
                for (int c = 0; c < y->c; c++) {
                    double p = get(a, data[o->a], at(a, n, c, h, w));
                    double q = b ? get(b, data[o->b], at(b, n, c, h, w)) : 0;
                    double r = o->mode == LK_G_ADD             ? p + q
                               : o->mode == LK_G_SUB           ? p - q
                               : o->mode == LK_G_MUL           ? p * q
                               : o->mode == LK_G_RELU_BACKWARD ? (q > 0 ? p : 0)
                               : p < 0                         ? 0
                                                               : p;
                    put(y, data[o->y], at(y, n, c, h, w), r);
                }
            }
        }
    }
    return o->mode != LK_G_IDENTITY ? LK_OK : LK_EUNSUPPORTED;
}

/* In float, as the device's. */
static int run_stats(const struct lk_graph *g, const struct operation *o, void *const *data) {
    const struct tensor *x = &g->tensors[o->a];
    float *sum = data[o->b], *squares = data[o->y];
    for (int c = 0; c < x->c; c++) {
        sum[c] = squares[c] = 0;
    }
    for (size_t i = 0; i < count(x); i++) {
        float v = (float)get(x, data[o->a], i);
        sum[i % (size_t)x->c] += v;
        squares[i % (size_t)x->c] += v * v;
    }
    fused_runs++;
    return LK_OK;
}

static int run_sum(const struct lk_graph *g, const struct operation *o, void *const *data) {
    const struct tensor *x = &g->tensors[o->a];
    float *sum = data[o->y];
    memset(sum, 0, (size_t)x->c * sizeof *sum);
    for (size_t i = 0; i < count(x); i++) {
        sum[i % (size_t)x->c] += (float)get(x, data[o->a], i);
    }
    fused_runs += o == &g->operations[g->n_operations - 1]; /* one a graph */
    return LK_OK;
}

static int run_one(const struct lk_graph *g, const struct operation *o, void *const *data) {
    return o->mode == SUM     ? run_sum(g, o, data)
           : o->mode == STATS ? run_stats(g, o, data)
           : o->mode >= CONV  ? run_conv(g, o, data)
                              : run_pointwise(g, o, data);
}

struct run {
    const struct lk_graph_plan *plan;
    void *pointers[MOST];
};

/* On the device's turn; what fails now has no caller. */
static void run(const void *arg) {
    const struct run *r = arg;
    const struct lk_graph *g = &r->plan->g;
    void *data[MOST] = {NULL};
    int code = LK_OK;
    for (int i = 0; i < g->n_tensors; i++) {
        data[i] = g->tensors[i].is_virtual ? malloc(count(&g->tensors[i]) * 4) : r->pointers[i];
        code = data[i] ? code : LK_ENOMEM;
    }
    for (int i = 0; !code && i < g->n_operations; i++) {
        code = run_one(g, &g->operations[i], data);
    }
    for (int i = 0; i < g->n_tensors; i++) {
        if (g->tensors[i].is_virtual) {
            free(data[i]);
        }
    }
    if (code) {
        fprintf(stderr, "emulation: a graph failed with %d\n", code);
        abort();
    }
}

int lk_graph_run(const struct lk_graph_plan *plan, void *const *pointers, void *workspace) {
    const struct lk_graph *g = &plan->g;
    struct run r = {.plan = plan};
    (void)workspace;
    for (int i = 0; i < g->n_tensors; i++) {
        r.pointers[i] = g->tensors[i].is_virtual ? NULL : pointers[i];
        if (!g->tensors[i].is_virtual && !r.pointers[i]) {
            return lk_err(LK_EINVAL, "tensor %d has no memory", i);
        }
    }
    lk_emulated_issue_call(plan->device->stream, run, &r, sizeof r);
    return LK_OK;
}
