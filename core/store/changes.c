/* What happened to the vectors of a space since some write, and the delete records that tell it. */
#include "store/store_internal.h"

#include "base/err.h"

enum { FORGET_STEP = 1024, FORGET_MOST = 4096 }; /* delete records dropped at a time */

int lk_store__forget(struct lk_store *store) {
    struct lk_store__conn *c = &store->writer;
    const int64_t excess = store->now.deletes - store->keep_deletes;
    sqlite3_stmt *s;
    int64_t last = 0;
    int rc = 0;
    if (excess < FORGET_STEP)
        return 0;
    if ((s = lk_store__statement(c, LK_SQL_DELETES_NTH)) == NULL)
        return c->status;
    (void)sqlite3_bind_int64(s, 1, excess < FORGET_MOST ? excess : FORGET_MOST);
    if (sqlite3_step(s) == SQLITE_ROW)
        last = sqlite3_column_int64(s, 0);
    else
        rc = lk_store__fail(c, "looking up an old delete record");
    lk_store__done(s);
    if (rc < 0)
        return rc;
    if ((s = lk_store__statement(c, LK_SQL_DELETES_FORGET)) == NULL)
        return c->status;
    (void)sqlite3_bind_int64(s, 1, last);
    if ((rc = lk_store__run(c, s, "dropping old delete records")) < 0)
        return rc;
    store->now.deletes -= sqlite3_changes64(c->db);
    store->now.forgotten = last;
    return 0;
}

struct changes {
    int64_t cursor;
    int limit, visited;
    const char *space;
    int (*visit)(void *arg, const struct lk_change *change);
    void *arg;
};

static int visit_rows(struct lk_store__conn *c, sqlite3_stmt *s, struct changes *changes) {
    int rc, step;
    while ((step = sqlite3_step(s)) == SQLITE_ROW) {
        const unsigned char *id = sqlite3_column_text(s, 1);
        struct lk_change change = {.seq = sqlite3_column_int64(s, 0), .id = id != NULL ? (const char *)id : ""};
        if ((rc = lk_store__vector(c, s, 2, change.id, &change.vector, &change.dim)) < 0 ||
            (rc = changes->visit(changes->arg, &change)) != 0)
            return rc;
        changes->cursor = change.seq;
        changes->visited++;
    }
    return step == SQLITE_DONE ? 0 : lk_store__fail(c, "reading changes");
}

/* Inside a transaction: counters and rows belong together. */
static int read_changes(struct lk_store__conn *c, struct changes *changes) {
    struct lk_store__counters counters = {0};
    sqlite3_stmt *s;
    int rc = lk_store__counters(c, &counters);
    if (rc < 0)
        return rc;
    if (changes->cursor < counters.forgotten)
        return lk_err(LK_ENOTFOUND, "%s: what was deleted after write %lld is on record from %lld on", c->path,
                      (long long)changes->cursor, (long long)counters.forgotten);
    if (changes->cursor > counters.seq)
        return lk_err(LK_ENOTFOUND, "%s: there is no write %lld yet; the last is %lld", c->path,
                      (long long)changes->cursor, (long long)counters.seq);
    if ((s = lk_store__statement(c, LK_SQL_CHANGES)) == NULL)
        return c->status;
    (void)sqlite3_bind_int64(s, 1, changes->cursor);
    (void)sqlite3_bind_text(s, 2, changes->space, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int(s, 3, changes->limit);
    rc = visit_rows(c, s, changes);
    lk_store__done(s);
    if (rc == 0 && changes->visited < changes->limit)
        changes->cursor = counters.seq;
    return rc;
}

int lk_store_changes(struct lk_store *store, int64_t *cursor, int limit, const char *space,
                     int (*visit)(void *arg, const struct lk_change *change), void *arg) {
    struct changes changes = {.cursor = *cursor, .limit = limit, .space = space, .visit = visit, .arg = arg};
    struct lk_store__conn *c;
    int rc, ended;
    if (limit < 1)
        return lk_err(LK_EINVAL, "a limit of %d", limit);
    c = lk_store__reader(store);
    if ((rc = lk_store__run_plain(c, LK_SQL_BEGIN_READ, "beginning to read")) == 0) {
        rc = read_changes(c, &changes);
        ended = lk_store__run_plain(c, rc == 0 ? LK_SQL_COMMIT : LK_SQL_ROLLBACK, "ending to read");
        if (rc == 0)
            rc = ended;
    }
    lk_store__reader_return(store, c);
    *cursor = changes.cursor;
    return rc;
}
