/* What remains of a request: a line in the log, and its share of the metrics. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "routes.h"

enum { FIELDS = 12 + LK_STAGES };

static void log_request(struct lk_request *r, const struct lk_http_record *record) {
    char target[256];
    size_t length = 0, n = 0;
    for (const char *c = record->target; *c && length + 1 < sizeof target; c++)
        target[length++] = *c > ' ' && *c < 127 && *c != '"' ? *c : '?';
    target[length] = 0;
    struct lk_log_field fields[FIELDS] = {
        {"id", r->id[0] ? r->id : "-", 0, 0},
        {"method", r->method ? r->method : "-", 0, 0},
        {"target", target, 0, 0},
        {"status", NULL, record->status, 0},
        {"route", r->route ? r->route->pattern : "-", 0, 0},
        {"in", NULL, (double)record->received, 0},
        {"out", NULL, (double)record->sent, 0},
        {"ms", NULL, (double)record->ns * 1e-6, 2},
        {"key", r->key[0] ? r->key : "-", 0, 0},
    };
    while (fields[n].name)
        n++;
    if (r->held)
        fields[n++] = (struct lk_log_field){"generation", NULL,
                                            (double)((const struct lk_generation *)r->held)->serving.generation, 0};
    char names[LK_STAGES][24];
    for (int s = 0; s < LK_STAGES; s++) {
        int64_t ns = __atomic_load_n(&r->stages.ns[s], __ATOMIC_RELAXED);
        snprintf(names[s], sizeof names[s], "%s_ms", lk_stage_name((enum lk_stage)s));
        if (ns)
            fields[n++] = (struct lk_log_field){names[s], NULL, (double)ns * 1e-6, 2};
    }
    if (record->client_left)
        fields[n++] = (struct lk_log_field){"client_left", NULL, 1, 0};
    lk_log_fields(LK_LOG_INFO, "request", fields, n);
}

void lk_request_finished(struct lk_request *r, const struct lk_http_record *record) {
    struct lk_metrics *m = lk_request_collection(r)->work->metrics;
    size_t route = r->route ? (size_t)(r->route - lk_routes) : lk_routes_count;
    int left = record->status == 0 || (record->client_left && record->status != 408); /* 408: we closed */
    lk_metrics_count_request(m, route, left ? 499 : record->status, record->ns);
    lk_metrics_count(m, LK_COUNT_REQUEST_BYTES, record->received);
    lk_metrics_count(m, LK_COUNT_RESPONSE_BYTES, record->sent);
    if (lk_request_server(r)->config->log_requests)
        log_request(r, record);
}
