/* Does an index with a graph find at least 99 of 100 nearest neighbours, whatever was added, replaced, removed and linked,
 * and keep the promises that an exact one makes? */
#include "model.h"

#include "base/err.h"
#include "base/log.h"

enum { N = 6000, DIM = 32, CLUSTERS = 60, QUERIES = 60 };

static const struct lk_index_options hnsw = {
    .kind = LK_INDEX_HNSW, .m = 16, .ef_construction = 60, .ef_search = 64, .unlinked = 500};

static void open_filled(struct model *m, struct lk_index **index, int n, uint64_t seed) {
    model_open(m, N, DIM, seed);
    LK_REQUIRE(lk_index_open(index, DIM, &hnsw) == 0);
    for (int i = 0; i < N; i++)
        model_clustered(m, model_vector(m, i), CLUSTERS, 99);
    for (int i = 0; i < n; i++)
        LK_CHECK_INT(model_put(m, *index, i), 0);
}

static void close_both(struct model *m, struct lk_index *index) {
    lk_index_close(index);
    model_close(m);
}

static double recall(struct model *m, struct lk_index *index, size_t k) {
    size_t right = 0;
    float query[DIM];
    for (int q = 0; q < QUERIES; q++) {
        model_clustered(m, query, CLUSTERS, 99);
        right += model_near(m, index, query, k);
    }
    return (double)right / (double)(QUERIES * k);
}

static void a_linked_index_finds_99_of_100(void) {
    struct model m;
    struct lk_index *index;
    open_filled(&m, &index, N, 1);
    LK_CHECK(lk_index_wants_compaction(index));
    LK_CHECK(recall(&m, index, 10) == 1.0); /* exact until it is linked */
    LK_CHECK_INT(lk_index_compact(index), 0);
    LK_CHECK(!lk_index_wants_compaction(index));
    LK_CHECK_INT(lk_index_count(index), N);
    LK_CHECK(recall(&m, index, 10) >= 0.99);
    LK_CHECK(recall(&m, index, 1) >= 0.99);
    LK_CHECK(recall(&m, index, 100) >= 0.99);
    close_both(&m, index);
}

static void more_neighbours_than_a_graph_gives_are_exact(void) {
    struct model m;
    struct lk_index *index;
    open_filled(&m, &index, N, 2);
    LK_CHECK_INT(lk_index_compact(index), 0);
    model_check(&m, index, model_vector(&m, 5), N);
    model_check(&m, index, model_vector(&m, 5), 3000);
    close_both(&m, index);
}

static void a_random_history_keeps_99_of_100(void) {
    struct model m;
    struct lk_index *index;
    open_filled(&m, &index, N / 2, 3);
    for (int step = 0; step < 12000; step++) {
        const int i = (int)(model_random(&m) % N);
        if (m.alive[i] && model_random(&m) % 2 == 0) {
            LK_CHECK_INT(model_delete(&m, index, i), 0);
        } else {
            model_clustered(&m, model_vector(&m, i), CLUSTERS, 99);
            LK_CHECK_INT(model_put(&m, index, i), 0);
        }
        if (step % 1000 == 0 && lk_index_wants_compaction(index))
            LK_CHECK_INT(lk_index_compact(index), 0);
        if (step % 3000 == 0)
            LK_CHECK(recall(&m, index, 10) >= 0.99);
    }
    LK_CHECK_INT(lk_index_compact(index), 0);
    LK_CHECK(recall(&m, index, 10) >= 0.99);
    for (int i = 0; i < N; i++) {
        float got[DIM];
        char name[32];
        model_name(name, i);
        LK_CHECK_INT(lk_index_vector(index, name, got), m.alive[i] ? 0 : LK_ENOTFOUND);
        LK_CHECK(!m.alive[i] || same_bits(got, model_vector(&m, i), sizeof got));
    }
    close_both(&m, index);
}

static void a_vector_is_found_at_once(void) {
    struct model m;
    struct lk_index *index;
    struct lk_hits hits;
    open_filled(&m, &index, N - 100, 4);
    LK_CHECK_INT(lk_index_compact(index), 0);
    for (int i = N - 100; i < N; i++) {
        char name[32];
        model_name(name, i);
        LK_CHECK_INT(model_put(&m, index, i), 0);
        LK_CHECK_INT(lk_index_search(index, model_vector(&m, i), 1, NULL, -2, &hits), 0);
        if (LK_CHECK_INT(hits.count, 1))
            LK_CHECK_STR(hits.hits[0].id, name);
        lk_hits_free(&hits);
        LK_CHECK_INT(model_delete(&m, index, i), 0);
        LK_CHECK_INT(lk_index_search(index, model_vector(&m, i), 1, NULL, -2, &hits), 0);
        LK_CHECK(hits.count == 1 && strcmp(hits.hits[0].id, name) != 0);
        lk_hits_free(&hits);
    }
    close_both(&m, index);
}

/* The graph's nearest are all dead, and thousands of them: the search has to go on beyond them. */
static void tombstones_nearby_hide_nothing(void) {
    struct model m;
    struct lk_index *index;
    struct lk_hits hits;
    float query[DIM];
    open_filled(&m, &index, N, 5);
    LK_CHECK_INT(lk_index_compact(index), 0);
    memcpy(query, model_vector(&m, 17), sizeof query);
    LK_CHECK_INT(lk_index_search(index, query, 1000, NULL, -2, &hits), 0);
    for (size_t i = 0; i < hits.count; i++)
        LK_CHECK_INT(model_delete(&m, index, (int)strtol(hits.hits[i].id + 5, NULL, 10)), 0);
    LK_CHECK_INT(lk_index_tombstones(index), 1000);
    LK_CHECK(model_near(&m, index, query, 10) >= 9);
    lk_hits_free(&hits);
    for (int i = 0; i < N; i++) { /* until three are left */
        if (m.alive[i] && i % 2000 != 1)
            LK_CHECK_INT(model_delete(&m, index, i), 0);
    }
    model_check(&m, index, query, 10);
    LK_CHECK(lk_index_wants_compaction(index));
    LK_CHECK_INT(lk_index_compact(index), 0);
    LK_CHECK_INT(lk_index_tombstones(index), 0);
    model_check(&m, index, query, 10);
    close_both(&m, index);
}

static void equal_scores_are_ordered_by_id(void) {
    struct model m;
    struct lk_index *index;
    struct lk_hits hits;
    open_filled(&m, &index, 0, 6);
    for (int i = 2999; i >= 0; i--) { /* a third of them the same picture */
        char name[32];
        model_name(name, i);
        LK_CHECK_INT(lk_index_put(index, name, model_vector(&m, i % 3 == 0 ? 0 : i)), 0);
    }
    LK_CHECK_INT(lk_index_compact(index), 0);
    LK_CHECK(!lk_index_wants_compaction(index));
    for (size_t k = 1; k <= 100; k += 33) {
        LK_CHECK_INT(lk_index_search(index, model_vector(&m, 0), k, NULL, -2, &hits), 0);
        LK_REQUIRE(hits.count == k);
        for (size_t i = 0; i < k; i++)
            LK_CHECK_INT(strtol(hits.hits[i].id + 5, NULL, 10), 3 * i);
        lk_hits_free(&hits);
    }
    close_both(&m, index);
}

static int every_500th(void *arg, const char *id) {
    (void)arg;
    return strtol(id + 5, NULL, 10) % 500 == 7;
}

static void a_filter_gets_all_that_there_are(void) {
    struct model m;
    struct lk_index *index;
    struct lk_hits hits;
    open_filled(&m, &index, N, 7);
    LK_CHECK_INT(lk_index_compact(index), 0);
    LK_CHECK_INT(lk_index_search_where(index, model_vector(&m, 3), 20, NULL, -2, every_500th, NULL, &hits), 0);
    LK_CHECK_INT(hits.count, N / 500);
    lk_hits_free(&hits);
    LK_CHECK_INT(lk_index_search_where(index, model_vector(&m, 507), 1, NULL, -2, every_500th, NULL, &hits), 0);
    if (LK_CHECK_INT(hits.count, 1))
        LK_CHECK_STR(hits.hits[0].id, "item-00507");
    lk_hits_free(&hits);
    close_both(&m, index);
}

static void scores_by_id_are_those_of_a_search(void) {
    struct model m;
    struct lk_index *index;
    struct lk_hits hits;
    open_filled(&m, &index, N, 8);
    LK_CHECK_INT(lk_index_compact(index), 0);
    LK_CHECK_INT(lk_index_search(index, model_vector(&m, 3), 50, NULL, -2, &hits), 0);
    for (size_t i = 0; i < hits.count; i++) {
        float score = 0;
        const char *id = hits.hits[i].id;
        LK_CHECK_INT(lk_index_score(index, model_vector(&m, 3), 1, &id, &score), 0);
        LK_CHECK(same_bits(&score, &hits.hits[i].score, sizeof score));
    }
    lk_hits_free(&hits);
    close_both(&m, index);
}

static void linking_can_be_stopped_and_nothing_is_lost(void) {
    struct model m;
    struct lk_index *index;
    open_filled(&m, &index, N, 9);
    lk_index_cancel(index);
    LK_CHECK_INT(lk_index_compact(index), LK_ECANCELLED);
    model_check_queries(&m, index, 2);
    close_both(&m, index);
}

static void wrong_parameters_are_refused(void) {
    struct lk_index_options o = hnsw;
    struct lk_index *index;
    o.m = 1;
    LK_CHECK_INT(lk_index_open(&index, DIM, &o), LK_EINVAL);
    o.m = 1000;
    LK_CHECK_INT(lk_index_open(&index, DIM, &o), LK_EINVAL);
    o = hnsw;
    o.ef_search = -1;
    LK_CHECK_INT(lk_index_open(&index, DIM, &o), LK_EINVAL);
}

static const struct lk_case cases[] = {
    LK_CASE(a_linked_index_finds_99_of_100),
    LK_CASE(more_neighbours_than_a_graph_gives_are_exact),
    LK_CASE(a_random_history_keeps_99_of_100),
    LK_CASE(a_vector_is_found_at_once),
    LK_CASE(tombstones_nearby_hide_nothing),
    LK_CASE(equal_scores_are_ordered_by_id),
    LK_CASE(a_filter_gets_all_that_there_are),
    LK_CASE(scores_by_id_are_those_of_a_search),
    LK_CASE(linking_can_be_stopped_and_nothing_is_lost),
    LK_CASE(wrong_parameters_are_refused),
};

int main(int argc, char **argv) {
    lk_log_set_level(LK_LOG_WARN);
    return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
}
