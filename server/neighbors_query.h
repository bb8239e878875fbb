/* What POST /neighbors asks, read from its JSON body and checked. Knows no request, so that it can be tested alone. */
#ifndef LK_SERVER_NEIGHBORS_QUERY_H
#define LK_SERVER_NEIGHBORS_QUERY_H

#include <stddef.h>
#include <stdint.h>

#include "filter.h"
#include "pictures.h"

#define LK_NO_PICTURE ((size_t)-1)

struct lk_neighbors_query {
    int64_t k;
    double min_score; /* -2: none */
    int with_metadata;
    const struct lk_filter *filter; /* owned by the queries; NULL: none */
    char *id;                       /* owned; NULL unless by id */
    const float *vector;            /* the queries', unit length; NULL unless by vector */
    size_t picture;                 /* its number among the pictures, or LK_NO_PICTURE */
};

struct lk_neighbors_queries {
    struct lk_arena *arena;             /* set before: for what is owned here, but for what pictures and filters hold;
                                           NULL: it has its own memory */
    struct lk_neighbors_query *queries; /* owned */
    size_t count;
    int many;       /* "queries" was given: results, and faults in their places */
    float *vectors; /* what the queries' vectors point to, owned */
    struct lk_pictures pictures;
    struct lk_filter **filters; /* [n_filters], owned */
    size_t n_filters;
};

struct lk_neighbors_limits {
    size_t dim;
    int64_t generation; /* that serves */
    int64_t max_k;
    size_t max_queries, max_json_values;
    struct lk_filter_limits filter;
};

/* n queries with nothing but defaults, with room for a filter each and one for all. LK_ENOMEM. */
int lk_neighbors_queries_open(struct lk_neighbors_queries *q, size_t n);
/* The body of POST /neighbors. On a fault the caller closes *out too. */
int lk_neighbors_parse(struct lk_neighbors_queries *out, const void *body, size_t n,
                       const struct lk_neighbors_limits *limits, struct lk_fault *f);
/* A "generation" that was asked for: generation_mismatch unless it serves. */
int lk_neighbors_check_generation(int64_t wanted, int64_t serves, struct lk_fault *f);
void lk_neighbors_queries_close(struct lk_neighbors_queries *q); /* accepts a zeroed one */

#endif
