/* Listing a folder. Links to folders are entered, each folder once: what a link points to inside the listed folder is
 * reached by its own name, and what lies outside is remembered by device and inode. So links make no loops. */
#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fs_internal.h"

struct folder_id {
    dev_t device;
    ino_t inode;
};

struct walk {
    struct lk_fs_list *list;
    size_t list_capacity;
    const char *root;
    char *real_root;
    struct folder_id *seen;
    size_t n_seen, seen_capacity;
};

/* Room for one more element: `array` itself or a larger one; NULL when memory ran out, and `array` stays. */
static void *grow(void *array, size_t count, size_t *capacity, size_t size) {
    if (count < *capacity)
        return array;
    size_t wanted = *capacity ? *capacity * 2 : 32;
    void *p = realloc(array, wanted * size);
    if (p == NULL)
        lk_err(LK_ENOMEM, "out of memory for a list of %zu files", wanted);
    else
        *capacity = wanted;
    return p;
}

static int list_append(struct lk_fs_list *list, size_t *capacity, const char *text) {
    char **paths = grow(list->paths, list->count, capacity, sizeof *paths);
    if (paths == NULL)
        return LK_ENOMEM;
    list->paths = paths;
    char *copy = lk_strdup(text);
    if (copy == NULL)
        return LK_ENOMEM;
    paths[list->count++] = copy;
    return 0;
}

static char *join(const char *folder, const char *name) {
    size_t n = strlen(folder), size = n + strlen(name) + 2;
    char *path = lk_calloc(size, 1);
    if (path != NULL)
        snprintf(path, size, "%s%s%s", folder, n > 0 && folder[n - 1] != '/' ? "/" : "", name);
    return path;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b); /* as unsigned bytes */
}

/* 1: entered now for the first time; 0: seen before; negative: no memory. */
static int enter(struct walk *w, const struct stat *s) {
    for (size_t i = 0; i < w->n_seen; i++)
        if (w->seen[i].device == s->st_dev && w->seen[i].inode == s->st_ino)
            return 0;
    struct folder_id *seen = grow(w->seen, w->n_seen, &w->seen_capacity, sizeof *seen);
    if (seen == NULL)
        return LK_ENOMEM;
    w->seen = seen;
    seen[w->n_seen++] = (struct folder_id){s->st_dev, s->st_ino};
    return 1;
}

/* Whether what `path` (a link to a folder) points to lies inside the listed folder, or is that folder. */
static int points_inside(const struct walk *w, const char *path) {
    char *real = realpath(path, NULL);
    if (real == NULL)
        return 1; /* broken meanwhile: nothing to enter */
    size_t n = strlen(w->real_root);
    int inside = strncmp(real, w->real_root, n) == 0 && (real[n] == '/' || real[n] == '\0' || n == 1);
    free(real);
    return inside;
}

static int read_names(struct lk_fs_list *names, const char *folder) {
    DIR *d = opendir(folder);
    if (d == NULL)
        return lk_fs__error(folder, "open the folder");
    size_t capacity = 0;
    int rc = 0;
    while (rc == 0) {
        errno = 0;
        const struct dirent *entry = readdir(d);
        if (entry == NULL) {
            if (errno != 0)
                rc = lk_fs__error(folder, "read the folder");
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc = list_append(names, &capacity, entry->d_name);
    }
    closedir(d);
    if (rc == 0 && names->count > 1)
        qsort(names->paths, names->count, sizeof *names->paths, compare_names);
    return rc;
}

static int walk_folder(struct walk *w, const char *relative);

static int walk_entry(struct walk *w, const char *relative, const char *name) {
    char *inner = relative[0] ? join(relative, name) : lk_strdup(name);
    char *path = inner ? join(w->root, inner) : NULL;
    struct stat s, link;
    int rc = 0;
    if (path == NULL)
        rc = LK_ENOMEM;
    else if (lstat(path, &link) != 0 || stat(path, &s) != 0)
        rc = 0; /* gone meanwhile, or a broken link: no file */
    else if (S_ISREG(s.st_mode))
        rc = list_append(w->list, &w->list_capacity, inner);
    else if (S_ISDIR(s.st_mode) && !(S_ISLNK(link.st_mode) && points_inside(w, path))) {
        rc = enter(w, &s);
        if (rc == 1)
            rc = walk_folder(w, inner);
    }
    free(path);
    free(inner);
    return rc;
}

static int walk_folder(struct walk *w, const char *relative) {
    char *path = relative[0] ? join(w->root, relative) : lk_strdup(w->root);
    if (path == NULL)
        return LK_ENOMEM;
    struct lk_fs_list names = {0};
    int rc = read_names(&names, path);
    free(path);
    for (size_t i = 0; i < names.count && rc == 0; i++)
        rc = walk_entry(w, relative, names.paths[i]);
    lk_fs_list_free(&names);
    return rc;
}

int lk_fs_walk(struct lk_fs_list *out, const char *folder) {
    *out = (struct lk_fs_list){0};
    struct walk w = {.list = out, .root = folder};
    struct stat s;
    int rc = 0;
    if (stat(folder, &s) != 0)
        rc = lk_fs__error(folder, "open the folder");
    else if (!S_ISDIR(s.st_mode))
        rc = lk_err(LK_ENOTFOUND, "%s: is not a folder", folder);
    else if ((w.real_root = realpath(folder, NULL)) == NULL)
        rc = lk_fs__error(folder, "open the folder");
    else
        rc = enter(&w, &s) == 1 ? walk_folder(&w, "") : LK_ENOMEM;
    free(w.real_root);
    free(w.seen);
    if (rc != 0)
        lk_fs_list_free(out);
    return rc;
}

void lk_fs_list_free(struct lk_fs_list *list) {
    for (size_t i = 0; i < list->count; i++)
        free(list->paths[i]);
    free(list->paths);
    *list = (struct lk_fs_list){0};
}
