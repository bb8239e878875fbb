/* Does a search see one moment of the index while writers and compactions go on beside it? */
#include <pthread.h>
#include <sched.h>

#include "model.h"

#include "base/err.h"
#include "base/log.h"

enum { N = 6000, DIM = 8, FIXED = 20, READERS = 3 };

struct shared {
    struct lk_index *index;
    struct model *m;
    float query[DIM];
    char fixed[FIXED][32]; /* the nearest items, which nobody touches, in order */
    int exact;             /* no graph */
    atomic_int stop;
    atomic_long searches, compactions;
};

/* Items 0..FIXED-1 lie near the query; every other is farther away than all of them, now and after each replacement. */
static void place(struct shared *s, int i) {
    float *v = model_vector(s->m, i);
    double sum = 0;
    model_unit(s->m, v);
    v[0] = i < FIXED ? 4.0F + (float)(FIXED - i) : -fabsf(v[0]);
    for (int j = 0; j < DIM; j++)
        sum += (double)v[j] * v[j];
    for (int j = 0; j < DIM; j++)
        v[j] = (float)(v[j] / sqrt(sum));
}

static void *read_on(void *arg) {
    struct shared *s = arg;
    unsigned char seen[N];
    while (!atomic_load(&s->stop)) {
        struct lk_hits hits;
        const size_t k = atomic_load(&s->searches) % 4 == 0 ? N : 100;
        LK_CHECK_INT(lk_index_search(s->index, s->query, k, NULL, -2, &hits), 0);
        /* Writers only replace, so that the number of items never changes: a moment seen whole has all of them once. */
        LK_CHECK_INT(hits.count, k);
        memset(seen, 0, sizeof seen);
        for (size_t i = 0; i < hits.count; i++) {
            int item = (int)strtol(hits.hits[i].id + 5, NULL, 10);
            LK_CHECK(!seen[item]);
            seen[item] = 1;
            LK_CHECK(i == 0 || hits.hits[i - 1].score >= hits.hits[i].score);
            if (s->exact && i < FIXED)
                LK_CHECK_STR(hits.hits[i].id, s->fixed[i]);
        }
        lk_hits_free(&hits);
        atomic_fetch_add(&s->searches, 1);
    }
    return NULL;
}

static void *compact_on(void *arg) {
    struct shared *s = arg;
    while (!atomic_load(&s->stop)) {
        LK_CHECK_INT(lk_index_compact(s->index), 0);
        atomic_fetch_add(&s->compactions, 1);
        (void)sched_yield();
    }
    return NULL;
}

static void by_query(struct shared *s) {
    struct lk_hits hits;
    LK_CHECK_INT(lk_index_search(s->index, s->query, FIXED, NULL, -2, &hits), 0);
    for (size_t i = 0; i < hits.count; i++)
        memcpy(s->fixed[i], hits.hits[i].id, strlen(hits.hits[i].id) + 1);
    lk_hits_free(&hits);
}

static void check_beside_writers(const struct lk_index_options *options, int steps, int compactions) {
    struct model m;
    struct shared s = {.m = &m, .query = {1}, .exact = options == NULL};
    pthread_t threads[READERS + 1];
    model_open(&m, N, DIM, 7);
    LK_REQUIRE(lk_index_open(&s.index, DIM, options) == 0);
    for (int i = 0; i < N; i++) {
        place(&s, i);
        LK_CHECK_INT(model_put(&m, s.index, i), 0);
    }
    by_query(&s);
    for (int i = 0; i < READERS; i++)
        LK_REQUIRE(pthread_create(&threads[i], NULL, read_on, &s) == 0);
    LK_REQUIRE(pthread_create(&threads[READERS], NULL, compact_on, &s) == 0);
    for (int step = 0; step < steps || atomic_load(&s.searches) < 60 || atomic_load(&s.compactions) < compactions;
         step++) {
        int i = FIXED + (int)(model_random(&m) % (N - FIXED));
        float got[DIM];
        char name[32];
        place(&s, i);
        LK_CHECK_INT(model_put(&m, s.index, i), 0);
        model_name(name, i);
        LK_CHECK_INT(lk_index_vector(s.index, name, got), 0);
        LK_CHECK(same_bits(got, model_vector(&m, i), sizeof got));
    }
    atomic_store(&s.stop, 1);
    for (int i = 0; i <= READERS; i++)
        LK_CHECK_INT(pthread_join(threads[i], NULL), 0);
    LK_CHECK_INT(lk_index_compact(s.index), 0);
    model_check(&m, s.index, s.query, N);
    lk_index_close(s.index);
    model_close(&m);
}

static void every_search_sees_every_item_once(void) { check_beside_writers(NULL, 20000, 30); }

static void every_search_beside_linking_sees_every_item_once(void) {
    const struct lk_index_options hnsw = {
        .kind = LK_INDEX_HNSW, .m = 8, .ef_construction = 20, .ef_search = 32, .unlinked = 200};
    check_beside_writers(&hnsw, 2000, 3);
}

static const struct lk_case cases[] = {
    LK_CASE(every_search_sees_every_item_once),
    LK_CASE(every_search_beside_linking_sees_every_item_once),
};

int main(int argc, char **argv) {
    lk_log_set_level(LK_LOG_WARN);
    return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
}
