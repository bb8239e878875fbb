/* Are batches whole or nothing, in one order, and do readers go on beside them? */
#include "fixture.h"

#include <pthread.h>
#include <stdatomic.h>

#include "store/store_internal.h"

static void a_rollback_leaves_nothing_behind(void) {
    struct fixture f;
    int64_t seq = 0, items = 0;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(put(f.store, "kept", "image", "s", 1), 0);
    LK_CHECK_INT(lk_store_begin(f.store), 0);
    LK_CHECK_INT(put_in(f.store, "new", "another", "s", 1), 0);
    LK_CHECK_INT(put_in(f.store, "kept", "replaced", "s", 2), 0);
    LK_CHECK_INT(lk_store_patch(f.store, "kept", "{\"k\":1}", NULL), 0);
    LK_CHECK_INT(lk_store_delete(f.store, "new", &seq), 0);
    LK_CHECK_INT(seq, 5);
    LK_CHECK_INT(list(f.store, NULL, 10, "s").n, 1); /* readers see nothing of it meanwhile */
    LK_CHECK_INT(lk_store_seq(f.store), 1);
    lk_store_rollback(f.store);
    LK_CHECK_INT(lk_store_seq(f.store), 1);
    LK_CHECK_INT(lk_store_count(f.store, &items), 0);
    LK_CHECK_INT(items, 1);
    LK_CHECK_STR(get(f.store, "kept", "s").metadata, "{}");
    LK_CHECK_NEAR(get(f.store, "kept", "s").vector[0], 1, 0);
    LK_CHECK_INT(fixture_sql(&f, "SELECT count(*) FROM images"), 1);
    LK_CHECK_INT(fixture_sql(&f, "SELECT count(*) FROM deletes"), 0);
    LK_CHECK_INT(put(f.store, "next", "image", NULL, 1), 0);
    LK_CHECK_INT(lk_store_seq(f.store), 2);
    fixture_close(&f);
}

static void a_refused_call_leaves_the_batch_as_it_was(void) {
    struct fixture f;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(lk_store_begin(f.store), 0);
    LK_CHECK_INT(put_in(f.store, "a", "image", "s", 1), 0);
    LK_CHECK_INT(put_in(f.store, "", "image", "s", 1), LK_EINVAL);
    LK_CHECK_INT(put_in(f.store, "b", "", "s", 1), LK_EINVAL);
    LK_CHECK_INT(lk_store_put(f.store, "b", "no JSON", "image/png", "i", 1, 1, 1, NULL, NULL, 0, NULL, NULL),
                 LK_EINVAL);
    LK_CHECK_INT(lk_store_put(f.store, "b", NULL, "", "i", 1, 1, 1, NULL, NULL, 0, NULL, NULL), LK_EINVAL);
    LK_CHECK_INT(lk_store_put(f.store, "b", NULL, "t", "i", (size_t)1 << 40, 1, 1, NULL, NULL, 0, NULL, NULL),
                 LK_ELIMIT);
    LK_CHECK_INT(lk_store_put(f.store, "b", NULL, "t", "i", 1, 1, 1, NULL, (float[]){1}, 1, NULL, NULL), LK_EINVAL);
    LK_CHECK_INT(lk_store_put(f.store, "b", NULL, "t", "i", 1, 1, 1, "s", (float[]){1}, 0, NULL, NULL), LK_EINVAL);
    LK_CHECK_INT(lk_store_delete(f.store, "gone", NULL), LK_ENOTFOUND);
    LK_CHECK_INT(put_in(f.store, "c", "image", "s", 1), 0);
    LK_CHECK_INT(lk_store_commit(f.store), 0);
    LK_CHECK_STR(list(f.store, NULL, 10, "s").ids, "a c ");
    LK_CHECK_INT(lk_store_seq(f.store), 2);
    fixture_close(&f);
}

static void writing_needs_a_batch_of_ones_own(void) {
    struct fixture f;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(put_in(f.store, "a", "image", NULL, 0), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "no batch");
    LK_CHECK_INT(lk_store_delete(f.store, "a", NULL), LK_EINVAL);
    LK_CHECK_INT(lk_store_begin(f.store), 0);
    LK_CHECK_INT(lk_store_begin(f.store), LK_EINVAL); /* would wait for itself */
    LK_CHECK_INT(lk_store_commit(f.store), 0);
    fixture_close(&f);
}

static void a_closed_batch_is_undone_when_the_store_closes_in_it(void) {
    struct fixture f;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(lk_store_begin(f.store), 0);
    LK_CHECK_INT(put_in(f.store, "a", "image", NULL, 0), 0);
    LK_CHECK_INT(fixture_reopen(&f), 0);
    LK_CHECK_INT(list(f.store, NULL, 10, NULL).n, 0);
    fixture_close(&f);
}

static void the_count_and_seq_agree_with_the_tables_after_any_history(void) {
    struct fixture f;
    uint64_t random = 3;
    int64_t items = 0, last = 0;
    LK_REQUIRE(fixture_open(&f) == 0);
    for (int batch = 0; batch < 120; batch++) {
        LK_CHECK_INT(lk_store_begin(f.store), 0);
        for (int i = 0; i < 12; i++) {
            char id[24], image[32];
            random = random * 6364136223846793005U + 1442695040888963407U;
            snprintf(id, sizeof id, "%d", (int)(random >> 33) % 40);
            snprintf(image, sizeof image, "picture %d", (int)(random >> 40) % 15);
            switch ((random >> 50) % 4) {
            case 0: (void)lk_store_delete(f.store, id, NULL); break;
            case 1: (void)lk_store_patch(f.store, id, "{\"n\":1}", NULL); break;
            case 2: (void)lk_store_put_vector(f.store, id, INT64_MAX, "t", (float[]){1}, 1); break;
            default: LK_CHECK_INT(put_in(f.store, id, image, "s", 1), 0);
            }
        }
        if (batch % 5 == 4)
            lk_store_rollback(f.store);
        else
            LK_CHECK_INT(lk_store_commit(f.store), 0);
        LK_CHECK(lk_store_seq(f.store) >= last);
        last = lk_store_seq(f.store);
        if (batch % 40 == 20)
            LK_CHECK_INT(fixture_reopen(&f), 0);
    }
    LK_CHECK_INT(lk_store_count(f.store, &items), 0);
    LK_CHECK_INT(items, fixture_sql(&f, "SELECT count(*) FROM items"));
    LK_CHECK(items > 5);
    LK_CHECK(lk_store_seq(f.store) >= fixture_sql(&f, "SELECT max(seq) FROM items"));
    LK_CHECK(lk_store_seq(f.store) >= fixture_sql(&f, "SELECT max(seq) FROM deletes"));
    LK_CHECK_INT(fixture_sql(&f, "SELECT count(*) FROM (SELECT seq FROM items UNION ALL SELECT seq FROM deletes) "
                                 "GROUP BY seq HAVING count(*) > 1 UNION ALL SELECT 0 LIMIT 1"),
                 0);
    LK_CHECK_INT(fixture_sql(&f, "SELECT count(*) FROM images WHERE sha256 NOT IN (SELECT image FROM items)"), 0);
    LK_CHECK_INT(fixture_sql(&f, "SELECT count(*) FROM vectors WHERE item NOT IN (SELECT item FROM items)"), 0);
    LK_CHECK_INT(fixture_sql(&f, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
    fixture_close(&f);
}

enum { ITEMS = 40 };
struct shared {
    struct lk_store *store;
    atomic_int stop;
    atomic_long reads;
};

static int same_round(void *arg, const struct lk_item *item) {
    float *round = arg;
    if (*round < 0)
        *round = item->vector != NULL ? item->vector[0] : -1;
    LK_CHECK(item->vector != NULL && item->vector[0] == *round);
    return 0;
}

static void *read_on(void *arg) {
    struct shared *s = arg;
    while (!atomic_load(&s->stop)) {
        float round = -1;
        struct lk_buf image = {0};
        char media_type[64];
        int64_t items = 0;
        LK_CHECK_INT(lk_store_list(s->store, NULL, ITEMS, "s", same_round, &round), 0);
        LK_CHECK_INT(lk_store_image(s->store, "00", &image, media_type), 0);
        LK_CHECK_INT(lk_store_count(s->store, &items), 0);
        LK_CHECK_INT(items, ITEMS);
        lk_buf_free(&image);
        atomic_fetch_add(&s->reads, 1);
    }
    return NULL;
}

static void write_round(struct lk_store *store, int round) {
    LK_CHECK_INT(lk_store_begin(store), 0);
    for (int i = 0; i < ITEMS; i++) {
        char id[24], image[32];
        snprintf(id, sizeof id, "%02d", i);
        snprintf(image, sizeof image, "%d in round %d", i, round);
        LK_CHECK_INT(put_in(store, id, image, "s", (float)round), 0);
    }
    LK_CHECK_INT(lk_store_commit(store), 0);
}

static void readers_see_whole_batches_beside_a_writer(void) {
    struct fixture f;
    struct shared s = {0};
    pthread_t threads[6];
    LK_REQUIRE(fixture_open(&f) == 0);
    s.store = f.store;
    write_round(f.store, 0);
    for (int i = 0; i < 6; i++) /* more than there are connections */
        LK_REQUIRE(pthread_create(&threads[i], NULL, read_on, &s) == 0);
    for (int round = 1; round < 60 || atomic_load(&s.reads) < 60; round++)
        write_round(f.store, round);
    atomic_store(&s.stop, 1);
    for (int i = 0; i < 6; i++)
        LK_CHECK_INT(pthread_join(threads[i], NULL), 0);
    fixture_close(&f);
}

static void *write_on(void *arg) {
    struct shared *s = arg;
    for (int i = 0; i < 25; i++) {
        LK_CHECK_INT(lk_store_begin(s->store), 0);
        const int mine = (int)atomic_fetch_add(&s->reads, 1);
        char id[24];
        snprintf(id, sizeof id, "item %d", mine);
        LK_CHECK_INT(put_in(s->store, id, "image", NULL, 0), 0);
        LK_CHECK_INT(put_in(s->store, id, "picture", NULL, 0), 0);
        LK_CHECK_INT(mine % 3 ? lk_store_commit(s->store) : (lk_store_rollback(s->store), 0), 0);
    }
    return NULL;
}

static void batches_of_many_threads_come_one_after_the_other(void) {
    struct fixture f;
    struct shared s = {0};
    pthread_t threads[4];
    LK_REQUIRE(fixture_open(&f) == 0);
    s.store = f.store;
    for (int i = 0; i < 4; i++)
        LK_REQUIRE(pthread_create(&threads[i], NULL, write_on, &s) == 0);
    for (int i = 0; i < 4; i++)
        LK_CHECK_INT(pthread_join(threads[i], NULL), 0);
    LK_CHECK_INT(list(f.store, NULL, 1000, NULL).n, 66); /* 100 batches, of which the 34 multiples of 3 were undone */
    LK_CHECK_INT(lk_store_seq(f.store), 132);
    LK_CHECK_INT(fixture_sql(&f, "SELECT count(DISTINCT seq) FROM items"), 66);
    fixture_close(&f);
}

static long long wal_bytes(const struct fixture *f) {
    char path[300];
    struct stat st;
    snprintf(path, sizeof path, "%s-wal", f->path);
    return stat(path, &st) == 0 ? (long long)st.st_size : -1;
}

enum { PICTURE = 100000, LIMIT = 64 * 16384 };

static void put_pictures(struct lk_store *store, int n) {
    static char picture[PICTURE];
    for (int i = 0; i < n; i++) {
        picture[0] = (char)i;
        LK_CHECK_INT(lk_store_begin(store), 0);
        LK_CHECK_INT(lk_store_put(store, "big", NULL, "image/png", picture, PICTURE, 1, 1, NULL, NULL, 0, NULL, NULL),
                     0);
        LK_CHECK_INT(lk_store_commit(store), 0);
    }
}

static int write_meanwhile(void *arg, const struct lk_item *item) {
    (void)item;
    put_pictures(arg, 20); /* more than the log's limit, while this reader needs its beginning */
    return 7;
}

static void the_log_of_writes_does_not_grow_for_ever(void) {
    struct fixture f;
    struct shared s = {0};
    pthread_t threads[6];
    long long longest = 0;
    LK_REQUIRE(fixture_open(&f) == 0 && f.store != NULL);
    s.store = f.store;
    f.store->long_wal = f.store->wal_patience = LIMIT / 16384;
    write_round(f.store, 0);
    LK_CHECK_INT(lk_store_list(f.store, NULL, 1, NULL, write_meanwhile, f.store), 7);
    LK_CHECK(wal_bytes(&f) > 20LL * PICTURE); /* nobody may take it from a reader */
    put_pictures(f.store, 4);
    LK_CHECK(wal_bytes(&f) < LIMIT);

    LK_CHECK_INT(lk_store_begin(f.store), 0);
    LK_CHECK_INT(lk_store_delete(f.store, "big", NULL), 0); /* read_on expects the round's items alone */
    LK_CHECK_INT(lk_store_commit(f.store), 0);
    for (int i = 0; i < 6; i++) /* some of them read at any moment */
        LK_REQUIRE(pthread_create(&threads[i], NULL, read_on, &s) == 0);
    for (int round = 0; round < 40; round++) {
        write_round(f.store, 0);
        longest = wal_bytes(&f) > longest ? wal_bytes(&f) : longest;
    }
    atomic_store(&s.stop, 1);
    for (int i = 0; i < 6; i++)
        LK_CHECK_INT(pthread_join(threads[i], NULL), 0);
    LK_CHECK(longest < 2LL * LIMIT);
    fixture_close(&f);
}

static const struct lk_case cases[] = {
    LK_CASE(a_rollback_leaves_nothing_behind),
    LK_CASE(a_refused_call_leaves_the_batch_as_it_was),
    LK_CASE(writing_needs_a_batch_of_ones_own),
    LK_CASE(a_closed_batch_is_undone_when_the_store_closes_in_it),
    LK_CASE(the_count_and_seq_agree_with_the_tables_after_any_history),
    LK_CASE(readers_see_whole_batches_beside_a_writer),
    LK_CASE(batches_of_many_threads_come_one_after_the_other),
    LK_CASE(the_log_of_writes_does_not_grow_for_ever),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
