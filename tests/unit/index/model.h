/* What the index is held against: the same items in plain arrays, and their scores summed in float64. */
#ifndef LK_TESTS_INDEX_MODEL_H
#define LK_TESTS_INDEX_MODEL_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "server/index.h"

struct model {
    int dim, n;      /* items 0..n-1, named item-00000... */
    int *alive;      /* [n] */
    float *vectors;  /* [n][dim] */
    uint64_t random; /* state */
};

/* Of floats: -0 is not 0 here. */
static inline int same_bits(const void *a, const void *b, size_t n) { return memcmp(a, b, n) == 0; }

static inline uint32_t model_random(struct model *m) { /* an LCG's upper half: enough for test data */
    m->random = m->random * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(m->random >> 32);
}

static inline float *model_vector(const struct model *m, int i) { return m->vectors + (size_t)i * (size_t)m->dim; }

static inline void model_name(char name[32], int i) { snprintf(name, 32, "item-%05d", i); }

static inline void model_unit(struct model *m, float *out) {
    double sum = 0;
    for (int j = 0; j < m->dim; j++) {
        double x = 0;
        for (int t = 0; t < 4; t++)
            x += (double)model_random(m) / 4294967296.0 - 0.5;
        out[j] = (float)x;
        sum += x * x;
    }
    for (int j = 0; j < m->dim; j++)
        out[j] = (float)(out[j] / sqrt(sum));
}

/* Near one of `clusters` directions: what a trained network's vectors look like. */
static inline void model_clustered(struct model *m, float *out, int clusters, uint64_t seed) {
    struct model centre = {.dim = m->dim, .random = seed + model_random(m) % (uint32_t)clusters * 7919U};
    float *c = calloc((size_t)m->dim, sizeof *c);
    double sum = 0;
    if (c == NULL)
        abort();
    model_unit(&centre, c);
    model_unit(m, out);
    for (int j = 0; j < m->dim; j++) {
        out[j] = c[j] + 0.6F * out[j];
        sum += (double)out[j] * (double)out[j];
    }
    for (int j = 0; j < m->dim; j++)
        out[j] = (float)(out[j] / sqrt(sum));
    free(c);
}

static inline void model_open(struct model *m, int n, int dim, uint64_t seed) {
    *m = (struct model){.dim = dim, .n = n, .random = seed};
    m->alive = calloc((size_t)n, sizeof *m->alive);
    m->vectors = calloc((size_t)n * (size_t)dim, sizeof *m->vectors);
    if (m->alive == NULL || m->vectors == NULL)
        abort();
    for (int i = 0; i < n; i++)
        model_unit(m, model_vector(m, i));
}

static inline void model_close(struct model *m) {
    free(m->alive);
    free(m->vectors);
}

static inline double model_score(const struct model *m, const float *query, int i) {
    double sum = 0;
    for (int j = 0; j < m->dim; j++)
        sum += (double)query[j] * (double)model_vector(m, i)[j];
    return sum;
}

static inline int model_put(struct model *m, struct lk_index *index, int i) {
    char name[32];
    model_name(name, i);
    m->alive[i] = 1;
    return lk_index_put(index, name, model_vector(m, i));
}

static inline int model_delete(struct model *m, struct lk_index *index, int i) {
    char name[32];
    model_name(name, i);
    m->alive[i] = 0;
    return lk_index_delete(index, name);
}

struct model_ranked {
    double score;
    int item;
};

static inline int model_by_rank(const void *a, const void *b) {
    const struct model_ranked *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score) - (x->score > y->score) : x->item - y->item;
}

/* One query against brute force: min(k, live) hits; scores within 1e-5; order equal where the gap is larger. */
static inline void model_check(struct model *m, struct lk_index *index, const float *query, size_t k) {
    struct model_ranked *want = calloc((size_t)m->n, sizeof *want);
    struct lk_hits hits;
    const double gap = 1e-5;
    size_t live = 0;
    if (want == NULL)
        abort();
    for (int i = 0; i < m->n; i++) {
        if (m->alive[i])
            want[live++] = (struct model_ranked){.score = model_score(m, query, i), .item = i};
    }
    qsort(want, live, sizeof *want, model_by_rank);
    LK_CHECK_INT(lk_index_count(index), live);
    if (LK_CHECK_INT(lk_index_search(index, query, k, NULL, -2, &hits), 0) &&
        LK_CHECK_INT(hits.count, k < live ? k : live)) {
        for (size_t i = 0; i < hits.count; i++) {
            int item = (int)strtol(hits.hits[i].id + 5, NULL, 10);
            int clear = (i == 0 || want[i - 1].score - want[i].score > gap) &&
                        (i + 1 == live || want[i].score - want[i + 1].score > gap);
            LK_CHECK(m->alive[item]);
            LK_CHECK_NEAR(hits.hits[i].score, model_score(m, query, item), 1e-5);
            LK_CHECK_NEAR(hits.hits[i].score, want[i].score, 1e-5);
            if (clear)
                LK_CHECK_INT(item, want[i].item);
        }
    }
    lk_hits_free(&hits);
    free(want);
}

/* One query against brute force: min(k, live) hits, in order, alive, with their own scores. Returns how many of them are
 * as near as the k nearest. */
static inline size_t model_near(struct model *m, struct lk_index *index, const float *query, size_t k) {
    struct model_ranked *want = calloc((size_t)m->n, sizeof *want);
    struct lk_hits hits;
    size_t live = 0, right = 0;
    if (want == NULL)
        abort();
    for (int i = 0; i < m->n; i++) {
        if (m->alive[i])
            want[live++] = (struct model_ranked){.score = model_score(m, query, i), .item = i};
    }
    qsort(want, live, sizeof *want, model_by_rank);
    k = k < live ? k : live;
    if (LK_CHECK_INT(lk_index_search(index, query, k, NULL, -2, &hits), 0) && LK_CHECK_INT(hits.count, k)) {
        for (size_t i = 0; i < k; i++) {
            int item = (int)strtol(hits.hits[i].id + 5, NULL, 10);
            LK_CHECK(m->alive[item]);
            LK_CHECK_NEAR(hits.hits[i].score, model_score(m, query, item), 1e-5);
            LK_CHECK(
                i == 0 || hits.hits[i - 1].score > hits.hits[i].score ||
                (hits.hits[i - 1].score >= hits.hits[i].score && strcmp(hits.hits[i - 1].id, hits.hits[i].id) < 0));
            right += hits.hits[i].score >= want[k - 1].score - 1e-6;
        }
    }
    lk_hits_free(&hits);
    free(want);
    return right;
}

/* k = 1, 10, 100 for a few queries, one of them an item's own vector. */
static inline void model_check_queries(struct model *m, struct lk_index *index, int queries) {
    float *query = calloc((size_t)m->dim, sizeof *query);
    if (query == NULL)
        abort();
    for (int q = 0; q < queries; q++) {
        model_unit(m, query);
        if (q == 0)
            memcpy(query, model_vector(m, (int)(model_random(m) % (uint32_t)m->n)), (size_t)m->dim * sizeof *query);
        model_check(m, index, query, 1);
        model_check(m, index, query, 10);
        model_check(m, index, query, 100);
    }
    free(query);
}

#endif
