/* The pictures of tests/data, for the tests of this folder. */
#ifndef LK_TESTS_PICTURES_H
#define LK_TESTS_PICTURES_H

#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "check.h"

/* tests/data/NAME as a path; valid until the fourth call from now. */
static inline const char *data_path(const char *name) {
    static char paths[4][1024];
    static int next;
    const char *source = getenv("LK_SOURCE_DIR");
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/tests/data/%s", source ? source : "../../..", name);
    return path;
}

/* The file's bytes, NUL behind them; the caller frees. An absent file ends the test: nothing else makes sense. */
static inline struct lk_buf data_read(const char *name) {
    struct lk_buf b = {0};
    if (lk_fs_read(&b, data_path(name), 0) != 0 || lk_buf_append(&b, "", 1) != 0) {
        printf("%s\n", lk_error());
        exit(1);
    }
    b.size--;
    return b;
}

/* The largest difference between n bytes. */
static inline int largest_difference(const uint8_t *a, const uint8_t *b, size_t n) {
    int largest = 0;
    for (size_t i = 0; i < n; i++) {
        int d = a[i] > b[i] ? a[i] - b[i] : b[i] - a[i];
        largest = d > largest ? d : largest;
    }
    return largest;
}

#endif
