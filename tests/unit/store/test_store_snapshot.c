/* Is a snapshot one state of the catalogue, whole and durable, however much is written while it is made? */
#include "fixture.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAIRS = 60 };

static void fill_image(char image[60000], int n) {
    memset(image, 'a' + n % 26, 59999);
    snprintf(image, 12, "%d", n);
    image[strlen(image)] = '-';
    image[59999] = '\0';
}

/* One batch: both items of a pair get the same image, so that a torn copy shows. */
static int put_pair(struct lk_store *store, int pair, int n) {
    static _Thread_local char image[60000];
    char left[24], right[24];
    int rc;
    fill_image(image, n);
    snprintf(left, sizeof left, "left %d", pair);
    snprintf(right, sizeof right, "right %d", pair);
    if ((rc = lk_store_begin(store)) < 0)
        return rc;
    if ((rc = put_in(store, left, image, "s", (float)n)) < 0 || (rc = put_in(store, right, image, "s", (float)n)) < 0) {
        lk_store_rollback(store);
        return rc;
    }
    return lk_store_commit(store);
}

static int fill_catalogue(struct lk_store *store) {
    int rc = 0;
    for (int i = 0; i < PAIRS && rc == 0; i++)
        rc = put_pair(store, i, i);
    return rc;
}

/* The file must hold whole pairs, and exactly the writes up to seq. */
static void check_snapshot(const char *path, const struct lk_store_snapshot *made) {
    static const struct lk_store_options reading = {.read_only = 1};
    struct fixture copy = {0};
    int64_t items = 0;
    struct stat st;
    snprintf(copy.path, sizeof copy.path, "%s", path);
    LK_CHECK(stat(path, &st) == 0 && st.st_size == made->bytes);
    LK_CHECK_INT(fixture_sql(&copy, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
    LK_CHECK_INT(fixture_sql(&copy, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
    LK_CHECK_INT(fixture_sql(&copy, "SELECT max(seq) FROM items"), made->seq);
    LK_CHECK_INT(fixture_sql(&copy, "SELECT count(*) FROM items a JOIN items b ON b.id = 'right' || substr(a.id, 5) "
                                    "WHERE a.id LIKE 'left%' AND a.image = b.image"),
                 made->items / 2);
    LK_REQUIRE(lk_store_open(&copy.store, path, &reading) == 0);
    LK_CHECK_INT(lk_store_seq(copy.store), made->seq);
    LK_CHECK_INT(lk_store_count(copy.store, &items), 0);
    LK_CHECK_INT(items, made->items);
    lk_store_close(copy.store);
    LK_REQUIRE(lk_store_open(&copy.store, path, NULL) == 0); /* restored: served from here on */
    LK_CHECK_INT(put_pair(copy.store, 7, 100000), 0);
    LK_CHECK_INT(lk_store_seq(copy.store), made->seq + 2);
    lk_store_close(copy.store);
}

struct meanwhile {
    struct lk_store *store;
    const char *second; /* path of another snapshot; NULL: none */
    int calls, second_status, give_up_at;
};

/* Between two steps of the copy: writes into pages that were copied already and into those that were not. */
static int write_meanwhile(void *arg) {
    struct meanwhile *m = arg;
    struct lk_store_snapshot ignored;
    if (++m->calls == m->give_up_at)
        return 0;
    if (m->second != NULL)
        m->second_status = lk_store_snapshot(m->store, m->second, NULL, NULL, &ignored);
    LK_CHECK_INT(put_pair(m->store, m->calls * 7 % (PAIRS + 20), 1000 + m->calls), 0);
    if (m->calls == 3) { /* a batch that came to nothing: the copy begins anew */
        LK_CHECK_INT(lk_store_begin(m->store), 0);
        LK_CHECK_INT(put_in(m->store, "left 1", "never", "s", 1), 0);
        LK_CHECK_INT(lk_store_delete(m->store, "right 1", NULL), 0);
        lk_store_rollback(m->store);
    }
    return 1;
}

static void a_snapshot_is_one_state_though_every_step_is_followed_by_a_write(void) {
    struct fixture f;
    char path[300];
    struct meanwhile m = {0};
    struct lk_store_snapshot made;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(fill_catalogue(f.store), 0);
    const int64_t before = lk_store_seq(f.store);
    m.store = f.store;
    snprintf(path, sizeof path, "%s/copy.db", f.folder);
    LK_CHECK_INT(lk_store_snapshot(f.store, path, write_meanwhile, &m, &made), 0);
    LK_CHECK(m.calls > 2);
    LK_CHECK_INT(made.seq, before + 2 * m.calls); /* what was written until the last step is in it */
    LK_CHECK_INT(lk_store_seq(f.store), made.seq);
    check_snapshot(path, &made);
    LK_CHECK_INT(put_pair(f.store, 1, 1), 0);
    fixture_close(&f);
}

static void one_at_a_time_and_never_over_a_file_that_is_there(void) {
    struct fixture f;
    char path[300], second[300], part[320];
    struct meanwhile m = {0};
    struct lk_store_snapshot made;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(fill_catalogue(f.store), 0);
    snprintf(path, sizeof path, "%s/copy.db", f.folder);
    snprintf(second, sizeof second, "%s/second.db", f.folder);
    snprintf(part, sizeof part, "%s" LK_STORE_SNAPSHOT_PART, path);
    FILE *left_over = fopen(part, "w"); /* as a kill leaves it */
    LK_REQUIRE(left_over != NULL && fputs("half", left_over) > 0 && fclose(left_over) == 0);
    m = (struct meanwhile){.store = f.store, .second = second};
    LK_CHECK_INT(lk_store_snapshot(f.store, path, write_meanwhile, &m, &made), 0);
    LK_CHECK_INT(m.second_status, LK_EBUSY);
    LK_CHECK(access(second, F_OK) != 0 && access(part, F_OK) != 0);
    LK_CHECK_INT(lk_store_snapshot(f.store, path, NULL, NULL, &made), LK_EEXISTS);
    LK_CHECK_HOLDS(lk_error(), path);
    LK_CHECK_INT(lk_store_snapshot(f.store, second, NULL, NULL, &made), 0);
    check_snapshot(second, &made);
    fixture_close(&f);
}

static void one_that_is_given_up_leaves_nothing(void) {
    struct fixture f;
    char path[300];
    struct meanwhile m = {.give_up_at = 3};
    struct lk_store_snapshot made;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(fill_catalogue(f.store), 0);
    m.store = f.store;
    const int files = fixture_files(&f);
    snprintf(path, sizeof path, "%s/copy.db", f.folder);
    LK_CHECK_INT(lk_store_snapshot(f.store, path, write_meanwhile, &m, &made), LK_ECANCELLED);
    LK_CHECK_INT(fixture_files(&f), files);
    LK_CHECK_INT(put_pair(f.store, 1, 1), 0);
    snprintf(path, sizeof path, "%s/no/such/folder.db", f.folder);
    LK_CHECK_INT(lk_store_snapshot(f.store, path, NULL, NULL, &made), LK_EIO);
    LK_CHECK_HOLDS(lk_error(), "folder.db");
    fixture_close(&f);
}

static void a_disk_without_room_for_it_harms_nothing_but_the_snapshot(void) {
    struct fixture f;
    int status = -1;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(fill_catalogue(f.store), 0);
    lk_store_close(f.store); /* no connection may cross a fork */
    f.store = NULL;
    pid_t child = fork();
    if (child == 0) {
        const struct rlimit limit = {.rlim_cur = 2 << 20, .rlim_max = 2 << 20};
        struct lk_store_snapshot made;
        char path[300];
        snprintf(path, sizeof path, "%s/copy.db", f.folder);
        signal(SIGXFSZ, SIG_IGN);
        if (lk_store_open(&f.store, f.path, NULL) < 0 || setrlimit(RLIMIT_FSIZE, &limit) != 0)
            _exit(1);
        if (lk_store_snapshot(f.store, path, NULL, NULL, &made) != LK_ENOSPACE) {
            printf("     %s\n", lk_error());
            fflush(stdout);
            _exit(2);
        }
        if (put(f.store, "small", "image", "s", 1) != 0 || access(path, F_OK) == 0)
            _exit(3);
        lk_store_close(f.store);
        _exit(0);
    }
    LK_CHECK(waitpid(child, &status, 0) == child);
    LK_CHECK_INT(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
    LK_CHECK_INT(fixture_reopen(&f), 0);
    LK_CHECK_INT(get(f.store, "small", "s").dim, 3);
    LK_CHECK_INT(fixture_files(&f), 4); /* the catalogue, its -wal, -shm and -lock: no copy, no part of one */
    fixture_close(&f);
}

static atomic_int stop_writing;

static void *write_on(void *arg) {
    long done = 0;
    while (!atomic_load(&stop_writing) && put_pair(arg, (int)done % PAIRS, (int)done) == 0)
        done++;
    return (void *)done;
}

static void writers_go_on_while_it_is_made(void) {
    struct fixture f;
    char path[300];
    struct lk_store_snapshot made;
    pthread_t thread;
    void *writes = NULL;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(fill_catalogue(f.store), 0);
    atomic_store(&stop_writing, 0);
    LK_REQUIRE(pthread_create(&thread, NULL, write_on, f.store) == 0);
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/copy%d.db", f.folder, i);
        LK_CHECK_INT(lk_store_snapshot(f.store, path, NULL, NULL, &made), 0);
        check_snapshot(path, &made);
    }
    atomic_store(&stop_writing, 1);
    pthread_join(thread, &writes);
    LK_CHECK((long)writes > 4); /* turns are taken in order: one between two steps */
    LK_CHECK_INT(fixture_sql(&f, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
    fixture_close(&f);
}

static const struct lk_case cases[] = {
    LK_CASE(a_snapshot_is_one_state_though_every_step_is_followed_by_a_write),
    LK_CASE(one_at_a_time_and_never_over_a_file_that_is_there),
    LK_CASE(one_that_is_given_up_leaves_nothing),
    LK_CASE(a_disk_without_room_for_it_harms_nothing_but_the_snapshot),
    LK_CASE(writers_go_on_while_it_is_made),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
