/* Does the index return what brute force in float64 returns, whatever was added, replaced, removed and compacted? */
#include <dirent.h>

#include "model.h"

#include "base/err.h"

static void results_equal_float64_brute_force(void) {
    struct model m;
    struct lk_index *index;
    model_open(&m, 1000, 512, 1);
    LK_REQUIRE(lk_index_open(&index, 512, NULL) == 0);
    for (int i = 0; i < 700; i++)
        LK_CHECK_INT(model_put(&m, index, i), 0);
    model_check_queries(&m, index, 4);

    for (int i = 700; i < 1000; i++)
        LK_CHECK_INT(model_put(&m, index, i), 0);
    for (int i = 0; i < 1000; i += 3)
        LK_CHECK_INT(model_delete(&m, index, i), 0);
    model_check_queries(&m, index, 4);

    for (int i = 1; i < 1000; i += 7) { /* replaced, or put back */
        model_unit(&m, model_vector(&m, i));
        LK_CHECK_INT(model_put(&m, index, i), 0);
    }
    model_check_queries(&m, index, 4);
    LK_CHECK(lk_index_tombstones(index) > 400);

    LK_CHECK_INT(lk_index_compact(index), 0);
    LK_CHECK_INT(lk_index_tombstones(index), 0);
    model_check_queries(&m, index, 4);

    for (int i = 0; i < 1000; i += 2) {
        model_unit(&m, model_vector(&m, i));
        LK_CHECK_INT(model_put(&m, index, i), 0);
    }
    for (int i = 1; i < 1000; i += 4)
        LK_CHECK_INT(m.alive[i] ? model_delete(&m, index, i) : 0, 0);
    model_check_queries(&m, index, 4);
    lk_index_close(index);
    model_close(&m);
}

static void a_random_history_keeps_equal_over_many_segments(void) {
    struct model m;
    struct lk_index *index;
    model_open(&m, 12000, 16, 2);
    LK_REQUIRE(lk_index_open(&index, 16, NULL) == 0);
    for (int round = 0; round < 12; round++) {
        for (int step = 0; step < 2500; step++) {
            int i = (int)(model_random(&m) % 12000);
            if (m.alive[i] && model_random(&m) % 3 == 0) {
                LK_CHECK_INT(model_delete(&m, index, i), 0);
            } else {
                model_unit(&m, model_vector(&m, i));
                LK_CHECK_INT(model_put(&m, index, i), 0);
            }
        }
        if (round % 3 == 2) {
            LK_CHECK_INT(lk_index_compact(index), 0);
            LK_CHECK_INT(lk_index_tombstones(index), 0);
        }
        model_check_queries(&m, index, 3);
    }
    for (int i = 0; i < m.n; i++) { /* everything goes, then something comes */
        if (m.alive[i])
            LK_CHECK_INT(model_delete(&m, index, i), 0);
    }
    model_check_queries(&m, index, 1);
    LK_CHECK_INT(lk_index_compact(index), 0);
    model_check_queries(&m, index, 1);
    LK_CHECK_INT(model_put(&m, index, 7), 0);
    model_check_queries(&m, index, 1);
    lk_index_close(index);
    model_close(&m);
}

static void check_names(struct lk_index *index, const float *query, size_t k, int first, int step) {
    struct lk_hits hits;
    LK_CHECK_INT(lk_index_search(index, query, k, NULL, -2, &hits), 0);
    LK_CHECK_INT(hits.count, k);
    for (size_t i = 0; i < hits.count; i++) {
        char name[32];
        model_name(name, first + (int)i * step);
        LK_CHECK_STR(hits.hits[i].id, name);
    }
    lk_hits_free(&hits);
}

static void equal_scores_are_ordered_by_id_even_at_the_cut(void) {
    enum { N = 10000 };
    static const size_t ks[] = {1, 7, 99, 100, 150, 5000};
    struct model m;
    struct lk_index *index;
    model_open(&m, 1, 8, 3);
    LK_REQUIRE(lk_index_open(&index, 8, NULL) == 0);
    for (int i = 0; i < N; i++) { /* equal vectors, in an order that is none: 7919 is prime to N */
        char name[32];
        model_name(name, i * 7919 % N);
        LK_CHECK_INT(lk_index_put(index, name, m.vectors), 0);
    }
    for (size_t i = 0; i < sizeof ks / sizeof *ks; i++)
        check_names(index, m.vectors, ks[i], 0, 1);
    for (int i = 0; i < N; i += 2) {
        char name[32];
        model_name(name, i);
        LK_CHECK_INT(lk_index_delete(index, name), 0);
    }
    for (size_t i = 0; i + 1 < sizeof ks / sizeof *ks; i++)
        check_names(index, m.vectors, ks[i], 1, 2);
    LK_CHECK_INT(lk_index_compact(index), 0);
    for (size_t i = 0; i < sizeof ks / sizeof *ks; i++)
        check_names(index, m.vectors, ks[i], 1, 2);
    lk_index_close(index);
    model_close(&m);
}

static void a_thousand_replaced_copies_nearby_hide_nothing(void) {
    struct model m;
    struct lk_index *index;
    model_open(&m, 50, 32, 4);
    LK_REQUIRE(lk_index_open(&index, 32, NULL) == 0);
    for (int i = 0; i < 50; i++)
        LK_CHECK_INT(model_put(&m, index, i), 0);
    for (int i = 0; i < 3000; i++)
        LK_CHECK_INT(model_put(&m, index, 11), 0); /* each leaves a tombstone at the very place that is asked for */
    LK_CHECK_INT(lk_index_tombstones(index), 3000);
    LK_CHECK(lk_index_wants_compaction(index));
    model_check(&m, index, model_vector(&m, 11), 1);
    model_check(&m, index, model_vector(&m, 11), 20);
    model_check(&m, index, model_vector(&m, 11), 200);
    LK_CHECK_INT(lk_index_compact(index), 0);
    LK_CHECK(!lk_index_wants_compaction(index));
    model_check(&m, index, model_vector(&m, 11), 20);
    lk_index_close(index);
    model_close(&m);
}

static void an_excluded_id_gives_its_place_to_the_next(void) {
    struct model m;
    struct lk_index *index;
    struct lk_hits with, without;
    model_open(&m, 40, 16, 5);
    LK_REQUIRE(lk_index_open(&index, 16, NULL) == 0);
    for (int i = 0; i < 40; i++)
        LK_CHECK_INT(model_put(&m, index, i), 0);
    LK_CHECK_INT(lk_index_search(index, model_vector(&m, 3), 6, NULL, -2, &with), 0);
    LK_CHECK_INT(lk_index_search(index, model_vector(&m, 3), 5, "item-00003", -2, &without), 0);
    LK_REQUIRE(with.count == 6 && without.count == 5);
    LK_CHECK_STR(with.hits[0].id, "item-00003");
    for (size_t i = 0; i < 5; i++)
        LK_CHECK_STR(without.hits[i].id, with.hits[i + 1].id);
    lk_hits_free(&without);
    LK_CHECK_INT(lk_index_search(index, model_vector(&m, 3), 100, "item-00003", -2, &without), 0);
    LK_CHECK_INT(without.count, 39);
    lk_hits_free(&with);
    lk_hits_free(&without);
    lk_index_close(index);
    model_close(&m);
}

static void hits_below_the_least_score_are_cut(void) {
    static const float vectors[4][2] = {{1, 0}, {0.8F, 0.6F}, {0, 1}, {-1, 0}};
    static const char *const ids[4] = {"a", "b", "c", "d"};
    struct lk_index *index;
    struct lk_hits hits;
    LK_REQUIRE(lk_index_open(&index, 2, NULL) == 0);
    LK_CHECK_INT(lk_index_put_many(index, 4, ids, &vectors[0][0]), 0);
    LK_CHECK_INT(lk_index_search(index, vectors[0], 4, NULL, 0.5F, &hits), 0);
    LK_CHECK_INT(hits.count, 2);
    lk_hits_free(&hits);
    LK_CHECK_INT(lk_index_search(index, vectors[0], 4, NULL, 0, &hits), 0);
    LK_CHECK_INT(hits.count, 3);
    lk_hits_free(&hits);
    LK_CHECK_INT(lk_index_search(index, vectors[0], 4, NULL, 1.5F, &hits), 0);
    LK_CHECK_INT(hits.count, 0);
    lk_hits_free(&hits);
    lk_index_close(index);
}

static void the_last_of_an_id_given_twice_counts(void) {
    static const float vectors[3][2] = {{1, 0}, {0, 1}, {0.6F, 0.8F}};
    static const char *const ids[3] = {"twice", "once", "twice"};
    struct lk_index *index;
    struct lk_hits hits;
    float got[2];
    LK_REQUIRE(lk_index_open(&index, 2, NULL) == 0);
    LK_CHECK_INT(lk_index_put_many(index, 3, ids, &vectors[0][0]), 0);
    LK_CHECK_INT(lk_index_count(index), 2);
    LK_CHECK_INT(lk_index_tombstones(index), 1);
    LK_CHECK_INT(lk_index_vector(index, "twice", got), 0);
    LK_CHECK(same_bits(got, vectors[2], sizeof got));
    LK_CHECK_INT(lk_index_search(index, vectors[0], 9, NULL, -2, &hits), 0);
    LK_REQUIRE(hits.count == 2);
    LK_CHECK_STR(hits.hits[0].id, "twice");
    LK_CHECK_NEAR(hits.hits[0].score, 0.6, 1e-6);
    lk_hits_free(&hits);
    lk_index_close(index);
}

static void wrong_arguments_are_refused_with_a_reason(void) {
    float bad[2] = {1, NAN}, good[2] = {1, 0}, out[2];
    struct lk_index *index = NULL;
    struct lk_hits hits;
    LK_CHECK_INT(lk_index_open(&index, 0, NULL), LK_EINVAL);
    LK_CHECK(index == NULL);
    lk_index_close(NULL);
    LK_REQUIRE(lk_index_open(&index, 2, NULL) == 0);
    LK_CHECK_INT(lk_index_put(index, "a", bad), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "not finite");
    bad[1] = INFINITY;
    LK_CHECK_INT(lk_index_search(index, bad, 1, NULL, -2, &hits), LK_EINVAL);
    LK_CHECK_INT(lk_index_search(index, good, 0, NULL, -2, &hits), LK_EINVAL);
    LK_CHECK_INT(lk_index_put(index, "", good), LK_EINVAL);
    LK_CHECK_INT(lk_index_delete(index, "a"), LK_ENOTFOUND);
    LK_CHECK_INT(lk_index_vector(index, "a", out), LK_ENOTFOUND);
    LK_CHECK_INT(lk_index_search(index, good, 5, NULL, -2, &hits), 0); /* empty, and fine */
    LK_CHECK_INT(hits.count, 0);
    lk_hits_free(&hits);
    LK_CHECK_INT(lk_index_compact(index), 0);
    LK_CHECK_INT(lk_index_count(index), 0);
    lk_index_close(index);
}

static int threads_of_this_process(void) {
    DIR *tasks = opendir("/proc/self/task");
    int n = 0;
    if (tasks == NULL)
        return -1;
    while (readdir(tasks) != NULL)
        n++;
    (void)closedir(tasks);
    return n;
}

static void a_query_stays_on_its_thread(void) {
    struct model m;
    struct lk_index *index;
    int before = threads_of_this_process();
    model_open(&m, 5000, 64, 6);
    LK_REQUIRE(lk_index_open(&index, 64, NULL) == 0);
    for (int i = 0; i < 5000; i++)
        LK_CHECK_INT(model_put(&m, index, i), 0);
    model_check_queries(&m, index, 2);
    LK_CHECK_INT(threads_of_this_process(), before);
    lk_index_close(index);
    model_close(&m);
}

static const struct lk_case cases[] = {
    LK_CASE(a_query_stays_on_its_thread), /* first: no other case has started one then */
    LK_CASE(results_equal_float64_brute_force),
    LK_CASE(a_random_history_keeps_equal_over_many_segments),
    LK_CASE(equal_scores_are_ordered_by_id_even_at_the_cut),
    LK_CASE(a_thousand_replaced_copies_nearby_hide_nothing),
    LK_CASE(an_excluded_id_gives_its_place_to_the_next),
    LK_CASE(hits_below_the_least_score_are_cut),
    LK_CASE(the_last_of_an_id_given_twice_counts),
    LK_CASE(wrong_arguments_are_refused_with_a_reason),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
