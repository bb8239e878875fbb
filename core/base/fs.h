/* Files and folders. Every error names the path. */
#ifndef LK_BASE_FS_H
#define LK_BASE_FS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Reads a whole file of at most `limit` bytes (0: no limit) into `out`. LK_ENOTFOUND, LK_ELIMIT, LK_EIO. */
int lk_fs_read(struct lk_buf *out, const char *path, size_t limit);

/* Writes `path` so that after a crash it holds the old or the new content, never a part: temporary file in the same
 * folder, write, fsync, rename, fsync of the folder. LK_ENOSPACE, LK_EIO; on failure the old file is untouched. */
int lk_fs_write_atomic(const char *path, const void *bytes, size_t n);

/* The same for content that is produced in pieces: begin, append..., then commit or abort. */
struct lk_fs_writer {
    int fd;
    char *path, *temporary;
};
int lk_fs_writer_begin(struct lk_fs_writer *w, const char *path);
int lk_fs_writer_append(struct lk_fs_writer *w, const void *bytes, size_t n);
int lk_fs_writer_commit(struct lk_fs_writer *w);
void lk_fs_writer_abort(struct lk_fs_writer *w); /* accepts a zeroed or a committed one */

/* A read-only memory map of a whole file. */
struct lk_fs_map {
    const uint8_t *data; /* valid until lk_fs_unmap */
    size_t size;
};
int lk_fs_map(struct lk_fs_map *m, const char *path);
void lk_fs_unmap(struct lk_fs_map *m);

/* Renames within a folder, durably; what was at `to` is replaced. */
int lk_fs_rename(const char *from, const char *to);
/* SHA-256 of a whole file, as hex. */
int lk_fs_sha256(char hex[65], const char *path);

int lk_fs_mkdir_parents(const char *path); /* like mkdir -p */
int lk_fs_is_folder(const char *path);     /* 1 or 0 */
int lk_fs_exists(const char *path);        /* 1 or 0 */

/* Every regular file under `folder`, depth first, names sorted by byte value, as paths relative to `folder`. Links to
 * folders are followed once (no loops). Returns LK_ENOTFOUND when the folder does not exist. */
struct lk_fs_list {
    char **paths; /* owned */
    size_t count;
};
int lk_fs_walk(struct lk_fs_list *out, const char *folder);
void lk_fs_list_free(struct lk_fs_list *list);

#endif
