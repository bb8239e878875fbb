/* One thread accepts and watches the clock; libmicrohttpd's threads read and write. We accept ourselves, because that
 * gives the connection limit a backlog instead of a refusal, and a stop that loses no connection that the kernel had
 * taken already; and we keep the deadlines ourselves, because libmicrohttpd's timeout counts inactivity, so that a byte
 * every few seconds would hold a connection for ever. */
#include "http.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

#include "base/err.h"
#include "base/log.h"

#define TICK_MS 50
#define IDLE_WHEN_DRAINING_NS 300000000 /* of a stop: a connection without a request is closed after this */
#define DISCARD_MAX (64u << 20)         /* of a refused body: read, so that the client reads our answer */
#define ANSWER_HEADERS 8
#define CONNECTION_MEMORY 32768 /* headers of a request; more is answered with 431 */

enum phase { WAITING, READING_BODY, BUSY };

struct connection { /* one TCP connection; fields are guarded by http->mutex */
    struct connection *next, *previous;
    int fd;
    enum phase phase;
    int requests, expired, nudged;
    int64_t deadline_ns, since_ns;
    struct lk_request_private *current;
};

struct lk_http {
    struct lk_http_options options;
    struct lk_http_app app;
    struct MHD_Daemon *daemon;
    int listen_fd, wake_fd, port;
    pthread_t thread;
    int thread_runs;
    struct lk_budget bodies;
    uint64_t id_seed;
    atomic_uint_fast64_t id_next;
    atomic_int draining, cut, stopping;
    atomic_int_fast64_t drain_ns; /* since when */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct connection *connections; /* list */
    int n_connections;              /* accepted and not yet closed */
    int suspended;                  /* requests that somebody works on */
    int cut_off;
};

struct lk_request_private {
    struct lk_request r;
    struct lk_http *http;
    struct MHD_Connection *connection;
    struct connection *conn;
    char *target; /* as received */
    char method[16];
    int begun, completed, on_pool, answered, queued;
    atomic_int paused;
    int discard;
    uint64_t received, reserved; /* bytes of the body; bytes taken from the budget */
    struct lk_fault fault;
    char allow[64];
    int64_t start_ns;
    /* the answer */
    unsigned status;
    const char *type;
    struct lk_buf bytes;
    const void *fixed;
    size_t fixed_size;
    struct {
        const char *name;
        char value[128];
    } headers[ANSWER_HEADERS];
    int n_headers;
    int (*fill)(struct lk_request *r, struct lk_buf *out, int *end);
    size_t fill_offset, sent;
    int fill_end, fill_failed;
};

/* --- requests: answers ---------------------------------------------------------------------------------------------- */

static void add_suspended(struct lk_http *http, int n) {
    pthread_mutex_lock(&http->mutex);
    http->suspended += n;
    if (http->suspended == 0)
        pthread_cond_broadcast(&http->changed);
    pthread_mutex_unlock(&http->mutex);
}

/* Lets the connection thread go on with a request. It may be gone when this returns. */
static void resume(struct lk_request_private *p) {
    struct lk_http *http = p->http;
    MHD_resume_connection(p->connection);
    add_suspended(http, -1); /* after the resume: the daemon must not stop in between */
}

static void answered(struct lk_request_private *p) {
    p->answered = 1;
    if (p->on_pool)
        resume(p);
}

void lk_reply_header(struct lk_request *r, const char *name, const char *value) {
    struct lk_request_private *p = r->http;
    if (p->n_headers == ANSWER_HEADERS)
        return;
    p->headers[p->n_headers].name = name;
    snprintf(p->headers[p->n_headers++].value, sizeof p->headers[0].value, "%s", value);
}

void lk_reply(struct lk_request *r, unsigned status, const char *type, struct lk_buf *body) {
    struct lk_request_private *p = r->http;
    p->status = status;
    p->type = type;
    if (body) {
        p->bytes = *body;
        *body = (struct lk_buf){0};
    }
    answered(p);
}

void lk_reply_static(struct lk_request *r, unsigned status, const char *type, const void *bytes, size_t n) {
    struct lk_request_private *p = r->http;
    p->status = status;
    p->type = type;
    p->fixed = bytes;
    p->fixed_size = n;
    answered(p);
}

void lk_reply_stream(struct lk_request *r, unsigned status, const char *type,
                     int (*fill)(struct lk_request *r, struct lk_buf *out, int *end)) {
    struct lk_request_private *p = r->http;
    p->status = status;
    p->type = type;
    p->fill = fill;
    answered(p);
}

static int retry_after(struct lk_http *http) {
    return http->app.retry_after ? http->app.retry_after(http->app.context) : 1;
}

void lk_reply_fault(struct lk_request *r, const struct lk_fault *f) {
    struct lk_request_private *p = r->http;
    struct lk_buf body = {0};
    if (lk_fault_body(&body, f))
        lk_buf_clear(&body);
    unsigned status = lk_api_http_status(f->error);
    if (status >= 500)
        lk_log_warn("id=%s %s: %s", r->id, lk_api_code(f->error), f->message);
    if (status == 429 || status == 503) {
        char seconds[16];
        snprintf(seconds, sizeof seconds, "%d", retry_after(p->http));
        lk_reply_header(r, "Retry-After", seconds);
    }
    lk_reply(r, status, "application/json", &body);
}

/* --- requests: the way to libmicrohttpd -------------------------------------------------------------------------------- */

static void fill_job(void *arg) {
    struct lk_request_private *p = arg;
    lk_buf_clear(&p->bytes);
    p->fill_offset = 0;
    if (atomic_load(&p->http->cut))
        p->fill_failed = 1;
    else if (p->fill(&p->r, &p->bytes, &p->fill_end)) {
        lk_log_error("id=%s the answer is cut short: %s", p->r.id, lk_error());
        p->fill_failed = 1;
    }
    resume(p);
}

static ssize_t read_stream(void *arg, uint64_t position, char *to, size_t max) {
    struct lk_request_private *p = arg;
    (void)position;
    size_t left = p->bytes.size - p->fill_offset;
    if (left) {
        if (left > max)
            left = max;
        memcpy(to, p->bytes.data + p->fill_offset, left);
        p->fill_offset += left;
        p->sent += left;
        return (ssize_t)left;
    }
    if (p->fill_failed)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (p->fill_end)
        return MHD_CONTENT_READER_END_OF_STREAM;
    add_suspended(p->http, 1);
    MHD_suspend_connection(p->connection);
    lk_work_do(p->http->app.work, fill_job, p);
    return 0;
}

static enum MHD_Result queue_answer(struct lk_request_private *p) {
    struct MHD_Response *response;
    if (p->fill) {
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 64 * 1024, read_stream, p, NULL);
    } else if (p->fixed) {
        response = MHD_create_response_from_buffer(p->fixed_size, (void *)(uintptr_t)p->fixed, MHD_RESPMEM_PERSISTENT);
        p->sent = p->fixed_size;
    } else {
        p->sent = p->bytes.size;
        response = MHD_create_response_from_buffer(p->bytes.size, p->bytes.size ? p->bytes.data : (void *)"",
                                                   MHD_RESPMEM_PERSISTENT); /* lives as long as the request */
    }
    if (!response)
        return MHD_NO;
    if (p->type)
        MHD_add_response_header(response, "Content-Type", p->type);
    MHD_add_response_header(response, "X-Request-Id", p->r.id);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    for (int i = 0; i < p->n_headers; i++)
        MHD_add_response_header(response, p->headers[i].name, p->headers[i].value);
    if (atomic_load(&p->http->draining))
        MHD_add_response_header(response, "Connection", "close");
    enum MHD_Result result = MHD_queue_response(p->connection, p->status, response);
    MHD_destroy_response(response);
    p->queued = 1;
    return result;
}

/* For when libmicrohttpd cannot answer any more (it answers only before or after a body): straight to the socket. */
static void answer_raw(int fd, const struct lk_fault *f) {
    struct lk_buf body = {0}, all = {0};
    if (lk_fault_body(&body, f) == 0 &&
        lk_buf_printf(&all,
                      "HTTP/1.1 %u %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                      "Connection: close\r\n\r\n",
                      lk_api_http_status(f->error), lk_api_code(f->error), body.size) == 0 &&
        lk_buf_append(&all, body.data, body.size) == 0)
        (void)!send(fd, all.data, all.size, MSG_DONTWAIT | MSG_NOSIGNAL);
    lk_buf_free(&body);
    lk_buf_free(&all);
}

/* --- requests: reading ---------------------------------------------------------------------------------------------- */

const char *lk_request_header(struct lk_request *r, const char *name) {
    return MHD_lookup_connection_value(r->http->connection, MHD_HEADER_KIND, name);
}

int lk_request_draining(const struct lk_request *r) { return atomic_load(&r->http->http->draining); }

int lk_request_gone(struct lk_request *r) {
    struct lk_request_private *p = r->http;
    if (atomic_load(&p->http->cut))
        return 1;
    struct pollfd fd = {.fd = p->conn->fd, .events = POLLRDHUP};
    return poll(&fd, 1, 0) > 0 && (fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

void lk_request_pause(struct lk_request *r) {
    struct lk_request_private *p = r->http;
    atomic_store(&p->paused, 1);
    add_suspended(p->http, 1);
    MHD_suspend_connection(p->connection);
}

void lk_request_refuse(struct lk_request *r, const struct lk_fault *f) {
    r->http->fault = *f;
    r->http->discard = 1;
}

void lk_request_continue(struct lk_request *r) {
    struct lk_request_private *p = r->http;
    atomic_store(&p->paused, 0);
    resume(p);
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

static void set_phase(struct lk_request_private *p, enum phase phase, double seconds) {
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
    int rc = lk_router_match(p->http->app.routes, p->http->app.n_routes, p->method, p->target, path, &match);
    if (rc == LK_EUNSUPPORTED) {
        memcpy(p->allow, match.allow, sizeof p->allow);
        return lk_fault_set(&p->fault, LK_API_METHOD_NOT_ALLOWED, NULL, "%s", lk_error());
    }
    if (rc == LK_ENOTFOUND)
        return lk_fault_set(&p->fault, LK_API_NOT_FOUND, NULL, "%s", lk_error());
    if (rc)
        return lk_fault_from_status(&p->fault, rc, "path");
    p->r.route = match.route;
    memcpy(p->r.captures, match.captures, sizeof p->r.captures);
    if (question && (rc = lk_query_parse(&p->r.query, question + 1, strlen(question + 1))))
        return lk_fault_from_status(&p->fault, rc, "query");
    return 0;
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
    if (kind != LK_BODY_WHOLE)
        return 0;
    if (has_length && length > (uint64_t)o->max_body)
        return lk_fault_set(&p->fault, LK_API_BODY_TOO_LARGE, NULL, "the body has %llu bytes; the limit is %lld",
                            (unsigned long long)length, (long long)o->max_body);
    if (has_length) {
        if (!lk_budget_try(&p->http->bodies, length))
            return lk_fault_set(&p->fault, LK_API_OVERLOADED, NULL,
                                "the bodies in memory reach their limit of %lld bytes", (long long)o->body_memory);
        p->reserved = length;
        if (lk_buf_reserve(&p->r.body, (size_t)length))
            return lk_fault_from_status(&p->fault, LK_ENOMEM, NULL);
    }
    return 0;
}

/* A request's headers are complete. */
static enum MHD_Result begin(struct lk_request_private *p, struct MHD_Connection *connection, const char *method) {
    p->begun = 1;
    p->connection = connection;
    snprintf(p->method, sizeof p->method, "%s", method);
    choose_id(p);
    const char *text = lk_request_header(&p->r, "Content-Length");
    uint64_t length = text ? strtoull(text, NULL, 10) : 0;
    int chunked = lk_request_header(&p->r, "Transfer-Encoding") != NULL;
    if (atomic_load(&p->http->cut))
        lk_fault_set(&p->fault, LK_API_DRAINING, NULL, "the server stops");
    else if (find_route(p) == 0)
        check_body(p, text != NULL, length, chunked);
    const struct lk_http_options *o = &p->http->options;
    int stream = p->r.route && p->r.route->body == LK_BODY_STREAM && !p->fault.error;
    set_phase(p, READING_BODY, stream ? o->upload_timeout : o->body_timeout);
    if (!p->fault.error)
        return MHD_YES;
    p->discard = 1;
    int waits_for_us = lk_request_header(&p->r, "Expect") != NULL;
    if (!waits_for_us && !chunked && length <= DISCARD_MAX)
        return MHD_YES; /* answered when the body has been read */
    p->completed = 1;
    set_phase(p, BUSY, 0);
    if (p->allow[0])
        lk_reply_header(&p->r, "Allow", p->allow);
    lk_reply_fault(&p->r, &p->fault);
    return queue_answer(p);
}

static enum MHD_Result body(struct lk_request_private *p, const char *bytes, size_t *n) {
    if (atomic_load(&p->paused))
        return MHD_YES; /* takes nothing; called again after the pause */
    const struct lk_http_options *o = &p->http->options;
    size_t taken = *n;
    p->received += taken;
    if (p->discard) {
        if (p->received > DISCARD_MAX) {
            if (p->fault.error)
                answer_raw(p->conn->fd, &p->fault);
            return MHD_NO;
        }
    } else if (p->r.route->body == LK_BODY_STREAM) {
        p->r.route->chunk(&p->r, bytes, *n);
    } else {
        if (p->received > (uint64_t)o->max_body) {
            lk_fault_set(&p->fault, LK_API_BODY_TOO_LARGE, NULL, "the body has more than %lld bytes",
                         (long long)o->max_body);
        } else if (p->received > p->reserved) { /* chunked */
            if (lk_budget_try(&p->http->bodies, p->received - p->reserved))
                p->reserved = p->received;
            else
                lk_fault_set(&p->fault, LK_API_OVERLOADED, NULL, "the bodies in memory reach their limit of %lld bytes",
                             (long long)o->body_memory);
        }
        if (!p->fault.error && lk_buf_append(&p->r.body, bytes, *n))
            lk_fault_from_status(&p->fault, LK_ENOMEM, NULL);
        if (p->fault.error) {
            p->discard = 1;
            lk_buf_free(&p->r.body);
        }
    }
    *n -= taken;
    return MHD_YES;
}

static void handle_job(void *arg) {
    struct lk_request_private *p = arg;
    p->r.route->handle(&p->r);
}

/* The request is complete; called again after it was answered. */
static enum MHD_Result complete(struct lk_request_private *p) {
    if (p->answered)
        return p->queued ? MHD_YES : queue_answer(p);
    if (p->completed)
        return MHD_YES;
    p->completed = 1;
    set_phase(p, BUSY, 0);
    p->r.deadline_ns = lk_now_ns() + (int64_t)(p->http->options.request_timeout * 1e9);
    if (!p->fault.error && p->r.route->body == LK_BODY_WHOLE && p->r.body.size == 0)
        lk_fault_set(&p->fault, LK_API_EMPTY_BODY, NULL, "the body is empty");
    if (p->fault.error) {
        if (p->allow[0])
            lk_reply_header(&p->r, "Allow", p->allow);
        lk_reply_fault(&p->r, &p->fault);
        return queue_answer(p);
    }
    if (p->r.route->on_connection_thread) {
        p->r.route->handle(&p->r);
        return queue_answer(p);
    }
    p->on_pool = 1;
    add_suspended(p->http, 1);
    MHD_suspend_connection(p->connection);
    lk_work_do(p->http->app.work, handle_job, p);
    return MHD_YES;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_size, void **state) {
    (void)arg, (void)url, (void)version;
    struct lk_request_private *p = *state;
    if (!p)
        return MHD_NO;
    pthread_mutex_lock(&p->http->mutex);
    int expired = p->conn->expired;
    pthread_mutex_unlock(&p->http->mutex);
    if (expired)
        return MHD_NO;
    if (!p->begun)
        return begin(p, connection, method);
    return *upload_size ? body(p, upload, upload_size) : complete(p);
}

/* The request line was read: the one place that shows the target as it was sent. */
static void *on_target(void *arg, const char *target, struct MHD_Connection *connection) {
    struct lk_http *http = arg;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct lk_request_private *p = lk_calloc(1, sizeof *p);
    if (!p || !info || !info->socket_context || !(p->target = lk_strdup(target))) {
        free(p);
        return NULL;
    }
    p->http = http;
    p->conn = info->socket_context;
    p->start_ns = lk_now_ns();
    p->r.http = p;
    p->r.context = http->app.context;
    pthread_mutex_lock(&http->mutex);
    p->conn->current = p;
    p->conn->requests++;
    p->conn->deadline_ns = p->start_ns + (int64_t)(http->options.header_timeout * 1e9);
    pthread_mutex_unlock(&http->mutex);
    return p;
}

static void log_request(const struct lk_request_private *p, int sent) {
    char target[256];
    size_t n = 0;
    for (const char *c = p->target; *c && n + 1 < sizeof target; c++)
        target[n++] = *c > ' ' && *c < 127 && *c != '"' ? *c : '?';
    target[n] = 0;
    lk_log_info("request id=%s method=%s target=\"%s\" status=%u in=%llu out=%zu ms=%.2f%s", p->r.id[0] ? p->r.id : "-",
                p->method[0] ? p->method : "-", target, p->status, (unsigned long long)p->received, p->sent,
                (double)(lk_now_ns() - p->start_ns) * 1e-6, sent ? "" : " client-left");
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code) {
    struct lk_http *http = arg;
    (void)connection;
    struct lk_request_private *p = *state;
    if (!p)
        return;
    *state = NULL;
    pthread_mutex_lock(&http->mutex);
    p->conn->phase = WAITING;
    p->conn->current = NULL;
    p->conn->since_ns = lk_now_ns();
    p->conn->deadline_ns = p->conn->since_ns + (int64_t)(http->options.idle_timeout * 1e9);
    pthread_mutex_unlock(&http->mutex);
    if (http->options.log_requests)
        log_request(p, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    if (p->r.state_free)
        p->r.state_free(p->r.state);
    if (p->r.let_go)
        p->r.let_go(p->r.held);
    lk_budget_give(&http->bodies, p->reserved);
    lk_query_free(&p->r.query);
    lk_buf_free(&p->r.body);
    lk_buf_free(&p->bytes);
    for (size_t i = 0; i < LK_ROUTE_CAPTURES; i++)
        free(p->r.captures[i].data);
    free(p->target);
    free(p);
}

/* --- connections ---------------------------------------------------------------------------------------------------- */

static void on_connection(void *arg, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code) {
    struct lk_http *http = arg;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        struct connection *c = info ? lk_calloc(1, sizeof *c) : NULL;
        *context = c;
        if (!c)
            return; /* its requests are refused in on_target */
        c->fd = info->connect_fd;
        c->since_ns = lk_now_ns();
        c->deadline_ns = c->since_ns + (int64_t)(http->options.header_timeout * 1e9);
        pthread_mutex_lock(&http->mutex);
        c->next = http->connections;
        if (c->next)
            c->next->previous = c;
        http->connections = c;
        pthread_mutex_unlock(&http->mutex);
        return;
    }
    struct connection *c = *context; /* closed: called before the descriptor is */
    pthread_mutex_lock(&http->mutex);
    if (c) {
        if (c->next)
            c->next->previous = c->previous;
        if (c->previous)
            c->previous->next = c->next;
        else
            http->connections = c->next;
    }
    http->n_connections--;
    pthread_cond_broadcast(&http->changed);
    pthread_mutex_unlock(&http->mutex);
    free(c);
}

/* libmicrohttpd does not notice a client that closes in the same moment in which it sent a part of a request: epoll tells
 * of both with one edge. Shutting down our reading side makes another edge; what has arrived is still read, and an answer
 * can still be sent. */
static void nudge_if_closed(struct connection *c) {
    struct pollfd fd = {.fd = c->fd, .events = POLLRDHUP};
    if (c->nudged || poll(&fd, 1, 0) <= 0)
        return;
    c->nudged = 1;
    shutdown(c->fd, SHUT_RD);
}

/* Closes what is past its deadline. The mutex keeps descriptors from being closed and given out anew meanwhile. */
static void watch_clock(struct lk_http *http, int look) {
    int draining = atomic_load(&http->draining), cut = atomic_load(&http->cut);
    int64_t drain_ns = atomic_load(&http->drain_ns);
    pthread_mutex_lock(&http->mutex);
    int64_t now = lk_now_ns();
    for (struct connection *c = http->connections; c; c = c->next) {
        int64_t quiet = now - (c->since_ns > drain_ns ? c->since_ns : drain_ns);
        int idle = draining && c->phase == WAITING && !c->current && quiet > IDLE_WHEN_DRAINING_NS;
        int paused = c->current && atomic_load(&c->current->paused);
        if (look && c->phase != BUSY && !paused)
            nudge_if_closed(c);
        if (c->expired || paused || !(idle || (cut && c->phase != BUSY) || (c->deadline_ns && now > c->deadline_ns)))
            continue;
        c->expired = 1;
        struct lk_fault f = {0};
        if (c->phase == READING_BODY && cut)
            lk_fault_set(&f, LK_API_DRAINING, NULL, "the server stops");
        else if (c->phase == READING_BODY)
            lk_fault_set(&f, LK_API_REQUEST_TIMEOUT, NULL, "the body did not arrive within its deadline");
        else if ((c->requests == 0 || c->current) && !idle && !cut)
            lk_fault_set(&f, LK_API_REQUEST_TIMEOUT, NULL, "the headers did not arrive within %g seconds",
                         http->options.header_timeout);
        if (f.error)
            answer_raw(c->fd, &f);
        if (c->current)
            c->current->status = f.error ? lk_api_http_status(f.error) : 0;
        shutdown(c->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&http->mutex);
}

/* One connection from the kernel to libmicrohttpd. 0: none waits. */
static int accept_one(struct lk_http *http) {
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    int fd = accept4(http->listen_fd, (struct sockaddr *)&address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            lk_log_warn("a connection cannot be accepted: %s", strerror(errno));
        return errno == EINTR || errno == ECONNABORTED;
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    pthread_mutex_lock(&http->mutex);
    http->n_connections++;
    pthread_mutex_unlock(&http->mutex);
    if (MHD_add_connection(http->daemon, fd, (struct sockaddr *)&address, size) != MHD_YES) {
        pthread_mutex_lock(&http->mutex); /* libmicrohttpd closed it */
        http->n_connections--;
        pthread_mutex_unlock(&http->mutex);
    }
    return 1;
}

static int has_room(struct lk_http *http) {
    pthread_mutex_lock(&http->mutex);
    int room = http->n_connections < http->options.connections;
    pthread_mutex_unlock(&http->mutex);
    return room;
}

static void *listen_and_watch(void *arg) {
    struct lk_http *http = arg;
    int64_t watched = 0;
    unsigned ticks = 0;
    while (!atomic_load(&http->stopping)) {
        int room = http->listen_fd >= 0 && has_room(http);
        struct pollfd fds[2] = {{.fd = http->wake_fd, .events = POLLIN},
                                {.fd = room ? http->listen_fd : -1, .events = POLLIN}};
        int ready = poll(fds, 2, TICK_MS);
        if (fds[0].revents) {
            uint64_t count;
            (void)!read(http->wake_fd, &count, sizeof count);
        }
        for (int i = 0; ready > 0 && fds[1].revents && i < 64 && has_room(http) && accept_one(http); i++) {}
        if (atomic_load(&http->draining) && http->listen_fd >= 0) {
            while (accept_one(http)) { /* whom the kernel has taken already is answered */
            }
            close(http->listen_fd);
            http->listen_fd = -1;
        }
        if (lk_now_ns() - watched > TICK_MS * 1000000ll / 2) {
            watched = lk_now_ns();
            watch_clock(http, ++ticks % 8 == 0);
        }
    }
    return NULL;
}

/* --- the server ------------------------------------------------------------------------------------------------------ */

static void log_library(void *arg, const char *format, va_list arguments) {
    char text[512];
    (void)arg;
    vsnprintf(text, sizeof text, format, arguments);
    text[strcspn(text, "\r\n")] = 0;
    lk_log_debug("libmicrohttpd: %s", text);
}

static int open_socket(struct lk_http *http) {
    const struct lk_http_options *o = &http->options;
    char port[16];
    snprintf(port, sizeof port, "%d", o->port);
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    if (getaddrinfo(o->address, port, &hints, &found))
        return lk_err(LK_EINVAL, "\"%s\" is no numeric address", o->address);
    int on = 1, rc = 0;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 bound = {0}; /* the port stands where it does in sockaddr_in */
    socklen_t size = sizeof bound;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
        bind(fd, found->ai_addr, found->ai_addrlen) || listen(fd, 4096) ||
        getsockname(fd, (struct sockaddr *)&bound, &size)) {
        rc = lk_err(errno == EADDRINUSE ? LK_EBUSY : LK_EIO, "cannot listen on %s port %s: %s", o->address, port,
                    strerror(errno));
        if (fd >= 0)
            close(fd);
    } else {
        http->listen_fd = fd;
        http->port = ntohs(bound.sin6_port);
    }
    freeaddrinfo(found);
    return rc;
}

static int start_daemon(struct lk_http *http) {
    const struct lk_http_options *o = &http->options;
    unsigned threads = o->threads < 2 ? 2 : (unsigned)o->threads;
    double idle = o->idle_timeout > o->body_timeout ? o->idle_timeout : o->body_timeout;
    http->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG, 0,
        NULL, NULL, on_request, http, MHD_OPTION_EXTERNAL_LOGGER, log_library, NULL, MHD_OPTION_THREAD_POOL_SIZE,
        threads, MHD_OPTION_CONNECTION_LIMIT, (unsigned)o->connections + 64 * threads,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)o->connections_per_address, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)idle + 1, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY, MHD_OPTION_STRICT_FOR_CLIENT,
        1, MHD_OPTION_URI_LOG_CALLBACK, on_target, http, MHD_OPTION_NOTIFY_COMPLETED, on_completed, http,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, http, MHD_OPTION_END);
    return http->daemon ? 0 : lk_err(LK_EFAIL, "the HTTP library cannot be started");
}

int lk_http_open(struct lk_http **out, const struct lk_http_options *options, const struct lk_http_app *app) {
    *out = NULL;
    struct lk_http *http = lk_calloc(1, sizeof *http);
    if (!http)
        return LK_ENOMEM;
    http->options = *options;
    http->app = *app;
    http->listen_fd = -1;
    http->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    lk_budget_init(&http->bodies, (uint64_t)options->body_memory);
    pthread_mutex_init(&http->mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&http->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int rc;
    if (http->wake_fd < 0 || getrandom(&http->id_seed, sizeof http->id_seed, 0) != sizeof http->id_seed) {
        rc = lk_err(LK_EIO, "%s", strerror(errno));
        goto fail;
    }
    if ((rc = open_socket(http)) || (rc = start_daemon(http)))
        goto fail;
    if (pthread_create(&http->thread, NULL, listen_and_watch, http)) {
        rc = lk_err(LK_EFAIL, "the listener's thread cannot be started");
        goto fail;
    }
    http->thread_runs = 1;
    *out = http;
    return 0;
fail:
    lk_http_close(http);
    return rc;
}

int lk_http_port(const struct lk_http *http) { return http->port; }

static void wake(struct lk_http *http) {
    uint64_t one = 1;
    (void)!write(http->wake_fd, &one, sizeof one);
}

/* With the mutex held: waits for a change, 20 ms at most. */
static void wait_a_little(struct lk_http *http) {
    int64_t until = lk_now_ns() + 20000000;
    struct timespec t = {.tv_sec = until / 1000000000, .tv_nsec = until % 1000000000};
    pthread_cond_timedwait(&http->changed, &http->mutex, &t);
}

int lk_http_drain(struct lk_http *http, double drain_seconds, int (*impatient)(void *arg), void *arg) {
    atomic_store(&http->drain_ns, lk_now_ns());
    atomic_store(&http->draining, 1);
    wake(http);
    int64_t end = lk_now_ns() + (int64_t)(drain_seconds * 1e9);
    pthread_mutex_lock(&http->mutex);
    while (http->n_connections > 0 && lk_now_ns() < end && !(impatient && impatient(arg)))
        wait_a_little(http);
    int left = http->suspended;
    atomic_store(&http->cut, 1);
    int64_t patience = lk_now_ns() + 1000000000; /* for answers that are on their way */
    while (http->suspended > 0 || (http->n_connections > 0 && lk_now_ns() < patience))
        wait_a_little(http);
    pthread_mutex_unlock(&http->mutex);
    return left;
}

void lk_http_close(struct lk_http *http) {
    if (!http)
        return;
    if (http->thread_runs) {
        atomic_store(&http->stopping, 1);
        wake(http);
        pthread_join(http->thread, NULL);
    }
    if (http->daemon)
        MHD_stop_daemon(http->daemon);
    if (http->listen_fd >= 0)
        close(http->listen_fd);
    if (http->wake_fd >= 0)
        close(http->wake_fd);
    lk_budget_destroy(&http->bodies);
    pthread_cond_destroy(&http->changed);
    pthread_mutex_destroy(&http->mutex);
    free(http);
}
