/* Filters on an item's metadata: {"must":[...],"should":[...],"must_not":[...]}. Every `must`, at least one `should` (when
 * there are any) and no `must_not` has to hold. A condition is {"key":"a.b"} with one of "match": value, "any": [values],
 * "range": {"gt","gte","lt","lte"} and "exists": true or false, or a filter again.
 *
 * A path's steps are divided by dots; a step in double quotes may hold dots. An array stands for each of its elements, at
 * every step and at any depth: a condition holds when one element fulfils it. Numbers are compared by value, exactly; a
 * range of strings is one of times (RFC 3339, or a date), and looks at strings that are times. A null exists as little as
 * what is not there. This is Qdrant's meaning, but for the arrays on the way (there "a[].b") and for numbers (there 1 is
 * not 1.0); docs/decisions/ says why.
 *
 * A filter is read once and evaluated on the stored text without allocating. It is constant: any thread may use it. */
#ifndef LK_SERVER_FILTER_H
#define LK_SERVER_FILTER_H

#include <stddef.h>

#include "json.h"

struct lk_filter;

struct lk_filter_limits {
    size_t bytes;      /* as compact JSON */
    size_t depth;      /* filters inside of filters; 1: none */
    size_t conditions; /* conditions, and values of "any" */
};

/* Reads `json`, of which it keeps a reference. param names it in faults ("filter", "queries[3].filter"): invalid_argument
 * with the place inside and, where a limit is exceeded, the limit. */
int lk_filter_open(struct lk_filter **out, json_t *json, const struct lk_filter_limits *limits, const char *param,
                   struct lk_fault *f);
/* The same from a text; invalid_json when it is none. */
int lk_filter_open_text(struct lk_filter **out, const char *text, size_t n, const struct lk_filter_limits *limits,
                        const char *param, struct lk_fault *f);
void lk_filter_close(struct lk_filter *filter); /* NULL is fine */

/* 1: the filter holds for this metadata, the NUL-terminated text of a JSON object. Other text gives 0 or 1, no error. */
int lk_filter_match(const struct lk_filter *filter, const char *metadata);

#endif
