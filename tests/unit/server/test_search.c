/* Does a search bring catalogue and index together rightly: always the k best matches, with the metadata that the filter
 * saw, whichever way it goes about it? */
#include "../store/fixture.h"
#include "base/rng.h"
#include "server/index.h"
#include "server/search.h"

enum { ITEMS = 3000, DIM = 24 };
#define SPACE "0000000000000000000000000000000000000000000000000000000000000000"

struct world {
    struct fixture f;
    struct lk_index *index;
    float vectors[ITEMS][DIM], query[DIM];
};

static float draw(uint64_t i, uint32_t j) { return lk_uniform(lk_rng(5, i, LK_RNG_TEST, 0, j).v[0]) - 0.5f; }

static void unit(float v[DIM], uint64_t seed) {
    double sum = 0;
    for (uint32_t j = 0; j < DIM; j++) {
        v[j] = draw(seed, j);
        sum += (double)v[j] * v[j];
    }
    for (int j = 0; j < DIM; j++)
        v[j] = (float)(v[j] / sqrt(sum));
}

static const char *id_of(int i) {
    static _Thread_local char id[16];
    (void)snprintf(id, sizeof id, "item%04d", i);
    return id;
}

/* Item i has "n": i and "tens": i % 10; every 8th has the vector of the one before it, so that there are ties. */
static int open_world(struct world *w) {
    memset(w, 0, sizeof *w);
    if (fixture_open(&w->f) || lk_index_open(&w->index, DIM, NULL) || lk_store_begin(w->f.store))
        return -1;
    int rc = 0;
    for (int i = 0; i < ITEMS && rc == 0; i++) {
        char metadata[64];
        unit(w->vectors[i], i % 8 == 7 ? (uint64_t)i - 1 : (uint64_t)i);
        (void)snprintf(metadata, sizeof metadata, "{\"n\":%d,\"tens\":%d}", i, i % 10);
        rc = lk_store_put(w->f.store, id_of(i), metadata, "image/png", "picture", 7, 1, 1, SPACE, w->vectors[i], DIM,
                          NULL, NULL);
        if (rc == 0)
            rc = lk_index_put(w->index, id_of(i), w->vectors[i]);
    }
    unit(w->query, 1000000);
    return rc ? rc : lk_store_commit(w->f.store);
}

static void close_world(struct world *w) {
    lk_index_close(w->index);
    fixture_close(&w->f);
    free(w);
}

static struct world *new_world(void) {
    struct world *w = malloc(sizeof *w);
    if (w == NULL || open_world(w) != 0)
        abort();
    return w;
}

static struct lk_search search_of(struct world *w, size_t k, const struct lk_filter *filter) {
    return (struct lk_search){.store = w->f.store,
                              .index = w->index,
                              .query = w->query,
                              .k = k,
                              .min_score = -2,
                              .filter = filter,
                              .with_metadata = 1};
}

static struct lk_filter *filter_of(const char *text) {
    static const struct lk_filter_limits limits = {.bytes = 4096, .depth = 4, .conditions = 64};
    struct lk_fault fault;
    struct lk_filter *filter = NULL;
    if (lk_filter_open_text(&filter, text, strlen(text), &limits, "filter", &fault))
        abort();
    return filter;
}

struct ranked {
    float score;
    int item;
};

static int by_rank(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    return x->score != y->score ? (x->score > y->score ? -1 : 1) : x->item - y->item;
}

/* The items from..to that have these tens (-1: any), in order, by the index's own scores; returns how many. */
static size_t expected(struct world *w, int from, int to, int tens, int exclude, float min_score, struct ranked *out) {
    size_t n = 0;
    for (int i = from; i < to; i++) {
        const char *id = id_of(i);
        float score;
        if ((tens >= 0 && i % 10 != tens) || i == exclude || lk_index_score(w->index, w->query, 1, &id, &score) ||
            !(score >= min_score))
            continue;
        out[n++] = (struct ranked){.score = score, .item = i};
    }
    qsort(out, n, sizeof *out, by_rank);
    return n;
}

static void check_found(const struct lk_findings *found, const struct ranked *want, size_t n, size_t k) {
    LK_CHECK_INT(found->count, k < n ? k : n);
    for (size_t i = 0; i < found->count && i < n; i++) {
        char metadata[64];
        (void)snprintf(metadata, sizeof metadata, "{\"n\":%d,\"tens\":%d}", want[i].item, want[i].item % 10);
        LK_CHECK_STR(found->items[i].id, id_of(want[i].item));
        LK_CHECK_STR(found->items[i].metadata, metadata);
        LK_CHECK(found->items[i].score == want[i].score);
    }
}

static void a_filtered_search_finds_the_k_best_matches_however_rare(void) {
    static const struct {
        const char *filter;
        int from, to, tens;
    } filters[] = {
        {"{}", 0, ITEMS, -1},
        {"{\"must\":[{\"key\":\"tens\",\"match\":3}]}", 0, ITEMS, 3},
        {"{\"must\":[{\"key\":\"n\",\"range\":{\"gte\":1000,\"lt\":1200}}]}", 1000, 1200, -1},
        {"{\"must\":[{\"key\":\"n\",\"range\":{\"gte\":1000,\"lt\":1100}},{\"key\":\"tens\",\"match\":7}]}", 1000, 1100,
         7},
        {"{\"must\":[{\"key\":\"n\",\"match\":2017}]}", 2017, 2018, -1},
        {"{\"must\":[{\"key\":\"n\",\"match\":-1}]}", 0, 0, -1},
    };
    static const size_t ks[] = {1, 10, 150, 5000};
    struct world *w = new_world();
    static struct ranked want[ITEMS];
    for (size_t f = 0; f < sizeof filters / sizeof *filters; f++) {
        struct lk_filter *filter = filter_of(filters[f].filter);
        for (size_t k = 0; k < sizeof ks / sizeof *ks; k++)
            for (int variant = 0; variant < 3; variant++) {
                struct lk_search s = search_of(w, ks[k], filter);
                struct lk_findings found;
                int exclude = variant == 1 ? 1003 : -1;
                s.min_score = variant == 2 ? 0.0f : -2;
                s.exclude = exclude >= 0 ? "item1003" : NULL;
                size_t n = expected(w, filters[f].from, filters[f].to, filters[f].tens, exclude, s.min_score, want);
                LK_CHECK_INT(lk_search_run(&s, &found), 0);
                check_found(&found, want, n, ks[k]);
                lk_findings_free(&found);
            }
        lk_filter_close(filter);
    }
    close_world(w);
}

static void without_a_filter_hits_come_with_their_metadata(void) {
    struct world *w = new_world();
    static struct ranked want[ITEMS];
    size_t n = expected(w, 0, ITEMS, -1, -1, -2, want);
    struct lk_search s = search_of(w, 25, NULL);
    struct lk_findings found;
    LK_CHECK_INT(lk_search_run(&s, &found), 0);
    check_found(&found, want, n, 25);
    lk_findings_free(&found);
    s.with_metadata = 0;
    LK_CHECK_INT(lk_search_run(&s, &found), 0);
    LK_CHECK_INT(found.count, 25);
    LK_CHECK(found.items[0].metadata == NULL);
    lk_findings_free(&found);
    close_world(w);
}

/* Between the commit of a delete and the index's tombstone lie microseconds; a search in them must not show the item. */
static void an_item_deleted_in_the_catalogue_alone_is_no_hit(void) {
    struct world *w = new_world();
    static struct ranked want[ITEMS];
    size_t n = expected(w, 0, ITEMS, -1, -1, -2, want), first = 0;
    LK_CHECK_INT(lk_store_begin(w->f.store), 0);
    LK_CHECK_INT(lk_store_delete(w->f.store, id_of(want[0].item), NULL), 0);
    LK_CHECK_INT(lk_store_delete(w->f.store, id_of(want[3].item), NULL), 0);
    LK_CHECK_INT(lk_store_commit(w->f.store), 0);
    struct ranked left[8];
    for (size_t i = 0; i < 10 && first < 8; i++)
        if (i != 0 && i != 3)
            left[first++] = want[i];

    struct lk_findings found;
    struct lk_search s = search_of(w, 10, NULL);
    LK_CHECK_INT(lk_search_run(&s, &found), 0);
    check_found(&found, left, 8, 10);
    lk_findings_free(&found);

    struct lk_filter *all = filter_of("{}"); /* the filter asks the catalogue anyway, and finds others in their place */
    s = search_of(w, 8, all);
    LK_CHECK_INT(lk_search_run(&s, &found), 0);
    check_found(&found, left, n - 2, 8);
    lk_findings_free(&found);
    lk_filter_close(all);
    close_world(w);
}

static int is_gone(void *arg) {
    ++*(int *)arg;
    return 1;
}

static void a_filtered_search_ends_at_the_deadline_or_when_the_client_left(void) {
    struct world *w = new_world();
    struct lk_filter *none = filter_of("{\"must\":[{\"key\":\"n\",\"match\":-1}]}");
    struct lk_search s = search_of(w, 10, none);
    struct lk_findings found;
    int asked = 0;
    s.deadline_ns = lk_now_ns() - 1;
    LK_CHECK_INT(lk_search_run(&s, &found), LK_ECANCELLED);
    s.deadline_ns = lk_now_ns() + 60000000000;
    s.gone = is_gone;
    s.arg = &asked;
    LK_CHECK_INT(lk_search_run(&s, &found), LK_ECANCELLED);
    LK_CHECK(asked > 0 && found.count == 0 && found.items == NULL);
    lk_filter_close(none);
    close_world(w);
}

static void an_empty_index_gives_no_hits(void) {
    struct world *w = new_world();
    lk_index_close(w->index);
    w->index = NULL;
    LK_REQUIRE(lk_index_open(&w->index, DIM, NULL) == 0);
    struct lk_filter *all = filter_of("{}");
    struct lk_search s = search_of(w, 10, all);
    struct lk_findings found;
    LK_CHECK_INT(lk_search_run(&s, &found), 0);
    LK_CHECK_INT(found.count, 0);
    lk_filter_close(all);
    close_world(w);
}

static void many_searches_find_what_each_finds_alone(void) {
    enum { MANY = 24 };
    struct world *w = new_world();
    struct lk_filter *sevens = filter_of("{\"must\":[{\"key\":\"tens\",\"match\":7}]}");
    static float queries[MANY][DIM];
    struct lk_search searches[MANY];
    struct lk_findings together[MANY], alone;
    LK_CHECK_INT(lk_store_begin(w->f.store), 0); /* one that the index still has */
    LK_CHECK_INT(lk_store_delete(w->f.store, id_of(500), NULL), 0);
    LK_CHECK_INT(lk_store_commit(w->f.store), 0);
    for (int i = 0; i < MANY; i++) {
        memcpy(queries[i], w->vectors[(size_t)i * 50], sizeof queries[i]);
        searches[i] = search_of(w, 1 + (size_t)i, i % 3 == 1 ? sevens : NULL);
        searches[i].query = queries[i];
        searches[i].exclude = i % 4 == 0 ? "item0100" : NULL;
        searches[i].min_score = i % 5 == 0 ? 0.3f : -2;
        searches[i].with_metadata = i % 7 != 0;
    }
    LK_CHECK_INT(lk_search_run_many(searches, MANY, together), 0);
    for (int i = 0; i < MANY; i++) {
        LK_CHECK_INT(lk_search_run(&searches[i], &alone), 0);
        LK_CHECK(alone.count > 0);
        LK_CHECK_INT(together[i].count, alone.count);
        for (size_t h = 0; h < alone.count && h < together[i].count; h++) {
            const struct lk_found *a = &together[i].items[h], *b = &alone.items[h];
            LK_CHECK_STR(a->id, b->id);
            LK_CHECK(a->score == b->score);
            LK_CHECK(a->metadata == b->metadata || strcmp(a->metadata, b->metadata) == 0);
        }
        lk_findings_free(&alone);
        lk_findings_free(&together[i]);
    }
    searches[4].deadline_ns = 1; /* of one with a filter */
    LK_CHECK_INT(lk_search_run_many(searches, MANY, together), LK_ECANCELLED);
    for (int i = 0; i < MANY; i++)
        LK_CHECK(together[i].items == NULL && together[i].count == 0);
    LK_CHECK_INT(lk_search_run_many(NULL, 0, NULL), 0);
    lk_filter_close(sevens);
    close_world(w);
}

static const struct lk_case cases[] = {
    LK_CASE(a_filtered_search_finds_the_k_best_matches_however_rare),
    LK_CASE(without_a_filter_hits_come_with_their_metadata),
    LK_CASE(an_item_deleted_in_the_catalogue_alone_is_no_hit),
    LK_CASE(a_filtered_search_ends_at_the_deadline_or_when_the_client_left),
    LK_CASE(an_empty_index_gives_no_hits),
    LK_CASE(many_searches_find_what_each_finds_alone),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
