/* A request on its way in: what its headers say, its body, and the handover to its handler. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/log.h"
#include "http_internal.h"

#define FIRST_ROOM 65536 /* bytes of a body that are made room for before any came */
/* What is kept for later requests; 256 x 256 pixels are in it. */
enum { KEPT_REQUESTS = LK_ARENA_KEEPS ? 64 : 0, KEPT_ARENA = 256 << 10, KEPT_ANSWER = 64 << 10 };

int lk_request_draining(const struct lk_request *r) { return atomic_load(&r->http->http->draining); }

void lk_request_http_stats(struct lk_request *r, struct lk_http_stats *out) {
    struct lk_http *http = r->http->http;
    pthread_mutex_lock(&http->mutex);
    *out = (struct lk_http_stats){.connections = http->n_connections, .accepted = http->accepted};
    memcpy(out->expired, http->expired, sizeof out->expired);
    pthread_mutex_unlock(&http->mutex);
    out->body_bytes = lk_budget_used(&http->bodies);
    out->answer_bytes = lk_budget_used(&http->answers);
}

int lk_request_gone(struct lk_request *r) {
    struct lk_request_private *p = r->http;
    if (atomic_load(&p->http->cut))
        return 1;
    struct pollfd fd = {.fd = p->conn->fd, .events = POLLRDHUP};
    int gone = poll(&fd, 1, 0) > 0 && (fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
    if (gone)
        atomic_store(&p->gone, 1);
    return gone;
}

void lk_request_pause(struct lk_request *r) {
    struct lk_request_private *p = r->http;
    atomic_store(&p->paused, 1);
    lk_http_suspend(p);
}

void lk_request_refuse(struct lk_request *r, const struct lk_fault *f) {
    r->http->fault = *f;
    r->http->discard = 1;
}

void lk_request_continue(struct lk_request *r) {
    struct lk_request_private *p = r->http;
    atomic_store(&p->paused, 0);
    lk_http_resume(p);
}

/* The client's id when it is fit for a log line, else a new one. */
static void choose_id(struct lk_request_private *p) {
    static const char fit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    const char *given = lk_request_header(&p->r, "X-Request-Id");
    size_t n = given ? strlen(given) : 0;
    if (n >= 1 && n < sizeof p->r.id && strspn(given, fit) == n)
        memcpy(p->r.id, given, n + 1);
    else
        snprintf(
            p->r.id, sizeof p->r.id, "%016llx",
            (unsigned long long)(p->http->id_seed + atomic_fetch_add(&p->http->id_next, 1) * 0x9E3779B97F4A7C15ull));
}

void lk_http_set_phase(struct lk_request_private *p, enum lk_http_phase phase, double seconds) {
    pthread_mutex_lock(&p->http->mutex);
    p->conn->phase = phase;
    p->conn->since_ns = lk_now_ns();
    p->conn->deadline_ns = seconds > 0 ? p->conn->since_ns + (int64_t)(seconds * 1e9) : 0;
    pthread_mutex_unlock(&p->http->mutex);
}

static int find_route(struct lk_request_private *p) {
    const char *question = strchr(p->target, '?');
    size_t path = question ? (size_t)(question - p->target) : strlen(p->target);
    struct lk_route_match match;
    int rc = lk_router_match(p->http->app.routes, p->http->app.n_routes, p->method, p->target, path, &p->arena, &match);
    if (rc == LK_EUNSUPPORTED) {
        lk_reply_header(&p->r, "Allow", match.allow);
        return lk_fault_set(&p->fault, LK_API_METHOD_NOT_ALLOWED, NULL, "%s", lk_error());
    }
    if (rc == LK_ENOTFOUND)
        return lk_fault_set(&p->fault, LK_API_NOT_FOUND, NULL, "%s", lk_error());
    if (rc)
        return lk_fault_from_status(&p->fault, rc, "path");
    p->r.route = match.route;
    memcpy(p->r.captures, match.captures, sizeof p->r.captures);
    if (question && (rc = lk_query_parse(&p->r.query, question + 1, strlen(question + 1), &p->arena)))
        return lk_fault_from_status(&p->fault, rc, "query");
    return 0;
}

static int identify(struct lk_request_private *p) {
    return p->http->app.identify ? p->http->app.identify(&p->r, &p->fault) : 0;
}

/* What the headers say about the body, before any of it is read. */
static int check_body(struct lk_request_private *p, int has_length, uint64_t length, int chunked) {
    const struct lk_http_options *o = &p->http->options;
    enum lk_route_body kind = p->r.route->body;
    if (kind == LK_BODY_NONE) {
        p->discard = 1;
        return 0;
    }
    if (!has_length && !chunked)
        return lk_fault_set(&p->fault, LK_API_LENGTH_REQUIRED, NULL, "the request has no body");
    const char *coding = lk_request_header(&p->r, "Content-Encoding");
    if (coding && strcasecmp(coding, "identity") != 0)
        return lk_fault_set(&p->fault, LK_API_UNSUPPORTED_MEDIA_TYPE, "Content-Encoding",
                            "compressed bodies are not supported");
    if (has_length && length == 0)
        return lk_fault_set(&p->fault, LK_API_EMPTY_BODY, NULL, "the body is empty");
    if (p->http->app.admit && p->http->app.admit(&p->r, &p->fault))
        return LK_EFAIL;
    if (kind != LK_BODY_WHOLE)
        return 0;
    if (has_length && length > (uint64_t)o->max_body)
        return lk_fault_set(&p->fault, LK_API_BODY_TOO_LARGE, NULL, "the body has %llu bytes; the limit is %lld",
                            (unsigned long long)length, (long long)o->max_body);
    if (has_length) {
        if (!lk_budget_try(&p->http->bodies, length))
            return lk_fault_set(&p->fault, LK_API_OVERLOADED, NULL,
                                "the bodies in memory reach their limit of %lld bytes", (long long)o->body_memory);
        p->length = length;
        p->reserved = length < FIRST_ROOM ? length : FIRST_ROOM; /* the rest when it comes: a claim is not memory */
        lk_budget_give(&p->http->bodies, length - p->reserved);
        if (lk_buf_reserve(&p->r.body, (size_t)p->reserved))
            return lk_fault_from_status(&p->fault, LK_ENOMEM, NULL);
    }
    return 0;
}

/* RFC 9112, 6.3: when a proxy may take another body for this request's than we do, its end could pass for a request. */
static int check_framing(struct lk_request_private *p) {
    const char *coding = lk_request_header(&p->r, "Transfer-Encoding");
    const int lengths = lk_http_count_header(p, "Content-Length"),
              codings = lk_http_count_header(p, "Transfer-Encoding");
    if (lengths + codings > 1)
        return lk_fault_set(&p->fault, LK_API_INVALID_ARGUMENT, "Content-Length",
                            "the request says more than once where its body ends");
    if (coding && strcasecmp(coding, "chunked") != 0)
        return lk_fault_set(&p->fault, LK_API_INVALID_ARGUMENT, "Transfer-Encoding",
                            "chunked is all that is supported");
    return 0;
}

enum lk_http_step lk_http_headers(struct lk_request_private *p, const char *method) {
    p->begun = 1;
    p->headers_ns = lk_now_ns();
    snprintf(p->method, sizeof p->method, "%s", method);
    p->r.method = p->method;
    choose_id(p);
    const char *text = lk_request_header(&p->r, "Content-Length");
    uint64_t length = text ? strtoull(text, NULL, 10) : 0;
    int chunked = lk_request_header(&p->r, "Transfer-Encoding") != NULL;
    const int is_framed = check_framing(p) == 0;
    if (atomic_load(&p->http->cut))
        lk_fault_set(&p->fault, LK_API_DRAINING, NULL, "the server stops");
    else if (is_framed && find_route(p) == 0 && identify(p) == 0)
        check_body(p, text != NULL, length, chunked);
    const struct lk_http_options *o = &p->http->options;
    int stream = p->r.route && p->r.route->body == LK_BODY_STREAM && !p->fault.error;
    lk_http_set_phase(p, LK_HTTP_READING_BODY, stream ? o->upload_timeout : o->body_timeout);
    if (!p->fault.error)
        return LK_HTTP_GO_ON;
    p->discard = 1;
    int waits_for_us = lk_request_header(&p->r, "Expect") != NULL;
    if (is_framed && !waits_for_us && !chunked && length <= LK_HTTP_DISCARD_MAX)
        return LK_HTTP_GO_ON; /* answered when the body has been read */
    p->completed = 1;
    lk_http_set_phase(p, LK_HTTP_BUSY, 0);
    lk_reply_fault(&p->r, &p->fault);
    return LK_HTTP_ANSWER;
}

/* Takes from the budget what the body needs now; a body of known length gets room ahead, so that it is copied seldom. */
static int make_room(struct lk_request_private *p) {
    if (p->received <= p->reserved)
        return 0;
    uint64_t wanted = p->received;
    if (p->length > 4 * wanted)
        wanted *= 4;
    else if (p->length > wanted)
        wanted = p->length;
    if (!lk_budget_try(&p->http->bodies, wanted - p->reserved))
        return lk_fault_set(&p->fault, LK_API_OVERLOADED, NULL, "the bodies in memory reach their limit of %lld bytes",
                            (long long)p->http->options.body_memory);
    p->reserved = wanted;
    return lk_buf_reserve(&p->r.body, (size_t)wanted) ? lk_fault_from_status(&p->fault, LK_ENOMEM, NULL) : 0;
}

enum lk_http_step lk_http_body(struct lk_request_private *p, const char *bytes, size_t *n) {
    if (atomic_load(&p->paused))
        return LK_HTTP_GO_ON; /* takes nothing; called again after the pause */
    const struct lk_http_options *o = &p->http->options;
    size_t taken = *n;
    p->received += taken;
    if (p->discard) {
        if (p->received > LK_HTTP_DISCARD_MAX) {
            if (p->fault.error)
                lk_http_answer_raw(p->conn->fd, &p->fault);
            return LK_HTTP_CUT;
        }
    } else if (p->r.route->body == LK_BODY_STREAM) {
        p->r.route->chunk(&p->r, bytes, *n);
    } else {
        if (p->received > (uint64_t)o->max_body) {
            lk_fault_set(&p->fault, LK_API_BODY_TOO_LARGE, NULL, "the body has more than %lld bytes",
                         (long long)o->max_body);
        } else {
            make_room(p);
        }
        if (!p->fault.error && lk_buf_append(&p->r.body, bytes, *n))
            lk_fault_from_status(&p->fault, LK_ENOMEM, NULL);
        if (p->fault.error) {
            p->discard = 1;
            lk_buf_free(&p->r.body);
        }
    }
    *n -= taken;
    return LK_HTTP_GO_ON;
}

static void handle_job(void *arg) {
    struct lk_request_private *p = arg;
    const int waits = p->r.route->body == LK_BODY_STREAM ||
                      p->r.route->role == LK_ROLE_NONE; /* a probe tells its own */
    if (!waits && lk_now_ns() >= p->r.deadline_ns)
        lk_reply_error(&p->r, LK_API_DEADLINE_EXCEEDED, NULL, "the deadline passed before the request was begun");
    else
        p->r.route->handle(&p->r);
}

/* The server's limit counts from the complete request, the client's from its headers on. */
static void set_deadline(struct lk_request_private *p) {
    p->r.deadline_ns = lk_now_ns() + (int64_t)(p->http->options.request_timeout * 1e9);
    if (p->r.timeout_ns && p->headers_ns + p->r.timeout_ns < p->r.deadline_ns)
        p->r.deadline_ns = p->headers_ns + p->r.timeout_ns;
}

enum lk_http_step lk_http_complete(struct lk_request_private *p) {
    if (p->answered)
        return p->queued ? LK_HTTP_GO_ON : LK_HTTP_ANSWER;
    if (p->completed)
        return LK_HTTP_GO_ON;
    p->completed = 1;
    lk_http_set_phase(p, LK_HTTP_BUSY, 0);
    set_deadline(p);
    if (!p->fault.error && p->r.route->body == LK_BODY_WHOLE && p->r.body.size == 0)
        lk_fault_set(&p->fault, LK_API_EMPTY_BODY, NULL, "the body is empty");
    if (p->fault.error) {
        lk_reply_fault(&p->r, &p->fault);
        return LK_HTTP_ANSWER;
    }
    if (p->r.route->on_connection_thread) {
        p->r.route->handle(&p->r);
        return LK_HTTP_ANSWER;
    }
    p->on_pool = 1;
    lk_http_suspend(p);
    lk_work_do(p->http->app.work, handle_job, p);
    return LK_HTTP_GO_ON;
}

/* The memory of a request that is over, or new memory. */
static struct lk_request_private *blank(struct lk_http *http) {
    pthread_mutex_lock(&http->mutex);
    struct lk_request_private *p = http->spare;
    if (p) {
        http->spare = p->next_spare;
        http->n_spare--;
    }
    pthread_mutex_unlock(&http->mutex);
    if (!p)
        return lk_calloc(1, sizeof *p);
    const struct lk_arena arena = p->arena;
    const struct lk_buf room = p->room;
    memset(p, 0, sizeof *p);
    p->arena = arena;
    p->room = room;
    return p;
}

static void request_close(struct lk_request_private *p) {
    lk_arena_close(&p->arena);
    lk_buf_free(&p->room);
    free(p);
}

/* Keeps the memory of some requests, as many as are busy at once on a busy machine, and only what is small of it. */
static void give_back(struct lk_http *http, struct lk_request_private *p) {
    lk_arena_reset(&p->arena, KEPT_ARENA);
    if (p->bytes.capacity >= p->room.capacity && p->bytes.capacity <= KEPT_ANSWER) {
        lk_buf_free(&p->room);
        p->room = p->bytes;
        lk_buf_clear(&p->room);
    } else {
        lk_buf_free(&p->bytes);
    }
    pthread_mutex_lock(&http->mutex);
    const int keep = http->n_spare < KEPT_REQUESTS;
    if (keep) {
        p->next_spare = http->spare;
        http->spare = p;
        http->n_spare++;
    }
    pthread_mutex_unlock(&http->mutex);
    if (!keep)
        request_close(p);
}

void lk_http_requests_close(struct lk_http *http) {
    while (http->spare) {
        struct lk_request_private *p = http->spare;
        http->spare = p->next_spare;
        request_close(p);
    }
}

struct lk_request_private *lk_http_request_new(struct lk_http *http, struct lk_http_connection *c, const char *target) {
    struct lk_request_private *p = blank(http);
    if (!p || !(p->target = lk_arena_strdup(&p->arena, target))) {
        if (p)
            request_close(p);
        return NULL;
    }
    p->http = http;
    p->conn = c;
    p->start_ns = lk_now_ns();
    p->r.http = p;
    p->r.arena = &p->arena;
    p->r.context = http->app.context;
    pthread_mutex_lock(&http->mutex);
    c->current = p;
    c->requests++;
    c->deadline_ns = p->start_ns + (int64_t)(http->options.header_timeout * 1e9);
    pthread_mutex_unlock(&http->mutex);
    return p;
}

void lk_http_request_free(struct lk_request_private *p, int sent) {
    struct lk_http *http = p->http;
    pthread_mutex_lock(&http->mutex);
    http->let_go += atomic_load(&http->cut) && (sent ? p->refused : p->conn->expired || p->fill_failed);
    p->conn->phase = LK_HTTP_WAITING;
    p->conn->current = NULL;
    p->conn->since_ns = lk_now_ns();
    p->conn->deadline_ns = p->conn->since_ns + (int64_t)(http->options.idle_timeout * 1e9);
    pthread_mutex_unlock(&http->mutex);
    if (http->app.finished) {
        const struct lk_http_record record = {.target = p->target,
                                              .status = p->status,
                                              .received = p->received,
                                              .sent = p->sent,
                                              .ns = lk_now_ns() - p->start_ns,
                                              .client_left = !sent || atomic_load(&p->gone)};
        http->app.finished(&p->r, &record);
    }
    if (p->r.state_free)
        p->r.state_free(p->r.state);
    if (p->r.let_go)
        p->r.let_go(&p->r);
    lk_budget_give(&http->bodies, p->reserved);
    if (p->held)
        lk_budget_give(&http->answers, p->held);
    lk_buf_free(&p->r.body);
    give_back(http, p);
}
