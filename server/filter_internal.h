/* What filter.c reads and filter_match.c evaluates; nobody else includes this. */
#ifndef LK_SERVER_FILTER_INTERNAL_H
#define LK_SERVER_FILTER_INTERNAL_H

#include <stdint.h>

#include "filter.h"
#include "rfc3339.h"

enum lk_filter__type { LK_V_NONE, LK_V_NULL, LK_V_BOOL, LK_V_INT, LK_V_REAL, LK_V_TIME, LK_V_STRING };

struct lk_filter__value {
    enum lk_filter__type type;
    int64_t integer; /* LK_V_INT; LK_V_BOOL: 0 or 1 */
    double real;
    struct lk_instant time;
    const char *text; /* LK_V_STRING: size bytes of UTF-8; the filter's source holds them */
    size_t size;
};

struct lk_filter__step {
    const char *text; /* in the condition's path_text */
    size_t size;
};

enum lk_filter__test { LK_TEST_FILTER, LK_TEST_ANY, LK_TEST_RANGE, LK_TEST_EXISTS };

enum lk_filter__bound { LK_BOUND_GT, LK_BOUND_GTE, LK_BOUND_LT, LK_BOUND_LTE, LK_BOUNDS };

struct lk_filter__condition {
    enum lk_filter__test test;
    struct lk_filter *filter; /* owned; LK_TEST_FILTER */
    char *path_text;          /* owned */
    struct lk_filter__step *steps;
    size_t n_steps;
    struct lk_filter__value
        *values; /* owned; LK_TEST_ANY: [n_values]; LK_TEST_RANGE: [LK_BOUNDS], LK_V_NONE: no bound */
    size_t n_values;
    int exists; /* what is wanted */
};

struct lk_filter__list {
    struct lk_filter__condition *conditions; /* owned */
    size_t count;
};

struct lk_filter {
    json_t *source; /* a reference of the outermost filter's, which holds the strings; NULL in inner ones */
    struct lk_filter__list must, should, must_not;
};

#endif
