/* Files: read whole, write atomically, map. Walking folders is in fs_walk.c. */
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/sha256.h"
#include "base/fs_internal.h"

int lk_fs__error(const char *path, const char *action) {
    int number = errno;
    char text[128];
    /* the GNU function, which may return a constant instead of filling text */
    const char *reason = strerror_r(number, text, sizeof text);
    int code = number == ENOENT || number == ENOTDIR  ? LK_ENOTFOUND
               : number == ENOSPC || number == EDQUOT ? LK_ENOSPACE
               : number == ENOMEM                     ? LK_ENOMEM
                                                      : LK_EIO;
    return lk_err(code, "%s: cannot %s: %s", path, action, reason);
}

static int open_retrying(const char *path, int flags, mode_t mode) {
    int fd;
    do {
        fd = open(path, flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

/* --- Reading ------------------------------------------------------------------------------------------------- */

static int read_all(struct lk_buf *out, int fd, const char *path, size_t limit) {
    for (;;) {
        size_t room = out->capacity - out->size;
        if (room == 0) {
            int rc = lk_buf_reserve(out, out->size + 4096);
            if (rc != 0)
                return rc;
            continue;
        }
        ssize_t got = read(fd, out->data + out->size, room);
        if (got == 0)
            return 0;
        if (got < 0) {
            if (errno == EINTR)
                continue;
            return lk_fs__error(path, "read");
        }
        out->size += (size_t)got;
        if (limit > 0 && out->size > limit)
            return lk_err(LK_ELIMIT, "%s: more than the limit of %zu bytes", path, limit);
    }
}

int lk_fs_read(struct lk_buf *out, const char *path, size_t limit) {
    lk_buf_clear(out);
    int fd = open_retrying(path, O_RDONLY, 0);
    if (fd < 0)
        return lk_fs__error(path, "open");
    struct stat s;
    int rc = 0;
    if (fstat(fd, &s) != 0)
        rc = lk_fs__error(path, "read");
    else if (S_ISDIR(s.st_mode))
        rc = lk_err(LK_EIO, "%s: is a folder, not a file", path);
    else if (limit > 0 && S_ISREG(s.st_mode) && (uintmax_t)s.st_size > limit)
        rc = lk_err(LK_ELIMIT, "%s: %jd bytes exceed the limit of %zu", path, (intmax_t)s.st_size, limit);
    else if (S_ISREG(s.st_mode))
        rc = lk_buf_reserve(out, (size_t)s.st_size + 1); /* one more, so that the end is seen without growing */
    if (rc == 0)
        rc = read_all(out, fd, path, limit);
    close(fd);
    if (rc != 0)
        lk_buf_clear(out);
    return rc;
}

/* --- Atomic writing ------------------------------------------------------------------------------------------ */

/* fsync of the folder makes the rename itself durable. Some file systems cannot sync a folder and say EINVAL. */
static int sync_folder_of(const char *path) {
    char *folder = lk_strdup(path);
    if (folder == NULL)
        return LK_ENOMEM;
    char *slash = strrchr(folder, '/');
    if (slash == NULL)
        strcpy(folder, "."); /* a path is never empty here: two bytes fit */
    else
        slash[slash == folder ? 1 : 0] = '\0';
    int rc = 0, fd = open_retrying(folder, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP))
        rc = lk_fs__error(folder, "sync the folder");
    if (fd >= 0)
        close(fd);
    free(folder);
    return rc;
}

int lk_fs_writer_begin(struct lk_fs_writer *w, const char *path) {
    *w = (struct lk_fs_writer){.fd = -1};
    if (path[0] == '\0')
        return lk_err(LK_EINVAL, "a file name is empty");
    size_t size = strlen(path) + 48;
    w->path = lk_strdup(path);
    w->temporary = lk_calloc(size, 1);
    if (w->path == NULL || w->temporary == NULL)
        goto fail;
    for (unsigned i = 0; w->fd < 0; i++) { /* a crashed run may have left names behind */
        snprintf(w->temporary, size, "%s.tmp-%ld-%u", path, (long)getpid(), i);
        w->fd = open_retrying(w->temporary, O_WRONLY | O_CREAT | O_EXCL, 0666);
        if (w->fd < 0 && errno != EEXIST) {
            int rc = lk_fs__error(path, "create a file beside it");
            free(w->temporary); /* not ours to unlink */
            w->temporary = NULL;
            lk_fs_writer_abort(w);
            return rc;
        }
    }
    return 0;
fail:
    free(w->temporary);
    w->temporary = NULL;
    lk_fs_writer_abort(w);
    return LK_ENOMEM;
}

int lk_fs_writer_append(struct lk_fs_writer *w, const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    while (n > 0) {
        ssize_t got = write(w->fd, p, n);
        if (got < 0) {
            if (errno == EINTR)
                continue;
            return lk_fs__error(w->path, "write");
        }
        p += got, n -= (size_t)got;
    }
    return 0;
}

int lk_fs_writer_commit(struct lk_fs_writer *w) {
    int rc = 0;
    if (fsync(w->fd) != 0)
        rc = lk_fs__error(w->path, "sync");
    if (close(w->fd) != 0 && rc == 0)
        rc = lk_fs__error(w->path, "write");
    w->fd = -1;
    if (rc == 0 && rename(w->temporary, w->path) != 0)
        rc = lk_fs__error(w->path, "replace");
    if (rc == 0) {
        free(w->temporary);
        w->temporary = NULL;
        rc = sync_folder_of(w->path);
    }
    lk_fs_writer_abort(w);
    return rc;
}

void lk_fs_writer_abort(struct lk_fs_writer *w) {
    if (w->path != NULL && w->fd >= 0) /* a zeroed writer does not own descriptor 0 */
        close(w->fd);
    if (w->temporary != NULL)
        unlink(w->temporary);
    free(w->path);
    free(w->temporary);
    *w = (struct lk_fs_writer){.fd = -1};
}

int lk_fs_write_atomic(const char *path, const void *bytes, size_t n) {
    struct lk_fs_writer w;
    int rc = lk_fs_writer_begin(&w, path);
    if (rc != 0)
        return rc;
    rc = lk_fs_writer_append(&w, bytes, n);
    if (rc != 0) {
        lk_fs_writer_abort(&w);
        return rc;
    }
    return lk_fs_writer_commit(&w);
}

/* --- Mapping ------------------------------------------------------------------------------------------------- */

int lk_fs_map(struct lk_fs_map *m, const char *path) {
    *m = (struct lk_fs_map){0};
    int fd = open_retrying(path, O_RDONLY, 0);
    if (fd < 0)
        return lk_fs__error(path, "open");
    struct stat s;
    int rc = 0;
    if (fstat(fd, &s) != 0) {
        rc = lk_fs__error(path, "map");
    } else if (!S_ISREG(s.st_mode)) {
        rc = lk_err(LK_EIO, "%s: is not a regular file", path);
    } else if (s.st_size == 0) {
        m->data = (const uint8_t *)""; /* nothing to map, and the pointer stays valid */
    } else {
        void *data = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            rc = lk_fs__error(path, "map");
        } else {
            m->data = data;
            m->size = (size_t)s.st_size;
        }
    }
    close(fd);
    return rc;
}

void lk_fs_unmap(struct lk_fs_map *m) {
    if (m->size > 0) {
        union {
            const uint8_t *from;
            void *to;
        } data = {m->data}; /* munmap takes a plain pointer */
        munmap(data.to, m->size);
    }
    *m = (struct lk_fs_map){0};
}

/* --- Questions ----------------------------------------------------------------------------------------------- */

int lk_fs_is_folder(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

int lk_fs_exists(const char *path) {
    struct stat s;
    return stat(path, &s) == 0;
}

int lk_fs_rename(const char *from, const char *to) {
    return rename(from, to) != 0 ? lk_fs__error(to, "replace") : sync_folder_of(to);
}

int lk_fs_sha256(char hex[65], const char *path) {
    struct lk_fs_map map;
    struct lk_sha256 hash;
    uint8_t digest[32];
    int rc = lk_fs_map(&map, path);
    if (rc)
        return rc;
    lk_sha256_init(&hash);
    lk_sha256_update(&hash, map.data, map.size);
    lk_sha256_final(&hash, digest);
    lk_sha256_hex(digest, hex);
    lk_fs_unmap(&map);
    return 0;
}

int lk_fs_mkdir_parents(const char *path) {
    char *part = lk_strdup(path);
    if (part == NULL)
        return LK_ENOMEM;
    int rc = 0;
    for (char *p = part; rc == 0; p++) {
        char c = *p;
        if ((c != '/' && c != '\0') || p == part) {
            if (c == '\0')
                break; /* "" */
            continue;
        }
        *p = '\0';
        if (mkdir(part, 0777) != 0 && !(errno == EEXIST && lk_fs_is_folder(part)))
            rc = lk_fs__error(part, "create the folder");
        *p = c;
        if (c == '\0')
            break;
    }
    free(part);
    return rc;
}
