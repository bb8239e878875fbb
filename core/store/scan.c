/* Reading every item's metadata fast: the order of the file, and no more columns than a filter needs. */
#include "store/store_internal.h"

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
