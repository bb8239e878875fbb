/* PUT /model, POST /model/reload, GET /model/status: another model, while this one serves. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "publish.h"
#include "routes.h"

struct arrival {
    struct lk_arrival received;
    char *path; /* owned; received.path */
    uint64_t bytes;
    int failed; /* refused already */
};

static void arrival_free(void *state) {
    struct arrival *a = state;
    lk_fs_writer_abort(&a->received.file);
    free(a->path);
    free(a);
}

static const char *when(char *to, size_t size, int64_t ms) {
    struct lk_buf text = {0};
    snprintf(to, size, "null");
    if (ms && lk_json_time(&text, ms) == 0 && lk_buf_append(&text, "", 1) == 0)
        snprintf(to, size, "%s", (const char *)text.data);
    lk_buf_free(&text);
    return to;
}

static int write_status(struct lk_buf *out, const struct lk_publish_status *s) {
    char started[64], finished[64], to[24] = "null";
    int rc;
    if (s->to)
        snprintf(to, sizeof to, "%lld", (long long)s->to);
    if ((rc = lk_buf_printf(out, "{\"operation\":%lld,\"state\":\"%s\",\"model\":", (long long)s->operation,
                            lk_publish_state_name(s->state))) ||
        (rc = s->model[0] ? lk_json_text(out, s->model) : lk_json_raw(out, "null")) ||
        (rc = lk_buf_printf(out,
                            ",\"from_generation\":%lld,\"to_generation\":%s,\"unchanged\":%s,\"items\":%lld,"
                            "\"embedded\":%lld,\"failed\":%lld,\"started\":%s,\"finished\":%s,\"error\":",
                            (long long)s->from, to, s->unchanged ? "true" : "false", s->items, s->embedded, s->failed,
                            when(started, sizeof started, s->started_ms),
                            when(finished, sizeof finished, s->finished_ms))) ||
        (rc = s->error[0] ? lk_json_text(out, s->error) : lk_json_raw(out, "null")) || (rc = lk_json_raw(out, "}\n")))
        return rc;
    return 0;
}

static void reply_status(struct lk_request *r, unsigned http_status) {
    struct lk_publish_status s;
    struct lk_buf out = {0};
    lk_publish_status(lk_request_collection(r)->publisher, &s);
    if (s.state == LK_PUBLISH_IDLE) {
        struct lk_generation *g = lk_request_generation(r);
        s.from = s.to = g->serving.generation;
    }
    int rc = write_status(&out, &s);
    if (rc) {
        lk_buf_free(&out);
        lk_reply_failed(r, rc);
        return;
    }
    lk_reply(r, http_status, "application/json", &out);
}

/* The sentence without the path at its beginning, which says nothing to a client. */
static const char *without_path(const char *sentence, const struct arrival *a) {
    size_t n = a ? strlen(a->path) : 0;
    return a && strncmp(sentence, a->path, n) == 0 && strncmp(sentence + n, ": ", 2) == 0 ? sentence + n + 2 : sentence;
}

static void reply_accepted(struct lk_request *r, int rc) {
    if (rc == 0) {
        lk_reply_header(r, "Location", "/model/status");
        reply_status(r, 202);
    } else if (rc == LK_EBUSY) {
        lk_reply_error(r, LK_API_CONFLICT, NULL, "%s", lk_error());
    } else if (rc == LK_EFORMAT || rc == LK_EUNSUPPORTED || rc == LK_EINVAL) {
        lk_reply_error(r, LK_API_INVALID_MODEL, NULL, "%s", without_path(lk_error(), r->state));
    } else {
        lk_reply_failed(r, rc);
    }
}

static int no_arguments(struct lk_request *r, struct lk_fault *f) { return lk_query_only(r, NULL, 0, f); }

static struct arrival *open_arrival(struct lk_request *r, struct lk_fault *f) {
    struct lk_server *server = lk_request_server(r);
    struct arrival *a = r->state = lk_calloc(1, sizeof *a);
    if (!a) {
        lk_fault_from_status(f, LK_ENOMEM, NULL);
        return NULL;
    }
    r->state_free = arrival_free;
    char name[64];
    snprintf(name, sizeof name, LK_PUBLISH_ARRIVING "%d.safetensors",
             __atomic_add_fetch(&server->arrivals, 1, __ATOMIC_RELAXED));
    char *folder = lk_publish_in_folder(server->collection, NULL);
    a->path = lk_publish_in_folder(server->collection, name);
    int rc = folder && a->path ? lk_fs_mkdir_parents(folder) : LK_ENOMEM;
    if (rc == 0)
        rc = lk_fs_writer_begin(&a->received.file, a->path);
    free(folder);
    if (rc)
        lk_fault_from_status(f, rc, NULL);
    return rc ? NULL : a;
}

void lk_route_put_model_chunk(struct lk_request *r, const void *bytes, size_t n) {
    struct arrival *a = r->state;
    struct lk_fault f = {0};
    long long limit = lk_request_server(r)->config->max_model_bytes;
    if (a && a->failed)
        return;
    if (a || (no_arguments(r, &f) == 0 && (a = open_arrival(r, &f)))) {
        a->bytes += n;
        int rc;
        if (a->bytes > (uint64_t)limit)
            lk_fault_set(&f, LK_API_BODY_TOO_LARGE, NULL, "the model has more than %lld bytes", limit);
        else if ((rc = lk_fs_writer_append(&a->received.file, bytes, n)))
            lk_fault_from_status(&f, rc, NULL);
    }
    if (f.error) {
        if (r->state)
            ((struct arrival *)r->state)->failed = 1;
        lk_request_refuse(r, &f);
    }
}

static void checked(struct lk_arrival *arrival, int status, const char *error) { /* on the publisher's thread */
    reply_accepted(arrival->arg, status ? lk_err(status, "%s", error) : 0);
}

void lk_route_put_model(struct lk_request *r) {
    struct arrival *a = r->state;
    if (!a) {
        lk_reply_error(r, LK_API_EMPTY_BODY, NULL, "the body is empty: it has to be a safetensors file");
        return;
    }
    a->received.path = a->path;
    a->received.done = checked;
    a->received.arg = r;
    int rc = lk_publish_arrived(lk_request_collection(r)->publisher, &a->received);
    if (rc)
        reply_accepted(r, rc);
}

void lk_route_reload_model(struct lk_request *r) {
    struct lk_fault f = {0};
    int64_t operation;
    if (no_arguments(r, &f))
        lk_reply_fault(r, &f);
    else
        reply_accepted(r, lk_publish_reload(lk_request_collection(r)->publisher, &operation));
}

void lk_route_model_status(struct lk_request *r) {
    struct lk_fault f = {0};
    if (no_arguments(r, &f))
        lk_reply_fault(r, &f);
    else
        reply_status(r, 200);
}
