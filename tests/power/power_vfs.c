#include "power/power_vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NODES = 64, SECTOR = 512 };

struct op { /* a write, or a truncation when data is NULL */
    sqlite3_int64 offset;
    int n;
    uint8_t *data;
    struct op *next;
};

struct node { /* a file by name; never freed: what was closed is not synced for that */
    char path[600];
    int there, durable; /* is there now; its name survives a cut */
    int fd; /* what synced data goes through; -1: not open. Never closed: that would drop SQLite's locks (POSIX) */
    uint8_t *data; /* what the process sees */
    sqlite3_int64 size, room;
    struct op *ops, **last; /* since the last sync */
    uint8_t *ghost;         /* what it held when it was deleted, until the folder is synced */
    sqlite3_int64 ghost_size;
};

struct file {
    sqlite3_file base;
    struct node *node; /* NULL: a temporary file without a name, which passes through */
    int journal;       /* the first sync of one syncs its folder */
    /* the system's file follows */
};

static struct power_control *control;
static sqlite3_vfs *below, vfs;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct node nodes[NODES];
static int n_nodes, last_errno;

static sqlite3_file *real_of(sqlite3_file *f) { return (sqlite3_file *)((char *)f + sizeof(struct file)); }

static void *need(void *p) {
    if (p == NULL) {
        fprintf(stderr, "power_vfs: out of memory\n");
        abort();
    }
    return p;
}

static struct node *node_of(const char *path) {
    for (int i = 0; i < n_nodes; i++)
        if (strcmp(nodes[i].path, path) == 0)
            return &nodes[i];
    return NULL;
}

static void grow(struct node *n, sqlite3_int64 size) {
    if (size > n->room) {
        n->room = size * 2;
        n->data = need(realloc(n->data, (size_t)n->room));
    }
    if (size > n->size)
        memset(n->data + n->size, 0, (size_t)(size - n->size));
    n->size = size;
}

static void forget_ops(struct node *n) {
    for (struct op *o = n->ops, *next; o != NULL; o = next) {
        next = o->next;
        free(o->data);
        free(o);
    }
    n->ops = NULL;
    n->last = &n->ops;
}

static void add_op(struct node *n, sqlite3_int64 offset, const void *data, int count) {
    struct op *o = need(calloc(1, sizeof *o));
    o->offset = offset;
    o->n = count;
    if (data != NULL)
        memcpy(o->data = need(malloc((size_t)count + 1)), data, (size_t)count);
    *n->last = o;
    n->last = &o->next;
}

static void write_all(int fd, const uint8_t *data, size_t n, off_t at) {
    while (n > 0) {
        ssize_t done = pwrite(fd, data, n, at);
        if (done <= 0)
            abort();
        data += done;
        n -= (size_t)done;
        at += done;
    }
}

/* Every name in the folder is as it is now; the tests have one folder. */
static void sync_folder(void) {
    for (int i = 0; i < n_nodes; i++) {
        nodes[i].durable = 1;
        free(nodes[i].ghost);
        nodes[i].ghost = NULL;
    }
}

/* --- the cut ---------------------------------------------------------------------------------------------------------- */

static unsigned chance(unsigned of) {
    control->seed = control->seed * 6364136223846793005U + 1442695040888963407U;
    return (unsigned)(control->seed >> 33) % of;
}

static void tear(struct node *n) {
    int fd = open(n->path, O_RDWR);
    if (fd < 0)
        return;
    for (struct op *o = n->ops; o != NULL; o = o->next) {
        unsigned fate = chance(3); /* lost, there, there in part */
        if (fate == 0)
            continue;
        if (o->data == NULL && ftruncate(fd, o->offset) != 0)
            abort();
        for (sqlite3_int64 at = o->offset, end = o->offset + o->n; o->data != NULL && at < end;) {
            sqlite3_int64 next = (at / SECTOR + 1) * SECTOR;
            next = next < end ? next : end;
            if (fate == 1 || chance(2))
                write_all(fd, o->data + (at - o->offset), (size_t)(next - at), at);
            at = next;
        }
    }
    close(fd);
}

static void cut(void) {
    for (int i = 0; i < n_nodes; i++) {
        struct node *n = &nodes[i];
        if (n->there && control->torn)
            tear(n);
        if (n->there && !n->durable && !(control->torn && chance(2))) {
            unlink(n->path);
            n->there = 0;
        }
        if (!n->there && n->ghost != NULL && !(control->torn && chance(2))) {
            int fd = open(n->path, O_RDWR | O_CREAT | O_TRUNC, 0644);
            if (fd < 0)
                abort();
            write_all(fd, n->ghost, (size_t)n->ghost_size, 0);
            close(fd);
        }
    }
    _exit(POWER_CUT);
}

/* --- a file ----------------------------------------------------------------------------------------------------------- */

static int fails(int code, int why) {
    last_errno = why;
    return code;
}

static int file_close(sqlite3_file *f) { return real_of(f)->pMethods->xClose(real_of(f)); }

static int file_read(sqlite3_file *f, void *to, int n, sqlite3_int64 at) {
    struct node *node = ((struct file *)f)->node;
    int rc = SQLITE_OK;
    if (node == NULL)
        return real_of(f)->pMethods->xRead(real_of(f), to, n, at);
    pthread_mutex_lock(&mutex);
    if (control->fault == POWER_READ_FAILS) {
        rc = fails(SQLITE_IOERR_READ, EIO);
    } else {
        sqlite3_int64 have = at >= node->size ? 0 : node->size - at < n ? node->size - at : n;
        if (have > 0)
            memcpy(to, node->data + at, (size_t)have);
        if (have < n) {
            memset((char *)to + have, 0, (size_t)(n - have));
            rc = SQLITE_IOERR_SHORT_READ;
        }
    }
    pthread_mutex_unlock(&mutex);
    return rc;
}

static int file_write(sqlite3_file *f, const void *from, int n, sqlite3_int64 at) {
    struct node *node = ((struct file *)f)->node;
    int rc = SQLITE_OK;
    if (node == NULL)
        return real_of(f)->pMethods->xWrite(real_of(f), from, n, at);
    pthread_mutex_lock(&mutex);
    if (control->fault == POWER_READ_ONLY) {
        rc = fails(SQLITE_IOERR_WRITE, EROFS);
    } else if (control->fault == POWER_DISK_FULL && at + n > node->size) {
        rc = fails(SQLITE_FULL, ENOSPC);
    } else {
        if (at + n > node->size)
            grow(node, at + n);
        memcpy(node->data + at, from, (size_t)n);
        add_op(node, at, from, n);
    }
    pthread_mutex_unlock(&mutex);
    return rc;
}

static int file_truncate(sqlite3_file *f, sqlite3_int64 size) {
    struct node *node = ((struct file *)f)->node;
    int rc = SQLITE_OK;
    if (node == NULL)
        return real_of(f)->pMethods->xTruncate(real_of(f), size);
    pthread_mutex_lock(&mutex);
    if (control->fault == POWER_READ_ONLY) {
        rc = fails(SQLITE_IOERR_TRUNCATE, EROFS);
    } else {
        grow(node, size);
        add_op(node, size, NULL, 0);
    }
    pthread_mutex_unlock(&mutex);
    return rc;
}

static int apply_ops(struct node *node) {
    if (node->fd < 0 && (node->fd = open(node->path, O_RDWR)) < 0)
        return fails(SQLITE_IOERR_FSYNC, errno);
    for (struct op *o = node->ops; o != NULL; o = o->next) {
        if (o->data != NULL)
            write_all(node->fd, o->data, (size_t)o->n, o->offset);
        else if (ftruncate(node->fd, o->offset) != 0)
            abort();
    }
    forget_ops(node);
    return SQLITE_OK;
}

static int file_sync(sqlite3_file *f, int flags) {
    struct file *file = (struct file *)f;
    struct node *node = file->node;
    int rc = SQLITE_OK;
    if (node == NULL)
        return real_of(f)->pMethods->xSync(real_of(f), flags);
    pthread_mutex_lock(&mutex);
    if (++control->syncs == control->cut_at)
        cut();
    size_t n = strlen(node->path);
    if (control->fault == POWER_SYNC_FAILS || control->fault == POWER_READ_ONLY)
        rc = fails(SQLITE_IOERR_FSYNC, control->fault == POWER_READ_ONLY ? EROFS : EIO);
    else if (!(control->lies && n > 4 && strcmp(node->path + n - 4, "-wal") == 0))
        rc = apply_ops(node);
    if (rc == SQLITE_OK && file->journal && !node->durable)
        sync_folder();
    pthread_mutex_unlock(&mutex);
    return rc;
}

static int file_size(sqlite3_file *f, sqlite3_int64 *size) {
    struct node *node = ((struct file *)f)->node;
    if (node == NULL)
        return real_of(f)->pMethods->xFileSize(real_of(f), size);
    pthread_mutex_lock(&mutex);
    *size = node->size;
    pthread_mutex_unlock(&mutex);
    return SQLITE_OK;
}

static int file_lock(sqlite3_file *f, int level) { return real_of(f)->pMethods->xLock(real_of(f), level); }
static int file_unlock(sqlite3_file *f, int level) { return real_of(f)->pMethods->xUnlock(real_of(f), level); }
static int file_reserved(sqlite3_file *f, int *out) {
    return real_of(f)->pMethods->xCheckReservedLock(real_of(f), out);
}
static int file_control(sqlite3_file *f, int op, void *arg) {
    return op == SQLITE_FCNTL_SIZE_HINT ? SQLITE_OK : real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}
static int file_sector(sqlite3_file *f) { return real_of(f)->pMethods->xSectorSize(real_of(f)); }
static int file_device(sqlite3_file *f) { return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f)); }
static int file_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out) {
    return real_of(f)->pMethods->xShmMap(real_of(f), page, size, extend, out);
}
static int file_shm_lock(sqlite3_file *f, int offset, int n, int flags) {
    return real_of(f)->pMethods->xShmLock(real_of(f), offset, n, flags);
}
static void file_shm_barrier(sqlite3_file *f) { real_of(f)->pMethods->xShmBarrier(real_of(f)); }
static int file_shm_unmap(sqlite3_file *f, int delete) { return real_of(f)->pMethods->xShmUnmap(real_of(f), delete); }

static const sqlite3_io_methods methods = {
    .iVersion = 2, /* no mapping of the file itself */
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector,
    .xDeviceCharacteristics = file_device,
    .xShmMap = file_shm_map,
    .xShmLock = file_shm_lock,
    .xShmBarrier = file_shm_barrier,
    .xShmUnmap = file_shm_unmap,
};

/* --- the file system -------------------------------------------------------------------------------------------------- */

/* Reads what the real file holds: that is what was synced. */
static int load(struct node *n, sqlite3_file *real) {
    sqlite3_int64 size = 0;
    int rc = real->pMethods->xFileSize(real, &size);
    n->size = 0;
    grow(n, size);
    return rc == SQLITE_OK && size > 0 ? real->pMethods->xRead(real, n->data, (int)size, 0) : rc;
}

static int vfs_open(sqlite3_vfs *v, sqlite3_filename name, sqlite3_file *f, int flags, int *out_flags) {
    struct file *file = (struct file *)f;
    int there = name != NULL && access(name, F_OK) == 0, rc;
    (void)v;
    *file = (struct file){0};
    if (control->fault == POWER_READ_ONLY && !there && name != NULL)
        return fails(SQLITE_CANTOPEN, EROFS);
    if ((rc = below->xOpen(below, name, real_of(f), flags, out_flags)) != SQLITE_OK)
        return rc;
    file->base.pMethods = &methods;
    file->journal = (flags & (SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL | SQLITE_OPEN_SUPER_JOURNAL)) != 0;
    if (name == NULL)
        return SQLITE_OK;
    pthread_mutex_lock(&mutex);
    struct node *n = node_of(name);
    if (n == NULL) {
        if (n_nodes == NODES)
            abort();
        n = &nodes[n_nodes++];
        snprintf(n->path, sizeof n->path, "%s", name);
        n->last = &n->ops;
    }
    if (!n->there) {
        n->there = 1;
        n->fd = -1;
        n->durable = there;
        forget_ops(n);
        rc = load(n, real_of(f));
    }
    file->node = n;
    pthread_mutex_unlock(&mutex);
    if (rc != SQLITE_OK)
        file_close(f);
    return rc;
}

static int vfs_delete(sqlite3_vfs *v, const char *name, int sync) {
    (void)v;
    if (control->fault == POWER_READ_ONLY)
        return fails(SQLITE_IOERR_DELETE, EROFS);
    pthread_mutex_lock(&mutex);
    struct node *n = node_of(name);
    if (n != NULL && n->there) {
        FILE *real = fopen(name, "rb");
        if (n->durable && real != NULL) {
            fseek(real, 0, SEEK_END);
            n->ghost_size = ftell(real);
            rewind(real);
            free(n->ghost);
            n->ghost = need(malloc((size_t)n->ghost_size + 1));
            if (fread(n->ghost, 1, (size_t)n->ghost_size, real) != (size_t)n->ghost_size)
                abort();
        }
        if (real != NULL)
            fclose(real);
        n->there = 0;
    }
    int rc = below->xDelete(below, name, sync);
    if (rc == SQLITE_OK && sync)
        sync_folder();
    pthread_mutex_unlock(&mutex);
    return rc;
}

static int vfs_last_error(sqlite3_vfs *v, int n, char *text) { /* NOLINT(readability-non-const-parameter): SQLite's */
    (void)v, (void)n, (void)text;
    return last_errno;
}

void power_vfs_install(struct power_control *shared) {
    control = shared;
    below = sqlite3_vfs_find(NULL);
    vfs = *below; /* what is not replaced passes through: those functions look at no field of the VFS */
    vfs.pNext = NULL;
    vfs.zName = "power";
    vfs.szOsFile = below->szOsFile + (int)sizeof(struct file);
    vfs.xOpen = vfs_open;
    vfs.xDelete = vfs_delete;
    vfs.xGetLastError = vfs_last_error;
    if (sqlite3_vfs_register(&vfs, 1) != SQLITE_OK)
        abort();
}
