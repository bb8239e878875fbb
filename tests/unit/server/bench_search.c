/* What a search under a filter costs, for docs/decisions: `bench_search [ITEMS [DIM]]` writes a catalogue of its own, asks
 * about items one by one, reads all of them, does the same by SQLite's own JSON functions, and searches under filters that
 * more and less of the items fulfil. Seconds are processor time. */
#include <time.h>

#include "../store/fixture.h"
#include "base/rng.h"
#include "server/index.h"
#include "server/search.h"

static const char space[] = "0000000000000000000000000000000000000000000000000000000000000000";

static double now(void) { /* processor time, which other work on the machine changes little */
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static float draw(uint64_t i, uint32_t j) { return lk_uniform(lk_rng(9, i, LK_RNG_TEST, 0, j).v[0]) - 0.5f; }

static void unit(float *v, int dim, uint64_t seed) {
    double sum = 0;
    for (int j = 0; j < dim; j++) {
        v[j] = draw(seed, (uint32_t)j);
        sum += (double)v[j] * v[j];
    }
    for (int j = 0; j < dim; j++)
        v[j] = (float)(v[j] / sqrt(sum));
}

static void id_of(char id[48], long i) { (void)snprintf(id, 48, "photos/2024/%08ld.jpg", i); }

static int fill(struct lk_store *store, struct lk_index *index, long n, int dim) {
    float *v = lk_calloc((size_t)dim, sizeof *v);
    int rc = v ? 0 : LK_ENOMEM;
    for (long i = 0; i < n && rc == 0; i++) {
        char id[48], metadata[256];
        unit(v, dim, (uint64_t)i);
        id_of(id, i);
        (void)snprintf(
            metadata, sizeof metadata,
            "{\"camera\":{\"maker\":\"Acme\",\"model\":\"X%ld\"},\"label\":\"label %ld\",\"rare\":%s,\"n\":%ld,"
            "\"tags\":[\"t%ld\",\"u%ld\"],\"taken\":\"2024-03-%02ldT10:00:00Z\"}",
            i % 50, i % 10, i % 20000 == 7 ? "true" : "false", i, i % 100, i % 7, 1 + i % 31);
        if (i % 10000 == 0)
            rc = lk_store_begin(store);
        if (rc == 0)
            rc = lk_store_put(store, id, metadata, "image/png", "picture", 7, 1, 1, space, v, dim, NULL, NULL);
        if (rc == 0 && (i % 10000 == 9999 || i + 1 == n))
            rc = lk_store_commit(store);
        if (rc == 0)
            rc = lk_index_put(index, id, v);
    }
    free(v);
    return rc;
}

static int match(void *arg, const struct lk_item *item) {
    (void)lk_filter_match(arg, item->metadata);
    return 0;
}

static int match_row(void *arg, const char *id, const char *metadata) {
    (void)id;
    (void)lk_filter_match(arg, metadata);
    return 0;
}

static void by_sqlite(const char *path, const char *sql, long n) {
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    long long found = -1;
    if (sqlite3_open(path, &db) == SQLITE_OK && sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK) {
        (void)sqlite3_bind_text(s, 1, "label 3", -1, SQLITE_STATIC);
        for (int warm = 0; warm < 2; warm++) {
            double start = now();
            (void)sqlite3_reset(s);
            if (sqlite3_step(s) == SQLITE_ROW)
                found = sqlite3_column_int64(s, 0);
            if (warm)
                printf("%8.3f us an item: %s (%lld found)\n", (now() - start) * 1e6 / (double)n, sql, found);
        }
    }
    (void)sqlite3_finalize(s);
    (void)sqlite3_close(db);
}

int main(int argc, char **argv) {
    static const char *const texts[] = {
        "{\"must\":[{\"key\":\"label\",\"match\":\"label 3\"}]}",
        "{\"must_not\":[{\"key\":\"label\",\"match\":\"label 3\"}]}",
        "{\"must\":[{\"key\":\"tags\",\"match\":\"t42\"}]}",
        "{\"must\":[{\"key\":\"camera.model\",\"match\":\"X7\"},{\"key\":\"tags\",\"match\":\"t57\"}]}",
        "{\"must\":[{\"key\":\"rare\",\"match\":true}]}",
        "{\"must\":[{\"key\":\"n\",\"match\":77777}]}",
        "{\"must\":[{\"key\":\"taken\",\"range\":{\"gte\":\"2024-03-30T00:00:00Z\"}}]}",
    };
    static const struct lk_filter_limits limits = {.bytes = 4096, .depth = 4, .conditions = 64};
    const long n = argc > 1 ? strtol(argv[1], NULL, 10) : 200000;
    const int dim = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 128;
    struct fixture f;
    struct lk_index *index = NULL;
    float *query = lk_calloc((size_t)dim, sizeof *query);
    if (n < 1000 || dim < 16 || !query || fixture_open(&f) || lk_index_open(&index, dim, NULL) ||
        fill(f.store, index, n, dim)) {
        fprintf(stderr, "%s\n", lk_error());
        return 1;
    }
    unit(query, dim, (uint64_t)n + 1);
    for (size_t t = 0; t < sizeof texts / sizeof *texts; t++) {
        struct lk_filter *filter = NULL;
        struct lk_fault fault;
        if (lk_filter_open_text(&filter, texts[t], strlen(texts[t]), &limits, "filter", &fault))
            return 1;
        if (t == 0) {
            double start = now();
            for (long i = 0; i < 20000; i++) {
                char id[48];
                id_of(id, i * 7919 % n);
                (void)lk_store_get(f.store, id, NULL, match, filter);
            }
            printf("%8.3f us an item: asked one by one\n", (now() - start) * 1e6 / 20000);
            struct lk_store_view *view = NULL;
            start = now();
            if (lk_store_view_open(&view, f.store))
                return 1;
            for (long i = 0; i < 20000; i++) {
                char id[48];
                const char *metadata;
                id_of(id, i * 7919 % n);
                if (lk_store_view_metadata(view, id, &metadata) == 0)
                    (void)lk_filter_match(filter, metadata);
            }
            lk_store_view_close(view);
            printf("%8.3f us an item: asked one by one at one moment\n", (now() - start) * 1e6 / 20000);
            for (int warm = 0; warm < 2; warm++) {
                int64_t cursor = 0, before = -1;
                start = now();
                while (cursor != before) {
                    before = cursor;
                    (void)lk_store_scan(f.store, &cursor, 512, match_row, filter);
                }
                if (warm)
                    printf("%8.3f us an item: all read\n", (now() - start) * 1e6 / (double)n);
            }
            by_sqlite(f.path, "SELECT count(*) FROM items WHERE json_extract(metadata, '$.label') = ?1", n);
            by_sqlite(f.path,
                      "SELECT count(*) FROM items WHERE EXISTS (SELECT 1 FROM json_each(metadata, '$.label') "
                      "WHERE value = ?1)",
                      n);
        }
        for (int warm = 0; warm < 2; warm++) {
            struct lk_search s = {.store = f.store,
                                  .index = index,
                                  .query = query,
                                  .k = 10,
                                  .min_score = -2,
                                  .filter = filter,
                                  .with_metadata = 1};
            struct lk_findings found;
            double start = now();
            if (lk_search_run(&s, &found)) {
                fprintf(stderr, "%s\n", lk_error());
                return 1;
            }
            if (warm)
                printf("%8.1f ms, %zu found: %s\n", (now() - start) * 1e3, found.count, texts[t]);
            lk_findings_free(&found);
        }
        lk_filter_close(filter);
    }
    struct lk_search s = {
        .store = f.store, .index = index, .query = query, .k = 10, .min_score = -2, .with_metadata = 1};
    struct lk_findings found;
    double start = now();
    if (lk_search_run(&s, &found) == 0)
        printf("%8.1f ms, %zu found: without a filter\n", (now() - start) * 1e3, found.count);
    lk_findings_free(&found);
    lk_index_close(index);
    fixture_close(&f);
    free(query);
    return 0;
}
