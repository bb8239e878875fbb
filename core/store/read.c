/* What readers do: each call takes one connection of the pool for one statement, which is one short transaction. */
#include "store/store_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

static const char *text_of(sqlite3_stmt *s, int column) {
    const unsigned char *text = sqlite3_column_text(s, column);
    return text != NULL ? (const char *)text : "";
}

int lk_store__vector(struct lk_store__conn *c, sqlite3_stmt *s, int column, const char *id, const float **vector,
                     int *dim) {
    const void *blob = sqlite3_column_blob(s, column);
    size_t bytes;
    *vector = NULL;
    *dim = 0;
    if (blob == NULL)
        return 0;
    bytes = (size_t)sqlite3_column_bytes(s, column);
    if (bytes == 0 || bytes % sizeof(float) != 0)
        return lk_err(LK_EFORMAT, "%s: the vector of '%s' has %zu bytes", c->path, id, bytes);
    if (bytes > c->vector_room) { /* SQLite's pointer may lie anywhere in a page: floats want alignment */
        free(c->vector);
        c->vector_room = 0;
        if ((c->vector = lk_calloc_aligned(bytes, 1)) == NULL)
            return LK_ENOMEM;
        c->vector_room = bytes;
    }
    memcpy(c->vector, blob, bytes);
    *vector = c->vector;
    *dim = (int)(bytes / sizeof(float));
    return 0;
}

/* Columns as ITEM_COLUMNS in connection.c, then the vector's blob or NULL. */
static int fill(struct lk_store__conn *c, sqlite3_stmt *s, struct lk_item *item) {
    *item = (struct lk_item){0};
    item->id = text_of(s, 0);
    item->metadata = text_of(s, 1);
    item->media_type = text_of(s, 2);
    (void)snprintf(item->image_sha256, sizeof item->image_sha256, "%s", text_of(s, 3));
    item->image_bytes = sqlite3_column_int64(s, 4);
    item->width = sqlite3_column_int(s, 5);
    item->height = sqlite3_column_int(s, 6);
    item->created_ms = sqlite3_column_int64(s, 7);
    item->updated_ms = sqlite3_column_int64(s, 8);
    item->seq = sqlite3_column_int64(s, 9);
    return lk_store__vector(c, s, 10, item->id, &item->vector, &item->dim);
}

typedef int (*visit_fn)(void *arg, const struct lk_item *item);

/* Steps through the rows; *cursor, when asked for, becomes the last visited row's item number. */
static int visit_rows(struct lk_store__conn *c, sqlite3_stmt *s, visit_fn visit, void *arg, int64_t *cursor,
                      int *rows) {
    int rc;
    for (;;) {
        struct lk_item item;
        int step = sqlite3_step(s);
        if (step == SQLITE_DONE)
            return 0;
        if (step != SQLITE_ROW)
            return lk_store__fail(c, "reading items");
        if ((rc = fill(c, s, &item)) < 0 || (rc = visit(arg, &item)) != 0)
            return rc;
        ++*rows;
        if (cursor != NULL)
            *cursor = sqlite3_column_int64(s, 11);
    }
}

static int query(struct lk_store *store, enum lk_store__sql which, const char *after, int64_t *cursor,
                 const char *space, int limit, visit_fn visit, void *arg, int *rows) {
    struct lk_store__conn *c = lk_store__reader(store);
    sqlite3_stmt *s = lk_store__statement(c, which);
    int rc = 0;
    *rows = 0;
    if (s != NULL) {
        if (cursor != NULL)
            (void)sqlite3_bind_int64(s, 1, *cursor);
        else
            (void)sqlite3_bind_text(s, 1, after != NULL ? after : "", -1, SQLITE_STATIC);
        (void)sqlite3_bind_text(s, 2, space, -1, SQLITE_STATIC);
        if (sqlite3_bind_parameter_count(s) > 2)
            (void)sqlite3_bind_int(s, 3, limit);
        rc = visit_rows(c, s, visit, arg, cursor, rows);
        lk_store__done(s);
    } else {
        rc = c->status;
    }
    lk_store__reader_return(store, c);
    return rc;
}

int lk_store_get(struct lk_store *store, const char *id, const char *space,
                 int (*visit)(void *arg, const struct lk_item *item), void *arg) {
    int rows = 0;
    int rc = lk_store_check_id(id, id != NULL ? strlen(id) : 0);
    if (rc == 0)
        rc = query(store, LK_SQL_GET, id, NULL, space, 1, visit, arg, &rows);
    return rc == 0 && rows == 0 ? lk_err(LK_ENOTFOUND, "there is no item '%s'", id) : rc;
}

static int check_limit(int limit) { return limit >= 0 ? 0 : lk_err(LK_EINVAL, "a limit of %d", limit); }

int lk_store_list(struct lk_store *store, const char *after, int limit, const char *space,
                  int (*visit)(void *arg, const struct lk_item *item), void *arg) {
    int rows;
    int rc = check_limit(limit);
    return rc < 0 ? rc : query(store, LK_SQL_LIST, after, NULL, space, limit, visit, arg, &rows);
}

int lk_store_missing(struct lk_store *store, const char *after, int limit, const char *space,
                     int (*visit)(void *arg, const struct lk_item *item), void *arg) {
    int rows;
    int rc = check_limit(limit);
    return rc < 0 ? rc : query(store, LK_SQL_MISSING, after, NULL, space, limit, visit, arg, &rows);
}

int lk_store_vectors(struct lk_store *store, int64_t *cursor, int limit, const char *space,
                     int (*visit)(void *arg, const struct lk_item *item), void *arg) {
    int rows;
    int rc = check_limit(limit);
    return rc < 0 ? rc : query(store, LK_SQL_VECTORS, NULL, cursor, space, limit, visit, arg, &rows);
}

int lk_store_image(struct lk_store *store, const char *id, struct lk_buf *out, char media_type[64]) {
    struct lk_store__conn *c;
    sqlite3_stmt *s;
    int rc, step;
    if ((rc = lk_store_check_id(id, id != NULL ? strlen(id) : 0)) < 0)
        return rc;
    c = lk_store__reader(store);
    if ((s = lk_store__statement(c, LK_SQL_IMAGE)) == NULL) {
        rc = c->status;
        lk_store__reader_return(store, c);
        return rc;
    }
    (void)sqlite3_bind_text(s, 1, id, -1, SQLITE_STATIC);
    if ((step = sqlite3_step(s)) == SQLITE_ROW) {
        const void *data = sqlite3_column_blob(s, 1);
        (void)snprintf(media_type, 64, "%s", text_of(s, 0));
        rc = data != NULL ? lk_buf_append(out, data, (size_t)sqlite3_column_bytes(s, 1))
                          : lk_store__fail(c, "reading an image");
    } else {
        rc = step == SQLITE_DONE ? lk_err(LK_ENOTFOUND, "there is no item '%s'", id)
                                 : lk_store__fail(c, "reading an image");
    }
    lk_store__done(s);
    lk_store__reader_return(store, c);
    return rc;
}

int lk_store_serving(struct lk_store *store, struct lk_store_serving *out) {
    struct lk_store__conn *c = lk_store__reader(store);
    sqlite3_stmt *s = lk_store__statement(c, LK_SQL_SERVING);
    int rc, step;
    *out = (struct lk_store_serving){0};
    if (s != NULL) {
        if ((step = sqlite3_step(s)) == SQLITE_ROW) {
            out->generation = sqlite3_column_int64(s, 0);
            (void)snprintf(out->space, sizeof out->space, "%s", text_of(s, 1));
            (void)snprintf(out->model_name, sizeof out->model_name, "%s", text_of(s, 2));
            (void)snprintf(out->model_file_sha256, sizeof out->model_file_sha256, "%s", text_of(s, 3));
            (void)snprintf(out->precision, sizeof out->precision, "%s", text_of(s, 4));
            (void)snprintf(out->started_with, sizeof out->started_with, "%s", text_of(s, 5));
            rc = 0;
        } else {
            rc = step == SQLITE_DONE ? lk_err(LK_ENOTFOUND, "%s has never been served", store->path)
                                     : lk_store__fail(c, "reading what was served");
        }
        lk_store__done(s);
    } else {
        rc = c->status;
    }
    lk_store__reader_return(store, c);
    return rc;
}
