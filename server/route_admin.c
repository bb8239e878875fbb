/* What serves and whether it does: /model, the probes, the API description and the web page. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "assets.h"
#include "base/err.h"
#include "routes.h"

struct listing {
    struct lk_buf *out;
    int limits, first, rc;
};

static void list_option(void *arg, const struct lk_arg *option, int is_limit) {
    struct listing *l = arg;
    if (is_limit != l->limits || l->rc)
        return;
    char name[64];
    size_t n = 0;
    for (const char *c = option->name; *c && n + 1 < sizeof name; c++)
        name[n++] = *c == '-' ? '_' : *c;
    name[n] = 0;
    l->rc = lk_buf_printf(l->out, "%s\"%s\":", l->first ? "" : ",", name);
    l->first = 0;
    if (l->rc)
        return;
    l->rc = lk_config_value_json(l->out, option);
}

static int list_options(struct lk_buf *out, const struct lk_config *config, int limits) {
    struct listing l = {out, limits, 1, lk_json_raw(out, limits ? ",\"limits\":{" : ",\"options\":{")};
    lk_config_visit(config, list_option, &l);
    return l.rc ? l.rc : lk_json_raw(out, "}");
}

void lk_route_model(struct lk_request *r) {
    struct lk_fault f = {0};
    if (lk_query_only(r, NULL, 0, &f)) {
        lk_reply_fault(r, &f);
        return;
    }
    const struct lk_generation *g = lk_request_generation(r);
    const struct lk_config *config = lk_request_server(r)->config;
    const struct lk_model *model = lk_engine_model(g->engine);
    struct lk_batcher_stats stats;
    lk_batcher_stats(g->batcher, &stats);
    struct lk_buf out = {0};
    int rc;
    if ((rc = lk_json_raw(&out, "{")) || (rc = lk_reply_generation(r, &out)) ||
        (rc = lk_buf_printf(&out,
                            ",\"space\":\"%s\",\"dim\":%d,\"image_size\":%d,\"architecture\":\"%s\",\"stem\":\"%s\","
                            "\"width\":%d,\"method\":",
                            g->serving.space, g->dim, g->side, lk_arch_name(model->arch.depth),
                            lk_stem_name(model->arch.stem), model->arch.width)) ||
        (rc = lk_json_text(&out, model->method)) ||
        (rc = lk_buf_printf(&out, ",\"precision\":\"%s\",\"device\":", lk_engine_precision(g->engine))) ||
        (rc = lk_json_text(&out, lk_engine_device(g->engine))) ||
        (rc = lk_buf_printf(&out, ",\"index\":{\"kind\":\"%s\",\"tombstones\":%zu,\"linked\":%zu}",
                            lk_index_kind_name(g->index), lk_index_tombstones(g->index), lk_index_linked(g->index))) ||
        (rc = lk_buf_printf(&out,
                            ",\"items\":%zu,\"queue\":{\"waiting\":%d,\"images_per_second\":%.1f},\"version\":\"%s\"",
                            lk_index_count(g->index), stats.waiting, stats.images_per_second, LK_VERSION)) ||
        (rc = list_options(&out, config, 1)) || (rc = list_options(&out, config, 0)) ||
        (rc = lk_json_raw(&out, "}\n"))) {
        lk_buf_free(&out);
        lk_reply_failed(r, rc);
        return;
    }
    lk_reply(r, 200, "application/json", &out);
}

void lk_route_live(struct lk_request *r) {
    static const char text[] = "{\"live\":true}\n";
    lk_reply_static(r, 200, "application/json", text, sizeof text - 1);
}

static void probed(struct lk_probe *probe, double milliseconds, const char *reason) {
    struct lk_request *r = probe->arg;
    if (reason) {
        lk_reply_error(r, LK_API_NOT_READY, NULL, "%s", reason);
        return;
    }
    struct lk_buf out = {0};
    int rc = lk_buf_printf(&out, "{\"ready\":true,\"milliseconds\":%.2f}\n", milliseconds);
    if (rc)
        lk_reply_failed(r, rc);
    else
        lk_reply(r, 200, "application/json", &out);
}

void lk_route_ready(struct lk_request *r) {
    if (lk_request_draining(r)) {
        lk_reply_error(r, LK_API_DRAINING, NULL, "the server stops");
        return;
    }
    struct lk_probe *probe = r->state = lk_calloc(1, sizeof *probe);
    if (!probe) {
        lk_reply_failed(r, LK_ENOMEM);
        return;
    }
    r->state_free = free;
    probe->done = probed;
    probe->arg = r;
    lk_prober_ask(lk_request_server(r)->prober, probe);
}

static void reply_asset(struct lk_request *r, const char *name) {
    const struct lk_asset *asset = NULL;
    for (size_t i = 0; i < lk_assets_count && !asset; i++)
        if (strcmp(lk_assets[i].name, name) == 0)
            asset = &lk_assets[i];
    if (!asset) {
        lk_reply_error(r, LK_API_NOT_FOUND, "file", "the page has no such file");
        return;
    }
    const char *have = lk_request_header(r, "If-None-Match");
    lk_reply_header(r, "ETag", asset->etag);
    lk_reply_header(r, "Cache-Control", "no-cache");
    if (have && strstr(have, asset->etag)) {
        lk_reply(r, 304, NULL, NULL);
        return;
    }
    if (strncmp(asset->type, "text/html", 9) == 0)
        lk_reply_header(r, "Content-Security-Policy",
                        "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'");
    lk_reply_static(r, 200, asset->type, asset->data, asset->size);
}

void lk_route_openapi(struct lk_request *r) { reply_asset(r, "openapi.json"); }

void lk_route_page(struct lk_request *r) { reply_asset(r, "index.html"); }

void lk_route_page_file(struct lk_request *r) { reply_asset(r, r->captures[0].data); }
