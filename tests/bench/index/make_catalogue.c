/* Writes a catalogue of many items without embedding anything: clustered vectors in the space of a model, and pictures by
 * turns, or one of a single pixel that all items share.
 *   make_catalogue MODEL CATALOGUE [ITEMS [PICTURE...]]
 * Prints how many items a second were written, durably, in transactions of 10,000. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "clusters.h"
#include "image/decode.h"
#include "server/engine.h"
#include "store/store.h"

enum { BATCH = 10000 };

/* A PNG of one black pixel. */
static const unsigned char pixel[] = {
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00,
    0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00, 0x00, 0x00, 0x00, 0x3a, 0x7e, 0x9b, 0x55, 0x00,
    0x00, 0x00, 0x0a, 0x49, 0x44, 0x41, 0x54, 0x78, 0xda, 0x63, 0x60, 0x00, 0x00, 0x00, 0x02, 0x00, 0x01,
    0xe5, 0x27, 0xde, 0xfc, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82};

struct picture {
    struct lk_buf bytes;
    char media_type[16];
    int width, height;
};

static int read_picture(struct picture *p, const char *path) {
    struct lk_image_info info = {0};
    int rc;
    if ((rc = path ? lk_fs_read(&p->bytes, path, 0) : lk_buf_append(&p->bytes, pixel, sizeof pixel)) == 0 &&
        (rc = lk_decode_info(&info, p->bytes.data, p->bytes.size)) == 0) {
        snprintf(p->media_type, sizeof p->media_type, "image/%s", info.format);
        p->width = info.width;
        p->height = info.height;
    }
    return rc;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int write_items(struct lk_store *store, const char *space, int dim, long items, const struct picture *pictures,
                       long n) {
    float *vector = lk_calloc((size_t)dim, sizeof *vector);
    int rc = vector != NULL ? 0 : LK_ENOMEM;
    for (long i = 0; rc == 0 && i < items; i++) {
        const struct picture *p = &pictures[i % n];
        char id[32], metadata[32];
        snprintf(id, sizeof id, "item-%09ld", i);
        snprintf(metadata, sizeof metadata, "{\"n\":%ld}", i);
        clusters_vector(vector, dim, (uint64_t)i);
        if ((i % BATCH != 0 || (rc = lk_store_begin(store)) == 0) &&
            (rc = lk_store_put(store, id, metadata, p->media_type, p->bytes.data, p->bytes.size, p->width, p->height,
                               space, vector, dim, NULL, NULL)) == 0 &&
            ((i + 1) % BATCH == 0 || i + 1 == items))
            rc = lk_store_commit(store);
    }
    free(vector);
    return rc;
}

int main(int argc, char **argv) {
    const struct lk_engine_options options = {.device = "cpu", .precision = "fp32", .max_batch = 1, .threads = 1};
    const long items = argc > 3 ? strtol(argv[3], NULL, 10) : 1000000, n = argc > 4 ? argc - 4 : 1;
    struct picture *pictures = lk_calloc((size_t)n, sizeof *pictures);
    struct lk_engine *engine = NULL;
    struct lk_store *store = NULL;
    char space[65];
    int rc = pictures != NULL ? 0 : LK_ENOMEM;
    if (argc < 3 || items < 1) {
        fprintf(stderr, "usage: make_catalogue MODEL CATALOGUE [ITEMS [PICTURE...]]\n");
        free(pictures);
        return 2;
    }
    for (long i = 0; rc == 0 && i < n; i++)
        rc = read_picture(&pictures[i], argc > 4 ? argv[4 + i] : NULL);
    if (rc == 0 && (rc = lk_engine_open(&engine, argv[1], &options)) == 0 &&
        (rc = lk_store_open(&store, argv[2], NULL)) == 0) {
        const int dim = lk_engine_dim(engine);
        const double start = now();
        lk_engine_space(engine, space);
        if ((rc = write_items(store, space, dim, items, pictures, n)) == 0)
            printf("wrote %ld items of %d floats in %.1f s: %.0f a second\n", items, dim, now() - start,
                   (double)items / (now() - start));
    }
    if (rc != 0)
        fprintf(stderr, "make_catalogue: %s\n", lk_error());
    lk_store_close(store);
    lk_engine_close(engine);
    for (long i = 0; pictures && i < n; i++)
        lk_buf_free(&pictures[i].bytes);
    free(pictures);
    return rc != 0;
}
