#include "plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

enum { WIDTH = 640, HEIGHT = 260, LEFT = 58, RIGHT = 14, TOP = 12, BOTTOM = 34, MAX_DRAWN = 600, MAX_MARKS = 60 };

int lk_points_add(struct lk_points *p, double x, double y) {
    if (!isfinite(x) || !isfinite(y))
        return 0;
    if (p->n == p->room) {
        size_t room = p->room > 0 ? 2 * p->room : 256;
        double *xs = realloc(p->x, room * sizeof *xs);
        if (xs != NULL)
            p->x = xs;
        double *ys = realloc(p->y, room * sizeof *ys);
        if (ys != NULL)
            p->y = ys;
        if (xs == NULL || ys == NULL)
            return lk_err(LK_ENOMEM, "no memory for the report's plots");
        p->room = room;
    }
    p->x[p->n] = x, p->y[p->n++] = y;
    return 0;
}

void lk_points_free(struct lk_points *p) {
    free(p->x);
    free(p->y);
    memset(p, 0, sizeof *p);
}

void lk_plot_ticks(double low, double high, int want, double *first, double *step) {
    double range = high > low ? high - low : 1, raw = range / want, unit = pow(10, floor(log10(raw)));
    double nice = raw / unit <= 1 ? 1 : raw / unit <= 2 ? 2 : raw / unit <= 5 ? 5 : 10;
    *step = nice * unit;
    *first = ceil(low / *step - 1e-9) * *step;
}

struct frame {
    double x0, x1, y0, y1;
};

static double px(const struct frame *f, double x) {
    return LEFT + (x - f->x0) / (f->x1 - f->x0) * (WIDTH - LEFT - RIGHT);
}

static double py(const struct frame *f, double y) {
    return HEIGHT - BOTTOM - (y - f->y0) / (f->y1 - f->y0) * (HEIGHT - TOP - BOTTOM);
}

static int find_frame(struct frame *f, const struct lk_series *s, size_t n, int from_zero) {
    int any = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < s[i].points.n; j++) {
            double x = s[i].points.x[j], y = s[i].points.y[j];
            if (!any)
                *f = (struct frame){x, x, y, y};
            any = 1;
            f->x0 = x < f->x0 ? x : f->x0, f->x1 = x > f->x1 ? x : f->x1;
            f->y0 = y < f->y0 ? y : f->y0, f->y1 = y > f->y1 ? y : f->y1;
        }
    if (!any)
        return 0;
    if (from_zero && f->y0 > 0)
        f->y0 = 0;
    double margin = f->y1 > f->y0 ? .05 * (f->y1 - f->y0) : fabs(f->y1) * .1 + 1e-9;
    f->y1 += margin;
    if (!from_zero || f->y0 < 0)
        f->y0 -= margin;
    if (f->x1 <= f->x0)
        f->x0 -= .5, f->x1 += .5;
    return 1;
}

static int axes(struct lk_buf *out, const struct frame *f, const char *x_name) {
    double first, step;
    int rc = 0;
    lk_plot_ticks(f->y0, f->y1, 4, &first, &step);
    for (int i = 0; first + i * step <= f->y1 && rc == 0; i++) {
        double v = first + i * step, y = py(f, v);
        rc = lk_buf_printf(out,
                           "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
                           "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.6g</text>\n",
                           LEFT, WIDTH - RIGHT, y, y, LEFT - 8, y + 4, fabs(v) < 1e-12 ? 0 : v);
    }
    lk_plot_ticks(f->x0, f->x1, 7, &first, &step);
    for (int i = 0; first + i * step <= f->x1 + 1e-9 && rc == 0; i++)
        rc = lk_buf_printf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.6g</text>\n",
                           px(f, first + i * step), HEIGHT - BOTTOM + 16, first + i * step);
    if (rc == 0)
        rc = lk_buf_printf(out, "<text class=\"name\" x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", WIDTH - RIGHT,
                           HEIGHT - 3, x_name);
    return rc;
}

/* Long series are drawn as means of neighbours, so that the file stays small. */
static int line(struct lk_buf *out, const struct frame *f, const struct lk_series *s) {
    const struct lk_points *p = &s->points;
    size_t group = p->n / MAX_DRAWN + 1;
    int rc = lk_buf_printf(out, "<polyline class=\"s%d\" points=\"", s->style);
    for (size_t i = 0; i < p->n && rc == 0; i += group) {
        double x = 0, y = 0;
        size_t n = p->n - i < group ? p->n - i : group;
        for (size_t j = 0; j < n; j++)
            x += p->x[i + j] / (double)n, y += p->y[i + j] / (double)n;
        rc = lk_buf_printf(out, "%.1f,%.1f ", px(f, x), py(f, y));
    }
    return rc ? rc : lk_buf_printf(out, "\"/>\n");
}

static int marks(struct lk_buf *out, const struct frame *f, const struct lk_series *s, const char *x_name,
                 int decimals) {
    const struct lk_points *p = &s->points;
    size_t every = p->n / MAX_MARKS + 1;
    int rc = 0;
    for (size_t i = 0; i < p->n && rc == 0; i++)
        if (i % every == 0 || i + 1 == p->n)
            rc = lk_buf_printf(out,
                               "<circle class=\"m%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>%s %g: %s %.*f</title>"
                               "</circle>\n",
                               s->style, px(f, p->x[i]), py(f, p->y[i]), x_name, p->x[i], s->name, decimals, p->y[i]);
    return rc;
}

int lk_plot(struct lk_buf *out, const char *title, const char *x_name, const struct lk_series *series, size_t n_series,
            int from_zero, int decimals) {
    struct frame f;
    if (!find_frame(&f, series, n_series, from_zero))
        return 0;
    int rc = lk_buf_printf(out, "<figure><figcaption>%s", title);
    for (size_t i = 0; i < n_series && n_series > 1 && rc == 0; i++)
        if (series[i].points.n > 0)
            rc = lk_buf_printf(out, "<span class=\"key k%d\">%s</span>", series[i].style, series[i].name);
    if (rc == 0)
        rc = lk_buf_printf(out, "</figcaption>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">\n", WIDTH,
                           HEIGHT, title);
    if (rc == 0)
        rc = axes(out, &f, x_name);
    for (size_t i = 0; i < n_series && rc == 0; i++)
        if (series[i].points.n > 1)
            rc = line(out, &f, &series[i]);
    for (size_t i = 0; i < n_series && rc == 0; i++)
        if (series[i].style != 2 || series[i].points.n == 1)
            rc = marks(out, &f, &series[i], x_name, decimals);
    return rc ? rc : lk_buf_printf(out, "</svg></figure>\n");
}
