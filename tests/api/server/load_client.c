/* Asks a server from many connections, as fast as it answers or at a rate of its own, and counts the answers.
 *   load_client PORT PICTURE SECONDS CONNECTIONS [RATE]
 * POST /embed with one picture a request over keep-alive connections of this one thread. RATE 0: every connection asks again
 * when it was answered; else requests a second of all of them together, whether the server keeps up or not (what no free
 * connection can send is counted as unsent). Prints one JSON object. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"

enum { MAX_LATENCIES = 1000000 };

struct connection {
    int fd;
    size_t sent, got, want; /* want: bytes of the answer, 0 until its head is complete */
    double asked;
    struct connection *next_free;
    char head[1024];
};

struct load {
    struct lk_buf request;
    int epoll, n, closed_loop;
    struct connection *c, *free, *last_free; /* the longest idle one is asked next: none is left to the idle deadline */
    long ok, refused, refused_without_hint, other, lost, unsent;
    double *latencies; /* of the good answers */
    size_t n_latencies;
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void lose(struct load *l, struct connection *c) {
    l->lost++;
    close(c->fd);
    c->fd = -1;
}

static void send_some(struct load *l, struct connection *c) {
    while (c->sent < l->request.size) {
        ssize_t n = send(c->fd, l->request.data + c->sent, l->request.size - c->sent, MSG_NOSIGNAL);
        if (n <= 0)
            return; /* small requests: the socket's buffer takes them whole */
        c->sent += (size_t)n;
    }
}

static void ask(struct load *l, struct connection *c) {
    c->sent = c->got = c->want = 0;
    c->asked = now();
    send_some(l, c);
}

static void put_free(struct load *l, struct connection *c) {
    c->next_free = NULL;
    *(l->free ? &l->last_free->next_free : &l->free) = c;
    l->last_free = c;
}

static void answered(struct load *l, struct connection *c) {
    int status = (int)strtol(c->head + strlen("HTTP/1.1 "), NULL, 10);
    if (status == 200) {
        l->ok++;
        if (l->n_latencies < MAX_LATENCIES)
            l->latencies[l->n_latencies++] = now() - c->asked;
    } else if (status == 429) {
        const char *hint = strstr(c->head, "Retry-After: ");
        l->refused++;
        l->refused_without_hint += !hint || strtol(hint + strlen("Retry-After: "), NULL, 10) < 1;
    } else {
        l->other++;
    }
    if (l->closed_loop) {
        ask(l, c);
    } else {
        put_free(l, c);
    }
}

static void receive(struct load *l, struct connection *c) {
    char buffer[65536];
    ssize_t n;
    while (c->fd >= 0 && (n = recv(c->fd, buffer, sizeof buffer, 0)) >= 0) {
        if (n == 0) {
            lose(l, c);
            return;
        }
        if (!c->want) {
            size_t room = sizeof c->head - 1 - c->got, take = (size_t)n < room ? (size_t)n : room;
            memcpy(c->head + c->got, buffer, take);
            c->head[c->got + take] = 0;
            const char *end = strstr(c->head, "\r\n\r\n"), *length = strstr(c->head, "Content-Length: ");
            if (end && length)
                c->want = (size_t)(end - c->head) + 4 + strtoul(length + strlen("Content-Length: "), NULL, 10);
        }
        c->got += (size_t)n;
        if (c->want && c->got >= c->want)
            answered(l, c);
    }
}

static int connect_all(struct load *l, int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1;
    for (int i = 0; i < l->n; i++) {
        struct connection *c = &l->c[i];
        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to))
            return -1;
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &e))
            return -1;
        if (l->closed_loop) {
            ask(l, c);
        } else {
            put_free(l, c);
        }
    }
    return 0;
}

static void run(struct load *l, double seconds, double rate) {
    double start = now(), due = 0;
    long asked = 0;
    for (double t; (t = now() - start) < seconds;) {
        struct epoll_event events[256];
        int n = epoll_wait(l->epoll, events, 256, l->closed_loop ? 100 : 1);
        for (int i = 0; i < n; i++)
            receive(l, events[i].data.ptr);
        for (due = l->closed_loop ? 0 : rate * t; (double)asked < due; asked++) {
            struct connection *c = l->free;
            if (!c) {
                l->unsent++;
                continue;
            }
            l->free = c->next_free;
            ask(l, c);
        }
    }
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
    struct load l = {0};
    struct lk_buf picture = {0};
    if (argc < 5 || lk_fs_read(&picture, argv[2], 0)) {
        fprintf(stderr, "usage: load_client PORT PICTURE SECONDS CONNECTIONS [RATE]\n");
        return 2;
    }
    double seconds = strtod(argv[3], NULL), rate = argc > 5 ? strtod(argv[5], NULL) : 0;
    l.n = (int)strtol(argv[4], NULL, 10);
    l.closed_loop = rate <= 0;
    l.epoll = epoll_create1(EPOLL_CLOEXEC);
    l.c = lk_calloc((size_t)(l.n > 0 ? l.n : 1), sizeof *l.c);
    l.latencies = lk_calloc(MAX_LATENCIES, sizeof *l.latencies);
    if (l.epoll < 0 || !l.c || !l.latencies ||
        lk_buf_printf(&l.request, "POST /embed HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nContent-Length: %zu\r\n\r\n", argv[1],
                      picture.size) ||
        lk_buf_append(&l.request, picture.data, picture.size) || connect_all(&l, (int)strtol(argv[1], NULL, 10))) {
        perror("load_client: cannot begin");
        return 1;
    }
    run(&l, seconds, rate);
    qsort(l.latencies, l.n_latencies, sizeof *l.latencies, ascending);
    double p50 = l.n_latencies ? l.latencies[l.n_latencies / 2] : 0;
    double p99 = l.n_latencies ? l.latencies[l.n_latencies * 99 / 100] : 0;
    printf("{\"seconds\": %.3f, \"ok\": %ld, \"refused\": %ld, \"refused_without_retry_after\": %ld, \"other\": %ld, "
           "\"lost\": %ld, \"unsent\": %ld, \"p50_ms\": %.2f, \"p99_ms\": %.2f}\n",
           seconds, l.ok, l.refused, l.refused_without_hint, l.other, l.lost, l.unsent, 1e3 * p50, 1e3 * p99);
    for (int i = 0; i < l.n; i++)
        if (l.c[i].fd >= 0)
            close(l.c[i].fd);
    close(l.epoll);
    free(l.c);
    free(l.latencies);
    lk_buf_free(&l.request);
    lk_buf_free(&picture);
    return 0;
}
