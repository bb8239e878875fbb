#include "scan.h"

#include <errno.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static int is_picture_name(const char *name) {
    static const char *const endings[] = {".png", ".jpg", ".jpeg", ".jpe", ".jfif"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++) {
        if (strcasecmp(dot, endings[i]) == 0) {
            return 1;
        }
    }
    return 0;
}

static int add(struct scan *scan, const char *path, const char *relative, const char *prefix) {
    if (scan->count == scan->capacity) {
        const size_t capacity = scan->capacity ? 2 * scan->capacity : 256;
        struct scan_entry *grown = reallocarray(scan->entries, capacity, sizeof *grown);
        if (!grown) {
            goto no_memory;
        }
        scan->entries = grown;
        scan->capacity = capacity;
    }
    struct scan_entry *entry = &scan->entries[scan->count++];
    memset(entry, 0, sizeof *entry);
    const size_t id_size = strlen(prefix) + strlen(relative) + 1;
    const char *slash = strchr(relative, '/');
    entry->path = strdup(path);
    entry->id = malloc(id_size);
    entry->top_folder = slash ? strndup(relative, (size_t)(slash - relative)) : NULL;
    if (!entry->path || !entry->id || (slash && !entry->top_folder)) {
        goto no_memory;
    }
    snprintf(entry->id, id_size, "%s%s", prefix, relative);
    return 0;
no_memory:
    fputs("likeness: memory ran out\n", stderr);
    return -1;
}

static void complain(struct scan *scan, const char *path, int error) {
    fprintf(stderr, "likeness: %s: %s\n", path, strerror(error));
    scan->unread++;
}

static int add_folder(struct scan *scan, char *folder, const char *prefix) {
    char *roots[] = {folder, NULL};
    FTS *tree = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, NULL);
    if (!tree) {
        complain(scan, folder, errno);
        return 0;
    }
    const size_t root = strlen(folder) - (folder[strlen(folder) - 1] == '/');
    int rc = 0;
    for (FTSENT *e; !rc && (errno = 0, e = fts_read(tree));) {
        const int is_hidden = e->fts_level > 0 && e->fts_name[0] == '.';
        switch (e->fts_info) {
        case FTS_D:
            if (is_hidden) {
                fts_set(tree, e, FTS_SKIP);
            }
            break;
        case FTS_F:
            if (is_hidden) {
                break;
            }
            if (is_picture_name(e->fts_name)) {
                rc = add(scan, e->fts_path, e->fts_path + root + 1, prefix);
            } else {
                scan->ignored++;
            }
            break;
        case FTS_DNR:
        case FTS_ERR:
        case FTS_NS: complain(scan, e->fts_path, e->fts_errno); break;
        case FTS_DC:    /* a link back to a folder above */
        default: break; /* dangling links, devices, the way back up */
        }
    }
    if (!rc && errno) {
        complain(scan, folder, errno);
    }
    fts_close(tree);
    return rc;
}

static int by_id(const void *a, const void *b) {
    const struct scan_entry *x = a, *y = b;
    const int order = strcmp(x->id, y->id);
    return order ? order : strcmp(x->path, y->path);
}

/* One file named twice is one entry; two files with one id are a mistake that would lose a picture. */
static int drop_doubles(struct scan *scan) {
    size_t kept = 0;
    for (size_t i = 0; i < scan->count; i++) {
        struct scan_entry *e = &scan->entries[i];
        if (kept && strcmp(scan->entries[kept - 1].id, e->id) == 0) {
            const struct scan_entry *other = &scan->entries[kept - 1];
            if (strcmp(other->path, e->path) != 0) {
                fprintf(stderr, "likeness: %s and %s would both be the item '%s'; add them apart, with --prefix\n",
                        other->path, e->path, e->id);
                /* what lies between was moved to the front already: close the gap for scan_free */
                memmove(&scan->entries[kept], e, (scan->count - i) * sizeof *e);
                scan->count -= i - kept;
                return -1;
            }
            free(e->path);
            free(e->id);
            free(e->top_folder);
            continue;
        }
        scan->entries[kept++] = *e;
    }
    scan->count = kept;
    return 0;
}

int scan_paths(struct scan *out, int n, char **paths, const char *prefix) {
    memset(out, 0, sizeof *out);
    int rc = 0;
    for (int i = 0; i < n && !rc; i++) {
        struct stat about;
        if (stat(paths[i], &about)) {
            fprintf(stderr, "likeness: %s: %s\n", paths[i], strerror(errno));
            rc = -1;
        } else if (S_ISDIR(about.st_mode)) {
            rc = add_folder(out, paths[i], prefix);
        } else {
            const char *slash = strrchr(paths[i], '/');
            rc = add(out, paths[i], slash ? slash + 1 : paths[i], prefix);
        }
    }
    if (!rc && out->count > 0) {
        qsort(out->entries, out->count, sizeof *out->entries, by_id);
        rc = drop_doubles(out);
    }
    if (rc) {
        scan_free(out);
    }
    return rc;
}

void scan_free(struct scan *scan) {
    for (size_t i = 0; i < scan->count; i++) {
        free(scan->entries[i].path);
        free(scan->entries[i].id);
        free(scan->entries[i].top_folder);
    }
    free(scan->entries);
    memset(scan, 0, sizeof *scan);
}
