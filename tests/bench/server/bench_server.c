/* How much of the bare engine's speed arrives at the end of HTTP?
 *   bench_server MODEL PICTURE [SECONDS [CONNECTIONS [SERVER OPTIONS...]]]
 * Runs by turns, three times each: the engine alone (batches of 32, all cores), and the real server asked for /embed with
 * one picture a request over keep-alive connections from this process, whose own processor time is shown too. Prints
 * images per second of each and the ratio of the medians. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/pool.h"
#include "base/spin.h"
#include "image/decode.h"
#include "image/preprocess.h"
#include "server/engine.h"

#define RUNS 3

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double own_cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* Images per second of the engine alone; in a child, so that its threads are gone afterwards. */
static double bare(const char *model, const struct lk_buf *file, double seconds) {
    int ends[2];
    double rate = 0;
    if (pipe(ends))
        return 0;
    pid_t child = fork();
    if (child == 0) {
        struct lk_engine *engine = NULL;
        struct lk_engine_options o = {.max_batch = 32};
        struct lk_image image = {0};
        if (lk_engine_open(&engine, model, &o) || lk_decode(&image, file->data, file->size, NULL))
            _exit(1);
        int side = lk_engine_side(engine);
        size_t picture = (size_t)side * (size_t)side * 3;
        uint8_t *pixels = lk_calloc(32, picture);
        float *vectors = lk_calloc(32 * (size_t)lk_engine_dim(engine), sizeof *vectors);
        if (!pixels || !vectors)
            _exit(1);
        for (size_t i = 0; i < 32; i++)
            if (lk_preprocess(pixels + i * picture, &image, lk_engine_model(engine)->resize, side))
                _exit(1);
        double start = now();
        long n = 0;
        for (; now() - start < seconds; n += 32)
            if (lk_engine_embed(engine, pixels, 32, vectors))
                _exit(1);
        rate = (double)n / (now() - start);
        _exit(write(ends[1], &rate, sizeof rate) == sizeof rate ? 0 : 1);
    }
    close(ends[1]);
    if (read(ends[0], &rate, sizeof rate) != sizeof rate)
        rate = 0;
    close(ends[0]);
    waitpid(child, NULL, 0);
    return rate;
}

/* Starts the server; the port is read from its log. */
static pid_t start_server(const char *model, char *const *options, int n_options, int *port) {
    char *argv[64] = {"likeness-server", "--model",     (char *)(uintptr_t)model, "--catalogue", "/tmp/bench-server.db",
                      "--listen",        "127.0.0.1:0", "--no-log-requests"};
    int n = 8, ends[2];
    for (int i = 0; i < n_options && n < 62; i++)
        argv[n++] = options[i];
    const char *folder = getenv("LK_BIN_DIR");
    char path[4096];
    snprintf(path, sizeof path, "%s/likeness-server", folder ? folder : "bin");
    if (pipe(ends))
        return -1;
    unlink("/tmp/bench-server.db");
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        execv(path, argv);
        _exit(127);
    }
    close(ends[1]);
    FILE *log = fdopen(ends[0], "r");
    char line[512];
    *port = 0;
    while (log && *port == 0 && fgets(line, sizeof line, log)) {
        const char *at = strstr(line, "http://127.0.0.1:");
        if (at)
            *port = (int)strtol(at + 17, NULL, 10);
    }
    return *port ? child : -1; /* the pipe stays open: the server may log until it ends */
}

struct connection {
    int fd;
    size_t sent, got, want; /* want: bytes of the answer, 0 until its head is complete */
    double asked;
    char head[1024];
};

struct load {
    struct lk_buf request;
    int n;
    struct connection *c;
    int epoll;
    double *latencies;
    size_t n_latencies, done, failed;
};

static void send_some(struct load *l, struct connection *c) {
    while (c->sent < l->request.size) {
        ssize_t n = send(c->fd, l->request.data + c->sent, l->request.size - c->sent, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        c->sent += (size_t)n;
    }
}

static void begin(struct load *l, struct connection *c) {
    c->sent = c->got = c->want = 0;
    c->asked = now();
    send_some(l, c);
}

static void receive(struct load *l, struct connection *c) {
    char buffer[65536];
    ssize_t n;
    while ((n = recv(c->fd, buffer, sizeof buffer, 0)) > 0) {
        if (!c->want) {
            size_t room = sizeof c->head - 1 - c->got, take = (size_t)n < room ? (size_t)n : room;
            memcpy(c->head + c->got, buffer, take);
            c->head[c->got + take] = 0;
            const char *end = strstr(c->head, "\r\n\r\n"), *length = strstr(c->head, "Content-Length: ");
            if (end && length)
                c->want = (size_t)(end - c->head) + 4 + strtoul(length + 16, NULL, 10);
        }
        c->got += (size_t)n;
        if (c->want && c->got >= c->want) {
            l->failed += strncmp(c->head, "HTTP/1.1 200", 12) != 0;
            if (l->n_latencies < 1000000)
                l->latencies[l->n_latencies++] = now() - c->asked;
            l->done++;
            begin(l, c);
        }
    }
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double through_http(const char *model, const struct lk_buf *file, double seconds, int connections,
                           char *const *options, int n_options) {
    int port;
    pid_t server = start_server(model, options, n_options, &port);
    struct load l = {.n = connections, .c = lk_calloc((size_t)connections, sizeof *l.c), .epoll = epoll_create1(0)};
    l.latencies = lk_calloc(1000000, sizeof(double));
    if (server < 0 || !l.c || !l.latencies ||
        lk_buf_printf(&l.request, "POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n",
                      file->size) ||
        lk_buf_append(&l.request, file->data, file->size))
        return 0;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1;
    for (int i = 0; i < connections; i++) {
        struct connection *c = &l.c[i];
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(c->fd, (struct sockaddr *)&to, sizeof to))
            return 0;
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(l.epoll, EPOLL_CTL_ADD, c->fd, &e);
        begin(&l, c);
    }
    double start = now(), cpu = own_cpu(), warm = start + 0.5;
    size_t before = 0;
    while (now() - start < seconds + 0.5) {
        struct epoll_event events[256];
        int n = epoll_wait(l.epoll, events, 256, 100);
        for (int i = 0; i < n; i++)
            receive(&l, events[i].data.ptr);
        if (warm > 0 && now() >= warm) {
            before = l.done;
            l.n_latencies = 0;
            cpu = own_cpu();
            warm = 0;
            start = now() - 0.5;
        }
    }
    double took = now() - start - 0.5, rate = (double)(l.done - before) / took;
    qsort(l.latencies, l.n_latencies, sizeof(double), ascending);
    printf("   http %8.1f img/s, p50 %.2f ms, p99 %.2f ms, %zu failed, client's own cores %.3f\n", rate,
           1e3 * l.latencies[l.n_latencies / 2], 1e3 * l.latencies[l.n_latencies * 99 / 100], l.failed,
           (own_cpu() - cpu) / took);
    for (int i = 0; i < connections; i++)
        close(l.c[i].fd);
    kill(server, SIGTERM);
    waitpid(server, NULL, 0);
    lk_buf_free(&l.request);
    free(l.c);
    free(l.latencies);
    close(l.epoll);
    return rate;
}

int main(int argc, char **argv) {
    lk_spin_limit(argv); /* as the server does */
    struct lk_buf file = {0};
    if (argc < 3 || lk_fs_read(&file, argv[2], 0)) {
        fprintf(stderr, "usage: bench_server MODEL PICTURE [SECONDS [CONNECTIONS [SERVER OPTIONS...]]]\n");
        return 2;
    }
    double seconds = argc > 3 ? strtod(argv[3], NULL) : 3;
    int connections = argc > 4 ? (int)strtol(argv[4], NULL, 10) : 64;
    double engine[RUNS], http[RUNS];
    for (int i = 0; i < RUNS; i++) {
        engine[i] = bare(argv[1], &file, seconds);
        printf(" engine %8.1f img/s\n", engine[i]);
        fflush(stdout);
        http[i] = through_http(argv[1], &file, seconds, connections, argv + 5, argc > 5 ? argc - 5 : 0);
        fflush(stdout);
    }
    qsort(engine, RUNS, sizeof(double), ascending);
    qsort(http, RUNS, sizeof(double), ascending);
    printf("ratio of the medians: %.3f with %d connections on %d cores\n", http[RUNS / 2] / engine[RUNS / 2],
           connections, lk_cpu_count());
    lk_buf_free(&file);
    return http[0] > 0 && engine[0] > 0 ? 0 : 1;
}
