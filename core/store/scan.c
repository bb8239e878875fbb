/* Reading metadata fast, for filters: of every item in the order of the file, or of many items at one moment, and no more
 * columns than are needed. */
#include "store/store_internal.h"

#include <stdlib.h>

#include "base/err.h"

int lk_store_scan(struct lk_store *store, int64_t *cursor, int limit,
                  int (*visit)(void *arg, const char *id, const char *metadata), void *arg) {
    struct lk_store__conn *c;
    sqlite3_stmt *s;
    int rc = 0, step;
    if (limit < 0)
        return lk_err(LK_EINVAL, "a limit of %d", limit);
    c = lk_store__reader(store);
    if ((s = lk_store__statement(c, LK_SQL_SCAN)) == NULL) {
        rc = c->status;
        lk_store__reader_return(store, c);
        return rc;
    }
    (void)sqlite3_bind_int64(s, 1, *cursor);
    (void)sqlite3_bind_int(s, 2, limit);
    while (rc == 0 && (step = sqlite3_step(s)) != SQLITE_DONE) {
        const unsigned char *id = NULL, *metadata = NULL;
        if (step != SQLITE_ROW || (id = sqlite3_column_text(s, 1)) == NULL ||
            (metadata = sqlite3_column_text(s, 2)) == NULL)
            rc = lk_store__fail(c, "reading metadata");
        else if ((rc = visit(arg, (const char *)id, (const char *)metadata)) == 0)
            *cursor = sqlite3_column_int64(s, 0);
    }
    lk_store__done(s);
    lk_store__reader_return(store, c);
    return rc;
}

struct lk_store_view {
    struct lk_store *store;
    struct lk_store__conn *conn;
    sqlite3_stmt *open; /* the last look-up, whose text is still in use */
};

int lk_store_view_open(struct lk_store_view **out, struct lk_store *store) {
    struct lk_store_view *view = lk_calloc(1, sizeof *view);
    int rc;
    *out = NULL;
    if (view == NULL)
        return LK_ENOMEM;
    view->store = store;
    view->conn = lk_store__reader(store);
    if ((rc = lk_store__run_plain(view->conn, LK_SQL_VIEW, "beginning to read")) < 0) {
        lk_store__reader_return(store, view->conn);
        free(view);
        return rc;
    }
    *out = view;
    return 0;
}

void lk_store_view_close(struct lk_store_view *view) {
    if (view == NULL)
        return;
    if (view->open != NULL)
        lk_store__done(view->open);
    (void)lk_store__run_plain(view->conn, LK_SQL_COMMIT, "ending to read"); /* nothing was written: it cannot fail */
    lk_store__reader_return(view->store, view->conn);
    free(view);
}

int lk_store_view_metadata(struct lk_store_view *view, const char *id, const char **metadata) {
    int step;
    *metadata = NULL;
    if (view->open != NULL)
        lk_store__done(view->open);
    if ((view->open = lk_store__statement(view->conn, LK_SQL_METADATA)) == NULL)
        return view->conn->status;
    (void)sqlite3_bind_text(view->open, 1, id, -1, SQLITE_TRANSIENT);
    if ((step = sqlite3_step(view->open)) == SQLITE_DONE)
        return LK_ENOTFOUND;
    if (step != SQLITE_ROW || (*metadata = (const char *)sqlite3_column_text(view->open, 0)) == NULL)
        return lk_store__fail(view->conn, "reading metadata");
    return 0;
}
