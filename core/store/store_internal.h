/* What the files of the store share; no other room includes this, and it is the one place that includes sqlite3.h.
 *
 * store.c       opening, the lock file, the pool of read connections, batches
 * connection.c  one SQLite connection: settings, statements, errors
 * schema.c      tables and migrations
 * write.c       what a batch does            read.c    what readers do
 * changes.c     what happened since a seq      snapshot.c  a copy while others write
 * text.c        ids, UTF-8, canonical JSON   lock.c    one writing process a catalogue */
#ifndef LK_STORE_STORE_INTERNAL_H
#define LK_STORE_STORE_INTERNAL_H

#include <pthread.h>
#include <sqlite3.h>

#include "base/buf.h"
#include "store/store.h"

/* Every statement, prepared on first use and kept for the life of its connection. The texts are in connection.c. */
enum lk_store__sql {
    LK_SQL_BEGIN,
    LK_SQL_BEGIN_READ,
    LK_SQL_COMMIT,
    LK_SQL_ROLLBACK,
    LK_SQL_JSON_OBJECT,
    LK_SQL_JSON_DOUBLE_KEY,
    LK_SQL_JSON_PATCH,
    LK_SQL_FIND,
    LK_SQL_INSERT,
    LK_SQL_REPLACE,
    LK_SQL_PATCH,
    LK_SQL_DELETE,
    LK_SQL_DELETED,
    LK_SQL_IMAGE_EXISTS,
    LK_SQL_IMAGE_INSERT,
    LK_SQL_IMAGE_DROP,
    LK_SQL_VECTORS_DROP,
    LK_SQL_VECTORS_DROP_OTHERS,
    LK_SQL_VECTOR_PUT,
    LK_SQL_SPACE_INSERT,
    LK_SQL_COUNTERS_SET,
    LK_SQL_COUNTERS,
    LK_SQL_GET,
    LK_SQL_LIST,
    LK_SQL_MISSING,
    LK_SQL_VECTORS,
    LK_SQL_SCAN,
    LK_SQL_CHANGES,
    LK_SQL_DELETES_NTH,
    LK_SQL_DELETES_FORGET,
    LK_SQL_VIEW,
    LK_SQL_METADATA,
    LK_SQL_IMAGE,
    LK_SQL_SERVING,
    LK_SQL_SERVING_SET,
    LK_SQL__COUNT
};

struct lk_store__conn {
    sqlite3 *db;
    const char *path; /* the store's, for error sentences */
    sqlite3_stmt *statements[LK_SQL__COUNT];
    int os_error;  /* errno of a failed statement: SQLite forgets it when COMMIT fails */
    int status;    /* of the last lk_store__fail */
    float *vector; /* aligned copy of the row's blob; owned */
    size_t vector_room;
    struct lk_store__conn *next; /* in the pool */
};

/* Opens a connection. `writable` 0: reading only, enforced by query_only where the file's permissions do not. */
int lk_store__conn_open(struct lk_store__conn *c, const char *path, int writable, int busy_ms);
void lk_store__conn_close(struct lk_store__conn *c); /* accepts a zeroed or half-open one */

/* The status that SQLite's last error on this connection means, with a sentence: "PATH: doing: why". */
int lk_store__fail(struct lk_store__conn *c, const char *doing);
/* The statement, reset and without bindings; NULL after a failure, which c->status holds. Give it back with lk_store__done. */
sqlite3_stmt *lk_store__statement(struct lk_store__conn *c, enum lk_store__sql which);
void lk_store__done(sqlite3_stmt *s);
/* Runs a statement that returns no row (SELECTs: ignores them), then gives it back. */
int lk_store__run(struct lk_store__conn *c, sqlite3_stmt *s, const char *doing);
/* Runs a statement that has no parameters. */
int lk_store__run_plain(struct lk_store__conn *c, enum lk_store__sql which, const char *doing);
/* Prepares everything, so that a file with other tables is found when it is opened. */
int lk_store__prepare_all(struct lk_store__conn *c);

/* One writing process: an advisory lock (flock) on PATH-lock for the life of the store. LK_EBUSY, LK_EIO. */
struct lk_store__lock {
    int fd; /* -1: not held */
    char *path;
};
int lk_store__lock_take(struct lk_store__lock *lock, const char *catalogue, int wait_ms);
void lk_store__lock_drop(struct lk_store__lock *lock); /* accepts one that was never taken */

/* Why these n bytes are no valid UTF-8, or NULL when they are. `controls` 0: control characters are refused too. */
const char *lk_store__bad_utf8(const char *text, size_t n, int controls);
/* Rewrites valid JSON so that equal strings are equal bytes: escapes become UTF-8 where JSON allows, no white space.
 * SQLite's json_patch compares keys as bytes. LK_EINVAL for a half surrogate pair. out is NUL-terminated. */
int lk_store__json_canonical(struct lk_buf *out, const char *json);

/* The rows of the table counters. */
struct lk_store__counters {
    int64_t seq;       /* of the last write */
    int64_t items;     /* rows of items */
    int64_t deletes;   /* rows of deletes */
    int64_t forgotten; /* seq of the last delete record that was dropped */
};

struct lk_store {
    char *path;
    int read_only, busy_ms;
    size_t max_metadata; /* 0: no limit */
    struct lk_store__lock lock;

    struct lk_store__conn writer;
    pthread_mutex_t batch_mutex; /* guards in_batch, owner, ticket, turn, committed_seq, snapshot_runs */
    pthread_cond_t batch_over;
    int in_batch;
    pthread_t owner;       /* of the batch */
    uint64_t ticket, turn; /* who takes a ticket has the writer when its turn comes */
    int snapshot_runs;
    struct lk_store__counters now; /* the batch's, once it has begun */
    int64_t committed_seq;         /* what readers see */
    int broken;                    /* a status: SQLite failed inside the batch, so it can only be rolled back */
    char broken_why[1024];
    int wal_frames;             /* pages in the -wal file after the last commit */
    int long_wal, wal_patience; /* it is shortened past wal_patience pages: long_wal, and more after a vain try */
    int64_t keep_deletes;       /* delete records kept at least */

    struct lk_store__conn *readers; /* [n_readers], owned */
    int n_readers;
    struct lk_store__conn *idle; /* list of readers not in use */
    int n_idle;
    int draining; /* readers are held back, so that the -wal file can begin anew */
    pthread_mutex_t pool_mutex;
    pthread_cond_t pool_given;
    int mutexes_ready;
};

int lk_store__counters(struct lk_store__conn *c, struct lk_store__counters *out);
/* The blob in a column as aligned floats, valid until the next call on this connection; NULL where it is NULL. `id` is for
 * the error's sentence. */
int lk_store__vector(struct lk_store__conn *c, sqlite3_stmt *s, int column, const char *id, const float **vector,
                     int *dim);
/* Inside a batch: drops the oldest delete records when there are more than the store keeps. */
int lk_store__forget(struct lk_store *store);

/* The writer's connection for one thread, in the order of asking: for a batch, or a step of a snapshot. */
void lk_store__turn_take(struct lk_store *store);
void lk_store__turn_end(struct lk_store *store);

/* A read connection of the pool; waits for one. Never fails. */
struct lk_store__conn *lk_store__reader(struct lk_store *store);
void lk_store__reader_return(struct lk_store *store, struct lk_store__conn *c);

#endif
