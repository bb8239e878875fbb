/* Opening and closing, the pool of read connections, and batches. */
#include "store/store_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/err.h"
#include "store/schema.h"

static int exec(struct lk_store__conn *c, const char *sql, const char *doing) {
    return sqlite3_exec(c->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : lk_store__fail(c, doing);
}

int lk_store__counters(struct lk_store__conn *c, struct lk_store__counters *out) {
    sqlite3_stmt *s = lk_store__statement(c, LK_SQL_COUNTERS);
    int rc = 0;
    if (s == NULL)
        return c->status;
    if (sqlite3_step(s) != SQLITE_ROW) {
        rc = lk_store__fail(c, "reading the counters");
    } else if (sqlite3_column_int(s, 4) != 4) {
        rc = lk_err(LK_EFORMAT, "%s: its counters are missing", c->path);
    } else {
        out->seq = sqlite3_column_int64(s, 0);
        out->items = sqlite3_column_int64(s, 1);
        out->deletes = sqlite3_column_int64(s, 2);
        out->forgotten = sqlite3_column_int64(s, 3);
    }
    lk_store__done(s);
    return rc;
}

/* A checkpoint moves the pages of the -wal file into the database. SQLite's own, after a commit, waits for nobody, and
 * as long as some reader is always busy with an older state the file only grows: past the second figure, hold them back. */
enum { CHECKPOINT_FRAMES = 1000, LONG_WAL = 4096, DRAIN_MS = 100 };
enum { KEEP_DELETES = 100000 }; /* some megabytes; a copy that is further behind had better be made anew */

static int after_commit(void *arg, sqlite3 *db, const char *name, int frames) {
    struct lk_store *store = arg;
    store->wal_frames = frames;
    if (frames >= CHECKPOINT_FRAMES)
        (void)sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    return SQLITE_OK;
}

/* Begins the -wal file anew, unless a reader stays for longer than DRAIN_MS; then it is tried again a while later. */
static void shorten_wal(struct lk_store *store) {
    struct timespec until;
    int late = 0;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += DRAIN_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    store->wal_patience = store->wal_frames + store->long_wal / 4;
    (void)pthread_mutex_lock(&store->pool_mutex);
    store->draining = 1;
    while (store->n_idle < store->n_readers && !late)
        late = pthread_cond_timedwait(&store->pool_given, &store->pool_mutex, &until) != 0;
    if (store->n_idle == store->n_readers) {
        (void)sqlite3_busy_timeout(store->writer.db, DRAIN_MS); /* for readers of other processes */
        if (sqlite3_wal_checkpoint_v2(store->writer.db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) == SQLITE_OK)
            store->wal_patience = store->long_wal;
        (void)sqlite3_busy_timeout(store->writer.db, store->busy_ms);
    }
    store->draining = 0;
    (void)pthread_cond_broadcast(&store->pool_given);
    (void)pthread_mutex_unlock(&store->pool_mutex);
}

static int open_writer(struct lk_store *store) {
    struct lk_store__conn *c = &store->writer;
    const int newest = lk_schema__migrations[lk_schema__n_migrations - 1].to;
    char pragma[64];
    int version, rc;
    if ((rc = lk_store__lock_take(&store->lock, store->path, store->busy_ms)) < 0 ||
        (rc = lk_store__conn_open(c, store->path, 1, store->busy_ms)) < 0 ||
        (rc = lk_schema__check(c, newest, &version)) < 0)
        return rc;
    /* Nothing is written before this line: a file that is not ours stays as it was. */
    (void)snprintf(pragma, sizeof pragma, "PRAGMA page_size=%d", LK_SCHEMA_PAGE_SIZE);
    if ((version == 0 && (rc = exec(c, pragma, "setting the page size")) < 0) ||
        (rc = exec(c, "PRAGMA journal_mode=WAL", "choosing the journal")) < 0 ||
        (rc = exec(c, "PRAGMA synchronous=FULL; PRAGMA journal_size_limit=67108864", "choosing durability")) < 0 ||
        (rc = lk_schema__migrate(c, lk_schema__migrations, lk_schema__n_migrations, version)) < 0 ||
        (rc = exec(c, "PRAGMA foreign_keys=1", "turning on references")) < 0 || (rc = lk_store__prepare_all(c)) < 0 ||
        (rc = lk_store__counters(c, &store->now)) < 0)
        return rc;
    store->committed_seq = store->now.seq;
    (void)sqlite3_wal_hook(c->db, after_commit, store);
    return 0;
}

static int open_readers(struct lk_store *store, int n) {
    const int newest = lk_schema__migrations[lk_schema__n_migrations - 1].to;
    int rc;
    if ((store->readers = lk_calloc((size_t)n, sizeof *store->readers)) == NULL)
        return LK_ENOMEM;
    for (store->n_readers = 0; store->n_readers < n;) {
        struct lk_store__conn *c = &store->readers[store->n_readers++]; /* counted first: close takes it half open */
        int version = 0;
        if ((rc = lk_store__conn_open(c, store->path, 0, store->busy_ms)) < 0)
            return rc;
        if (store->read_only && store->n_readers == 1) {
            if ((rc = lk_schema__check(c, newest, &version)) < 0)
                return rc;
            if (version == 0)
                return lk_err(LK_EFORMAT, "%s is an empty file, no catalogue", store->path);
            if (version < newest)
                return lk_err(LK_EUNSUPPORTED, "%s has the older schema %d: open it for writing once", store->path,
                              version);
            if ((rc = lk_store__prepare_all(c)) < 0)
                return rc;
        }
        c->next = store->idle;
        store->idle = c;
        store->n_idle++;
    }
    return 0;
}

static int init_mutexes(struct lk_store *store) {
    if (pthread_mutex_init(&store->batch_mutex, NULL) != 0)
        return lk_err(LK_ENOMEM, "no memory for a mutex");
    if (pthread_cond_init(&store->batch_over, NULL) != 0)
        goto no_batch_over;
    if (pthread_mutex_init(&store->pool_mutex, NULL) != 0)
        goto no_pool_mutex;
    if (pthread_cond_init(&store->pool_given, NULL) != 0)
        goto no_pool_given;
    store->mutexes_ready = 1;
    return 0;
no_pool_given:
    (void)pthread_mutex_destroy(&store->pool_mutex);
no_pool_mutex:
    (void)pthread_cond_destroy(&store->batch_over);
no_batch_over:
    (void)pthread_mutex_destroy(&store->batch_mutex);
    return lk_err(LK_ENOMEM, "no memory for a mutex");
}

/* SQLite takes a folder or a pipe for "unable to open"; say what it is. */
static int check_path(const char *path, int read_only) {
    struct stat st;
    if (path == NULL || path[0] == '\0')
        return lk_err(LK_EINVAL, "a catalogue needs a file name");
    if (stat(path, &st) != 0) {
        if (errno == ENOENT && !read_only)
            return 0;
        return lk_err(errno == ENOENT || errno == ENOTDIR ? LK_ENOTFOUND : LK_EIO, "%s: %s", path, strerror(errno));
    }
    return S_ISREG(st.st_mode) ? 0 : lk_err(LK_EFORMAT, "%s is no regular file", path);
}

int lk_store_open(struct lk_store **out, const char *path, const struct lk_store_options *options) {
    static const struct lk_store_options defaults = {0};
    struct lk_store *store;
    int rc, readers;
    *out = NULL;
    if (options == NULL)
        options = &defaults;
    readers = options->readers > 0 ? options->readers : 4;
    if ((rc = check_path(path, options->read_only)) < 0)
        return rc;
    if ((store = lk_calloc(1, sizeof *store)) == NULL)
        return LK_ENOMEM;
    store->lock.fd = -1;
    store->long_wal = store->wal_patience = LONG_WAL;
    store->keep_deletes = KEEP_DELETES;
    store->read_only = options->read_only;
    store->max_metadata = options->max_metadata;
    store->busy_ms = options->busy_ms > 0 ? options->busy_ms : 5000;
    if ((store->path = lk_strdup(path)) == NULL) {
        rc = LK_ENOMEM;
        goto fail;
    }
    if ((rc = init_mutexes(store)) < 0 || (!store->read_only && (rc = open_writer(store)) < 0) ||
        (rc = open_readers(store, readers)) < 0)
        goto fail;
    *out = store;
    return 0;
fail:
    lk_store_close(store);
    return rc;
}

void lk_store_close(struct lk_store *store) {
    if (store == NULL)
        return;
    for (int i = 0; i < store->n_readers; i++)
        lk_store__conn_close(&store->readers[i]);
    free(store->readers);
    lk_store__conn_close(&store->writer); /* last: it moves the -wal file's pages into the database and removes it */
    lk_store__lock_drop(&store->lock);
    if (store->mutexes_ready) {
        (void)pthread_mutex_destroy(&store->batch_mutex);
        (void)pthread_cond_destroy(&store->batch_over);
        (void)pthread_mutex_destroy(&store->pool_mutex);
        (void)pthread_cond_destroy(&store->pool_given);
    }
    free(store->path);
    free(store);
}

struct lk_store__conn *lk_store__reader(struct lk_store *store) {
    struct lk_store__conn *c;
    (void)pthread_mutex_lock(&store->pool_mutex);
    while (store->idle == NULL || store->draining)
        (void)pthread_cond_wait(&store->pool_given, &store->pool_mutex);
    c = store->idle;
    store->idle = c->next;
    store->n_idle--;
    (void)pthread_mutex_unlock(&store->pool_mutex);
    return c;
}

void lk_store__reader_return(struct lk_store *store, struct lk_store__conn *c) {
    (void)pthread_mutex_lock(&store->pool_mutex);
    c->next = store->idle;
    store->idle = c;
    store->n_idle++;
    if (store->draining)
        (void)pthread_cond_broadcast(&store->pool_given); /* the one who drains is among those who wait */
    else
        (void)pthread_cond_signal(&store->pool_given);
    (void)pthread_mutex_unlock(&store->pool_mutex);
}

void lk_store__turn_take(struct lk_store *store) {
    (void)pthread_mutex_lock(&store->batch_mutex);
    const uint64_t ticket = store->ticket++;
    while (store->turn != ticket)
        (void)pthread_cond_wait(&store->batch_over, &store->batch_mutex);
    (void)pthread_mutex_unlock(&store->batch_mutex);
}

void lk_store__turn_end(struct lk_store *store) {
    (void)pthread_mutex_lock(&store->batch_mutex);
    store->turn++;
    (void)pthread_cond_broadcast(&store->batch_over);
    (void)pthread_mutex_unlock(&store->batch_mutex);
}

/* Ends the batch and lets the next one begin. */
static void release_batch(struct lk_store *store) {
    (void)pthread_mutex_lock(&store->batch_mutex);
    store->in_batch = 0;
    store->committed_seq = store->now.seq;
    (void)pthread_mutex_unlock(&store->batch_mutex);
    lk_store__turn_end(store);
}

int lk_store_begin(struct lk_store *store) {
    int rc;
    if (store->read_only)
        return lk_err(LK_EINVAL, "%s is open for reading only", store->path);
    (void)pthread_mutex_lock(&store->batch_mutex);
    const int nested = store->in_batch && pthread_equal(store->owner, pthread_self());
    (void)pthread_mutex_unlock(&store->batch_mutex);
    if (nested)
        return lk_err(LK_EINVAL, "%s: this thread has a batch open already", store->path);
    lk_store__turn_take(store);
    (void)pthread_mutex_lock(&store->batch_mutex);
    store->in_batch = 1;
    store->owner = pthread_self();
    (void)pthread_mutex_unlock(&store->batch_mutex);
    store->broken = 0;
    if ((rc = lk_store__run_plain(&store->writer, LK_SQL_BEGIN, "beginning a batch")) < 0 ||
        (rc = lk_store__counters(&store->writer, &store->now)) < 0) {
        char why[sizeof store->broken_why];
        (void)snprintf(why, sizeof why, "%s", lk_error());
        lk_store_rollback(store);
        return lk_err(rc, "%s", why);
    }
    return 0;
}

void lk_store_rollback(struct lk_store *store) {
    store->now.seq = store->committed_seq;
    if (!sqlite3_get_autocommit(store->writer.db)) /* SQLite rolls back by itself after some failures */
        (void)lk_store__run_plain(&store->writer, LK_SQL_ROLLBACK, "rolling back");
    release_batch(store);
}

int lk_store_commit(struct lk_store *store) {
    struct lk_store__conn *c = &store->writer;
    sqlite3_stmt *s;
    char why[sizeof store->broken_why];
    int rc;
    if (store->broken) {
        rc = store->broken;
        (void)snprintf(why, sizeof why, "%s", store->broken_why);
        lk_store_rollback(store);
        return lk_err(rc, "%s", why);
    }
    if ((rc = lk_store__forget(store)) < 0) {
        ;
    } else if ((s = lk_store__statement(c, LK_SQL_COUNTERS_SET)) == NULL) {
        rc = c->status;
    } else {
        (void)sqlite3_bind_int64(s, 1, store->now.seq);
        (void)sqlite3_bind_int64(s, 2, store->now.items);
        (void)sqlite3_bind_int64(s, 3, store->now.deletes);
        (void)sqlite3_bind_int64(s, 4, store->now.forgotten);
        rc = lk_store__run(c, s, "storing the counters");
    }
    if (rc < 0 || (rc = lk_store__run_plain(c, LK_SQL_COMMIT, "committing")) < 0) {
        (void)snprintf(why, sizeof why, "%s", lk_error());
        lk_store_rollback(store);
        return lk_err(rc, "%s", why);
    }
    if (store->wal_frames > store->wal_patience)
        shorten_wal(store);
    release_batch(store);
    return 0;
}

int64_t lk_store_seq(struct lk_store *store) {
    int64_t seq;
    if (store->read_only) {
        struct lk_store__counters counters = {0};
        struct lk_store__conn *c = lk_store__reader(store);
        (void)lk_store__counters(c, &counters);
        lk_store__reader_return(store, c);
        return counters.seq;
    }
    (void)pthread_mutex_lock(&store->batch_mutex);
    seq = store->committed_seq;
    (void)pthread_mutex_unlock(&store->batch_mutex);
    return seq;
}

int lk_store_count(struct lk_store *store, int64_t *items) {
    struct lk_store__conn *c = lk_store__reader(store);
    struct lk_store__counters counters = {0};
    int rc = lk_store__counters(c, &counters);
    lk_store__reader_return(store, c);
    *items = counters.items;
    return rc;
}
