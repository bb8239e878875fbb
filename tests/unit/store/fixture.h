/* A temporary folder with one catalogue in it, and short forms of what the tests do with it. */
#ifndef LK_TESTS_STORE_FIXTURE_H
#define LK_TESTS_STORE_FIXTURE_H

#include <dirent.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "check.h"
#include "store/store.h"

struct fixture {
    char folder[200], path[256];
    struct lk_store *store;
};

static inline void fixture_folder(struct fixture *f) {
    const char *temporary = getenv("TMPDIR");
    *f = (struct fixture){0};
    snprintf(f->folder, sizeof f->folder, "%.150s/lk-store-XXXXXX", temporary != NULL ? temporary : "/tmp");
    if (mkdtemp(f->folder) == NULL)
        abort();
    snprintf(f->path, sizeof f->path, "%s/items.db", f->folder);
}

static inline int fixture_reopen(struct fixture *f) {
    int rc;
    lk_store_close(f->store);
    f->store = NULL;
    if ((rc = lk_store_open(&f->store, f->path, NULL)) < 0)
        printf("     %s\n", lk_error());
    return rc;
}

static inline int fixture_open(struct fixture *f) {
    fixture_folder(f);
    return fixture_reopen(f);
}

/* How many files the folder holds. */
static inline int fixture_files(const struct fixture *f) {
    DIR *d = opendir(f->folder);
    int n = 0;
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    if (d != NULL)
        closedir(d);
    return n;
}

static inline void fixture_close(struct fixture *f) {
    DIR *d;
    lk_store_close(f->store);
    d = opendir(f->folder);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s", f->folder, e->d_name);
        if (e->d_name[0] != '.')
            unlink(path);
    }
    if (d != NULL)
        closedir(d);
    rmdir(f->folder);
}

/* One number that SQLite itself reads from the file. */
static inline long long fixture_sql(const struct fixture *f, const char *sql) {
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    long long value = -1;
    if (sqlite3_open(f->path, &db) == SQLITE_OK && sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK &&
        sqlite3_step(s) == SQLITE_ROW)
        value = sqlite3_column_int64(s, 0);
    else
        printf("     %s: %s\n", sql, sqlite3_errmsg(db));
    sqlite3_finalize(s);
    sqlite3_close(db);
    return value;
}

/* Changes the file behind the store's back. */
static inline int fixture_change(const struct fixture *f, const char *sql) {
    sqlite3 *db = NULL;
    int rc = sqlite3_open(f->path, &db) == SQLITE_OK ? sqlite3_exec(db, sql, NULL, NULL, NULL) : SQLITE_CANTOPEN;
    if (rc != SQLITE_OK)
        printf("     %s: %s\n", sql, sqlite3_errmsg(db));
    sqlite3_close(db);
    return rc;
}

/* Of floats: -0 is not 0 here. */
static inline int same_bits(const void *a, const void *b, size_t n) { return memcmp(a, b, n) == 0; }

/* Inside a batch: the image is the text `image`, the vector is (x, 1, 2). */
static inline int put_in(struct lk_store *store, const char *id, const char *image, const char *space, float x) {
    const float vector[3] = {x, 1, 2};
    return lk_store_put(store, id, NULL, "image/png", image, strlen(image), 4, 3, space, space != NULL ? vector : NULL,
                        3, NULL, NULL);
}

/* A batch of its own. */
static inline int put(struct lk_store *store, const char *id, const char *image, const char *space, float x) {
    int rc = lk_store_begin(store);
    if (rc < 0)
        return rc;
    if ((rc = put_in(store, id, image, space, x)) < 0) {
        lk_store_rollback(store);
        return rc;
    }
    return lk_store_commit(store);
}

/* A copy of what get or list visited. */
struct copy {
    int n;
    char ids[4096]; /* "a b c " */
    char id[256], metadata[1024], media_type[64], sha256[65];
    int64_t bytes, created_ms, updated_ms, seq;
    int width, height, dim;
    float vector[8];
};

static inline int copy_item(void *arg, const struct lk_item *item) {
    struct copy *c = arg;
    size_t used = strlen(c->ids);
    c->n++;
    snprintf(c->ids + used, sizeof c->ids - used, "%s ", item->id);
    snprintf(c->id, sizeof c->id, "%s", item->id);
    snprintf(c->metadata, sizeof c->metadata, "%s", item->metadata);
    snprintf(c->media_type, sizeof c->media_type, "%s", item->media_type);
    snprintf(c->sha256, sizeof c->sha256, "%s", item->image_sha256);
    c->bytes = item->image_bytes;
    c->created_ms = item->created_ms;
    c->updated_ms = item->updated_ms;
    c->seq = item->seq;
    c->width = item->width;
    c->height = item->height;
    c->dim = item->vector != NULL ? item->dim : 0;
    for (int i = 0; i < c->dim && i < 8; i++)
        c->vector[i] = item->vector[i];
    return 0;
}

static inline struct copy get(struct lk_store *store, const char *id, const char *space) {
    struct copy c = {0};
    LK_CHECK_INT(lk_store_get(store, id, space, copy_item, &c), 0);
    return c;
}

static inline struct copy list(struct lk_store *store, const char *after, int limit, const char *space) {
    struct copy c = {0};
    LK_CHECK_INT(lk_store_list(store, after, limit, space, copy_item, &c), 0);
    return c;
}

#endif
