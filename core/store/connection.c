/* One SQLite connection: how it is set, its statements, and what its errors mean. */
#include "store/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"

#define ITEM_COLUMNS \
    "i.id, i.metadata, i.media_type, i.image, i.image_bytes, i.width, i.height, i.created_ms, i.updated_ms, i.seq"
#define SPACE(parameter) "(SELECT space FROM spaces WHERE name = " parameter ")"

static const char *const texts[LK_SQL__COUNT] = {
    [LK_SQL_BEGIN] = "BEGIN IMMEDIATE",
    [LK_SQL_BEGIN_READ] = "BEGIN",
    [LK_SQL_COMMIT] = "COMMIT",
    [LK_SQL_ROLLBACK] = "ROLLBACK",
    [LK_SQL_JSON_OBJECT] = "SELECT CASE WHEN json_valid(?1) THEN json_type(?1) = 'object' ELSE 0 END",
    [LK_SQL_JSON_DOUBLE_KEY] = "SELECT key FROM json_tree(?1) WHERE typeof(key) = 'text' "
                               "GROUP BY parent, key HAVING count(*) > 1 LIMIT 1",
    [LK_SQL_JSON_PATCH] = "SELECT json_patch(?1, ?2)",
    [LK_SQL_FIND] = "SELECT item, image, image_seq, metadata FROM items WHERE id = ?1",
    [LK_SQL_INSERT] = "INSERT INTO items(id, metadata, media_type, image, image_bytes, width, height, created_ms, "
                      "updated_ms, image_seq, seq) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9, ?10)",
    [LK_SQL_REPLACE] = "UPDATE items SET metadata = coalesce(?2, metadata), media_type = ?3, image = ?4, "
                       "image_bytes = ?5, width = ?6, height = ?7, updated_ms = ?8, image_seq = ?9, seq = ?10 "
                       "WHERE item = ?1",
    [LK_SQL_PATCH] = "UPDATE items SET metadata = ?2, updated_ms = ?3, seq = ?4 WHERE item = ?1",
    [LK_SQL_DELETE] = "DELETE FROM items WHERE item = ?1",
    [LK_SQL_DELETED] = "INSERT INTO deletes(seq, id) VALUES(?1, ?2)",
    [LK_SQL_IMAGE_EXISTS] = "SELECT 1 FROM images WHERE sha256 = ?1",
    [LK_SQL_IMAGE_INSERT] = "INSERT INTO images(sha256, data) VALUES(?1, ?2)",
    [LK_SQL_IMAGE_DROP] = "DELETE FROM images WHERE sha256 = ?1 AND NOT EXISTS (SELECT 1 FROM items WHERE image = ?1)",
    [LK_SQL_VECTORS_DROP] = "DELETE FROM vectors WHERE item = ?1",
    [LK_SQL_VECTOR_PUT] = "INSERT INTO vectors(item, space, seq, dtype, dim, data) VALUES(?1, " SPACE("?2") //
    ", ?3, 'f32', ?4, ?5) ON CONFLICT(item, space) DO UPDATE SET seq = ?3, dtype = 'f32', dim = ?4, data = ?5",
    [LK_SQL_SPACE_INSERT] = "INSERT INTO spaces(name) VALUES(?1) ON CONFLICT DO NOTHING",
    [LK_SQL_COUNTERS_SET] = "UPDATE counters SET value = CASE name WHEN 'seq' THEN ?1 WHEN 'items' THEN ?2 "
                            "WHEN 'deletes' THEN ?3 WHEN 'forgotten' THEN ?4 ELSE value END",
    [LK_SQL_COUNTERS] = "SELECT max(iif(name = 'seq', value, 0)), max(iif(name = 'items', value, 0)), "
                        "max(iif(name = 'deletes', value, 0)), max(iif(name = 'forgotten', value, 0)), count(*) "
                        "FROM counters WHERE name IN ('seq', 'items', 'deletes', 'forgotten')",
    [LK_SQL_GET] = "SELECT " ITEM_COLUMNS ", v.data FROM items i "
                   "LEFT JOIN vectors v ON v.item = i.item AND v.space = " SPACE("?2") " WHERE i.id = ?1",
    [LK_SQL_LIST] = "SELECT " ITEM_COLUMNS ", v.data FROM items i "
                    "LEFT JOIN vectors v ON v.item = i.item AND v.space = " SPACE("?2") //
    " WHERE i.id > ?1 ORDER BY i.id LIMIT ?3",
    [LK_SQL_MISSING] = "SELECT " ITEM_COLUMNS ", NULL FROM items i WHERE i.id > ?1 AND NOT EXISTS (SELECT 1 FROM "
                       "vectors v WHERE v.item = i.item AND v.space = " SPACE("?2") ") ORDER BY i.id LIMIT ?3",
    [LK_SQL_VECTORS] = "SELECT " ITEM_COLUMNS ", v.data, i.item FROM items i "
                       "CROSS JOIN vectors v ON v.item = i.item AND v.space = " SPACE("?2") //
    " WHERE i.item > ?1 ORDER BY i.item LIMIT ?3",
    [LK_SQL_VIEW] = "BEGIN",
    [LK_SQL_METADATA] = "SELECT metadata FROM items WHERE id = ?1",
    [LK_SQL_SCAN] = "SELECT item, id, metadata FROM items WHERE item > ?1 ORDER BY item LIMIT ?2",
    [LK_SQL_CHANGES] = "SELECT v.seq, i.id, v.data FROM vectors v CROSS JOIN items i ON i.item = v.item "
                       "WHERE v.seq > ?1 AND v.space = " SPACE("?2") //
    " UNION ALL SELECT seq, id, NULL FROM deletes WHERE seq > ?1 "
    "UNION ALL SELECT i.seq, i.id, NULL FROM items i WHERE i.seq > ?1 AND NOT EXISTS (SELECT 1 FROM "
    "vectors v WHERE v.item = i.item AND v.space = " SPACE("?2") ") ORDER BY 1 LIMIT ?3",
    [LK_SQL_DELETES_NTH] = "SELECT seq FROM deletes ORDER BY seq LIMIT 1 OFFSET ?1 - 1",
    [LK_SQL_DELETES_FORGET] = "DELETE FROM deletes WHERE seq <= ?1",
    [LK_SQL_IMAGE] = "SELECT i.media_type, m.data FROM items i JOIN images m ON m.sha256 = i.image WHERE i.id = ?1",
    [LK_SQL_SERVING] =
        "SELECT generation, space, model_name, model_file_sha256, precision, started_with FROM generations "
        "ORDER BY generation DESC LIMIT 1",
    [LK_SQL_SERVING_SET] = "INSERT INTO generations(space, model_name, model_file_sha256, precision, served_ms, "
                           "started_with) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    [LK_SQL_VECTORS_DROP_OTHERS] = "DELETE FROM vectors WHERE vector IN (SELECT vector FROM vectors "
                                   "WHERE space IN (SELECT space FROM spaces WHERE name <> ?1) LIMIT ?2)",
};

int lk_store__fail(struct lk_store__conn *c, const char *doing) {
    int code = c->db != NULL ? sqlite3_extended_errcode(c->db) : SQLITE_NOMEM;
    int system = c->db != NULL && sqlite3_system_errno(c->db) != 0 ? sqlite3_system_errno(c->db) : c->os_error;
    const char *why = c->db != NULL ? sqlite3_errmsg(c->db) : "out of memory";
    int status = LK_EFAIL;
    switch (code & 0xFF) {
    case SQLITE_NOMEM: status = LK_ENOMEM; break;
    case SQLITE_FULL: status = LK_ENOSPACE; break;
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT: status = LK_EFORMAT; break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: status = LK_EBUSY; break;
    case SQLITE_TOOBIG: status = LK_ELIMIT; break;
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH: status = LK_EIO; break;
    case SQLITE_IOERR:
        /* SQLite says FULL for ENOSPC alone; a quota and a limit on the file's size are the same to a caller. */
        status = system == ENOSPC || system == EDQUOT || system == EFBIG ? LK_ENOSPACE
                 : code == SQLITE_IOERR_NOMEM                            ? LK_ENOMEM
                                                                         : LK_EIO;
        break;
    default: break;
    }
    c->status = status;
    if (system != 0 && (status == LK_EIO || status == LK_ENOSPACE))
        return lk_err(status, "%s: %s: %s (%s)", c->path, doing, why, strerror(system));
    return lk_err(status, "%s: %s: %s", c->path, doing, why);
}

sqlite3_stmt *lk_store__statement(struct lk_store__conn *c, enum lk_store__sql which) {
    sqlite3_stmt **s = &c->statements[which];
    if (*s == NULL && sqlite3_prepare_v3(c->db, texts[which], -1, SQLITE_PREPARE_PERSISTENT, s, NULL) != SQLITE_OK)
        (void)lk_store__fail(c, "preparing a statement");
    return *s;
}

void lk_store__done(sqlite3_stmt *s) {
    (void)sqlite3_reset(s);
    (void)sqlite3_clear_bindings(s);
}

int lk_store__run(struct lk_store__conn *c, sqlite3_stmt *s, const char *doing) {
    int rc = 0, step;
    errno = 0;
    step = sqlite3_step(s);
    if (step != SQLITE_DONE && step != SQLITE_ROW) {
        c->os_error = errno;
        rc = lk_store__fail(c, doing);
        c->os_error = 0;
    }
    lk_store__done(s);
    return rc;
}

int lk_store__run_plain(struct lk_store__conn *c, enum lk_store__sql which, const char *doing) {
    sqlite3_stmt *s = lk_store__statement(c, which);
    return s != NULL ? lk_store__run(c, s, doing) : c->status;
}

int lk_store__prepare_all(struct lk_store__conn *c) {
    for (int i = 0; i < LK_SQL__COUNT; i++) {
        sqlite3_stmt *s = lk_store__statement(c, (enum lk_store__sql)i);
        if (s == NULL)
            return sqlite3_errcode(c->db) == SQLITE_ERROR
                       ? lk_err(LK_EFORMAT, "%s: its tables are not a catalogue's: %s", c->path, sqlite3_errmsg(c->db))
                       : lk_store__fail(c, "reading the schema");
    }
    return 0;
}

static int exec(struct lk_store__conn *c, const char *sql) {
    return sqlite3_exec(c->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : lk_store__fail(c, "opening");
}

/* A folder that cannot be written has no place for the -shm file that WAL needs even for reading. When nothing waits in
 * a -wal file and nobody can write one, the database file alone is whole: SQLite calls that immutable. */
static int open_immutable(struct lk_store__conn *c) {
    struct lk_buf uri = {0}, wal = {0};
    struct stat st;
    int code, rc;
    if ((rc = lk_buf_printf(&wal, "%s-wal", c->path)) < 0 || (rc = lk_buf_printf(&uri, "file:")) < 0)
        goto done;
    if (stat((const char *)wal.data, &st) == 0 && st.st_size > 0) {
        rc = lk_store__fail(c, "reading the -wal file");
        goto done;
    }
    for (const char *s = c->path; *s != '\0'; s++) {
        rc = strchr("%?#", *s) != NULL ? lk_buf_printf(&uri, "%%%02x", (unsigned char)*s) : lk_buf_append(&uri, s, 1);
        if (rc < 0)
            goto done;
    }
    if ((rc = lk_buf_printf(&uri, "?immutable=1")) < 0)
        goto done;
    (void)sqlite3_close(c->db);
    c->db = NULL;
    code = sqlite3_open_v2((const char *)uri.data, &c->db,
                           SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE,
                           NULL);
    if (code != SQLITE_OK)
        rc = lk_store__fail(c, "opening");
done:
    lk_buf_free(&uri);
    lk_buf_free(&wal);
    return rc;
}

int lk_store__conn_open(struct lk_store__conn *c, const char *path, int writable, int busy_ms) {
    /* Readers ask for writing too: the last one to close may then clear the -wal file away. query_only holds them. */
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
    int rc;
    c->path = path;
    if (sqlite3_open_v2(path, &c->db, flags | (writable ? SQLITE_OPEN_CREATE : 0), NULL) != SQLITE_OK)
        return lk_store__fail(c, "opening");
    (void)sqlite3_busy_timeout(c->db, busy_ms);
    if (!writable && sqlite3_exec(c->db, "SELECT 1 FROM sqlite_master", NULL, NULL, NULL) != SQLITE_OK) {
        int code = sqlite3_errcode(c->db) & 0xFF;
        if (code != SQLITE_CANTOPEN && code != SQLITE_READONLY)
            return lk_store__fail(c, "opening");
        if ((rc = open_immutable(c)) < 0)
            return rc;
    }
    (void)sqlite3_db_config(c->db, SQLITE_DBCONFIG_DQS_DML, 0, NULL); /* "x" is a name, never a string */
    (void)sqlite3_db_config(c->db, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
    if ((rc = exec(c, "PRAGMA trusted_schema=0; PRAGMA cell_size_check=1")) < 0)
        return rc;
    return exec(c, writable ? "PRAGMA cache_size=-16000" : "PRAGMA query_only=1");
}

void lk_store__conn_close(struct lk_store__conn *c) {
    for (int i = 0; i < LK_SQL__COUNT; i++) {
        (void)sqlite3_finalize(c->statements[i]);
        c->statements[i] = NULL;
    }
    (void)sqlite3_close(c->db);
    c->db = NULL;
    free(c->vector);
    c->vector = NULL;
    c->vector_room = 0;
}
