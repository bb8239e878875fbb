/* How many pictures a second does the bare engine embed?
 *   bench_engine MODEL PRECISION THREADS SECONDS BATCH[,BATCH...] PIXELS VECTORS
 * PIXELS holds uint8 squares [n][S][S][3], at least as many as the largest batch. Prints one JSON object a batch: median
 * and best of single calls, after half a second of warming up. Writes the vectors of all pictures to VECTORS (float32
 * [n][dim]), so that tests/bench/run can see that every contender did the same work. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/spin.h"
#include "server/engine.h"

enum { MAX_CALLS = 100000, MIN_CALLS = 5, MAX_BATCH = 512 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int measure(struct lk_engine *engine, const uint8_t *pixels, int batch, double seconds, float *vectors,
                   double *times) {
    int n = 0, rc = 0;
    for (double end = now() + 0.5; now() < end && !rc;) {
        rc = lk_engine_embed(engine, pixels, batch, vectors);
    }
    for (double end = now() + seconds; !rc && n < MAX_CALLS && (n < MIN_CALLS || now() < end); n++) {
        double start = now();
        rc = lk_engine_embed(engine, pixels, batch, vectors);
        times[n] = now() - start;
    }
    if (rc) {
        return rc;
    }
    qsort(times, (size_t)n, sizeof *times, ascending);
    printf("{\"batch\": %d, \"images_per_second\": %.2f, \"best\": %.2f, \"calls\": %d, \"precision\": \"%s\", "
           "\"device\": \"%s\"}\n",
           batch, batch / times[n / 2], batch / times[0], n, lk_engine_precision(engine), lk_engine_device(engine));
    return fflush(stdout) ? lk_err(LK_EIO, "cannot print") : 0;
}

static int write_vectors(struct lk_engine *engine, const uint8_t *pixels, int n, size_t picture, const char *path) {
    size_t dim = (size_t)lk_engine_dim(engine);
    float *vectors = lk_calloc((size_t)n * dim, sizeof *vectors);
    int rc = vectors ? 0 : LK_ENOMEM, max = lk_engine_max_batch(engine);
    for (int at = 0; at < n && !rc; at += max) {
        rc = lk_engine_embed(engine, pixels + (size_t)at * picture, n - at < max ? n - at : max,
                             vectors + (size_t)at * dim);
    }
    if (!rc) {
        rc = lk_fs_write_atomic(path, vectors, (size_t)n * dim * sizeof *vectors);
    }
    free(vectors);
    return rc;
}

static int run(char **argv) {
    struct lk_engine *engine = NULL;
    struct lk_buf file = {0};
    struct lk_engine_options options = {.device = "cpu", .precision = argv[2], .threads = atoi(argv[3])};
    double seconds = strtod(argv[4], NULL), *times = lk_calloc(MAX_CALLS, sizeof *times);
    float *vectors = NULL;
    int batches[16], n_batches = 0, rc = times ? 0 : LK_ENOMEM;
    for (char *at = argv[5]; *at && n_batches < 16; at += *at == ',') {
        int batch = (int)strtol(at, &at, 10);
        if (batch < 1 || batch > MAX_BATCH || (*at && *at != ',')) {
            rc = lk_err(LK_EINVAL, "a batch must be 1 to %d", MAX_BATCH);
            goto done;
        }
        batches[n_batches++] = batch;
        options.max_batch = batch > options.max_batch ? batch : options.max_batch;
    }
    if (rc || (rc = lk_fs_read(&file, argv[6], 0)) || (rc = lk_engine_open(&engine, argv[1], &options))) {
        goto done;
    }
    size_t picture = (size_t)lk_engine_side(engine) * (size_t)lk_engine_side(engine) * 3;
    int n = (int)(file.size / picture);
    if (n < options.max_batch) {
        rc = lk_err(LK_EINVAL, "%s holds %d pictures, less than a batch", argv[6], n);
        goto done;
    }
    vectors = lk_calloc((size_t)options.max_batch * (size_t)lk_engine_dim(engine), sizeof *vectors);
    rc = vectors ? write_vectors(engine, file.data, n, picture, argv[7]) : LK_ENOMEM;
    for (int i = 0; i < n_batches && !rc; i++) {
        rc = measure(engine, file.data, batches[i], seconds, vectors, times);
    }
done:
    free(vectors);
    free(times);
    lk_buf_free(&file);
    lk_engine_close(engine);
    return rc;
}

int main(int argc, char **argv) {
    lk_spin_limit(argv); /* as the server does */
    if (argc != 8) {
        fprintf(stderr, "usage: bench_engine MODEL PRECISION THREADS SECONDS BATCH[,BATCH...] PIXELS VECTORS\n");
        return 2;
    }
    if (run(argv)) {
        fprintf(stderr, "bench_engine: %s\n", lk_error());
        return 1;
    }
    return 0;
}
