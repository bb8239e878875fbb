/* Do random views have the distribution of torchvision's transforms, the pixels of plain arithmetic, and the same bits
 * however the loops are written? */
#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "check.h"
#include "image/augment.h"
#include "image/augment_body.h"

enum { MAX_PIXELS = 700 * 500 };

/* A picture of smooth colours and noise, the same each time. */
static uint8_t *make_picture(int width, int height) {
    static uint8_t pixels[MAX_PIXELS * 3];
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            struct lk_philox w = lk_rng(1, (uint32_t)y * (uint32_t)width + (uint32_t)x, LK_RNG_TEST, 0, 0);
            uint8_t *p = pixels + 3 * (y * width + x);
            p[0] = (uint8_t)(w.v[0] % 64 + (uint32_t)(x * 190 / width));
            p[1] = (uint8_t)(w.v[1] % 64 + (uint32_t)(y * 190 / height));
            p[2] = (uint8_t)(w.v[2] % 256);
        }
    return pixels;
}

struct views {
    struct lk_augment a;
    float *out, *other, *scratch;
    size_t n;
};

static int views_open(struct views *v, int size) {
    *v = (struct views){.a = lk_augment_default(size), .n = 3 * (size_t)size * (size_t)size};
    v->out = lk_calloc(v->n, sizeof *v->out);
    v->other = lk_calloc(v->n, sizeof *v->other);
    v->scratch = lk_calloc(lk_augment_scratch(&v->a), sizeof *v->scratch);
    return v->out != NULL && v->other != NULL && v->scratch != NULL;
}

static void views_close(struct views *v) {
    free(v->out);
    free(v->other);
    free(v->scratch);
}

/* --- Repeatable ---------------------------------------------------------------------------------------------- */

static void a_view_depends_on_its_numbers_alone(void) {
    const uint8_t *pixels = make_picture(32, 32);
    struct views v;
    LK_REQUIRE(views_open(&v, 32));
    const size_t bytes = v.n * sizeof(float);
    lk_augment_view(v.out, pixels, 32, 32, &v.a, 7, 3, 11, 0, v.scratch);
    memset(v.scratch, 0x7F, lk_augment_scratch(&v.a) * sizeof(float)); /* whatever the scratch holds */
    lk_augment_view(v.other, pixels, 32, 32, &v.a, 7, 3, 11, 0, v.scratch);
    LK_CHECK(memcmp(v.out, v.other, bytes) == 0);
    static const struct {
        uint64_t seed;
        uint32_t epoch;
        uint64_t image;
        int view;
    } others[] = {{8, 3, 11, 0}, {7, 4, 11, 0}, {7, 3, 12, 0}, {7, 3, 11, 1}, {7, 3, 11 + (1ull << 32), 0}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        lk_augment_view(v.other, pixels, 32, 32, &v.a, others[i].seed, others[i].epoch, others[i].image, others[i].view,
                        v.scratch);
        LK_CHECK(memcmp(v.out, v.other, bytes) != 0);
    }
    views_close(&v);
}

/* --- Distributions ------------------------------------------------------------------------------------------- */

static struct lk_view draw(const struct lk_augment *a, int width, int height, uint64_t image) {
    struct lk_view v;
    lk_augment_draw(&v, a, width, height, 99, 0, image, (int)(image & 1));
    return v;
}

/* torchvision's RandomResizedCrop.get_params in double, from the C library's numbers. */
static void reference_crop(const struct lk_augment *a, int width, int height, unsigned short state[3], int *w, int *h) {
    for (int i = 0; i < 10; i++) {
        double area = width * height * (a->crop_min + erand48(state) * ((double)a->crop_max - a->crop_min));
        double low = log((double)a->ratio_min), high = log((double)a->ratio_max);
        double ratio = exp(low + erand48(state) * (high - low));
        *w = (int)lrint(sqrt(area * ratio)), *h = (int)lrint(sqrt(area / ratio));
        if (*w > 0 && *w <= width && *h > 0 && *h <= height)
            return;
    }
    *w = width, *h = height; /* for the ratios tested here */
}

static void crops_are_distributed_as_torchvision_s(void) {
    enum { N = 40000, BINS = 12 };
    static const int sides[][2] = {{32, 32}, {64, 48}, {400, 500}};
    struct lk_augment a = lk_augment_default(32);
    for (size_t s = 0; s < sizeof sides / sizeof *sides; s++) {
        const int width = sides[s][0], height = sides[s][1];
        int areas[2][BINS] = {{0}}, ratios[2][BINS] = {{0}};
        double offset = 0, free_space = 0;
        unsigned short state[3] = {1, 2, 3};
        for (int i = 0; i < N; i++) {
            struct lk_view v = draw(&a, width, height, (uint64_t)i);
            LK_REQUIRE(v.left >= 0 && v.top >= 0 && v.width > 0 && v.height > 0);
            LK_REQUIRE(v.left + v.width <= width && v.top + v.height <= height);
            int w, h;
            reference_crop(&a, width, height, state, &w, &h);
            for (int k = 0; k < 2; k++) {
                int cw = k ? w : v.width, ch = k ? h : v.height;
                double area = (double)cw * ch / (width * height), ratio = log((double)cw / ch) / log(4.0 / 3);
                int area_bin = (int)(area * BINS), ratio_bin = (int)((ratio + 1.2) / 2.4 * BINS);
                areas[k][area_bin < BINS ? area_bin : BINS - 1]++;
                ratios[k][ratio_bin < 0 ? 0 : ratio_bin < BINS ? ratio_bin : BINS - 1]++;
            }
            offset += v.left + v.top;
            free_space += width - v.width + height - v.height;
        }
        for (int b = 0; b < BINS; b++) { /* two samples of N: the difference has variance 2 n */
            LK_CHECK_NEAR(areas[0][b], areas[1][b], 5 * sqrt(2.0 * areas[1][b] + 10));
            LK_CHECK_NEAR(ratios[0][b], ratios[1][b], 5 * sqrt(2.0 * ratios[1][b] + 10));
        }
        LK_CHECK_NEAR(offset / free_space, 0.5, 0.01);
    }
}

static void every_place_of_a_crop_is_as_likely(void) {
    enum { N = 40000 };
    struct lk_augment a = lk_augment_default(32);
    a.crop_min = a.crop_max = 0.25f;
    a.ratio_min = a.ratio_max = 1;
    int at[2][17] = {{0}};
    for (int i = 0; i < N; i++) {
        struct lk_view v = draw(&a, 32, 32, (uint64_t)i);
        LK_REQUIRE(v.width == 16 && v.height == 16 && v.left <= 16 && v.top <= 16);
        at[0][v.left]++, at[1][v.top]++;
    }
    for (int i = 0; i < 17; i++) {
        LK_CHECK_NEAR(at[0][i], N / 17.0, 5 * sqrt(N / 17.0));
        LK_CHECK_NEAR(at[1][i], N / 17.0, 5 * sqrt(N / 17.0));
    }
}

static void a_picture_too_thin_gets_its_central_part(void) {
    struct lk_augment a = lk_augment_default(32);
    a.crop_min = 0.5f;
    struct lk_view v = draw(&a, 100, 10, 1);
    LK_CHECK(v.width == 13 && v.height == 10 && v.left == 43 && v.top == 0);
    v = draw(&a, 10, 100, 1);
    LK_CHECK(v.width == 10 && v.height == 13 && v.left == 0 && v.top == 43);
    v = draw(&a, 1, 1, 1);
    LK_CHECK(v.width == 1 && v.height == 1 && v.left == 0 && v.top == 0);
}

static void gates_open_as_often_as_told(void) {
    enum { N = 40000 };
    struct lk_augment a = lk_augment_default(32);
    a.blur_p = 0.3f;
    a.solarize_p = 0.1f;
    int flips = 0, jitters = 0, greys = 0, blurs = 0, solarized = 0, both = 0;
    double sigma = 0;
    for (int i = 0; i < N; i++) {
        struct lk_view v = draw(&a, 32, 32, (uint64_t)i);
        flips += v.flip, greys += v.grey, blurs += v.blur_radius > 0, solarized += v.solarize;
        jitters += v.op[0] != LK_JITTER_NONE;
        both += v.flip && v.grey;
        LK_REQUIRE(v.blur_radius <= 1 && v.blur_sigma >= 0.1f && v.blur_sigma <= 2.0f);
        sigma += (double)v.blur_sigma;
    }
    LK_CHECK_NEAR((double)flips / N, 0.5, 0.0125); /* 5 standard deviations at most */
    LK_CHECK_NEAR((double)jitters / N, 0.8, 0.01);
    LK_CHECK_NEAR((double)greys / N, 0.2, 0.01);
    LK_CHECK_NEAR((double)blurs / N, 0.3, 0.0115);
    LK_CHECK_NEAR((double)solarized / N, 0.1, 0.0075);
    LK_CHECK_NEAR((double)both / N, 0.1, 0.0075); /* independent */
    LK_CHECK_NEAR(sigma / N, 1.05, 0.0137);
}

static void jitter_is_uniform_and_its_order_too(void) {
    enum { N = 48000 };
    struct lk_augment a = lk_augment_default(32);
    const double strength[4] = {0.4, 0.4, 0.4, 0.1}, centre[4] = {1, 1, 1, 0};
    double sum[4] = {0}, square[4] = {0};
    int orders[256] = {0};
    a.jitter_p = 1;
    for (int i = 0; i < N; i++) {
        struct lk_view v = draw(&a, 32, 32, (uint64_t)i);
        int seen = 0;
        for (int k = 0; k < 4; k++) {
            double d = (double)v.factor[k] - centre[k];
            LK_REQUIRE(fabs(d) <= strength[k] * 1.0001);
            sum[k] += d / strength[k], square[k] += d * d / strength[k] / strength[k];
            seen |= 1 << v.op[k];
        }
        LK_REQUIRE(seen == 15);
        orders[v.op[0] << 6 | v.op[1] << 4 | v.op[2] << 2 | v.op[3]]++;
    }
    for (int k = 0; k < 4; k++) {
        LK_CHECK_NEAR(sum[k] / N, 0, 5 * sqrt(1.0 / 3 / N));
        LK_CHECK_NEAR(square[k] / N, 1.0 / 3, 5 * sqrt(4.0 / 45 / N));
    }
    int kinds = 0;
    for (int i = 0; i < 256; i++)
        if (orders[i] > 0) {
            LK_CHECK_NEAR(orders[i], N / 24.0, 5 * sqrt(N / 24.0));
            kinds++;
        }
    LK_CHECK_INT(kinds, 24);

    a.jitter_shuffle = 0;
    struct lk_view v = draw(&a, 32, 32, 5);
    for (int k = 0; k < 4; k++)
        LK_CHECK_INT(v.op[k], k);
    a.contrast = 0; /* no strength, no operation */
    a.brightness = 3;
    v = draw(&a, 32, 32, 5);
    LK_CHECK_INT(v.op[1], LK_JITTER_NONE);
    for (uint64_t i = 0; i < 1000; i++) {
        v = draw(&a, 32, 32, i);
        LK_REQUIRE(v.factor[0] >= 0 && v.factor[0] <= 4); /* max(0, 1 - 3) .. 1 + 3 */
    }
}

static void series_equal_libm(void) {
    for (int i = -8000; i <= 8000; i++) {
        float x = (float)i * 0.01f;
        double want = exp((double)x);
        LK_REQUIRE(fabs((double)lk_body_exp(x) / want - 1) < 1e-6);
    }
    LK_CHECK(lk_body_exp(0) == 1.0f && lk_body_exp(-81) == 0.0f);
    for (int i = 1; i <= 20000; i++) {
        float x = (float)i * 0.005f;
        LK_REQUIRE(fabs((double)lk_body_log(x) - log((double)x)) < 1e-6);
    }
    LK_CHECK(lk_body_log(1) == 0.0f);
}

/* --- Pixels -------------------------------------------------------------------------------------------------- */

/* Plain arithmetic in double, by the textbook's formulas. Values in 0..1, [y][x][c]. */

static double reference_weight(int p, double centre, double support) {
    double d = fabs((p + 0.5 - centre) / support);
    return d < 1 ? 1 - d : 0;
}

static double reference_sample(const uint8_t *pixels, int width, const struct lk_view *v, int size, int x, int y,
                               int c) {
    double sx = (double)v->width / size, sy = (double)v->height / size, sum = 0, norm = 0;
    double cx = ((v->flip ? size - 1 - x : x) + 0.5) * sx, cy = (y + 0.5) * sy;
    double reach_x = sx > 1 ? sx : 1, reach_y = sy > 1 ? sy : 1;
    for (int j = 0; j < v->height; j++) {
        double wy = reference_weight(j, cy, reach_y);
        for (int i = 0; wy > 0 && i < v->width; i++) {
            double w = wy * reference_weight(i, cx, reach_x);
            sum += w * pixels[3 * ((v->top + j) * width + v->left + i) + c];
            norm += w;
        }
    }
    return sum / norm / 255;
}

static double clamp01(double x) { return x < 0 ? 0 : x > 1 ? 1 : x; }
static double luma(const double *p) { return 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2]; }

/* Through HSV and back, case by case (Smith 1978). */
static void reference_hue(double *p, double turns) {
    double high = fmax(p[0], fmax(p[1], p[2])), low = fmin(p[0], fmin(p[1], p[2])), chroma = high - low, h = 0;
    if (chroma > 0)
        h = high == p[0]   ? (p[1] - p[2]) / chroma
            : high == p[1] ? 2 + (p[2] - p[0]) / chroma
                           : 4 + (p[0] - p[1]) / chroma;
    h = h / 6 + turns;
    h = (h - floor(h)) * 6;
    int sector = (int)h % 6;
    double f = h - floor(h), s = high > 0 ? chroma / high : 0;
    double a = high * (1 - s), b = high * (1 - s * f), c = high * (1 - s * (1 - f));
    const double table[6][3] = {{high, c, a}, {b, high, a}, {a, high, c}, {a, b, high}, {c, a, high}, {high, a, b}};
    memcpy(p, table[sector], sizeof table[0]);
}

static void reference_blur(double *x, int size, int radius, double sigma, double *temporary) {
    for (int pass = 0; pass < 2; pass++) {
        for (int y = 0; y < size; y++)
            for (int i = 0; i < size; i++)
                for (int c = 0; c < 3; c++) {
                    double sum = 0, norm = 0;
                    for (int d = -radius; d <= radius; d++) {
                        int at = (pass ? y : i) + d;
                        at = at < 0 ? -at : at >= size ? 2 * (size - 1) - at : at;
                        double w = exp(-0.5 * d * d / sigma / sigma);
                        sum += w * x[3 * (pass ? at * size + i : y * size + at) + c];
                        norm += w;
                    }
                    temporary[3 * (y * size + i) + c] = sum / norm;
                }
        memcpy(x, temporary, 3 * (size_t)size * (size_t)size * sizeof *x);
    }
}

/* near[i] is set where a value lies so close to the solarize threshold that float and double may decide otherwise. */
static void reference_view(double *x, char *near, const uint8_t *pixels, int width, const struct lk_augment *a,
                           const struct lk_view *v, double *temporary) {
    const int size = a->size, n = size * size;
    for (int i = 0; i < n; i++)
        for (int c = 0; c < 3; c++)
            x[3 * i + c] = reference_sample(pixels, width, v, size, i % size, i / size, c);
    for (int k = 0; k < 4; k++) {
        double f = v->op[k] == LK_JITTER_NONE ? 0 : (double)v->factor[v->op[k]], mean = 0;
        for (int i = 0; i < n; i++)
            mean += luma(x + 3 * i) / n;
        for (int i = 0; i < n; i++) {
            double *p = x + 3 * i, grey = v->op[k] == LK_JITTER_CONTRAST ? mean : luma(p);
            if (v->op[k] == LK_JITTER_HUE)
                reference_hue(p, f);
            for (int c = 0; c < 3; c++) {
                if (v->op[k] == LK_JITTER_BRIGHTNESS)
                    p[c] = clamp01(p[c] * f);
                else if (v->op[k] == LK_JITTER_CONTRAST || v->op[k] == LK_JITTER_SATURATION)
                    p[c] = clamp01(grey + f * (p[c] - grey));
            }
        }
    }
    for (int i = 0; i < n && v->grey; i++)
        x[3 * i] = x[3 * i + 1] = x[3 * i + 2] = luma(x + 3 * i);
    if (v->blur_radius > 0)
        reference_blur(x, size, v->blur_radius, (double)v->blur_sigma, temporary);
    for (int i = 0; i < 3 * n; i++) {
        near[i] = v->solarize && fabs(x[i] - (double)a->solarize_threshold) < 1e-5;
        if (v->solarize && x[i] >= (double)a->solarize_threshold)
            x[i] = 1 - x[i];
        x[i] = (x[i] - (double)a->mean[i % 3]) / (double)a->std[i % 3];
    }
}

/* The view as a kernel on a GPU would compute it: pixel by pixel from augment_body.h, in this file's own loops. */
static void plain_view(float *out, const uint8_t *pixels, int width, const struct lk_augment *a,
                       const struct lk_view *v) {
    const int size = a->size, n = size * size;
    for (int i = 0; i < n; i++) {
        struct lk_taps tx, ty;
        lk_taps_make(&tx, v->width, size, v->flip ? size - 1 - i % size : i % size);
        lk_taps_make(&ty, v->height, size, i / size);
        for (int c = 0; c < 3; c++) {
            float sum = 0;
            for (int j = 0; j < ty.count; j++) {
                const uint8_t *p = pixels + 3 * ((v->top + ty.first + j) * width + v->left + tx.first) + c;
                float row = 0;
                for (int k = 0; k < tx.count; k++)
                    row = row + lk_taps_weight(&tx, k) * (float)p[3 * k];
                sum = sum + lk_taps_weight(&ty, j) * row;
            }
            out[c * n + i] = sum * LK_AUGMENT_UNIT;
        }
    }
    for (int k = 0; k < 4; k++) {
        uint64_t units = 0;
        for (int i = n - 1; i >= 0; i--) /* in another order than the library */
            units += lk_body_luma_units((struct lk_rgb){out[i], out[n + i], out[2 * n + i]});
        for (int i = 0; i < n; i++) {
            struct lk_rgb p = {out[i], out[n + i], out[2 * n + i]};
            switch (v->op[k]) {
            case LK_JITTER_BRIGHTNESS: p = lk_body_brightness(p, v->factor[0]); break;
            case LK_JITTER_CONTRAST: p = lk_body_blend(p, lk_body_luma_mean(units, n), v->factor[1]); break;
            case LK_JITTER_SATURATION: p = lk_body_blend(p, lk_body_luma(p), v->factor[2]); break;
            case LK_JITTER_HUE: p = lk_body_hue(p, v->factor[3]); break;
            default: break;
            }
            out[i] = p.r, out[n + i] = p.g, out[2 * n + i] = p.b;
        }
    }
    for (int i = 0; i < n && v->grey; i++)
        out[i] = out[n + i] = out[2 * n + i] = lk_body_luma((struct lk_rgb){out[i], out[n + i], out[2 * n + i]});
    if (v->blur_radius > 0) {
        float weights[LK_AUGMENT_MAX_RADIUS + 1], *rows = calloc((size_t)n, sizeof *rows);
        lk_augment_blur_weights(weights, v->blur_radius, v->blur_sigma);
        for (int c = 0; c < 3 && rows != NULL; c++)
            for (int pass = 0; pass < 2; pass++) {
                const float *in = pass ? rows : out + c * n;
                float *to = pass ? out + c * n : rows;
                for (int i = 0; i < n; i++) {
                    float sum = weights[0] * in[i];
                    for (int d = 1; d <= v->blur_radius; d++) {
                        int x = i % size, y = i / size;
                        int before = lk_body_reflect((pass ? y : x) - d, size);
                        int after = lk_body_reflect((pass ? y : x) + d, size);
                        sum = sum + weights[d] * (pass ? in[before * size + x] + in[after * size + x]
                                                       : in[y * size + before] + in[y * size + after]);
                    }
                    to[i] = sum;
                }
            }
        free(rows);
    }
    for (int i = 0; i < 3 * n; i++) {
        float x = v->solarize ? lk_body_solarize(out[i], a->solarize_threshold) : out[i];
        out[i] = lk_body_normalise(x, a->mean[i / n], a->std[i / n]);
    }
}

static const struct {
    int width, height, size, views;
} shapes[] = {
    {32, 32, 32, 60},  /* CIFAR */
    {20, 30, 64, 10},  /* enlarged */
    {100, 80, 32, 20}, /* shrunk: antialiased */
    {700, 500, 24, 3}, /* many taps */
    {60, 9, 17, 10},   /* one axis shrunk, the other enlarged; odd sides */
    {5, 3, 2, 5},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

/* Everything on often, so that every pair of operations meets. */
static void open_gates(struct lk_augment *a) {
    a->jitter_p = 0.9f;
    a->hue = 0.5f;
    a->grey_p = 0.3f;
    a->blur_p = 0.5f;
    a->solarize_p = 0.5f;
}

static void pixels_equal_plain_arithmetic_in_double(void) {
    double worst = 0;
    for (int s = 0; s < N_SHAPES; s++) {
        const int width = shapes[s].width, size = shapes[s].size;
        const uint8_t *pixels = make_picture(width, shapes[s].height);
        struct views v;
        LK_REQUIRE(views_open(&v, size));
        open_gates(&v.a);
        double *want = calloc(v.n, sizeof *want), *temporary = calloc(v.n, sizeof *temporary);
        char *near = calloc(v.n, 1);
        LK_REQUIRE(want != NULL && temporary != NULL && near != NULL);
        for (int i = 0; i < shapes[s].views; i++) {
            struct lk_view view;
            lk_augment_draw(&view, &v.a, width, shapes[s].height, 5, 2, (uint64_t)i, i % 2);
            lk_augment_view(v.out, pixels, width, shapes[s].height, &v.a, 5, 2, (uint64_t)i, i % 2, v.scratch);
            reference_view(want, near, pixels, width, &v.a, &view, temporary);
            const int n = size * size;
            for (int k = 0; k < 3 * n; k++) {
                double d = fabs((double)v.out[k % 3 * n + k / 3] - want[k]);
                worst = !near[k] && d > worst ? d : worst;
            }
        }
        free(want);
        free(temporary);
        free(near);
        views_close(&v);
    }
    printf("     largest difference after normalising: %.2g\n", worst);
    LK_CHECK(worst < 5e-5); /* 1e-5 of the picture's range */
}

static void loops_of_any_shape_give_equal_bits(void) {
    for (int s = 0; s < N_SHAPES; s++) {
        const int width = shapes[s].width, size = shapes[s].size;
        const uint8_t *pixels = make_picture(width, shapes[s].height);
        struct views v;
        LK_REQUIRE(views_open(&v, size));
        open_gates(&v.a);
        for (int i = 0; i < shapes[s].views; i++) {
            struct lk_view view;
            lk_augment_draw(&view, &v.a, width, shapes[s].height, 5, 2, (uint64_t)i, i % 2);
            lk_augment_view(v.out, pixels, width, shapes[s].height, &v.a, 5, 2, (uint64_t)i, i % 2, v.scratch);
            plain_view(v.other, pixels, width, &v.a, &view);
            size_t different = 0;
            for (size_t k = 0; k < v.n; k++)
                different += memcmp(&v.out[k], &v.other[k], sizeof *v.out) != 0;
            LK_CHECK_INT(different, 0);
        }
        views_close(&v);
    }
}

static void large_outputs_are_equal_too(void) {
    const uint8_t *pixels = make_picture(300, 250);
    struct views v;
    LK_REQUIRE(views_open(&v, 224)); /* a blur of 23 x 23 */
    open_gates(&v.a);
    v.a.blur_p = 1;
    for (int i = 0; i < 4; i++) {
        struct lk_view view;
        lk_augment_draw(&view, &v.a, 300, 250, 5, 2, (uint64_t)i, 0);
        LK_CHECK_INT(view.blur_radius, 11);
        lk_augment_view(v.out, pixels, 300, 250, &v.a, 5, 2, (uint64_t)i, 0, v.scratch);
        plain_view(v.other, pixels, 300, &v.a, &view);
        LK_CHECK(memcmp(v.out, v.other, v.n * sizeof *v.out) == 0);
    }
    views_close(&v);
}

static void a_flip_mirrors_and_nothing_else(void) {
    const uint8_t *pixels = make_picture(100, 80);
    struct views v;
    LK_REQUIRE(views_open(&v, 32));
    for (uint64_t i = 0; i < 20; i++) {
        v.a.flip_p = 0;
        lk_augment_view(v.out, pixels, 100, 80, &v.a, 1, 0, i, 0, v.scratch);
        v.a.flip_p = 1;
        lk_augment_view(v.other, pixels, 100, 80, &v.a, 1, 0, i, 0, v.scratch);
        for (size_t k = 0; k < v.n; k++)
            LK_REQUIRE(v.out[k] == v.other[k / 32 * 32 + 31 - k % 32]);
    }
    views_close(&v);
}

static void pixels_outside_the_crop_do_not_matter(void) {
    uint8_t *pixels = make_picture(100, 80);
    struct views v;
    LK_REQUIRE(views_open(&v, 32));
    v.a.crop_max = 0.5f;
    for (uint64_t i = 0; i < 20; i++) {
        struct lk_view view;
        lk_augment_draw(&view, &v.a, 100, 80, 1, 0, i, 0);
        lk_augment_view(v.out, pixels, 100, 80, &v.a, 1, 0, i, 0, v.scratch);
        for (int k = 0; k < 100 * 80; k++) {
            int x = k % 100 - view.left, y = k / 100 - view.top;
            if (x < 0 || y < 0 || x >= view.width || y >= view.height)
                memset(pixels + 3 * k, (int)i * 12, 3);
        }
        lk_augment_view(v.other, pixels, 100, 80, &v.a, 1, 0, i, 0, v.scratch);
        LK_CHECK(memcmp(v.out, v.other, v.n * sizeof *v.out) == 0);
        pixels = make_picture(100, 80);
    }
    views_close(&v);
}

static void without_randomness_a_view_is_the_normalised_picture(void) {
    const uint8_t *pixels = make_picture(32, 32);
    struct views v;
    LK_REQUIRE(views_open(&v, 32));
    v.a.crop_min = v.a.crop_max = v.a.ratio_min = v.a.ratio_max = 1;
    v.a.flip_p = v.a.jitter_p = v.a.grey_p = 0;
    lk_augment_view(v.out, pixels, 32, 32, &v.a, 1, 0, 0, 0, v.scratch);
    for (int k = 0; k < 3 * 1024; k++) {
        int c = k / 1024;
        double want = (pixels[3 * (k % 1024) + c] / 255.0 - (double)v.a.mean[c]) / (double)v.a.std[c];
        LK_REQUIRE(fabs((double)v.out[k] - want) < 1e-6);
    }
    views_close(&v);
}

static void settings_out_of_range_are_named(void) {
    struct lk_augment a = lk_augment_default(32);
    LK_CHECK_INT(lk_augment_check(&a), 0);
    LK_CHECK(a.crop_min == 0.08f && a.hue == 0.1f && a.blur_p == 0 && a.jitter_shuffle == 1);
    a.size = 1;
    LK_CHECK_INT(lk_augment_check(&a), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "size is 1");
    a = lk_augment_default(32);
    a.crop_min = 0.9f, a.crop_max = 0.5f;
    LK_CHECK_INT(lk_augment_check(&a), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "crop_max is 0.5, not 0.9 to 1");
    a = lk_augment_default(32);
    a.flip_p = NAN;
    LK_CHECK_INT(lk_augment_check(&a), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "flip_p");
    a = lk_augment_default(32);
    a.hue = 0.6f;
    LK_CHECK_INT(lk_augment_check(&a), LK_EINVAL);
    a = lk_augment_default(32);
    a.std[1] = 0;
    LK_CHECK_INT(lk_augment_check(&a), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "std (green)");
}

static const struct lk_case cases[] = {
    LK_CASE(a_view_depends_on_its_numbers_alone),
    LK_CASE(crops_are_distributed_as_torchvision_s),
    LK_CASE(every_place_of_a_crop_is_as_likely),
    LK_CASE(a_picture_too_thin_gets_its_central_part),
    LK_CASE(gates_open_as_often_as_told),
    LK_CASE(jitter_is_uniform_and_its_order_too),
    LK_CASE(series_equal_libm),
    LK_CASE(pixels_equal_plain_arithmetic_in_double),
    LK_CASE(loops_of_any_shape_give_equal_bits),
    LK_CASE(large_outputs_are_equal_too),
    LK_CASE(a_flip_mirrors_and_nothing_else),
    LK_CASE(pixels_outside_the_crop_do_not_matter),
    LK_CASE(without_randomness_a_view_is_the_normalised_picture),
    LK_CASE(settings_out_of_range_are_named),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
