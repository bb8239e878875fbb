#include "metrics.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"

#define STATUSES 500 /* 100..599 */
#define BUCKETS 17

/* Upper bounds; the last bucket has none. */
static const int64_t time_bounds_us[BUCKETS - 1] = {500,     1000,     2500,     5000,    10000,   25000,
                                                    50000,   100000,   250000,   500000,  1000000, 2500000,
                                                    5000000, 10000000, 30000000, 60000000};
static const int64_t size_bounds[BUCKETS - 1] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256, 384, 512};

struct histogram {
    atomic_uint_fast64_t buckets[BUCKETS], sum;
};

struct route {
    atomic_uint_fast64_t statuses[STATUSES];
    struct histogram duration;
};

struct lk_metrics {
    size_t n_routes;
    atomic_uint_fast64_t counts[LK_COUNTS];
    struct histogram stages[LK_STAGES], batches;
    struct route routes[]; /* and one for no route */
};

static const char *const stage_names[LK_STAGES] = {"decode", "queue", "inference", "search", "write"};

const char *lk_stage_name(enum lk_stage stage) { return stage_names[stage]; }

int lk_metrics_open(struct lk_metrics **out, size_t n_routes) {
    *out = lk_calloc(1, sizeof **out + (n_routes + 1) * sizeof(struct route));
    if (!*out)
        return LK_ENOMEM;
    (*out)->n_routes = n_routes;
    return 0;
}

void lk_metrics_close(struct lk_metrics *m) { free(m); }

static void add(atomic_uint_fast64_t *to, uint64_t n) { atomic_fetch_add_explicit(to, n, memory_order_relaxed); }

static uint64_t get(atomic_uint_fast64_t *from) { return atomic_load_explicit(from, memory_order_relaxed); }

static void observe(struct histogram *h, const int64_t *bounds, int64_t value, int64_t unit) {
    size_t i = 0;
    while (i < BUCKETS - 1 && value > bounds[i] * unit)
        i++;
    add(&h->sum, value > 0 ? (uint64_t)value : 0);
    add(&h->buckets[i], 1);
}

void lk_metrics_count(struct lk_metrics *m, enum lk_count what, uint64_t n) {
    if (m)
        add(&m->counts[what], n);
}

void lk_metrics_count_batch(struct lk_metrics *m, int pictures) {
    if (m)
        observe(&m->batches, size_bounds, pictures, 1);
}

void lk_metrics_count_request(struct lk_metrics *m, size_t route, unsigned status, int64_t ns) {
    if (!m)
        return;
    struct route *r = &m->routes[route < m->n_routes ? route : m->n_routes];
    add(&r->statuses[status >= 100 && status < 100 + STATUSES ? status - 100 : STATUSES - 1], 1);
    observe(&r->duration, time_bounds_us, ns, 1000);
}

void lk_metrics_stage(struct lk_metrics *m, enum lk_stage stage, int64_t ns, struct lk_stages *stages) {
    if (stages)
        __atomic_add_fetch(&stages->ns[stage], ns, __ATOMIC_RELAXED);
    if (m)
        observe(&m->stages[stage], time_bounds_us, ns, 1000);
}

/* --- writing -------------------------------------------------------------------------------------------------------- */

static int heading(struct lk_buf *out, const char *name, const char *type, const char *help) {
    return lk_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* units: how many of the sum's are one of the metric's, e.g. nanoseconds of a second. */
static int write_histogram(struct lk_buf *out, const char *name, const char *labels, struct histogram *h,
                           const int64_t *bounds, double bound_units, double sum_units) {
    const char *comma = *labels ? "," : "";
    uint64_t count = 0;
    int rc = 0;
    for (size_t i = 0; i < BUCKETS && rc == 0; i++) {
        count += get(&h->buckets[i]);
        char bound[32] = "+Inf";
        if (i < BUCKETS - 1)
            snprintf(bound, sizeof bound, "%g", (double)bounds[i] / bound_units);
        rc = lk_buf_printf(out, "%s_bucket{%s%sle=\"%s\"} %llu\n", name, labels, comma, bound,
                           (unsigned long long)count);
    }
    if (rc)
        return rc;
    return lk_buf_printf(out, *labels ? "%s_sum{%s} %.9g\n%s_count{%s} %llu\n" : "%s_sum%s %.9g\n%s_count%s %llu\n",
                         name, labels, (double)get(&h->sum) / sum_units, name, labels, (unsigned long long)count);
}

static int write_requests(struct lk_buf *out, struct lk_metrics *m, lk_metrics_labels *labels) {
    char text[256];
    int rc = heading(out, "likeness_http_requests_total", "counter",
                     "Requests by route and status; 499: the client left before the end of its answer");
    for (size_t i = 0; i <= m->n_routes && rc == 0; i++) {
        labels(i, text, sizeof text);
        for (size_t s = 0; s < STATUSES && rc == 0; s++) {
            uint64_t n = get(&m->routes[i].statuses[s]);
            if (n)
                rc = lk_buf_printf(out, "likeness_http_requests_total{%s,status=\"%zu\"} %llu\n", text, s + 100,
                                   (unsigned long long)n);
        }
    }
    if (rc == 0)
        rc = heading(out, "likeness_http_request_duration_seconds", "histogram",
                     "From a request's first line to the end of its answer");
    for (size_t i = 0; i <= m->n_routes && rc == 0; i++) {
        labels(i, text, sizeof text);
        if (get(&m->routes[i].duration.sum))
            rc = write_histogram(out, "likeness_http_request_duration_seconds", text, &m->routes[i].duration,
                                 time_bounds_us, 1e6, 1e9);
    }
    return rc;
}

static int write_stages(struct lk_buf *out, struct lk_metrics *m) {
    int rc = heading(
        out, "likeness_stage_duration_seconds", "histogram",
        "A picture's decode, queue and inference, a query's search, a change's write, each with its waits");
    for (int s = 0; s < LK_STAGES && rc == 0; s++) {
        char text[64];
        snprintf(text, sizeof text, "stage=\"%s\"", stage_names[s]);
        rc = write_histogram(out, "likeness_stage_duration_seconds", text, &m->stages[s], time_bounds_us, 1e6, 1e9);
    }
    if (rc || (rc = heading(out, "likeness_batch_pictures", "histogram", "Pictures computed together")))
        return rc;
    return write_histogram(out, "likeness_batch_pictures", "", &m->batches, size_bounds, 1, 1);
}

static int write_counts(struct lk_buf *out, struct lk_metrics *m) {
    static const struct {
        const char *name, *labels, *help;
    } families[LK_COUNTS] = {
        [LK_COUNT_DROPPED_LATE] = {"likeness_pictures_dropped_total", "{reason=\"late\"}",
                                   "Pictures that waited and were not computed, because nobody wanted them any more"},
        [LK_COUNT_DROPPED_GONE] = {"likeness_pictures_dropped_total", "{reason=\"gone\"}", NULL},
        [LK_COUNT_REFUSED] = {"likeness_pictures_refused_total", "", "Pictures for which the queue had no place"},
        [LK_COUNT_REQUEST_BYTES] = {"likeness_http_request_bytes_total", "", "Bytes of bodies that were received"},
        [LK_COUNT_RESPONSE_BYTES] = {"likeness_http_response_bytes_total", "", "Bytes of bodies that were sent"},
    };
    int rc = 0;
    for (int i = 0; i < LK_COUNTS && rc == 0; i++)
        if ((families[i].help == NULL || (rc = heading(out, families[i].name, "counter", families[i].help)) == 0))
            rc = lk_buf_printf(out, "%s%s %llu\n", families[i].name, families[i].labels,
                               (unsigned long long)get(&m->counts[i]));
    return rc;
}

int lk_metrics_write(struct lk_buf *out, struct lk_metrics *m, lk_metrics_labels *labels) {
    int rc;
    (void)((rc = write_requests(out, m, labels)) || (rc = write_stages(out, m)) || (rc = write_counts(out, m)));
    return rc;
}

int lk_metrics_write_one(struct lk_buf *out, const char *name, const char *type, const char *help, const char *labels,
                         double value) {
    int rc = heading(out, name, type, help);
    return rc ? rc
              : lk_buf_printf(out, "%s%s%s%s %.15g\n", name, labels ? "{" : "", labels ? labels : "", labels ? "}" : "",
                              value);
}
