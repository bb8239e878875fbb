/* A line plot as inline SVG, for report.c. */
#ifndef LK_TRAINER_PLOT_H
#define LK_TRAINER_PLOT_H

#include <stddef.h>

#include "base/buf.h"

struct lk_points {
    double *x, *y; /* owned */
    size_t n, room;
};

int lk_points_add(struct lk_points *p, double x, double y); /* values that are not finite are passed over */
void lk_points_free(struct lk_points *p);

struct lk_series {
    const char *name; /* in the legend and in the tooltips */
    int style;        /* 0: line in the first colour; 1: line in the second; 2: faint line without marks */
    struct lk_points points;
};

/* Appends a <figure>. Nothing is appended when no series has a point. from_zero: the y axis begins at 0. decimals: of the
 * tooltips. x_name: "epoch". */
int lk_plot(struct lk_buf *out, const char *title, const char *x_name, const struct lk_series *series, size_t n_series,
            int from_zero, int decimals);

/* Round numbers that cover low..high with about `want` steps: first tick and step. */
void lk_plot_ticks(double low, double high, int want, double *first, double *step);

#endif
