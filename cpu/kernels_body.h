/* The bodies of kernels.h, included once by each kernels_<isa>.c after it defined LK_BLOCK (8 or 16 channels) and
 * LK_TABLE (the table's name). Vectors are the compiler's own, so one text serves every instruction set. A kernel's
 * element type is a constant argument of an inlined body: each compiles to two straight loops. */
#include "kernels.h"

#include <math.h>

#include "vec.h"

typedef double vd __attribute__((vector_size(8 * LK_BLOCK)));
typedef double vd_mem __attribute__((vector_size(8 * LK_BLOCK), aligned(8), may_alias));

/* x as a reader of its stored form will see it: sums are taken of that, so that they fit what is summed over. */
BODY vf stored(vf x, int bf16) { return bf16 ? bf16_to_vf(vf_to_bf16(x)) : x; }

BODY void add_to(double *acc, vf x) { *(vd_mem *)acc += __builtin_convertvector(x, vd); }

#define CHUNK 64 /* rows summed in float before the sum goes into double */
#define BY_TYPE(call32, call16) \
    if (bf16) {                 \
        call16;                 \
    } else {                    \
        call32;                 \
    }

BODY void stats_body(double *acc, const void *y, int bf16, size_t rows, size_t stride, const float *shift) {
    vf by = load_f32(shift);
    for (size_t from = 0; from < rows; from += CHUNK) {
        size_t to = rows - from < CHUNK ? rows : from + CHUNK, r = from;
        vf s0 = {0}, s1 = {0}, q0 = {0}, q1 = {0};
        for (; r + 2 <= to; r += 2) {
            vf x0 = load(y, r * stride, bf16) - by, x1 = load(y, (r + 1) * stride, bf16) - by;
            s0 += x0, s1 += x1;
            q0 += x0 * x0, q1 += x1 * x1;
        }
        if (r < to) {
            vf x0 = load(y, r * stride, bf16) - by;
            s0 += x0, q0 += x0 * x0;
        }
        add_to(acc, s0 + s1);
        add_to(acc + LK_BLOCK, q0 + q1);
    }
}

static void stats(double *acc, const void *y, int bf16, size_t rows, size_t stride, const float *shift){
    BY_TYPE(stats_body(acc, y, 0, rows, stride, shift), stats_body(acc, y, 1, rows, stride, shift))}

/* The same arithmetic forward and backward, so that a mask taken from y equals the one of z. */
BODY vf normalised(vf y, vf mean, vf scale, vf beta) {
    return (y - mean) * scale + beta;
}

BODY void apply_body(void *z, const void *y, const void *residual, int bf16, size_t rows, size_t stride,
                     const struct lk_norm_vectors *v, int add, int relu) {
    vf mean = load_f32(v->mean), scale = load_f32(v->scale), beta = load_f32(v->beta);
    for (size_t r = 0; r < rows; r++) {
        vf x = normalised(load(y, r * stride, bf16), mean, scale, beta);
        if (add) {
            x += load(residual, r * stride, bf16);
        }
        store(z, r * stride, bf16, relu ? relu_of(x) : x);
    }
}

static void apply(void *z, const void *y, const void *residual, int bf16, size_t rows, size_t stride,
                  const struct lk_norm_vectors *v, int relu) {
    if (residual && relu) {
        BY_TYPE(apply_body(z, y, residual, 0, rows, stride, v, 1, 1),
                apply_body(z, y, residual, 1, rows, stride, v, 1, 1))
    } else if (residual) {
        BY_TYPE(apply_body(z, y, residual, 0, rows, stride, v, 1, 0),
                apply_body(z, y, residual, 1, rows, stride, v, 1, 0))
    } else if (relu) {
        BY_TYPE(apply_body(z, y, NULL, 0, rows, stride, v, 0, 1), apply_body(z, y, NULL, 1, rows, stride, v, 0, 1))
    } else {
        BY_TYPE(apply_body(z, y, NULL, 0, rows, stride, v, 0, 0), apply_body(z, y, NULL, 1, rows, stride, v, 0, 0))
    }
}

BODY void reduce_body(double *acc, void *g, const void *c0, const void *c1, const void *z, const void *y, int bf16,
                      size_t rows, size_t stride, const struct lk_norm_vectors *v, enum lk_mask mask) {
    vf zero = {0}, mean = load_f32(v->mean), scale = load_f32(v->scale), beta = load_f32(v->beta);
    for (size_t from = 0; from < rows; from += CHUNK) {
        size_t to = rows - from < CHUNK ? rows : from + CHUNK;
        vf s = {0}, q = {0};
        for (size_t r = from; r < to; r++) {
            size_t i = r * stride;
            vf x = load(c0, i, bf16), raw = load(y, i, bf16);
            if (c1) {
                x += load(c1, i, bf16);
            }
            if (mask == LK_MASK_OUTPUT) {
                x = (vf)((vi)x & (load(z, i, bf16) > zero));
            } else if (mask == LK_MASK_RAW) {
                x = (vf)((vi)x & (normalised(raw, mean, scale, beta) > zero));
            }
            if (g) {
                x = stored(x, bf16);
                store(g, i, bf16, x);
            }
            s += x;
            q += x * (raw - mean);
        }
        add_to(acc, s);
        add_to(acc + LK_BLOCK, q);
    }
}

BODY void reduce_typed(double *acc, void *g, const void *c0, const void *c1, const void *z, const void *y, int bf16,
                       size_t rows, size_t stride, const struct lk_norm_vectors *v, enum lk_mask mask) {
    if (mask == LK_MASK_OUTPUT && c1) {
        reduce_body(acc, g, c0, c1, z, y, bf16, rows, stride, v, LK_MASK_OUTPUT);
    } else if (mask == LK_MASK_OUTPUT) {
        reduce_body(acc, g, c0, NULL, z, y, bf16, rows, stride, v, LK_MASK_OUTPUT);
    } else if (mask == LK_MASK_RAW && !c1) {
        reduce_body(acc, g, c0, NULL, NULL, y, bf16, rows, stride, v, LK_MASK_RAW);
    } else if (mask == LK_MASK_RAW) {
        reduce_body(acc, g, c0, c1, NULL, y, bf16, rows, stride, v, LK_MASK_RAW);
    } else {
        reduce_body(acc, g, c0, c1, NULL, y, bf16, rows, stride, v, LK_MASK_NONE);
    }
}

static void reduce(double *acc, void *g, const void *c0, const void *c1, const void *z, const void *y, int bf16,
                   size_t rows, size_t stride, const struct lk_norm_vectors *v,
                   enum lk_mask mask){BY_TYPE(reduce_typed(acc, g, c0, c1, z, y, 0, rows, stride, v, mask),
                                              reduce_typed(acc, g, c0, c1, z, y, 1, rows, stride, v, mask))}

BODY void dapply_body(void *dy, const void *g, const void *y, int bf16, size_t rows, size_t stride,
                      const struct lk_dapply_vectors *v) {
    vf mean = load_f32(v->mean), a = load_f32(v->a), b = load_f32(v->b), c = load_f32(v->c);
    for (size_t r = 0; r < rows; r++) {
        size_t i = r * stride;
        store(dy, i, bf16, a * load(g, i, bf16) + (b * (load(y, i, bf16) - mean) + c));
    }
}

static void dapply(void *dy, const void *g, const void *y, int bf16, size_t rows, size_t stride,
                   const struct lk_dapply_vectors *v){
    BY_TYPE(dapply_body(dy, g, y, 0, rows, stride, v), dapply_body(dy, g, y, 1, rows, stride, v))}

BODY void activate_body(void *z, const void *y, const void *residual, int bf16, size_t rows, size_t stride, int relu) {
    for (size_t r = 0; r < rows; r++) {
        vf x = load(y, r * stride, bf16);
        if (residual) {
            x += load(residual, r * stride, bf16);
        }
        store(z, r * stride, bf16, relu ? relu_of(x) : x);
    }
}

static void activate(void *z, const void *y, const void *residual, int bf16, size_t rows, size_t stride, int relu){
    BY_TYPE(activate_body(z, y, residual, 0, rows, stride, relu), activate_body(z, y, residual, 1, rows, stride, relu))}

BODY void activate_back_body(double *acc, void *g, const void *c0, const void *c1, const void *z, int bf16, size_t rows,
                             size_t stride, int relu) {
    vf zero = {0};
    for (size_t from = 0; from < rows; from += CHUNK) {
        size_t to = rows - from < CHUNK ? rows : from + CHUNK;
        vf s = {0};
        for (size_t r = from; r < to; r++) {
            size_t i = r * stride;
            vf x = load(c0, i, bf16);
            if (c1) {
                x += load(c1, i, bf16);
            }
            if (relu) {
                x = (vf)((vi)x & (load(z, i, bf16) > zero));
            }
            x = stored(x, bf16);
            store(g, i, bf16, x);
            s += x;
        }
        add_to(acc, s);
    }
}

static void activate_back(double *acc, void *g, const void *c0, const void *c1, const void *z, int bf16, size_t rows,
                          size_t stride, int relu) {
    BY_TYPE(activate_back_body(acc, g, c0, c1, z, 0, rows, stride, relu),
            activate_back_body(acc, g, c0, c1, z, 1, rows, stride, relu))
}

typedef uint8_t vb __attribute__((vector_size(LK_BLOCK)));
typedef uint8_t vb_mem __attribute__((vector_size(LK_BLOCK), aligned(1), may_alias));

BODY void max_pool_body(void *z, uint8_t *which, const void *x, int bf16, const struct lk_pool_shape *s) {
    for (int oy = 0; oy < s->out_h; oy++) {
        for (int ox = 0; ox < s->out_w; ox++) {
            vf best = (vf){0} - INFINITY;
            vi tap = (vi){0} + (oy ? 0 : 3) + (ox ? 0 : 1); /* the first one inside */
            for (int k = 0; k < 9; k++) {
                int iy = 2 * oy - 1 + k / 3, ix = 2 * ox - 1 + k % 3;
                if (iy < 0 || ix < 0 || iy >= s->in_h || ix >= s->in_w) {
                    continue;
                }
                vf v = load(x, ((size_t)iy * (size_t)s->in_w + (size_t)ix) * s->stride, bf16);
                vi take = (v > best) | is_nan(v);
                best = (vf)(((vi)v & take) | ((vi)best & ~take));
                tap = (k & take) | (tap & ~take);
            }
            size_t at = (size_t)oy * (size_t)s->out_w + (size_t)ox;
            store(z, at * s->stride, bf16, best);
            if (which) {
                *(vb_mem *)(which + at * LK_BLOCK) = __builtin_convertvector(tap, vb);
            }
        }
    }
}

static void max_pool(void *z, uint8_t *which, const void *x, int bf16, const struct lk_pool_shape *s){
    BY_TYPE(max_pool_body(z, which, x, 0, s), max_pool_body(z, which, x, 1, s))}

BODY void max_pool_back_body(void *dx, const void *c0, const void *c1, const uint8_t *which, int bf16,
                             const struct lk_pool_shape *s) {
    for (int iy = 0; iy < s->in_h; iy++) {
        for (int ix = 0; ix < s->in_w; ix++) {
            vf sum = {0};
            for (int oy = iy / 2; oy <= (iy + 1) / 2 && oy < s->out_h; oy++) {
                for (int ox = ix / 2; ox <= (ix + 1) / 2 && ox < s->out_w; ox++) {
                    int k = (iy - 2 * oy + 1) * 3 + ix - 2 * ox + 1;
                    size_t at = ((size_t)oy * (size_t)s->out_w + (size_t)ox) * LK_BLOCK;
                    vi tap = __builtin_convertvector(*(const vb_mem *)(which + at), vi);
                    vf g = load(c0, at, bf16);
                    if (c1) {
                        g += load(c1, at, bf16);
                    }
                    sum += (vf)((vi)g & (tap == k));
                }
            }
            store(dx, ((size_t)iy * (size_t)s->in_w + (size_t)ix) * LK_BLOCK, bf16, sum);
        }
    }
}

static void max_pool_back(void *dx, const void *c0, const void *c1, const uint8_t *which, int bf16,
                          const struct lk_pool_shape *s){
    BY_TYPE(max_pool_back_body(dx, c0, c1, which, 0, s), max_pool_back_body(dx, c0, c1, which, 1, s))}

BODY void mean_body(float *out, const void *x, int bf16, size_t rows, size_t stride) {
    double acc[LK_BLOCK] = {0};
    for (size_t from = 0; from < rows; from += CHUNK) {
        size_t to = rows - from < CHUNK ? rows : from + CHUNK;
        vf s = {0};
        for (size_t r = from; r < to; r++) {
            s += load(x, r * stride, bf16);
        }
        add_to(acc, s);
    }
    for (int i = 0; i < LK_BLOCK; i++) {
        out[i] = (float)(acc[i] / (double)rows);
    }
}

static void mean(float *out, const void *x, int bf16, size_t rows, size_t stride) {
    BY_TYPE(mean_body(out, x, 0, rows, stride), mean_body(out, x, 1, rows, stride))
}

static void spread(void *x, int bf16, size_t rows, size_t stride, const float *row) {
    vf v = load_f32(row);
    for (size_t r = 0; r < rows; r++) {
        store(x, r * stride, bf16, v);
    }
}

static void to_bf16(uint16_t *to, const float *from, size_t n) {
    size_t i = 0;
    for (; i + LK_BLOCK <= n; i += LK_BLOCK) {
        store(to, i, 1, load_f32(from + i));
    }
    if (i < n) {
        float rest[LK_BLOCK] = {0};
        uint16_t half[LK_BLOCK];
        for (size_t k = i; k < n; k++) {
            rest[k - i] = from[k];
        }
        store(half, 0, 1, load_f32(rest));
        for (size_t k = i; k < n; k++) {
            to[k] = half[k - i];
        }
    }
}

/* SGD: g += decay w; v = momentum v + g; w -= lr v. LARS scales g + decay w by its ratio first. */
static void momentum(float *restrict w, float *restrict g, float *restrict v, float *restrict teacher, size_t n,
                     const struct lk_update_scalars *s) {
    const struct lk_update_scalars k = *s;
    for (size_t i = 0; i < n; i++) {
        float d = (g[i] + k.decay * w[i]) * k.ratio;
        float u = k.momentum * v[i] + d;
        v[i] = u;
        w[i] -= k.lr * u;
        g[i] = 0.0f;
    }
    for (size_t i = 0; teacher && i < n; i++) {
        teacher[i] = k.tau * teacher[i] + (1.0f - k.tau) * w[i];
    }
}

static void adam(float *restrict w, float *restrict g, float *restrict m1, float *restrict m2, float *restrict teacher,
                 size_t n, const struct lk_update_scalars *s) {
    const struct lk_update_scalars k = *s;
    for (size_t i = 0; i < n; i++) {
        float d = g[i] + k.decay * w[i];
        float a = k.beta1 * m1[i] + (1.0f - k.beta1) * d, b = k.beta2 * m2[i] + (1.0f - k.beta2) * (d * d);
        m1[i] = a;
        m2[i] = b;
        w[i] -= k.step_size * a / (sqrtf(b) / k.root_correction + k.epsilon);
        g[i] = 0.0f;
    }
    for (size_t i = 0; teacher && i < n; i++) {
        teacher[i] = k.tau * teacher[i] + (1.0f - k.tau) * w[i];
    }
}

static void ema(float *restrict teacher, const float *restrict w, size_t n, float tau) {
    for (size_t i = 0; i < n; i++) {
        teacher[i] = tau * teacher[i] + (1.0f - tau) * w[i];
    }
}

static double sum_squares(const float *x, size_t n) {
    double lanes[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (int k = 0; k < 8; k++) {
            lanes[k] += (double)x[i + (size_t)k] * (double)x[i + (size_t)k];
        }
    }
    for (; i < n; i++) {
        lanes[0] += (double)x[i] * (double)x[i];
    }
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

const struct lk_kernels LK_TABLE = {.block = LK_BLOCK,
                                    .stats = stats,
                                    .apply = apply,
                                    .reduce = reduce,
                                    .dapply = dapply,
                                    .activate = activate,
                                    .activate_back = activate_back,
                                    .max_pool = max_pool,
                                    .max_pool_back = max_pool_back,
                                    .mean = mean,
                                    .spread = spread,
                                    .to_bf16 = to_bf16,
                                    .momentum = momentum,
                                    .adam = adam,
                                    .ema = ema,
                                    .sum_squares = sum_squares};
