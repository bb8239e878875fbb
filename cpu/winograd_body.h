/* The three steps of winograd.h and its weights, included once by each winograd_<isa>.c after it defined LK_BLOCK, LK_ROWS
 * (tiles that one product keeps in registers) and LK_TABLE. Needs fused multiply-add: see CMakeLists.txt. */
#include "vec.h"
#include "winograd.h"

#define COLUMNS (2 * LK_BLOCK)

/* One column or row of G g G', of many channels at a time and in double: 1/6 and 1/24 round. */
BODY void to_products(double o[6][COLUMNS], const double *a, const double *b, const double *c) {
    for (int i = 0; i < COLUMNS; i++) {
        double ends = a[i] + c[i], slope = b[i] / 12.0, curve = a[i] / 24.0 + c[i] / 6.0;
        o[0][i] = a[i] / 4.0;
        o[1][i] = -(ends + b[i]) / 6.0;
        o[2][i] = -(ends - b[i]) / 6.0;
        o[3][i] = curve + slope;
        o[4][i] = curve - slope;
        o[5][i] = c[i];
    }
}

static void weights(float *u, size_t u_step, const float *w, size_t w_step, int turned) {
    double g[9][COLUMNS], half[3][6][COLUMNS], all[6][COLUMNS];
    for (int i = 0; i < COLUMNS; i++) {
        for (int j = 0; j < 9; j++) {
            g[j][i] = (double)w[(size_t)i * w_step + (size_t)(turned ? 8 - j : j)];
        }
    }
    for (int j = 0; j < 3; j++) {
        to_products(half[j], g[j], g[3 + j], g[6 + j]);
    }
    for (int i = 0; i < 6; i++) {
        to_products(all, half[0][i], half[1][i], half[2][i]);
        for (int j = 0; j < 6; j++) {
            for (int o = 0; o < COLUMNS; o++) {
                u[(size_t)(6 * i + j) * u_step + (size_t)o] = (float)all[j][o];
            }
        }
    }
}

/* One column or row of B' d B (Lavin and Gray, section 4.3). */
BODY void to_tile(vf *o, size_t step, vf d0, vf d1, vf d2, vf d3, vf d4, vf d5) {
    vf even = d4 - 4.0f * d2, odd = d3 - 4.0f * d1, even2 = d4 - d2, odd2 = 2.0f * (d3 - d1);
    o[0] = 4.0f * (d0 - d2) + even2;
    o[step] = even + odd;
    o[2 * step] = even - odd;
    o[3 * step] = even2 + odd2;
    o[4 * step] = even2 - odd2;
    o[5 * step] = 4.0f * (d1 - d3) + (d5 - d3);
}

BODY void input_body(float *v, size_t v_step, const void *x, int bf16, int y0, int x0,
                     const struct lk_winograd_image *s, int inside) {
    vf t[36];
    for (int j = 0; j < 6; j++) {
        vf d[6];
        for (int i = 0; i < 6; i++) {
            int outside = !inside && (y0 + i < 0 || x0 + j < 0 || y0 + i >= s->h || x0 + j >= s->w);
            size_t at = outside ? 0 : (size_t)(y0 + i) * s->row + (size_t)(x0 + j) * s->pixel;
            d[i] = outside ? (vf){0} : load(x, at, bf16);
        }
        to_tile(t + j, 6, d[0], d[1], d[2], d[3], d[4], d[5]);
    }
    for (int i = 0; i < 6; i++) {
        vf o[6];
        const vf *d = t + (ptrdiff_t)6 * i;
        to_tile(o, 1, d[0], d[1], d[2], d[3], d[4], d[5]);
        for (int j = 0; j < 6; j++) {
            store_f32(v + (size_t)(6 * i + j) * v_step, o[j]);
        }
    }
}

BODY void input_typed(float *v, size_t v_step, const void *x, int bf16, int y0, int x0,
                      const struct lk_winograd_image *s) {
    if (y0 >= 0 && x0 >= 0 && y0 + 6 <= s->h && x0 + 6 <= s->w) {
        input_body(v, v_step, x, bf16, y0, x0, s, 1);
    } else {
        input_body(v, v_step, x, bf16, y0, x0, s, 0);
    }
}

static void input(float *v, size_t v_step, const void *x, int bf16, int y0, int x0, const struct lk_winograd_image *s) {
    if (bf16) {
        input_typed(v, v_step, x, 1, y0, x0, s);
    } else {
        input_typed(v, v_step, x, 0, y0, x0, s);
    }
}

BODY void product_body(float *m, const float *v, size_t v_row, const float *u, size_t channels, const int rows) {
    vf a[LK_ROWS], b[LK_ROWS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        a[r] = b[r] = (vf){0};
    }
    for (size_t k = 0; k < channels; k++) {
        vf u0 = load_f32(u + k * COLUMNS), u1 = load_f32(u + k * COLUMNS + LK_BLOCK);
        /* The processor's own prefetching keeps up with half of what the third cache can give. */
        __builtin_prefetch(u + (k + 448 / (size_t)rows) * COLUMNS, 0, 2);
        __builtin_prefetch(u + (k + 448 / (size_t)rows) * COLUMNS + LK_BLOCK, 0, 2);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            vf x = v[(size_t)r * v_row + k] - (vf){0};
            a[r] += x * u0;
            b[r] += x * u1;
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        store_f32(m + r * COLUMNS, a[r]);
        store_f32(m + r * COLUMNS + LK_BLOCK, b[r]);
    }
}

/* In groups of equal size as far as that goes: a group of few rows waits for u. */
static void product(float *m, const float *v, size_t v_row, const float *u, size_t channels, int rows) {
    for (int groups = (rows + LK_ROWS - 1) / LK_ROWS; groups > 0; groups--) {
        int now = (rows + groups - 1) / groups;
        switch (now) {
#define ROWS(n) \
    case n: product_body(m, v, v_row, u, channels, n); break
            ROWS(1);
            ROWS(2);
            ROWS(3);
            ROWS(4);
            ROWS(5);
            ROWS(6);
#if LK_ROWS > 6
            ROWS(7);
            ROWS(8);
            ROWS(9);
            ROWS(10);
            ROWS(11);
            ROWS(12);
            ROWS(13);
            ROWS(14);
#endif
        default:;
        }
        m += (size_t)now * COLUMNS, v += (size_t)now * v_row, rows -= now;
    }
}

/* One column or row of A' m A. */
BODY void from_tile(vf *o, size_t step, vf m0, vf m1, vf m2, vf m3, vf m4, vf m5) {
    vf sum = m1 + m2, difference = m1 - m2, sum2 = m3 + m4, difference2 = m3 - m4;
    o[0] = m0 + sum + sum2;
    o[step] = difference + 2.0f * difference2;
    o[2 * step] = sum + 4.0f * sum2;
    o[3 * step] = difference + 8.0f * difference2 + m5;
}

BODY void output_body(void *z, int bf16, const float *m, size_t m_step, int h, int w, const struct lk_winograd_image *s,
                      const float *bias, int sum, int relu) {
    vf t[24], shift = bias ? load_f32(bias) : (vf){0};
    for (int j = 0; j < 6; j++) {
        vf d[6];
        for (int i = 0; i < 6; i++) {
            d[i] = load_f32(m + (size_t)(6 * i + j) * m_step);
        }
        from_tile(t + j, 6, d[0], d[1], d[2], d[3], d[4], d[5]);
    }
    for (int i = 0; i < h; i++) {
        vf o[4];
        const vf *d = t + (ptrdiff_t)6 * i;
        from_tile(o, 1, d[0], d[1], d[2], d[3], d[4], d[5]);
        for (int j = 0; j < w; j++) {
            size_t at = (size_t)i * s->row + (size_t)j * s->pixel;
            vf x = o[j] + shift;
            if (sum) {
                x += load(z, at, bf16);
            }
            store(z, at, bf16, relu ? relu_of(x) : x);
        }
    }
}

static void output(void *z, int bf16, const float *m, size_t m_step, int h, int w, const struct lk_winograd_image *s,
                   const float *bias, int sum, int relu) {
    if (bf16) {
        output_body(z, 1, m, m_step, h, w, s, bias, sum, relu);
    } else {
        output_body(z, 0, m, m_step, h, w, s, bias, sum, relu);
    }
}

const struct lk_winograd_kernels LK_TABLE = {.weights = weights, .input = input, .product = product, .output = output};
