/* How much of FAISS's own speed arrives at the end of HTTP, for queries by vector?
 *   bench_neighbors MODEL CATALOGUE ITEMS SECONDS CONNECTIONS [SERVER OPTIONS...]
 * CATALOGUE is make_catalogue's, of ITEMS. Runs by turns, three times each: threads of this process that call FAISS's search
 * with one query each (a Flat index; with --index hnsw among the options the very graph that the server keeps, with the
 * same efSearch), and as many keep-alive connections that ask the real server. Before that every answer is held against
 * the exact one. Prints queries a second, their ratio, recall, the server's time to load and its memory. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <AutoTune_c.h>
#include <IndexFlat_c.h>
#include <Index_c.h>
#include <index_io_c.h>
#include <omp.h>

#include "base/buf.h"
#include "base/pool.h"
#include "base/spin.h"
#include "clusters.h"

enum { RUNS = 3, K = 10, QUERIES = 256, CHECKED = 100, CHUNK = 10000, ANSWER = 1 << 16, THREADS = 64 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Seconds of processor time that a process has had. Beside other work they say more than the clock. */
static double cpu_of(pid_t process) {
    char path[64], text[1024] = {0};
    unsigned long user = 0, kernel = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)process);
    FILE *f = fopen(path, "r");
    if (f && fgets(text, sizeof text, f) && strrchr(text, ')'))
        (void)sscanf(strrchr(text, ')') + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel);
    if (f)
        fclose(f);
    return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

static void fail(const char *what) {
    fprintf(stderr, "bench_neighbors: %s\n", what);
    exit(1);
}

/* --- The server --------------------------------------------------------------------------------------------------- */

struct server {
    pid_t process;
    int port;
    FILE *log;
};

static void *read_log(void *arg) {
    const struct server *s = arg;
    char line[1024];
    while (fgets(line, sizeof line, s->log))
        if (strstr(line, "kept in") || strstr(line, " warn ") || strstr(line, " error ") || strstr(line, "linked"))
            fputs(line, stderr);
    return NULL;
}

static void start_server(struct server *s, char **argv, int argc) {
    char *options[64] = {"likeness-server", "--model",  argv[1],       "--catalogue",
                         argv[2],           "--listen", "127.0.0.1:0", "--no-log-requests"};
    const char *folder = getenv("LK_BIN_DIR");
    char path[4096], line[1024];
    pthread_t thread;
    int ends[2];
    for (int i = 6; i < argc && i < 60; i++)
        options[i + 2] = argv[i];
    snprintf(path, sizeof path, "%s/likeness-server", folder ? folder : "bin");
    if (pipe(ends))
        fail("no pipe");
    if ((s->process = fork()) == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        execv(path, options);
        _exit(127);
    }
    close(ends[1]);
    s->log = fdopen(ends[0], "r");
    while (s->port == 0 && fgets(line, sizeof line, s->log)) {
        const char *at = strstr(line, "http://127.0.0.1:");
        if (strstr(line, "vectors"))
            printf("server: %s", strstr(line, "info ") ? strstr(line, "info ") + 6 : line);
        if (at)
            s->port = (int)strtol(at + 17, NULL, 10);
    }
    if (s->port == 0)
        fail("the server did not start");
    if (pthread_create(&thread, NULL, read_log, s))
        fail("no thread");
    pthread_detach(thread);
}

static void print_memory(const struct server *s, double vectors) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", (int)s->process);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "VmRSS:", 6) == 0 || strncmp(line, "VmHWM:", 6) == 0) {
            const double bytes = (double)strtoll(line + 6, NULL, 10) * 1024;
            printf("server's memory, %s: %.2f GB, %.2f of the vectors' own\n", line[2] == 'R' ? "now" : "at most",
                   bytes / 1e9, bytes / vectors);
        }
    }
    if (f)
        fclose(f);
}

static int dial(int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    const int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&to, sizeof to))
        fail("the server does not take connections");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

/* One request and its answer, NUL-terminated. */
static void ask(int fd, const void *request, size_t size, char answer[ANSWER]) {
    size_t got = 0, want = 0;
    if (send(fd, request, size, MSG_NOSIGNAL) != (ssize_t)size)
        fail("a request was not taken");
    while (want == 0 || got < want) {
        const ssize_t n = recv(fd, answer + got, ANSWER - 1 - got, 0);
        if (n <= 0)
            fail("the server closed the connection");
        answer[got += (size_t)n] = 0;
        const char *end = strstr(answer, "\r\n\r\n"), *length = strstr(answer, "Content-Length: ");
        if (want == 0 && end && length)
            want = (size_t)(end - answer) + 4 + strtoul(length + 16, NULL, 10);
    }
    if (strncmp(answer, "HTTP/1.1 200", 12) != 0)
        fail(answer);
}

static void wait_for_graph(int port, long items) {
    static const char request[] = "GET /model HTTP/1.1\r\nHost: localhost\r\n\r\n";
    static char answer[ANSWER];
    const int fd = dial(port);
    const double start = now();
    for (long linked = 0; linked < items;) {
        ask(fd, request, sizeof request - 1, answer);
        const char *at = strstr(answer, "\"linked\":");
        linked = at ? strtol(at + 9, NULL, 10) : 0;
        if (linked < items - items / 9)
            sleep(1);
        else
            break;
    }
    sleep(2); /* until it is in its file */
    printf("graph: ready after %.0f s\n", now() - start);
    close(fd);
}

/* --- The contenders ----------------------------------------------------------------------------------------------- */

struct bench {
    FaissIndex *index;
    int dim, port;
    float *queries; /* [QUERIES][dim] */
    struct lk_buf requests[QUERIES];
    double until;
    atomic_long done;
};

static void *call_faiss(void *arg) {
    struct bench *b = arg;
    float scores[K];
    faiss_idx_t slots[K];
    omp_set_num_threads(1);
    for (long i = 0; now() < b->until; i++) {
        if (faiss_Index_search(b->index, 1, b->queries + i % QUERIES * b->dim, K, scores, slots))
            fail("FAISS cannot search");
        atomic_fetch_add(&b->done, 1);
    }
    return NULL;
}

static void *call_server(void *arg) {
    struct bench *b = arg;
    char *answer = lk_calloc(ANSWER, 1);
    const int fd = dial(b->port);
    if (!answer)
        fail("no memory");
    for (long i = 0; now() < b->until; i++) {
        const struct lk_buf *r = &b->requests[i % QUERIES];
        ask(fd, r->data, r->size, answer);
        atomic_fetch_add(&b->done, 1);
    }
    close(fd);
    free(answer);
    return NULL;
}

/* Queries a second; *cpu becomes the milliseconds of `process` for each. */
static double rate(struct bench *b, void *(*call)(void *), int threads, double seconds, pid_t process, double *cpu) {
    pthread_t t[THREADS];
    const double start = now(), before = cpu_of(process);
    b->until = start + seconds;
    atomic_store(&b->done, 0);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&t[i], NULL, call, b))
            fail("no thread");
    for (int i = 0; i < threads; i++)
        pthread_join(t[i], NULL);
    *cpu = (cpu_of(process) - before) * 1e3 / (double)atomic_load(&b->done);
    return (double)atomic_load(&b->done) / (now() - start);
}

/* How many of the exact K nearest the server names. */
static double recall(struct bench *b, FaissIndex *exact) {
    static char answer[ANSWER];
    float scores[K];
    faiss_idx_t slots[K];
    long right = 0;
    const int fd = dial(b->port);
    for (int q = 0; q < CHECKED; q++) {
        char id[40];
        faiss_Index_search(exact, 1, b->queries + q * b->dim, K, scores, slots);
        ask(fd, b->requests[q].data, b->requests[q].size, answer);
        for (int i = 0; i < K; i++) {
            snprintf(id, sizeof id, "\"item-%09lld\"", (long long)slots[i]);
            right += strstr(answer, id) != NULL;
        }
    }
    close(fd);
    return (double)right / (CHECKED * K);
}

static FaissIndex *flat_index(int dim, long items) {
    FaissIndexFlat *index = NULL;
    float *chunk = lk_calloc((size_t)CHUNK * (size_t)dim, sizeof *chunk);
    if (!chunk || faiss_IndexFlat_new_with(&index, dim, METRIC_INNER_PRODUCT))
        fail("no memory");
    for (long i = 0; i < items; i += CHUNK) {
        const long n = items - i < CHUNK ? items - i : CHUNK;
        for (long j = 0; j < n; j++)
            clusters_vector(chunk + j * dim, dim, (uint64_t)(i + j));
        if (faiss_Index_add(index, n, chunk))
            fail("FAISS cannot add");
    }
    free(chunk);
    return index;
}

/* The graph in the server's file: behind the first page and the ids. */
static FaissIndex *server_graph(const char *catalogue, int ef_search) {
    char path[4096], page[4097] = {0};
    FaissIndex *index = NULL;
    FaissParameterSpace *space = NULL;
    snprintf(path, sizeof path, "%s.hnsw", catalogue);
    FILE *f = fopen(path, "rb");
    if (!f || fread(page, 1, 4096, f) != 4096 || !strstr(page, "\"count\": "))
        fail("the graph cannot be read");
    for (long i = strtol(strstr(page, "\"count\": ") + 9, NULL, 10); i > 0; i--)
        fseek(f, fgetc(f), SEEK_CUR);
    if (faiss_read_index(f, 0, &index) || faiss_ParameterSpace_new(&space) ||
        faiss_ParameterSpace_set_index_parameter(space, index, "efSearch", ef_search))
        fail("FAISS cannot read the graph");
    faiss_ParameterSpace_free(space);
    fclose(f);
    return index;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void make_queries(struct bench *b, long items) {
    b->queries = lk_calloc((size_t)QUERIES * (size_t)b->dim, sizeof *b->queries);
    for (int q = 0; b->queries && q < QUERIES; q++) {
        float *v = b->queries + q * b->dim;
        struct lk_buf body = {0};
        clusters_vector(v, b->dim, (uint64_t)(items + q));
        int rc = lk_buf_printf(&body, "{\"k\":%d,\"with_metadata\":false,\"vector\":[", K);
        for (int j = 0; j < b->dim; j++)
            rc = rc || lk_buf_printf(&body, j ? ",%.9g" : "%.9g", (double)v[j]);
        rc = rc || lk_buf_printf(&body, "]}") ||
             lk_buf_printf(&b->requests[q],
                           "POST /neighbors HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           "Content-Length: %zu\r\n\r\n",
                           body.size) ||
             lk_buf_append(&b->requests[q], body.data, body.size);
        lk_buf_free(&body);
        if (rc)
            fail("no memory");
    }
}

int main(int argc, char **argv) {
    lk_spin_limit(argv);
    if (argc < 6) {
        fprintf(stderr, "usage: bench_neighbors MODEL CATALOGUE ITEMS SECONDS CONNECTIONS [SERVER OPTIONS...]\n");
        return 2;
    }
    const long items = strtol(argv[3], NULL, 10);
    const double seconds = strtod(argv[4], NULL);
    const int threads = (int)strtol(argv[5], NULL, 10);
    struct bench b = {.dim = 512};
    struct server server = {0};
    double faiss[RUNS], http[RUNS], faiss_cpu[RUNS], http_cpu[RUNS];
    int is_hnsw = 0, ef_search = 64;
    if (threads < 1 || threads > THREADS || items < QUERIES)
        fail("items or connections out of range");
    for (int i = 6; i < argc; i++) {
        is_hnsw |= strcmp(argv[i], "hnsw") == 0;
        if (strcmp(argv[i], "--hnsw-ef-search") == 0 && i + 1 < argc)
            ef_search = (int)strtol(argv[i + 1], NULL, 10);
    }
    start_server(&server, argv, argc);
    b.port = server.port;
    print_memory(&server, (double)items * b.dim * sizeof(float));
    if (is_hnsw)
        wait_for_graph(b.port, items);
    FaissIndex *exact = flat_index(b.dim, items);
    make_queries(&b, items);
    b.index = is_hnsw ? server_graph(argv[2], ef_search) : exact;
    printf("recall at %d: %.4f\n", K, recall(&b, exact));
    for (int i = 0; i < RUNS; i++) {
        faiss[i] = rate(&b, call_faiss, threads, seconds, getpid(), &faiss_cpu[i]);
        http[i] = rate(&b, call_server, threads, seconds, server.process, &http_cpu[i]);
        printf("FAISS %.1f queries a second, %.3f ms of a core each; HTTP %.1f, the server's %.3f ms\n", faiss[i],
               faiss_cpu[i], http[i], http_cpu[i]);
        fflush(stdout);
    }
    print_memory(&server, (double)items * b.dim * sizeof(float));
    qsort(faiss, RUNS, sizeof *faiss, ascending);
    qsort(http, RUNS, sizeof *http, ascending);
    qsort(faiss_cpu, RUNS, sizeof *faiss_cpu, ascending);
    qsort(http_cpu, RUNS, sizeof *http_cpu, ascending);
    printf("ratio of the medians of processor time: %.3f (FAISS %.3f ms a query, the server %.3f ms)\n",
           faiss_cpu[1] / http_cpu[1], faiss_cpu[1], http_cpu[1]);
    printf("ratio of the medians: %.3f (FAISS %.1f, HTTP %.1f), %d connections, %d cores\n", http[1] / faiss[1],
           faiss[1], http[1], threads, lk_cpu_count());
    kill(server.process, SIGTERM);
    waitpid(server.process, NULL, 0);
    faiss_Index_free(exact);
    if (is_hnsw)
        faiss_Index_free(b.index);
    for (int q = 0; q < QUERIES; q++)
        lk_buf_free(&b.requests[q]);
    free(b.queries);
    return 0;
}
