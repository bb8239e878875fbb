/* The one file that knows libmicrohttpd: its daemon, its callbacks, its responses. It reads and writes sockets, parses
 * headers and keeps connections; what a request means is decided in http_read.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <microhttpd.h>

#include "base/err.h"
#include "base/log.h"
#include "http_internal.h"

#define CONNECTION_MEMORY 32768 /* headers of a request; more is answered with 431 */

static void add_suspended(struct lk_http *http, int n) {
    pthread_mutex_lock(&http->mutex);
    http->suspended += n;
    if (http->suspended == 0)
        pthread_cond_broadcast(&http->changed);
    pthread_mutex_unlock(&http->mutex);
}

void lk_http_suspend(struct lk_request_private *p) {
    add_suspended(p->http, 1);
    MHD_suspend_connection(p->connection);
}

void lk_http_resume(struct lk_request_private *p) {
    struct lk_http *http = p->http;
    MHD_resume_connection(p->connection);
    add_suspended(http, -1); /* after the resume: the daemon must not stop in between */
}

const char *lk_request_header(struct lk_request *r, const char *name) {
    return MHD_lookup_connection_value(r->http->connection, MHD_HEADER_KIND, name);
}

struct count {
    const char *name;
    int n;
};

static enum MHD_Result count_one(void *arg, enum MHD_ValueKind kind, const char *name, const char *value) {
    struct count *c = arg;
    (void)kind, (void)value;
    c->n += name && strcasecmp(name, c->name) == 0;
    return MHD_YES;
}

int lk_http_count_header(struct lk_request_private *p, const char *name) {
    struct count c = {name, 0};
    MHD_get_connection_values(p->connection, MHD_HEADER_KIND, count_one, &c);
    return c.n;
}

static ssize_t read_stream(void *arg, uint64_t position, char *to, size_t max) {
    struct lk_request_private *p = arg;
    (void)position;
    size_t left = p->bytes.size - p->fill_offset;
    if (left) {
        lk_http_set_phase(p, LK_HTTP_ANSWERING, p->http->options.answer_timeout);
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
    lk_http_set_phase(p, LK_HTTP_BUSY, 0);
    lk_http_suspend(p);
    lk_work_do(p->http->app.work, lk_http_fill_job, p);
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
    /* Without chunks: libmicrohttpd 0.9.75 ends an answer to HEAD with a last one, which would begin the next answer. */
    if (p->fill && strcmp(p->method, "HEAD") == 0)
        MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
    if (atomic_load(&p->http->draining))
        MHD_add_response_header(response, "Connection", "close");
    lk_http_set_phase(p, LK_HTTP_ANSWERING, p->http->options.answer_timeout);
    enum MHD_Result result = MHD_queue_response(p->connection, p->status, response);
    MHD_destroy_response(response);
    p->queued = 1;
    return result;
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
    if (!p->connection) /* once: whoever works on a paused request reads it */
        p->connection = connection;
    enum lk_http_step step = !p->begun      ? lk_http_headers(p, method)
                             : *upload_size ? lk_http_body(p, upload, upload_size)
                                            : lk_http_complete(p);
    return step == LK_HTTP_ANSWER ? queue_answer(p) : step == LK_HTTP_GO_ON ? MHD_YES : MHD_NO;
}

/* The request line was read: the one place that shows the target as it was sent. */
static void *on_target(void *arg, const char *target, struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info && info->socket_context ? lk_http_request_new(arg, info->socket_context, target) : NULL;
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code) {
    (void)arg, (void)connection;
    struct lk_request_private *p = *state;
    *state = NULL;
    if (p)
        lk_http_request_free(p, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code) {
    struct lk_http *http = arg;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        struct lk_http_connection *c = info ? lk_calloc(1, sizeof *c) : NULL;
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
    struct lk_http_connection *c = *context; /* closed: called before the descriptor is */
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

static void log_library(void *arg, const char *format, va_list arguments) {
    char text[512];
    (void)arg;
    vsnprintf(text, sizeof text, format, arguments);
    text[strcspn(text, "\r\n")] = 0;
    lk_log_debug("libmicrohttpd: %s", text);
}

int lk_http_library_start(struct lk_http *http) {
    const struct lk_http_options *o = &http->options;
    unsigned threads = o->threads < 2 ? 2 : (unsigned)o->threads;
    double idle = o->idle_timeout > o->body_timeout ? o->idle_timeout : o->body_timeout;
    idle = idle > o->answer_timeout ? idle : o->answer_timeout;
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

void lk_http_library_stop(struct lk_http *http) {
    if (http->daemon)
        MHD_stop_daemon(http->daemon);
    http->daemon = NULL;
}

int lk_http_library_add(struct lk_http *http, int fd, const struct sockaddr *address, socklen_t size) {
    return MHD_add_connection(http->daemon, fd, address, size) == MHD_YES ? 0 : LK_EFAIL;
}
