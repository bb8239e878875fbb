/* GET /metrics: what is counted (metrics.h), and what is so now. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "metrics.h"
#include "routes.h"

static void labels_of(size_t route, char *text, size_t size) {
    if (route < lk_routes_count)
        snprintf(text, size, "method=\"%s\",route=\"%s\"", lk_routes[route].method, lk_routes[route].pattern);
    else
        snprintf(text, size, "method=\"\",route=\"\"");
}

static int gauge(struct lk_buf *out, const char *name, const char *help, double value) {
    return lk_metrics_write_one(out, name, "gauge", help, NULL, value);
}

static int write_serving(struct lk_buf *out, struct lk_request *r) {
    const struct lk_generation *g = lk_request_generation(r);
    struct lk_work *work = lk_request_collection(r)->work;
    struct lk_batcher_stats stats;
    lk_batcher_stats(g->batcher, &stats);
    int rc;
    if ((rc = lk_metrics_write_one(out, "likeness_build_info", "gauge", "The version that runs, as a label",
                                   "version=\"" LK_VERSION "\"", 1)) ||
        (rc = gauge(out, "likeness_generation", "The number of the generation that serves",
                    (double)g->serving.generation)) ||
        (rc = gauge(out, "likeness_index_items", "Items that are searched", (double)lk_index_count(g->index))) ||
        (rc = gauge(out, "likeness_index_tombstones", "Slots of the index that wait for compaction",
                    (double)lk_index_tombstones(g->index))) ||
        (rc = gauge(out, "likeness_queue_pictures", "Pictures that wait for the engine or are on their way to it",
                    stats.waiting)) ||
        (rc = gauge(out, "likeness_queue_limit_pictures", "How many may",
                    (double)lk_request_server(r)->config->queue)) ||
        (rc = gauge(out, "likeness_engine_pictures_per_second", "The engine's measured rate",
                    stats.images_per_second)) ||
        (rc = gauge(out, "likeness_decode_memory_bytes", "Pixels being decoded",
                    (double)lk_budget_used(&work->decode))))
        return rc;
    return 0;
}

static int write_connections(struct lk_buf *out, struct lk_request *r) {
    struct lk_http_stats stats;
    lk_request_http_stats(r, &stats);
    int rc;
    if ((rc = gauge(out, "likeness_http_connections", "Open connections", stats.connections)) ||
        (rc = gauge(out, "likeness_body_memory_bytes", "Bodies in memory", (double)stats.body_bytes)) ||
        (rc = gauge(out, "likeness_answer_memory_bytes", "Large answers in memory", (double)stats.answer_bytes)) ||
        (rc = lk_metrics_write_one(out, "likeness_http_connections_accepted_total", "counter", "Connections accepted",
                                   NULL, (double)stats.accepted)) ||
        (rc = lk_buf_printf(out, "# HELP likeness_http_connections_expired_total Connections closed at a deadline\n"
                                 "# TYPE likeness_http_connections_expired_total counter\n")))
        return rc;
    for (int i = 0; i < LK_HTTP_DEADLINES && rc == 0; i++)
        rc = lk_buf_printf(out, "likeness_http_connections_expired_total{deadline=\"%s\"} %llu\n",
                           lk_http_deadline_name((enum lk_http_deadline)i), (unsigned long long)stats.expired[i]);
    return rc;
}

void lk_route_metrics(struct lk_request *r) {
    struct lk_fault f = {0};
    if (lk_query_only(r, NULL, 0, &f)) {
        lk_reply_fault(r, &f);
        return;
    }
    struct lk_buf out = {0};
    int rc;
    if ((rc = write_serving(&out, r)) || (rc = write_connections(&out, r)) ||
        (rc = lk_metrics_write(&out, lk_request_collection(r)->work->metrics, labels_of)) ||
        (rc = lk_metrics_write_process(&out))) {
        lk_buf_free(&out);
        lk_reply_failed(r, rc);
        return;
    }
    lk_reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", &out);
}
