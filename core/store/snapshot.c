/* A copy of the catalogue while it is written. SQLite's backup reads through the writer's own connection, a few pages in
 * each turn between two batches, and a batch that changes pages which were copied already changes the copy too: so the
 * copy is the catalogue as of its last step, no batch waits longer than a step takes, and the -wal file stays short, which
 * it would not under a reader that stays in one transaction for all that time. */
#include "store/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

enum {
    STEP_PAGES = 64, /* 1 MB */
    SYNC_STEPS = 16, /* so that the last sync, and with it the writer's, does not wait for gigabytes */
    REST_MOST_NS = 50000000
};

struct copy {
    struct lk_store *store;
    char *part; /* the file until it is complete; owned */
    struct lk_store__conn to;
    sqlite3_backup *backup;
    int fd; /* of part; -1: none */
};

static int64_t now_ns(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int failed(const char *path, const char *doing) {
    const int why = errno;
    return lk_err(why == ENOSPC || why == EDQUOT || why == EFBIG ? LK_ENOSPACE : LK_EIO, "%s: %s: %s", path, doing,
                  strerror(why));
}

static int open_copy(struct copy *c) {
    (void)unlink(c->part); /* what a crash left */
    if ((c->fd = open(c->part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644)) < 0)
        return failed(c->part, "creating a snapshot");
    c->to.path = c->part;
    if (sqlite3_open_v2(c->part, &c->to.db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE,
                        NULL) != SQLITE_OK ||
        sqlite3_exec(c->to.db, "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-4000", NULL, NULL,
                     NULL) != SQLITE_OK)
        return lk_store__fail(&c->to, "creating a snapshot");
    lk_store__turn_take(c->store);
    c->backup = sqlite3_backup_init(c->to.db, "main", c->store->writer.db, "main");
    lk_store__turn_end(c->store);
    return c->backup != NULL ? 0 : lk_store__fail(&c->to, "beginning a snapshot");
}

/* Ends the backup and closes the file for SQLite; the result is that of the whole copy. */
static int finish(struct copy *c) {
    int rc = 0;
    if (c->backup != NULL) {
        lk_store__turn_take(c->store);
        if (sqlite3_backup_finish(c->backup) != SQLITE_OK)
            rc = lk_store__fail(&c->to, "writing a snapshot");
        lk_store__turn_end(c->store);
        c->backup = NULL;
    }
    if (c->to.db != NULL && sqlite3_close(c->to.db) != SQLITE_OK && rc == 0)
        rc = lk_store__fail(&c->to, "closing a snapshot");
    c->to.db = NULL;
    return rc;
}

static int copy_pages(struct copy *c, int (*go_on)(void *arg), void *arg, struct lk_store_snapshot *out) {
    struct lk_store *store = c->store;
    for (int steps = 1;; steps++) {
        struct lk_store__counters counters = {0};
        int64_t begun, took;
        int code, rc = 0;
        if (go_on != NULL && !go_on(arg))
            return lk_err(LK_ECANCELLED, "%s: the snapshot was given up", c->part);
        lk_store__turn_take(store);
        begun = now_ns();
        code = sqlite3_backup_step(c->backup, STEP_PAGES);
        if (code == SQLITE_DONE)
            rc = lk_store__counters(&store->writer, &counters); /* within the turn: the copy's */
        took = now_ns() - begun;
        lk_store__turn_end(store);
        if (code == SQLITE_DONE) {
            out->seq = counters.seq;
            out->items = counters.items;
            return rc;
        }
        /* The backup keeps its failure for the end, where the connection tells it in words. */
        if (code != SQLITE_OK && code != SQLITE_BUSY && code != SQLITE_LOCKED)
            return (rc = finish(c)) < 0 ? rc : lk_err(LK_EIO, "%s: writing a snapshot failed", c->part);
        if (steps % SYNC_STEPS == 0 && fdatasync(c->fd) != 0)
            return failed(c->part, "syncing a snapshot");
        took = took < REST_MOST_NS ? took : REST_MOST_NS;
        (void)nanosleep(&(struct timespec){.tv_nsec = (long)took}, NULL);
    }
}

/* The complete file gets its name when it is on the disk, and the name is on the disk too. */
static int publish(struct copy *c, const char *path, struct lk_store_snapshot *out) {
    struct stat st;
    char *slash;
    int rc = 0, folder;
    if (fsync(c->fd) != 0 || fstat(c->fd, &st) != 0)
        return failed(c->part, "syncing a snapshot");
    out->bytes = (int64_t)st.st_size;
    if (rename(c->part, path) != 0)
        return failed(path, "naming a snapshot");
    if ((slash = strrchr(c->part, '/')) != NULL)
        slash[slash == c->part] = '\0'; /* "/" stays */
    if ((folder = open(slash != NULL ? c->part : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 || fsync(folder) != 0)
        rc = failed(path, "syncing the folder of a snapshot");
    if (folder >= 0)
        (void)close(folder);
    if (rc < 0)
        (void)unlink(path);
    return rc;
}

static int make(struct copy *c, const char *path, int (*go_on)(void *arg), void *arg, struct lk_store_snapshot *out) {
    const size_t n = strlen(path) + sizeof LK_STORE_SNAPSHOT_PART;
    int rc, ended;
    if ((c->part = lk_calloc(n, 1)) == NULL)
        return LK_ENOMEM;
    (void)snprintf(c->part, n, "%s%s", path, LK_STORE_SNAPSHOT_PART);
    if ((rc = open_copy(c)) == 0)
        rc = copy_pages(c, go_on, arg, out);
    if (rc < 0) {
        char why[1024];
        (void)snprintf(why, sizeof why, "%s", lk_error());
        (void)finish(c);
        (void)lk_err(rc, "%s", why);
    } else if ((ended = finish(c)) < 0) {
        rc = ended;
    } else {
        rc = publish(c, path, out);
    }
    if (rc < 0 && c->fd >= 0)
        (void)unlink(c->part);
    if (c->fd >= 0)
        (void)close(c->fd);
    free(c->part);
    return rc;
}

int lk_store_snapshot(struct lk_store *store, const char *path, int (*go_on)(void *arg), void *arg,
                      struct lk_store_snapshot *out) {
    struct copy copy = {.store = store, .fd = -1};
    struct stat st;
    int rc, busy;
    *out = (struct lk_store_snapshot){0};
    if (store->read_only)
        return lk_err(LK_EINVAL, "%s is open for reading only", store->path);
    if (lstat(path, &st) == 0)
        return lk_err(LK_EEXISTS, "%s is there already", path);
    (void)pthread_mutex_lock(&store->batch_mutex);
    busy = store->snapshot_runs;
    store->snapshot_runs = 1;
    (void)pthread_mutex_unlock(&store->batch_mutex);
    if (busy)
        return lk_err(LK_EBUSY, "another snapshot of %s is being made", store->path);
    rc = make(&copy, path, go_on, arg, out);
    (void)pthread_mutex_lock(&store->batch_mutex);
    store->snapshot_runs = 0;
    (void)pthread_mutex_unlock(&store->batch_mutex);
    return rc;
}
