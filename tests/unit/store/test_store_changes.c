/* Can a copy of the vectors be brought up to date from what the catalogue tells, and is nothing kept for ever? */
#include "fixture.h"

#include "store/store_internal.h"

/* What a copy of one space knows: "a=1 c=3 ". */
struct mirror {
    char ids[64][8];
    float first[64];
    int n, visited, stop_after;
    int64_t last_seq;
};

static int apply(void *arg, const struct lk_change *change) {
    struct mirror *m = arg;
    int i = 0;
    LK_CHECK(change->seq > m->last_seq); /* in order, each once */
    m->last_seq = change->seq;
    if (m->stop_after > 0 && m->visited == m->stop_after)
        return LK_ECANCELLED;
    m->visited++;
    while (i < m->n && strcmp(m->ids[i], change->id) != 0)
        i++;
    if (change->vector != NULL && LK_CHECK(i < 64)) {
        LK_CHECK_INT(change->dim, 3);
        snprintf(m->ids[i], sizeof m->ids[i], "%.7s", change->id);
        m->first[i] = change->vector[0];
        m->n += i == m->n;
    } else if (i < m->n) { /* gone; it need not have been known */
        m->n--;
        memcpy(m->ids[i], m->ids[m->n], sizeof m->ids[i]);
        m->first[i] = m->first[m->n];
    }
    return 0;
}

/* Reads to the end in steps of `limit`. */
static int follow(struct lk_store *store, struct mirror *m, int64_t *cursor, int limit, const char *space) {
    for (int64_t before = -1; *cursor != before;) {
        int rc;
        before = *cursor;
        if ((rc = lk_store_changes(store, cursor, limit, space, apply, m)) != 0)
            return rc;
    }
    return 0;
}

static int delete (struct lk_store *store, const char *id) {
    LK_CHECK_INT(lk_store_begin(store), 0);
    LK_CHECK_INT(lk_store_delete(store, id, NULL), 0);
    return lk_store_commit(store);
}

static int equal_to_catalogue(struct lk_store *store, const struct mirror *m, const char *space) {
    struct copy all = list(store, NULL, 1000, NULL);
    int with_vector = 0;
    for (char *id = strtok(all.ids, " "); id != NULL; id = strtok(NULL, " ")) {
        struct copy c = get(store, id, space);
        int found = 0;
        for (int i = 0; i < m->n; i++)
            found |= strcmp(m->ids[i], id) == 0 && c.dim == 3 && c.vector[0] == m->first[i];
        with_vector += c.dim == 3;
        if (c.dim == 3 && !found)
            return 0;
    }
    return with_vector == m->n;
}

static void changes_tell_puts_replacements_and_deletes_in_their_order(void) {
    struct fixture f;
    struct mirror m = {0};
    int64_t cursor = 0;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(put(f.store, "a", "1", "s", 1), 0);
    LK_CHECK_INT(put(f.store, "b", "2", "s", 2), 0);
    LK_CHECK_INT(put(f.store, "c", "3", "s", 3), 0);
    LK_CHECK_INT(delete (f.store, "b"), 0);
    LK_CHECK_INT(put(f.store, "a", "4", "s", 4), 0);
    LK_CHECK_INT(follow(f.store, &m, &cursor, 2, "s"), 0);
    LK_CHECK_INT(cursor, 5);
    LK_CHECK_INT(m.visited, 3); /* c, b's delete, a */
    LK_CHECK(m.n == 2 && equal_to_catalogue(f.store, &m, "s"));

    LK_CHECK_INT(delete (f.store, "a"), 0);
    LK_CHECK_INT(put(f.store, "a", "5", "s", 5), 0);  /* deleted, and there again */
    LK_CHECK_INT(put(f.store, "c", "6", NULL, 0), 0); /* another image, not embedded yet */
    LK_CHECK_INT(put(f.store, "d", "7", "t", 7), 0);  /* another space's */
    LK_CHECK_INT(follow(f.store, &m, &cursor, 100, "s"), 0);
    LK_CHECK_INT(cursor, 9);
    LK_CHECK(m.n == 1 && equal_to_catalogue(f.store, &m, "s"));

    LK_CHECK_INT(lk_store_begin(f.store), 0);
    LK_CHECK_INT(lk_store_patch(f.store, "a", "{\"x\":1}", NULL), 0); /* no vector changes */
    LK_CHECK_INT(lk_store_put_vector(f.store, "d", 9, "s", (float[]){8, 1, 2}, 3), 0);
    LK_CHECK_INT(lk_store_commit(f.store), 0);
    m.visited = 0;
    LK_CHECK_INT(follow(f.store, &m, &cursor, 100, "s"), 0);
    LK_CHECK(m.visited == 1 && m.n == 2 && equal_to_catalogue(f.store, &m, "s"));
    LK_CHECK_INT(cursor, 11);
    fixture_close(&f);
}

static void a_mirror_that_follows_in_any_steps_equals_the_catalogue(void) {
    struct fixture f;
    struct mirror m = {0};
    int64_t cursor = 0;
    uint64_t random = 5;
    LK_REQUIRE(fixture_open(&f) == 0);
    for (int i = 0; i < 400; i++) {
        char id[8], image[16];
        random = random * 6364136223846793005U + 1442695040888963407U;
        snprintf(id, sizeof id, "i%d", (int)(random >> 33) % 40);
        snprintf(image, sizeof image, "%d", (int)(random >> 40) % 6);
        LK_CHECK_INT(lk_store_begin(f.store), 0);
        const int what = (int)(random >> 50) % 5;
        int rc = what == 0   ? lk_store_delete(f.store, id, NULL)
                 : what == 1 ? put_in(f.store, id, image, NULL, 0)
                 : what == 2 ? put_in(f.store, id, image, "other", (float)i)
                             : put_in(f.store, id, image, "s", (float)i);
        LK_CHECK(rc == 0 || (what == 0 && rc == LK_ENOTFOUND));
        LK_CHECK_INT(lk_store_commit(f.store), 0);
        if (i % 7 == 0) {
            LK_CHECK_INT(follow(f.store, &m, &cursor, 1 + i % 5, "s"), 0);
            LK_CHECK(equal_to_catalogue(f.store, &m, "s"));
        }
    }
    fixture_close(&f);
}

static void a_visit_that_fails_is_visited_again(void) {
    struct fixture f;
    struct mirror m = {.stop_after = 1};
    int64_t cursor = 0;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(put(f.store, "a", "1", "s", 1), 0);
    LK_CHECK_INT(put(f.store, "b", "2", "s", 2), 0);
    LK_CHECK_INT(lk_store_changes(f.store, &cursor, 10, "s", apply, &m), LK_ECANCELLED);
    LK_CHECK_INT(cursor, 1);
    m = (struct mirror){.last_seq = 1};
    LK_CHECK_INT(lk_store_changes(f.store, &cursor, 10, "s", apply, &m), 0);
    LK_CHECK_STR(m.ids[0], "b");
    LK_CHECK_INT(lk_store_changes(f.store, &cursor, 0, "s", apply, &m), LK_EINVAL);
    LK_CHECK_INT(put(f.store, "c", "3", "s", 3), 0); /* no transaction was left open */
    fixture_close(&f);
}

static void old_delete_records_are_dropped_and_a_copy_is_told(void) {
    struct fixture f;
    struct mirror m = {0};
    int64_t cursor = 0, forgotten;
    LK_REQUIRE(fixture_open(&f) == 0 && f.store != NULL);
    f.store->keep_deletes = 100;
    for (int round = 0; round < 14; round++) {
        LK_CHECK_INT(lk_store_begin(f.store), 0);
        for (int i = 0; i < 100; i++) {
            LK_CHECK_INT(put_in(f.store, "x", "1", "s", 1), 0);
            LK_CHECK_INT(lk_store_delete(f.store, "x", NULL), 0);
        }
        LK_CHECK_INT(lk_store_commit(f.store), 0);
    }
    const long long kept = fixture_sql(&f, "SELECT count(*) FROM deletes");
    LK_CHECK(kept >= 100 && kept < 100 + 1024 + 200);
    LK_CHECK_INT(fixture_sql(&f, "SELECT value FROM counters WHERE name = 'deletes'"), kept);
    forgotten = fixture_sql(&f, "SELECT value FROM counters WHERE name = 'forgotten'");
    LK_CHECK_INT(fixture_sql(&f, "SELECT min(seq) FROM deletes"), forgotten + 2);
    cursor = forgotten - 1;
    LK_CHECK_INT(lk_store_changes(f.store, &cursor, 10, "s", apply, &m), LK_ENOTFOUND);
    LK_CHECK_HOLDS(lk_error(), f.path);
    LK_CHECK(m.visited == 0 && cursor == forgotten - 1);
    cursor = forgotten;
    LK_CHECK_INT(follow(f.store, &m, &cursor, 1000, "s"), 0);
    LK_CHECK_INT(m.visited, kept);
    LK_CHECK_INT(fixture_reopen(&f), 0); /* and with its default it keeps what there is */
    LK_CHECK_INT(put(f.store, "y", "1", "s", 1), 0);
    LK_CHECK_INT(fixture_sql(&f, "SELECT count(*) FROM deletes"), kept);
    fixture_close(&f);
}

static void a_write_that_is_yet_to_come_is_no_place_to_start_from(void) {
    struct fixture f;
    struct mirror m = {0};
    int64_t cursor = 2;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(put(f.store, "a", "1", "s", 1), 0);
    LK_CHECK_INT(lk_store_changes(f.store, &cursor, 10, "s", apply, &m), LK_ENOTFOUND);
    LK_CHECK_HOLDS(lk_error(), "no write 2");
    cursor = 1;
    LK_CHECK_INT(lk_store_changes(f.store, &cursor, 10, "s", apply, &m), 0);
    fixture_close(&f);
}

static void vectors_of_other_spaces_are_dropped_a_few_at_a_time(void) {
    struct fixture f;
    int dropped = 10, calls = 0, total = 0;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(lk_store_begin(f.store), 0);
    for (int i = 0; i < 25; i++) {
        char id[8];
        int64_t seq = 0;
        const float v[3] = {1, 2, 3};
        snprintf(id, sizeof id, "%02d", i);
        LK_CHECK_INT(
            lk_store_put(f.store, id, NULL, "image/png", id, 2, 1, 1, i < 12 ? "old" : "older", v, 3, NULL, &seq), 0);
        LK_CHECK_INT(lk_store_put_vector(f.store, id, seq, "new", v, 3), 0); /* two spaces in one batch */
    }
    LK_CHECK_INT(lk_store_commit(f.store), 0);
    const int64_t seq = lk_store_seq(f.store);
    for (; calls < 20 && dropped == 10; calls++) {
        LK_CHECK_INT(lk_store_begin(f.store), 0);
        LK_CHECK_INT(lk_store_drop_vectors(f.store, "new", 10, &dropped), 0);
        LK_CHECK_INT(lk_store_commit(f.store), 0);
        LK_CHECK(dropped <= 10);
        total += dropped;
    }
    LK_CHECK_INT(calls, 3); /* 10, 10, 5 */
    LK_CHECK_INT(total, 25);
    LK_CHECK_INT(lk_store_seq(f.store), seq);
    LK_CHECK_INT(fixture_sql(&f, "SELECT count(*) FROM vectors"), 25);
    LK_CHECK_INT(get(f.store, "07", "new").dim, 3);
    fixture_close(&f);
}

/* 1 when SQLite's plan sorts nothing and goes through no table or index from end to end. */
static int plan_is_short(const struct fixture *f, sqlite3_stmt *prepared, const char *may_scan) {
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    char sql[1200];
    int steps = 0, bad = 0;
    snprintf(sql, sizeof sql, "EXPLAIN QUERY PLAN %s", sqlite3_sql(prepared));
    LK_CHECK(sqlite3_open(f->path, &db) == SQLITE_OK && sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK);
    while (sqlite3_step(s) == SQLITE_ROW) {
        const char *step = (const char *)sqlite3_column_text(s, 3);
        steps++;
        if (strstr(step, "TEMP B-TREE") != NULL || (strncmp(step, "SCAN", 4) == 0 && strstr(step, may_scan) == NULL)) {
            printf("     %s\n", step);
            bad++;
        }
    }
    sqlite3_finalize(s);
    sqlite3_close(db);
    return steps > 2 && bad == 0;
}

static void neither_changes_nor_dropping_goes_through_the_whole_catalogue(void) {
    struct fixture f;
    struct mirror m = {0};
    sqlite3_stmt *changes = NULL;
    int64_t cursor = 0;
    int dropped = 0;
    LK_REQUIRE(fixture_open(&f) == 0 && f.store != NULL);
    LK_CHECK_INT(lk_store_begin(f.store), 0);
    LK_CHECK_INT(lk_store_drop_vectors(f.store, "s", 10, &dropped), 0);
    LK_CHECK_INT(lk_store_commit(f.store), 0);
    LK_CHECK_INT(follow(f.store, &m, &cursor, 10, "s"), 0);
    for (int i = 0; i < f.store->n_readers; i++)
        if (f.store->readers[i].statements[LK_SQL_CHANGES] != NULL)
            changes = f.store->readers[i].statements[LK_SQL_CHANGES];
    LK_REQUIRE(changes != NULL);
    LK_CHECK(plan_is_short(&f, changes, "-"));
    LK_CHECK(plan_is_short(&f, f.store->writer.statements[LK_SQL_VECTORS_DROP_OTHERS], "spaces"));
    fixture_close(&f);
}

static const struct lk_case cases[] = {
    LK_CASE(changes_tell_puts_replacements_and_deletes_in_their_order),
    LK_CASE(a_mirror_that_follows_in_any_steps_equals_the_catalogue),
    LK_CASE(a_visit_that_fails_is_visited_again),
    LK_CASE(old_delete_records_are_dropped_and_a_copy_is_told),
    LK_CASE(a_write_that_is_yet_to_come_is_no_place_to_start_from),
    LK_CASE(vectors_of_other_spaces_are_dropped_a_few_at_a_time),
    LK_CASE(neither_changes_nor_dropping_goes_through_the_whole_catalogue),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
