/* How long does a query take, how long does it keep a writer waiting, and how long is a load?
 * bench_index [items] [dim] [k]; prints one line a figure. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/err.h"
#include "server/index.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint64_t state = 1;
static void random_vector(float *v, int dim) {
    for (int j = 0; j < dim; j++) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        v[j] = ((float)(state >> 40) / 16777216.0F - 0.5F) * 0.15F;
    }
}

struct reader {
    struct lk_index *index;
    const float *query;
    size_t k;
    atomic_int stop;
    long searches;
};

static void *read_on(void *arg) {
    struct reader *r = arg;
    while (!atomic_load(&r->stop)) {
        struct lk_hits hits;
        if (lk_index_search(r->index, r->query, r->k, NULL, -2, &hits) == 0)
            r->searches++;
        lk_hits_free(&hits);
    }
    return NULL;
}

int main(int argc, char **argv) {
    const int n = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 100000,
              dim = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 512;
    const size_t k = argc > 3 ? (size_t)strtoul(argv[3], NULL, 10) : 10;
    static float v[65536], w[65536];
    struct lk_index *index;
    struct lk_hits hits;
    char name[32];
    double start, worst = 0, sum = 0;
    if (dim > 65536 || lk_index_open(&index, dim, NULL) != 0)
        return 1;
    start = now();
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "item-%08d", i);
        random_vector(v, dim);
        if (lk_index_put(index, name, v) != 0) {
            printf("%s\n", lk_error());
            return 1;
        }
    }
    printf("load of %d x %d: %.2f s\n", n, dim, now() - start);
    start = now();
    for (int i = 0; i < 20; i++) {
        random_vector(v, dim);
        if (lk_index_search(index, v, k, NULL, -2, &hits) != 0)
            return 1;
        lk_hits_free(&hits);
    }
    printf("query, k = %zu: %.2f ms\n", k, (now() - start) / 20 * 1e3);

    struct reader reader = {.index = index, .query = v, .k = k};
    pthread_t thread;
    if (pthread_create(&thread, NULL, read_on, &reader) != 0)
        return 1;
    const double began = now();
    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof name, "item-%08d", (int)((unsigned)i * 7919U % (unsigned)n));
        random_vector(w, dim);
        const double t = now();
        if (lk_index_put(index, name, w) != 0)
            return 1;
        sum += now() - t;
        worst = now() - t > worst ? now() - t : worst;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    atomic_store(&reader.stop, 1);
    pthread_join(thread, NULL);
    printf("replace beside a searching thread: %.0f us on average, %.0f us at worst; %.2f ms a query meanwhile\n",
           sum / 500 * 1e6, worst * 1e6, (now() - began) / (double)reader.searches * 1e3);
    start = now();
    if (lk_index_compact(index) != 0)
        return 1;
    printf("compaction of %d tombstones: %.2f s\n", 500, now() - start);
    lk_index_close(index);
    return 0;
}
