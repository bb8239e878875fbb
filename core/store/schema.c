#include "store/schema.h"

#include <stdio.h>

#include "base/err.h"
#include "base/log.h"

/* A step that has been released is never edited: a change is a new step. */
const struct lk_migration lk_schema__migrations[] = {
    {1, "CREATE TABLE images("
        "  sha256 TEXT PRIMARY KEY,"
        "  data BLOB NOT NULL"
        ") STRICT;"
        "CREATE TABLE items("
        "  item INTEGER PRIMARY KEY,"
        "  id TEXT NOT NULL UNIQUE COLLATE BINARY,"
        "  metadata TEXT NOT NULL,"
        "  media_type TEXT NOT NULL,"
        "  image TEXT NOT NULL REFERENCES images(sha256),"
        "  image_bytes INTEGER NOT NULL,"
        "  width INTEGER NOT NULL,"
        "  height INTEGER NOT NULL,"
        "  created_ms INTEGER NOT NULL,"
        "  updated_ms INTEGER NOT NULL,"
        "  image_seq INTEGER NOT NULL,"
        "  seq INTEGER NOT NULL"
        ") STRICT;"
        "CREATE INDEX items_image ON items(image);"
        "CREATE INDEX items_seq ON items(seq);"
        "CREATE TABLE spaces("
        "  space INTEGER PRIMARY KEY,"
        "  name TEXT NOT NULL UNIQUE"
        ") STRICT;"
        "CREATE TABLE vectors("
        "  vector INTEGER PRIMARY KEY,"
        "  item INTEGER NOT NULL REFERENCES items(item),"
        "  space INTEGER NOT NULL REFERENCES spaces(space),"
        "  seq INTEGER NOT NULL,"
        "  dtype TEXT NOT NULL,"
        "  dim INTEGER NOT NULL,"
        "  data BLOB NOT NULL,"
        "  UNIQUE(item, space)"
        ") STRICT;"
        "CREATE TABLE deletes("
        "  seq INTEGER PRIMARY KEY,"
        "  id TEXT NOT NULL"
        ") STRICT;"
        "CREATE TABLE generations("
        "  generation INTEGER PRIMARY KEY AUTOINCREMENT," /* AUTOINCREMENT: a number is never given twice */
        "  space TEXT NOT NULL,"
        "  model_name TEXT NOT NULL,"
        "  model_file_sha256 TEXT NOT NULL,"
        "  precision TEXT NOT NULL,"
        "  served_ms INTEGER NOT NULL"
        ") STRICT;"
        "CREATE TABLE counters("
        "  name TEXT PRIMARY KEY,"
        "  value INTEGER NOT NULL"
        ") STRICT;"
        "INSERT INTO counters VALUES('seq', 0), ('items', 0);"},
    {2, "ALTER TABLE generations ADD COLUMN started_with TEXT NOT NULL DEFAULT '';"
        "UPDATE generations SET started_with = model_file_sha256;"},
    /* Vectors of a space in the order of their writes: for lk_store_changes and lk_store_drop_vectors. Delete records are
     * counted, and the oldest forgotten; 'forgotten' is the last one's seq. */
    {3, "CREATE INDEX vectors_space_seq ON vectors(space, seq);"
        "INSERT INTO counters SELECT 'deletes', count(*) FROM deletes;"
        "INSERT INTO counters VALUES('forgotten', 0);"},
};
const size_t lk_schema__n_migrations = sizeof lk_schema__migrations / sizeof lk_schema__migrations[0];

static int query_int(struct lk_store__conn *c, const char *sql, long long *out) {
    sqlite3_stmt *s = NULL;
    int rc = 0;
    *out = 0;
    if (sqlite3_prepare_v2(c->db, sql, -1, &s, NULL) != SQLITE_OK || sqlite3_step(s) != SQLITE_ROW)
        rc = lk_store__fail(c, "reading the header");
    else
        *out = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return rc;
}

int lk_schema__check(struct lk_store__conn *c, int newest, int *version) {
    long long application = 0, user = 0, tables = 0;
    int rc;
    *version = 0;
    if ((rc = query_int(c, "PRAGMA application_id", &application)) < 0 ||
        (rc = query_int(c, "PRAGMA user_version", &user)) < 0 ||
        (rc = query_int(c, "SELECT count(*) FROM sqlite_master", &tables)) < 0)
        return rc;
    if (application == 0 && user == 0 && tables == 0)
        return 0; /* empty, or a creation that stopped before its first transaction */
    if (application != LK_SCHEMA_APPLICATION_ID)
        return lk_err(LK_EFORMAT, "%s is an SQLite database but no catalogue", c->path);
    if (user < 1)
        return lk_err(LK_EFORMAT, "%s: the catalogue's version is %lld", c->path, user);
    if (user > newest)
        return lk_err(LK_EUNSUPPORTED, "%s was made by a newer version (schema %lld; this build knows up to %d)",
                      c->path, user, newest);
    *version = (int)user;
    return 0;
}

static int execute(struct lk_store__conn *c, const char *sql, const char *doing) {
    return sqlite3_exec(c->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : lk_store__fail(c, doing);
}

int lk_schema__migrate(struct lk_store__conn *c, const struct lk_migration *steps, size_t n, int version) {
    int rc;
    for (size_t i = 0; i < n; i++) {
        char header[128], doing[64];
        if (steps[i].to <= version)
            continue;
        (void)snprintf(header, sizeof header, "PRAGMA application_id=%d; PRAGMA user_version=%d; COMMIT",
                       LK_SCHEMA_APPLICATION_ID, steps[i].to);
        (void)snprintf(doing, sizeof doing, "bringing the schema to version %d", steps[i].to);
        if (version > 0)
            lk_log_info("%s: %s", c->path, doing);
        if ((rc = execute(c, "BEGIN EXCLUSIVE", doing)) < 0)
            return rc;
        if ((rc = execute(c, steps[i].sql, doing)) < 0 || (rc = execute(c, header, doing)) < 0) {
            (void)sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
            return rc;
        }
    }
    return 0;
}
