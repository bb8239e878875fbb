/* How fast are group commits, listing, and loading an index? bench_store FOLDER [items] [dim] [batch] */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "store/store.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct seen {
    char id[256];
    long n;
    double sum;
};

static int see(void *arg, const struct lk_item *item) {
    struct seen *s = arg;
    snprintf(s->id, sizeof s->id, "%s", item->id);
    s->n++;
    if (item->vector != NULL)
        s->sum += (double)item->vector[0];
    return 0;
}

int main(int argc, char **argv) {
    const int n = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 20000,
              dim = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 512;
    const int batch = argc > 4 ? (int)strtol(argv[4], NULL, 10) : 32;
    char path[512], image[2600], id[32];
    static float v[65536];
    struct lk_store *store;
    struct seen seen = {0};
    uint64_t state = 1;
    double start;
    if (argc < 2 || dim > 65536)
        return 2;
    snprintf(path, sizeof path, "%s/bench.db", argv[1]);
    if (lk_store_open(&store, path, NULL) < 0) {
        printf("%s\n", lk_error());
        return 1;
    }
    memset(image, 'x', sizeof image);
    start = now();
    for (int i = 0; i < n; i += batch) {
        if (lk_store_begin(store) < 0)
            return 1;
        for (int j = i; j < i + batch && j < n; j++) {
            state = state * 6364136223846793005U + 1442695040888963407U;
            snprintf(id, sizeof id, "%08x-%d", (unsigned)(state >> 32), j);
            snprintf(image, 16, "%d", j);
            for (int t = 0; t < dim; t++)
                v[t] = (float)(j + t);
            if (lk_store_put(store, id, NULL, "image/png", image, sizeof image, 32, 32, "space", v, dim, NULL, NULL) <
                0) {
                printf("%s\n", lk_error());
                return 1;
            }
        }
        if (lk_store_commit(store) < 0)
            return 1;
    }
    printf("%d items in batches of %d: %.0f items/s, %.0f commits/s\n", n, batch, n / (now() - start),
           n / (now() - start) / batch);
    start = now();
    for (long before = -1; seen.n != before;) {
        before = seen.n;
        if (lk_store_list(store, seen.id, 1000, "space", see, &seen) < 0)
            return 1;
    }
    printf("list with vectors, ordered by id: %.2f s, %.2f GB/s\n", now() - start,
           (double)seen.n * dim * 4e-9 / (now() - start));
    int64_t cursor = 0;
    seen = (struct seen){0};
    start = now();
    for (int64_t before = -1; cursor != before;) {
        before = cursor;
        if (lk_store_vectors(store, &cursor, 1000, "space", see, &seen) < 0)
            return 1;
    }
    printf("vectors in the file's order: %.2f s, %.2f GB/s (%ld items)\n", now() - start,
           (double)seen.n * dim * 4e-9 / (now() - start), seen.n);
    lk_store_close(store);
    return 0;
}
