#include "routes.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"

const struct lk_route lk_routes[] = {
    {"POST", "/embed", LK_ROLE_READ, LK_BODY_WHOLE, 0, lk_route_embed, NULL},
    {"POST", "/neighbors", LK_ROLE_READ, LK_BODY_WHOLE, 0, lk_route_neighbors, NULL},
    {"GET", "/neighbors", LK_ROLE_READ, LK_BODY_NONE, 0, lk_route_neighbors_of_item, NULL},
    {"GET", "/items", LK_ROLE_READ, LK_BODY_NONE, 0, lk_route_list_items, NULL},
    {"POST", "/items", LK_ROLE_WRITE, LK_BODY_STREAM, 0, lk_route_upload, lk_route_upload_chunk},
    {"PUT", "/items/{id}", LK_ROLE_WRITE, LK_BODY_WHOLE, 0, lk_route_put_item, NULL},
    {"GET", "/items/{id}", LK_ROLE_READ, LK_BODY_NONE, 0, lk_route_get_item, NULL},
    {"PATCH", "/items/{id}", LK_ROLE_WRITE, LK_BODY_WHOLE, 0, lk_route_patch_item, NULL},
    {"DELETE", "/items/{id}", LK_ROLE_WRITE, LK_BODY_NONE, 0, lk_route_delete_item, NULL},
    {"GET", "/items/{id}/image", LK_ROLE_READ, LK_BODY_NONE, 0, lk_route_item_image, NULL},
    {"GET", "/export", LK_ROLE_READ, LK_BODY_NONE, 0, lk_route_export, NULL},
    {"POST", "/snapshots", LK_ROLE_ADMIN, LK_BODY_NONE, 0, lk_route_make_snapshot, NULL},
    {"GET", "/snapshots", LK_ROLE_ADMIN, LK_BODY_NONE, 0, lk_route_list_snapshots, NULL},
    {"GET", "/snapshots/{name}", LK_ROLE_ADMIN, LK_BODY_NONE, 0, lk_route_get_snapshot, NULL},
    {"DELETE", "/snapshots/{name}", LK_ROLE_ADMIN, LK_BODY_NONE, 0, lk_route_delete_snapshot, NULL},
    {"GET", "/model", LK_ROLE_READ, LK_BODY_NONE, 0, lk_route_model, NULL},
    {"PUT", "/model", LK_ROLE_ADMIN, LK_BODY_STREAM, 0, lk_route_put_model, lk_route_put_model_chunk},
    {"POST", "/model/reload", LK_ROLE_ADMIN, LK_BODY_NONE, 0, lk_route_reload_model, NULL},
    {"GET", "/model/status", LK_ROLE_READ, LK_BODY_NONE, 0, lk_route_model_status, NULL},
    {"GET", "/model/weights", LK_ROLE_READ, LK_BODY_NONE, 0, lk_route_model_weights, NULL},
    {"GET", "/livez", LK_ROLE_NONE, LK_BODY_NONE, 1, lk_route_live, NULL},
    {"GET", "/readyz", LK_ROLE_NONE, LK_BODY_NONE, 0, lk_route_ready, NULL},
    {"GET", "/healthz", LK_ROLE_NONE, LK_BODY_NONE, 0, lk_route_ready, NULL},
    {"GET", "/metrics", LK_ROLE_READ, LK_BODY_NONE, 0, lk_route_metrics, NULL},
    {"GET", "/openapi.json", LK_ROLE_NONE, LK_BODY_NONE, 1, lk_route_openapi, NULL},
    {"GET", "/", LK_ROLE_NONE, LK_BODY_NONE, 1, lk_route_page, NULL},
    {"GET", "/web/{file}", LK_ROLE_NONE, LK_BODY_NONE, 1, lk_route_page_file, NULL},
};
const size_t lk_routes_count = sizeof lk_routes / sizeof *lk_routes;

struct lk_server *lk_request_server(const struct lk_request *r) {
    return r->context;
}

struct lk_collection *lk_request_collection(const struct lk_request *r) {
    return lk_request_server(r)->collection;
}

static void let_go(struct lk_request *r) {
    lk_generation_release(r->held);
    if (r->admitted)
        __atomic_sub_fetch(&lk_request_server(r)->asking, 1, __ATOMIC_RELAXED);
}

int lk_routes_admit(struct lk_request *r, struct lk_fault *f) {
    struct lk_server *s = lk_request_server(r);
    if (r->route->handle != lk_route_embed && r->route->handle != lk_route_neighbors &&
        r->route->handle != lk_route_put_item)
        return 0;
    int limit = (int)(s->config->queue + s->config->max_batch);
    r->admitted = 1;
    r->let_go = let_go;
    return __atomic_add_fetch(&s->asking, 1, __ATOMIC_RELAXED) <= limit
               ? 0
               : lk_fault_set(f, LK_API_OVERLOADED, NULL,
                              "%d requests wait already, as many as --queue and --max-batch allow", limit);
}

struct lk_generation *lk_request_next_generation(struct lk_request *r) {
    lk_generation_release(r->held);
    r->let_go = let_go;
    r->held = lk_collection_pin(lk_request_collection(r));
    return r->held;
}

struct lk_generation *lk_request_generation(struct lk_request *r) {
    return r->held ? r->held : lk_request_next_generation(r);
}

static int has_type(const char *header, const char *type) {
    size_t n = strlen(type);
    return strncasecmp(header, type, n) == 0 && (!header[n] || strchr("; \t", header[n]));
}

enum lk_body_form lk_request_form(struct lk_request *r) {
    const char *type = lk_request_header(r, "Content-Type");
    if (type && has_type(type, "application/json"))
        return LK_FORM_JSON;
    if (type && has_type(type, "multipart/form-data"))
        return LK_FORM_MULTIPART;
    return LK_FORM_PICTURE;
}

int lk_query_only(const struct lk_request *r, const char *const *names, size_t n, struct lk_fault *f) {
    for (size_t i = 0; i < r->query.count; i++) {
        const char *name = r->query.names[i].data;
        size_t k = 0;
        while (k < n && strcmp(name, names[k]) != 0)
            k++;
        if (k == n)
            return lk_fault_set(f, LK_API_INVALID_ARGUMENT, name, "unknown argument \"%s\"", name);
    }
    return 0;
}

int lk_query_int(const struct lk_request *r, const char *name, int64_t least, int64_t most, int64_t *out,
                 struct lk_fault *f) {
    const char *text = lk_query_get(&r->query, name);
    if (!text)
        return 0;
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || *end || (!isdigit((unsigned char)text[0]) && text[0] != '-') || value < least || value > most)
        return lk_fault_set(f, LK_API_INVALID_ARGUMENT, name, "%s has to be a whole number within %lld..%lld", name,
                            (long long)least, (long long)most);
    *out = value;
    return 0;
}

int lk_query_real(const struct lk_request *r, const char *name, double least, double most, double *out,
                  struct lk_fault *f) {
    const char *text = lk_query_get(&r->query, name);
    if (!text)
        return 0;
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value) || value < least || value > most)
        return lk_fault_set(f, LK_API_INVALID_ARGUMENT, name, "%s has to be a number within %g..%g", name, least, most);
    *out = value;
    return 0;
}

int lk_query_bool(const struct lk_request *r, const char *name, int *out, struct lk_fault *f) {
    const char *text = lk_query_get(&r->query, name);
    if (!text)
        return 0;
    int yes = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
    if (!yes && strcmp(text, "false") != 0 && strcmp(text, "0") != 0)
        return lk_fault_set(f, LK_API_INVALID_ARGUMENT, name, "%s has to be true or false", name);
    *out = yes;
    return 0;
}

int lk_query_filter(const struct lk_request *r, struct lk_filter **out, struct lk_fault *f) {
    const struct lk_filter_limits limits = lk_config_filter(lk_request_server(r)->config);
    const char *text = lk_query_get(&r->query, "filter");
    return text ? lk_filter_open_text(out, text, strlen(text), &limits, "filter", f) : 0;
}

int lk_check_id(const char *id, size_t n, const char *param, struct lk_fault *f) {
    return lk_store_check_id(id, n) ? lk_fault_set(f, LK_API_INVALID_ID, param, "%s", lk_error()) : 0;
}

int lk_check_metadata(const struct lk_server *s, const char *text, size_t n, struct lk_buf *out, struct lk_fault *f) {
    if ((long long)n > s->config->max_metadata_bytes)
        return lk_fault_set(f, LK_API_INVALID_ARGUMENT, "metadata", "the metadata has %zu bytes; the limit is %lld", n,
                            s->config->max_metadata_bytes);
    json_t *object;
    int rc = lk_json_parse_object(&object, text, n, (size_t)s->config->max_json_values, "metadata", f);
    if (rc)
        return rc;
    rc = lk_json_dump(out, object);
    json_decref(object);
    if (rc || (rc = lk_buf_append(out, "", 1)))
        return lk_fault_from_status(f, rc, NULL);
    return 0;
}

int lk_item_json(struct lk_buf *out, const struct lk_item *item) {
    int rc;
    if ((rc = lk_json_raw(out, "{\"id\":")) || (rc = lk_json_text(out, item->id)) ||
        (rc = lk_json_raw(out, ",\"metadata\":")) || (rc = lk_json_raw(out, item->metadata)) ||
        (rc = lk_json_raw(out, ",\"media_type\":")) || (rc = lk_json_text(out, item->media_type)) ||
        (rc = lk_buf_printf(out, ",\"sha256\":\"%s\",\"bytes\":%lld,\"width\":%d,\"height\":%d,\"created\":",
                            item->image_sha256, (long long)item->image_bytes, item->width, item->height)) ||
        (rc = lk_json_time(out, item->created_ms)) || (rc = lk_json_raw(out, ",\"updated\":")) ||
        (rc = lk_json_time(out, item->updated_ms)) || (rc = lk_buf_printf(out, ",\"seq\":%lld}", (long long)item->seq)))
        return rc;
    return 0;
}

static int write_item(void *arg, const struct lk_item *item) { return lk_item_json(arg, item); }

int lk_item_json_of(struct lk_buf *out, struct lk_collection *c, const char *id) {
    return lk_store_get(c->store, id, NULL, write_item, out);
}

void lk_reply_generation_header(struct lk_request *r) {
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)lk_request_generation(r)->serving.generation);
    lk_reply_header(r, "X-Likeness-Generation", text);
}

int lk_reply_generation(struct lk_request *r, struct lk_buf *out) {
    const struct lk_store_serving *s = &lk_request_generation(r)->serving;
    lk_reply_generation_header(r);
    int rc;
    if ((rc = lk_json_raw(out, "\"model\":")) || (rc = lk_json_text(out, s->model_name)))
        return rc;
    return lk_buf_printf(out, ",\"generation\":%lld", (long long)s->generation);
}

void lk_write_fault(struct lk_fault *f, const struct lk_write *w) {
    if (w->status == LK_ECANCELLED)
        lk_fault_set(f, LK_API_DEADLINE_EXCEEDED, NULL, "%s", w->error);
    else
        lk_fault_from_status(f, lk_err(w->status, "%s", w->error), w->status == LK_ENOTFOUND ? "id" : NULL);
}

int lk_route_gone(void *request) { return lk_request_gone(request); }
