/* Snapshots of the catalogue: POST /snapshots makes one while everything goes on, GET lists and sends them, DELETE removes
 * one. They lie in one folder that belongs to this catalogue, named STEM-20261124T104512.345Z.db after the catalogue's own
 * name, and no other file of that folder can be reached by any name a client sends. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/log.h"
#include "routes.h"

#define CHUNK ((size_t)256 << 10)

/* --- names ---------------------------------------------------------------------------------------------------------- */

/* The catalogue's file name without its last suffix, at most 100 bytes. */
static void stem(const char *catalogue, char out[101]) {
    const char *slash = strrchr(catalogue, '/'), *name = slash ? slash + 1 : catalogue, *dot = strrchr(name, '.');
    size_t n = dot && dot != name ? (size_t)(dot - name) : strlen(name);
    snprintf(out, 101, "%.*s", (int)(n < 100 ? n : 100), name);
}

/* 1 when it is the name of a snapshot of this catalogue. Such a name has no slash. */
static int is_snapshot(const char *catalogue, const char *name) {
    static const char pattern[] = "-########T######.###Z.db"; /* #: a digit */
    char own[101];
    stem(catalogue, own);
    size_t n = strlen(own);
    if (strncmp(name, own, n) != 0 || strlen(name + n) != sizeof pattern - 1)
        return 0;
    for (size_t i = 0; pattern[i]; i++) {
        char c = name[n + i];
        if (pattern[i] == '#' ? c < '0' || c > '9' : c != pattern[i])
            return 0;
    }
    return 1;
}

static int make_name(const char *catalogue, char name[160]) {
    char own[101];
    struct timespec now;
    struct tm utc;
    stem(catalogue, own);
    clock_gettime(CLOCK_REALTIME, &now);
    if (!gmtime_r(&now.tv_sec, &utc))
        return lk_err(LK_EFAIL, "the clock shows no year");
    snprintf(name, 160, "%s-%04d%02d%02dT%02d%02d%02d.%03ldZ.db", own, utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
             utc.tm_hour, utc.tm_min, utc.tm_sec, now.tv_nsec / 1000000);
    return 0;
}

/* The folder, or the path of a name in it. Owned by the caller; NULL when memory ran out. */
static char *in_folder(const struct lk_server *server, const char *name) {
    const char *folder = server->config->snapshot_folder;
    struct lk_buf path = {0};
    int rc = folder ? lk_buf_printf(&path, "%s", folder)
                    : lk_buf_printf(&path, "%s.snapshots", server->config->catalogue);
    if (rc == 0 && name)
        rc = lk_buf_printf(&path, "/%s", name);
    if (rc == 0 && lk_buf_append(&path, "", 1) == 0)
        return (char *)path.data;
    lk_buf_free(&path);
    return NULL;
}

/* A path that the request names, or an answer: 404. */
static char *named(struct lk_request *r) {
    const struct lk_server *server = lk_request_server(r);
    const char *name = r->captures[0].data;
    struct lk_fault f = {0};
    char *path = NULL;
    if (lk_query_only(r, NULL, 0, &f)) {
        lk_reply_fault(r, &f);
        return NULL;
    }
    if (strlen(name) != r->captures[0].size || !is_snapshot(server->config->catalogue, name))
        lk_reply_error(r, LK_API_NOT_FOUND, "name", "there is no such snapshot");
    else if (!(path = in_folder(server, name)))
        lk_reply_failed(r, LK_ENOMEM);
    return path;
}

/* --- making one ----------------------------------------------------------------------------------------------------- */

struct making {
    struct lk_request *request;
    char *path;
    char name[160];
    int64_t begun_ns;
};

static int write_snapshot(struct lk_buf *out, const char *name, int64_t bytes, int64_t created_ms) {
    int rc;
    if ((rc = lk_json_raw(out, "{\"name\":")) || (rc = lk_json_text(out, name)) ||
        (rc = lk_buf_printf(out, ",\"bytes\":%lld,\"created\":", (long long)bytes)) ||
        (rc = lk_json_time(out, created_ms)))
        return rc;
    return 0;
}

static int64_t modified_ms(const struct stat *st) {
    return (int64_t)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000;
}

/* Somebody waits for it: not once the client left, or the server's patience with a stop has ended. */
static int wanted(void *request) { return !lk_request_gone(request); }

static void reply_made(struct making *m, const struct lk_store_snapshot *made) {
    struct lk_request *r = m->request;
    struct lk_buf out = {0}, location = {0};
    struct stat st;
    int rc = stat(m->path, &st) == 0 ? 0 : lk_err(LK_EIO, "the snapshot is not there: %s", strerror(errno));
    if (rc || (rc = write_snapshot(&out, m->name, made->bytes, modified_ms(&st))) ||
        (rc = lk_buf_printf(&out, ",\"seq\":%lld,\"items\":%lld}\n", (long long)made->seq, (long long)made->items)) ||
        (rc = lk_json_raw(&location, "/snapshots/")) ||
        (rc = lk_uri_encode_name(&location, m->name, strlen(m->name))) || (rc = lk_buf_append(&location, "", 1))) {
        lk_buf_free(&out);
        lk_buf_free(&location);
        lk_reply_failed(r, rc);
        return;
    }
    lk_reply_header(r, "Location", (const char *)location.data);
    lk_buf_free(&location);
    lk_reply(r, 201, "application/json", &out);
}

/* A thread of its own: the pool is for work that ends soon. */
static void *make(void *arg) {
    struct making *m = arg;
    struct lk_request *r = m->request;
    struct lk_store_snapshot made;
    int rc = lk_store_snapshot(lk_request_collection(r)->store, m->path, wanted, r, &made);
    if (rc == 0) {
        lk_log_info("snapshot %s: %lld bytes, every write up to %lld, in %.2f s", m->path, (long long)made.bytes,
                    (long long)made.seq, (double)(lk_now_ns() - m->begun_ns) / 1e9);
        reply_made(m, &made);
    } else if (rc == LK_EBUSY || rc == LK_EEXISTS) {
        lk_reply_error(r, LK_API_CONFLICT, NULL, "%s", lk_error());
    } else if (rc == LK_ECANCELLED) {
        lk_reply_error(r, LK_API_DRAINING, NULL, "the snapshot was given up");
    } else {
        lk_log_error("no snapshot: %s", lk_error());
        lk_reply_failed(r, rc);
    }
    free(m->path);
    free(m);
    return NULL;
}

void lk_route_make_snapshot(struct lk_request *r) {
    const struct lk_server *server = lk_request_server(r);
    struct making *m = NULL;
    struct lk_fault f = {0};
    pthread_attr_t detached;
    pthread_t thread;
    char *folder = NULL;
    int rc;
    if (lk_query_only(r, NULL, 0, &f)) {
        lk_reply_fault(r, &f);
        return;
    }
    if (!(folder = in_folder(server, NULL)) || !(m = lk_calloc(1, sizeof *m))) {
        rc = LK_ENOMEM;
        goto fail;
    }
    m->request = r;
    m->begun_ns = lk_now_ns();
    if ((rc = make_name(server->config->catalogue, m->name)) || (rc = lk_fs_mkdir_parents(folder)))
        goto fail;
    if (!(m->path = in_folder(server, m->name))) {
        rc = LK_ENOMEM;
        goto fail;
    }
    free(folder);
    /* Detached: its last act is the answer, and a stop waits for all answers before it closes the catalogue. */
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    rc = pthread_create(&thread, &detached, make, m) ? lk_err(LK_EFAIL, "a snapshot's thread cannot be started") : 0;
    pthread_attr_destroy(&detached);
    if (rc == 0)
        return;
    folder = NULL;
fail:
    if (m)
        free(m->path);
    free(m);
    free(folder);
    lk_reply_failed(r, rc);
}

/* --- those that there are ------------------------------------------------------------------------------------------- */

static int only_snapshots(const struct lk_server *server, int folder, const char *name, struct stat *st) {
    return is_snapshot(server->config->catalogue, name) && fstatat(folder, name, st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(st->st_mode);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static int read_names(const struct lk_server *server, const char *folder, DIR **dir, char ***names, size_t *n) {
    struct stat st;
    if (!(*dir = opendir(folder)))
        return errno == ENOENT ? 0 : lk_err(LK_EIO, "%s: %s", folder, strerror(errno));
    for (struct dirent *e; (e = readdir(*dir));) {
        char **more;
        if (!only_snapshots(server, dirfd(*dir), e->d_name, &st))
            continue;
        if (!(more = realloc(*names, (*n + 1) * sizeof **names)))
            return lk_err(LK_ENOMEM, "out of memory");
        *names = more;
        if (!(more[*n] = lk_strdup(e->d_name)))
            return LK_ENOMEM;
        ++*n;
    }
    if (*n)
        qsort(*names, *n, sizeof **names, by_name);
    return 0;
}

void lk_route_list_snapshots(struct lk_request *r) {
    const struct lk_server *server = lk_request_server(r);
    struct lk_fault f = {0};
    struct lk_buf out = {0};
    char *folder, **names = NULL;
    DIR *dir = NULL;
    size_t n = 0, written = 0;
    if (lk_query_only(r, NULL, 0, &f)) {
        lk_reply_fault(r, &f);
        return;
    }
    int rc = (folder = in_folder(server, NULL)) ? read_names(server, folder, &dir, &names, &n) : LK_ENOMEM;
    if (rc == 0)
        rc = lk_json_raw(&out, "{\"snapshots\":[");
    for (size_t i = 0; i < n && rc == 0; i++) {
        struct stat st;
        if (only_snapshots(server, dirfd(dir), names[i], &st) && (rc = written++ ? lk_json_raw(&out, ",") : 0) == 0 &&
            (rc = write_snapshot(&out, names[i], st.st_size, modified_ms(&st))) == 0)
            rc = lk_json_raw(&out, "}");
    }
    if (rc == 0)
        rc = lk_json_raw(&out, "]}\n");
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
    if (dir)
        closedir(dir);
    free(folder);
    if (rc) {
        lk_buf_free(&out);
        lk_reply_failed(r, rc);
        return;
    }
    lk_reply(r, 200, "application/json", &out);
}

struct sending {
    int fd;
    off_t at;
};

static void sending_free(void *state) {
    struct sending *s = state;
    if (s->fd >= 0)
        close(s->fd);
    free(s);
}

static int fill(struct lk_request *r, struct lk_buf *out, int *end) {
    struct sending *s = r->state;
    size_t size = out->size;
    int rc = lk_buf_reserve(out, size + CHUNK);
    if (rc)
        return rc;
    ssize_t n = pread(s->fd, out->data + size, CHUNK, s->at);
    if (n < 0)
        return lk_err(LK_EIO, "a snapshot cannot be read: %s", strerror(errno));
    out->size += (size_t)n;
    s->at += n;
    *end = n == 0;
    return 0;
}

void lk_route_get_snapshot(struct lk_request *r) {
    struct stat st;
    char disposition[256];
    char *path = named(r);
    if (!path)
        return;
    struct sending *s = r->state = lk_calloc(1, sizeof *s);
    if (!s) {
        free(path);
        lk_reply_failed(r, LK_ENOMEM);
        return;
    }
    r->state_free = sending_free;
    s->fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    int why = errno;
    free(path);
    if (s->fd < 0 || fstat(s->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        if (s->fd >= 0 || why == ENOENT || why == ELOOP)
            lk_reply_error(r, LK_API_NOT_FOUND, "name", "there is no such snapshot");
        else
            lk_reply_failed(r, lk_err(LK_EIO, "a snapshot cannot be opened: %s", strerror(why)));
        return;
    }
    struct lk_buf name = {0};
    if (lk_uri_encode_name(&name, r->captures[0].data, r->captures[0].size) || lk_buf_append(&name, "", 1)) {
        lk_buf_free(&name);
        lk_reply_failed(r, LK_ENOMEM);
        return;
    }
    snprintf(disposition, sizeof disposition, "attachment; filename=\"%.200s\"", (const char *)name.data);
    lk_buf_free(&name);
    lk_reply_header(r, "Content-Disposition", disposition);
    lk_reply_stream(r, 200, "application/vnd.sqlite3", fill);
}

void lk_route_delete_snapshot(struct lk_request *r) {
    char *path = named(r);
    if (!path)
        return;
    int failed = unlink(path), why = errno;
    free(path);
    if (failed == 0)
        lk_reply(r, 204, NULL, NULL);
    else if (why == ENOENT)
        lk_reply_error(r, LK_API_NOT_FOUND, "name", "there is no such snapshot");
    else
        lk_reply_failed(r, lk_err(LK_EIO, "a snapshot cannot be removed: %s", strerror(why)));
}
