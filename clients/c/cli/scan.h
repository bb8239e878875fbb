/* Which pictures `likeness add` means: files and folders of the command line into a sorted list of ids. */
#ifndef LIKENESS_CLI_SCAN_H
#define LIKENESS_CLI_SCAN_H

#include <stddef.h>

struct scan_entry {
    char *path;       /* owned, with those below */
    char *id;         /* prefix + path relative to its folder, or + the file's own name */
    char *top_folder; /* the first folder of that relative path; NULL when there is none */
    int is_there;     /* the caller's: the catalogue has it already */
};

struct scan {
    struct scan_entry *entries; /* sorted by id bytes */
    size_t count, capacity;
    size_t ignored; /* files in folders whose names are not a picture's */
    size_t unread;  /* files and folders that could not be looked at; each was reported to stderr */
};

/* A folder gives every file in it and below whose name ends as a picture's does (.png .jpg .jpeg .jpe .jfif, any case),
 * hidden ones left out, links followed; a file is taken whatever its name. 0, or -1 after a sentence to stderr: a path
 * that does not exist, two files with one id, memory. */
int scan_paths(struct scan *out, int n, char **paths, const char *prefix);
void scan_free(struct scan *scan); /* accepts a zeroed one */

#endif
