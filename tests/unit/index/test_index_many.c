/* Does each of many queries get what it gets alone, to the bit? */
#include "model.h"

#include "base/err.h"
#include "base/log.h"

enum { N = 9000, DIM = 64, MOST = 150 };

static void check_equal(struct lk_index *index, struct lk_index_query *queries, size_t n) {
    LK_CHECK_INT(lk_index_search_many(index, n, queries), 0);
    for (size_t i = 0; i < n; i++) {
        struct lk_hits alone;
        const struct lk_index_query *q = &queries[i];
        LK_CHECK_INT(lk_index_search(index, q->vector, q->k, q->exclude, q->min_score, &alone), 0);
        if (LK_CHECK_INT(q->hits.count, alone.count)) {
            for (size_t j = 0; j < alone.count; j++) {
                LK_CHECK_STR(q->hits.hits[j].id, alone.hits[j].id);
                LK_CHECK(same_bits(&q->hits.hits[j].score, &alone.hits[j].score, sizeof(float)));
            }
        }
        lk_hits_free(&alone);
        lk_hits_free(&queries[i].hits);
    }
}

static void check(const struct lk_index_options *options) {
    struct model m, asked;
    struct lk_index *index;
    struct lk_index_query queries[MOST] = {{0}};
    model_open(&m, N, DIM, 31);
    model_open(&asked, MOST, DIM, 32);
    LK_REQUIRE(lk_index_open(&index, DIM, options) == 0);
    for (int i = N - 1; i >= 0; i--) { /* the last first, so that order of insertion is no help */
        if (i % 10 != 0)               /* every tenth is the same, so that cuts go through ties */
            model_clustered(&m, model_vector(&m, i), 50, 1);
        else
            memcpy(model_vector(&m, i), model_vector(&m, 0), DIM * sizeof(float));
        LK_CHECK_INT(model_put(&m, index, i), 0);
    }
    for (int i = 0; i < N; i += 7)
        LK_CHECK_INT(model_delete(&m, index, i), 0);
    for (int i = 0; i < MOST; i++) {
        float *v = model_vector(&asked, i);
        model_clustered(&asked, v, 50, 1);
        if (i % 9 == 0)
            memcpy(v, model_vector(&m, i), DIM * sizeof(float));
        queries[i] = (struct lk_index_query){.vector = v,
                                             .k = i % 20 == 3 ? N : 1 + (size_t)(i % 13) * 9,
                                             .exclude = i % 3 == 0 ? "item-00010" : NULL,
                                             .min_score = i % 4 == 0 ? 0.3F : -2};
    }
    check_equal(index, queries, 1);
    check_equal(index, queries + 1, 7);
    check_equal(index, queries + 8, 25);
    LK_CHECK_INT(lk_index_compact(index), 0);
    check_equal(index, queries, MOST);
    check_equal(index, queries, 0);
    for (size_t i = 0; i < MOST; i += 50) {
        queries[i].k = 0;
        LK_CHECK_INT(lk_index_search_many(index, MOST, queries), LK_EINVAL);
        queries[i].k = 1;
    }
    model_vector(&asked, 70)[3] = NAN;
    LK_CHECK_INT(lk_index_search_many(index, MOST, queries), LK_EINVAL);
    for (int i = 0; i < MOST; i++)
        LK_CHECK(queries[i].hits.hits == NULL);
    lk_index_close(index);
    LK_REQUIRE(lk_index_open(&index, DIM, options) == 0); /* empty */
    check_equal(index, queries, 5);
    lk_index_close(index);
    model_close(&m);
    model_close(&asked);
}

static void exactly(void) { check(NULL); }

static void by_a_graph(void) {
    const struct lk_index_options hnsw = {.kind = LK_INDEX_HNSW, .m = 12, .ef_construction = 40, .unlinked = 1000};
    check(&hnsw);
}

static const struct lk_case cases[] = {
    LK_CASE(exactly),
    LK_CASE(by_a_graph),
};

int main(int argc, char **argv) {
    lk_log_set_level(LK_LOG_WARN);
    return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
}
