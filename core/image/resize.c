/* Resizing as Pillow does it (Pillow, src/libImaging/Resample.c, read for its arithmetic; BILINEAR): a triangle filter
 * whose support grows when the picture shrinks, weights in fixed point with 22 fractional bits, a horizontal pass into
 * 8 bits, then a vertical one. Only the window that is asked for is computed. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "image/image_internal.h"
#include "image/preprocess.h"

enum { PRECISION_BITS = 32 - 8 - 2 }; /* 8 bits of result, and two so that sums of weights above 1 do not overflow */

/* The weights of one axis: output i is the sum over k of weights[i * size + k] * input[first[i] + k], k < count[i]. */
struct filter {
    int *first, *count; /* owned by `first` */
    int32_t *weights;
    int size;
    struct lk_arena *arena; /* the picture's, for the scratch too */
};

static void filter_free(struct filter *f) {
    lk_arena_drop(f->arena, f->first);
    lk_arena_drop(f->arena, f->weights);
    *f = (struct filter){0};
}

/* The weights of outputs begin..begin+n-1 of `out_size`, from in_size inputs. */
static int filter_make(struct filter *f, struct lk_arena *arena, int in_size, int out_size, int begin, int n) {
    const double scale = (double)in_size / out_size, stretch = scale < 1 ? 1 : scale, support = stretch;
    *f = (struct filter){.size = (int)ceil(support) * 2 + 1, .arena = arena};
    f->first = lk_arena_take(arena, (size_t)n, 2 * sizeof *f->first);
    f->weights = lk_arena_take(arena, (size_t)n * (size_t)f->size, sizeof *f->weights);
    double *exact = lk_arena_take(arena, (size_t)f->size, sizeof *exact);
    if (f->first == NULL || f->weights == NULL || exact == NULL) {
        lk_arena_drop(arena, exact);
        filter_free(f);
        return LK_ENOMEM;
    }
    f->count = f->first + n;
    for (int i = 0; i < n; i++) {
        double center = (begin + i + 0.5) * scale, sum = 0;
        int first = (int)(center - support + 0.5), last = (int)(center + support + 0.5);
        if (center - support + 0.5 < 0)
            first = 0;
        if (last > in_size)
            last = in_size;
        for (int k = 0; k < last - first; k++) {
            double t = fabs((k + first - center + 0.5) * (1.0 / stretch));
            exact[k] = t < 1 ? 1 - t : 0;
            sum += exact[k];
        }
        for (int k = 0; k < last - first; k++) {
            double w = sum != 0 ? exact[k] / sum : exact[k];
            f->weights[(size_t)i * (size_t)f->size + (size_t)k] = (int32_t)(0.5 + w * (1 << PRECISION_BITS));
        }
        f->first[i] = first;
        f->count[i] = last - first;
    }
    lk_arena_drop(arena, exact);
    return 0;
}

static inline uint8_t clip(int32_t sum) {
    int32_t v = sum >> PRECISION_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* One row: out[n][3] from in[][3]. */
static void filter_row(uint8_t *restrict out, const uint8_t *restrict in, const struct filter *f, int n) {
    for (int i = 0; i < n; i++) {
        const uint8_t *p = in + (size_t)f->first[i] * 3;
        const int32_t *w = f->weights + (size_t)i * (size_t)f->size;
        int32_t r = 1 << (PRECISION_BITS - 1), g = r, b = r;
        for (int k = 0, count = f->count[i]; k < count; k++, p += 3) {
            r += p[0] * w[k];
            g += p[1] * w[k];
            b += p[2] * w[k];
        }
        out[3 * i] = clip(r);
        out[3 * i + 1] = clip(g);
        out[3 * i + 2] = clip(b);
    }
}

/* Output row i of `bytes` bytes from rows of as many; sums is scratch of as many. */
static void filter_column(uint8_t *restrict out, const uint8_t *restrict in, size_t bytes, const struct filter *f,
                          int i, int32_t *restrict sums) {
    const int32_t *w = f->weights + (size_t)i * (size_t)f->size;
    for (size_t x = 0; x < bytes; x++)
        sums[x] = 1 << (PRECISION_BITS - 1);
    for (int k = 0; k < f->count[i]; k++) {
        const uint8_t *restrict row = in + (size_t)(f->first[i] + k) * bytes;
        const int32_t weight = w[k];
        for (size_t x = 0; x < bytes; x++)
            sums[x] += row[x] * weight;
    }
    for (size_t x = 0; x < bytes; x++)
        out[x] = clip(sums[x]);
}

int lk_image__resample(uint8_t *out, const struct lk_image *in, const struct lk_window *window) {
    const struct lk_window *v = window;
    struct filter fx = {0}, fy = {0};
    uint8_t *rows = NULL;
    int32_t *sums = NULL;
    const size_t stride = (size_t)in->width * 3, bytes = (size_t)v->w * 3;
    const int wide = v->full_w != in->width, tall = v->full_h != in->height; /* passes that are needed at all */
    int rc = wide ? filter_make(&fx, in->arena, in->width, v->full_w, v->x0, v->w) : 0;
    if (rc == 0 && tall)
        rc = filter_make(&fy, in->arena, in->height, v->full_h, v->y0, v->h);
    if (rc != 0)
        goto done;

    /* the input rows that the window needs */
    int first = v->y0, end = v->y0 + v->h;
    if (tall) {
        first = fy.first[0];
        end = fy.first[v->h - 1] + fy.count[v->h - 1];
        for (int i = 0; i < v->h; i++)
            fy.first[i] -= first;
        rows = lk_arena_take(in->arena, (size_t)(end - first), bytes);
        sums = lk_arena_take(in->arena, bytes, sizeof *sums);
        if (rows == NULL || sums == NULL) {
            rc = LK_ENOMEM;
            goto done;
        }
    }
    uint8_t *passed = tall ? rows : out; /* where the horizontal pass ends */
    for (int y = first; y < end; y++) {
        const uint8_t *row = in->pixels + (size_t)y * stride;
        uint8_t *to = passed + (size_t)(y - first) * bytes;
        if (wide)
            filter_row(to, row, &fx, v->w);
        else
            memcpy(to, row + (size_t)v->x0 * 3, bytes);
    }
    for (int i = 0; tall && i < v->h; i++)
        filter_column(out + (size_t)i * bytes, rows, bytes, &fy, i, sums);
done:
    lk_arena_drop(in->arena, rows);
    lk_arena_drop(in->arena, sums);
    filter_free(&fx);
    filter_free(&fy);
    return rc;
}

int lk_resize(struct lk_image *out, const struct lk_image *in, int width, int height) {
    int rc = lk_image_alloc(out, width, height);
    if (rc != 0)
        return rc;
    rc = lk_image__resample(out->pixels, in, &(struct lk_window){width, height, 0, 0, width, height});
    if (rc != 0)
        lk_image_free(out);
    return rc;
}
