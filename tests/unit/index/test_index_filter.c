/* Does a search over the items that a filter accepts find the k nearest of them, and are scores by id the search's own? */
#include "model.h"

#include "base/err.h"

struct filter {
    const struct model *m;
    int modulus, rest;
    long asked;
};

static int item_of(const char *id) { return (int)strtol(id + 5, NULL, 10); }

static int accept_some(void *arg, const char *id) {
    struct filter *f = arg;
    f->asked++;
    return item_of(id) % f->modulus == f->rest;
}

static int refuse(void *arg, const char *id) {
    (void)arg, (void)id;
    return lk_err(LK_EBUSY, "not now");
}

/* The accepted and alive, by brute force; k of them when there are k. */
static void check_where(struct model *m, struct lk_index *index, int modulus, size_t k, long most_asked) {
    struct filter f = {.m = m, .modulus = modulus, .rest = 1 % modulus};
    struct model_ranked *want = calloc((size_t)m->n, sizeof *want);
    float *query = calloc((size_t)m->dim, sizeof *query);
    struct lk_hits hits;
    size_t n = 0;
    if (want == NULL || query == NULL)
        abort();
    model_unit(m, query);
    for (int i = 0; i < m->n; i++) {
        if (m->alive[i] && i % modulus == f.rest)
            want[n++] = (struct model_ranked){.score = model_score(m, query, i), .item = i};
    }
    qsort(want, n, sizeof *want, model_by_rank);
    if (LK_CHECK_INT(lk_index_search_where(index, query, k, NULL, -2, accept_some, &f, &hits), 0) &&
        LK_CHECK_INT(hits.count, k < n ? k : n)) {
        for (size_t i = 0; i < hits.count; i++) {
            LK_CHECK_NEAR(hits.hits[i].score, want[i].score, 1e-5);
            LK_CHECK_INT(item_of(hits.hits[i].id) % modulus, f.rest);
            LK_CHECK(m->alive[item_of(hits.hits[i].id)]);
        }
    }
    LK_CHECK(f.asked <= most_asked);
    lk_hits_free(&hits);
    free(want);
    free(query);
}

static void fill(struct model *m, struct lk_index **index, int n, int dim) {
    model_open(m, n, dim, 11);
    LK_REQUIRE(lk_index_open(index, dim, NULL) == 0);
    for (int i = 0; i < n; i++)
        LK_CHECK_INT(model_put(m, *index, i), 0);
    for (int i = 0; i < n; i += 4)
        LK_CHECK_INT(model_delete(m, *index, i), 0);
}

static void every_accepted_item_can_be_found(void) {
    struct model m;
    struct lk_index *index;
    fill(&m, &index, 10000, 32);
    check_where(&m, index, 1, 10, 200); /* all pass: asked about little more than k a segment */
    check_where(&m, index, 3, 10, 400);
    check_where(&m, index, 100, 20, 7500);
    check_where(&m, index, 5000, 10, 7500); /* two match: all have to be looked at, once */
    check_where(&m, index, 7, 2000, 7500);  /* fewer match than are wanted */
    lk_index_close(index);
    model_close(&m);
}

static void a_least_score_ends_the_asking(void) {
    struct model m;
    struct lk_index *index;
    struct filter f = {.modulus = 1000000, .rest = 999999}; /* nobody */
    struct lk_hits hits;
    fill(&m, &index, 6000, 32);
    LK_CHECK_INT(lk_index_search_where(index, model_vector(&m, 1), 5, NULL, 0.5F, accept_some, &f, &hits), 0);
    LK_CHECK_INT(hits.count, 0);
    LK_CHECK(f.asked > 0 && f.asked < 200);
    lk_hits_free(&hits);
    lk_index_close(index);
    model_close(&m);
}

static void a_filter_that_fails_ends_the_search(void) {
    struct model m;
    struct lk_index *index;
    struct lk_hits hits;
    fill(&m, &index, 100, 16);
    LK_CHECK_INT(lk_index_search_where(index, model_vector(&m, 0), 5, NULL, -2, refuse, NULL, &hits), LK_EBUSY);
    LK_CHECK(hits.hits == NULL && hits.count == 0);
    LK_CHECK_STR(lk_error(), "not now");
    lk_index_close(index);
    model_close(&m);
}

static void equal_scores_are_cut_by_id_under_a_filter_too(void) {
    struct model m;
    struct lk_index *index;
    struct filter f = {.modulus = 5, .rest = 2};
    struct lk_hits hits;
    const int n = 3000;
    model_open(&m, 1, 16, 3);
    LK_REQUIRE(lk_index_open(&index, 16, NULL) == 0);
    for (int i = n - 1; i >= 0; i--) { /* the last first, so that order of insertion is no help */
        char name[32];
        model_name(name, i);
        LK_CHECK_INT(lk_index_put(index, name, m.vectors), 0);
    }
    LK_CHECK_INT(lk_index_search_where(index, m.vectors, 7, "item-00007", -2, accept_some, &f, &hits), 0);
    LK_REQUIRE(hits.count == 7);
    for (int i = 0; i < 7; i++)
        LK_CHECK_INT(item_of(hits.hits[i].id), i == 0 ? 2 : 7 + 5 * i);
    lk_hits_free(&hits);
    lk_index_close(index);
    model_close(&m);
}

static void scores_by_id_are_those_of_a_search(void) {
    struct model m;
    struct lk_index *index;
    struct lk_hits hits;
    const char *ids[1002];
    float scores[1002];
    fill(&m, &index, 5000, 64);
    LK_CHECK_INT(lk_index_search(index, model_vector(&m, 2), 1000, NULL, -2, &hits), 0);
    LK_REQUIRE(hits.count == 1000);
    for (size_t i = 0; i < 1000; i++)
        ids[i] = hits.hits[i].id;
    ids[1000] = "item-00000"; /* deleted */
    ids[1001] = "nobody";
    LK_CHECK_INT(lk_index_score(index, model_vector(&m, 2), 1002, ids, scores), 0);
    for (size_t i = 0; i < 1000; i++)
        LK_CHECK(same_bits(&scores[i], &hits.hits[i].score, sizeof(float)));
    LK_CHECK(isnan(scores[1000]) && isnan(scores[1001]));
    scores[0] = NAN;
    LK_CHECK_INT(lk_index_score(index, scores, 1, ids, scores + 1), LK_EINVAL);
    lk_hits_free(&hits);
    lk_index_close(index);
    model_close(&m);
}

static const struct lk_case cases[] = {
    LK_CASE(every_accepted_item_can_be_found),    LK_CASE(a_least_score_ends_the_asking),
    LK_CASE(a_filter_that_fails_ends_the_search), LK_CASE(equal_scores_are_cut_by_id_under_a_filter_too),
    LK_CASE(scores_by_id_are_those_of_a_search),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
