/* The acceptor's thread. We accept ourselves, because that gives the connection limit a backlog instead of a refusal, and
 * a stop that loses no connection that the kernel had taken already; and we keep the deadlines ourselves, because
 * libmicrohttpd's timeout counts inactivity, so that a byte every few seconds would hold a connection for ever. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "http_internal.h"

#define TICK_MS 50
#define UNSENT_MAX (128 << 10)          /* bytes of an answer that wait in the kernel for a slow reader */
#define IDLE_WHEN_DRAINING_NS 300000000 /* of a stop: a connection without a request is closed after this */

int lk_http_listen(struct lk_http *http) {
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

/* libmicrohttpd does not notice a client that closes in the same moment in which it sent a part of a request: epoll tells
 * of both with one edge. Shutting down our reading side makes another edge; what has arrived is still read, and an answer
 * can still be sent. */
static void nudge_if_closed(struct lk_http_connection *c) {
    struct pollfd fd = {.fd = c->fd, .events = POLLRDHUP};
    if (c->nudged || poll(&fd, 1, 0) <= 0)
        return;
    c->nudged = 1;
    shutdown(c->fd, SHUT_RD);
}

const char *lk_http_deadline_name(enum lk_http_deadline deadline) {
    static const char *const names[LK_HTTP_DEADLINES] = {"headers", "body", "idle", "answer"};
    return names[deadline];
}

/* Which one passed. */
static enum lk_http_deadline deadline_of(const struct lk_http_connection *c) {
    switch (c->phase) {
    case LK_HTTP_READING_BODY: return LK_HTTP_BODY_LATE;
    case LK_HTTP_ANSWERING: return LK_HTTP_ANSWER_LATE;
    default: return c->requests == 0 || c->current ? LK_HTTP_HEADERS_LATE : LK_HTTP_IDLE;
    }
}

/* Closes what is past its deadline. The mutex keeps descriptors from being closed and given out anew meanwhile. */
static void watch_clock(struct lk_http *http, int look) {
    int draining = atomic_load(&http->draining), cut = atomic_load(&http->cut);
    int64_t drain_ns = atomic_load(&http->drain_ns);
    pthread_mutex_lock(&http->mutex);
    int64_t now = lk_now_ns();
    for (struct lk_http_connection *c = http->connections; c; c = c->next) {
        int64_t quiet = now - (c->since_ns > drain_ns ? c->since_ns : drain_ns);
        int idle = draining && c->phase == LK_HTTP_WAITING && !c->current && quiet > IDLE_WHEN_DRAINING_NS;
        int working = c->phase == LK_HTTP_BUSY || c->phase == LK_HTTP_ANSWERING;
        int paused = c->current && atomic_load(&c->current->paused);
        if (look && !working && !paused)
            nudge_if_closed(c);
        if (c->expired || paused || !(idle || (cut && !working) || (c->deadline_ns && now > c->deadline_ns)))
            continue;
        c->expired = 1;
        struct lk_fault f = {0};
        if (!idle && !cut)
            http->expired[deadline_of(c)]++;
        if (c->phase == LK_HTTP_READING_BODY && cut)
            lk_fault_set(&f, LK_API_DRAINING, NULL, "the server stops");
        else if (c->phase == LK_HTTP_READING_BODY)
            lk_fault_set(&f, LK_API_REQUEST_TIMEOUT, NULL, "the body did not arrive within its deadline");
        else if (c->phase == LK_HTTP_WAITING && (c->requests == 0 || c->current) && !idle && !cut)
            lk_fault_set(&f, LK_API_REQUEST_TIMEOUT, NULL, "the headers did not arrive within %g seconds",
                         http->options.header_timeout);
        if (f.error)
            lk_http_answer_raw(c->fd, &f);
        if (c->current && !working)
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
    int on = 1, unsent = UNSENT_MAX;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
    pthread_mutex_lock(&http->mutex);
    http->n_connections++;
    http->accepted++;
    pthread_mutex_unlock(&http->mutex);
    if (lk_http_library_add(http, fd, (struct sockaddr *)&address, size)) {
        pthread_mutex_lock(&http->mutex); /* it is closed already */
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

void *lk_http_listen_and_watch(void *arg) {
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
