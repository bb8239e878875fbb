/* What does the store do with files: its own, other people's, damaged, newer, locked, read-only? */
#include "fixture.h"

#include <fcntl.h>
#include <sys/wait.h>

#include "store/schema.h"

static const struct lk_store_options reading = {.read_only = 1};
static const struct lk_store_options hurried = {.busy_ms = 40};

static void write_file(const char *path, const void *bytes, size_t n) {
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(bytes, 1, n, file) != n || fclose(file) != 0)
        abort();
}

static struct lk_buf read_file(const char *path) {
    struct lk_buf b = {0};
    FILE *file = fopen(path, "rb");
    char block[4096];
    for (size_t n; file != NULL && (n = fread(block, 1, sizeof block, file)) > 0;) {
        if (lk_buf_append(&b, block, n) < 0)
            abort();
    }
    if (file != NULL)
        fclose(file);
    return b;
}

/* Opening must fail with this status, name the file, and leave it and the folder as they were. */
static void refuses(const struct fixture *f, const struct lk_store_options *options, int status, const char *why) {
    struct lk_buf before = read_file(f->path), after;
    const int files = fixture_files(f);
    struct lk_store *store = (void *)1;
    LK_CHECK_INT(lk_store_open(&store, f->path, options), status);
    LK_CHECK(store == NULL);
    LK_CHECK_HOLDS(lk_error(), f->path);
    LK_CHECK_HOLDS(lk_error(), why);
    after = read_file(f->path);
    LK_CHECK(after.size == before.size && (after.size == 0 || memcmp(after.data, before.data, after.size) == 0));
    LK_CHECK_INT(fixture_files(f), files);
    lk_buf_free(&before);
    lk_buf_free(&after);
}

static void a_new_file_has_the_settings_that_are_documented(void) {
    struct fixture f;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(put(f.store, "a", "image", "s", 1), 0);
    LK_CHECK_INT(fixture_sql(&f, "PRAGMA application_id"), 0x4C4B4354);
    LK_CHECK_INT(fixture_sql(&f, "PRAGMA user_version"), 3);
    LK_CHECK_INT(fixture_sql(&f, "PRAGMA page_size"), 16384);
    LK_CHECK_INT(fixture_sql(&f, "SELECT journal_mode = 'wal' FROM pragma_journal_mode"), 1);
    lk_store_close(f.store);
    f.store = NULL;
    LK_CHECK_INT(fixture_files(&f), 1); /* no -wal, -shm or -lock is left */
    LK_CHECK_INT(fixture_sql(&f, "SELECT count(*) FROM items"), 1);
    fixture_close(&f);
}

static void a_newer_version_is_refused(void) {
    struct fixture f;
    LK_REQUIRE(fixture_open(&f) == 0);
    lk_store_close(f.store);
    f.store = NULL;
    LK_CHECK_INT(fixture_change(&f, "PRAGMA user_version=4"), 0);
    refuses(&f, NULL, LK_EUNSUPPORTED, "newer");
    refuses(&f, &reading, LK_EUNSUPPORTED, "newer");
    fixture_close(&f);
}

static void a_file_of_another_kind_is_refused_and_unharmed(void) {
    static const char text[] =
        "Dear diary, this is no database, and it is longer than the hundred bytes of a header, so "
        "that SQLite has something to read.\n";
    struct fixture f;
    fixture_folder(&f);
    write_file(f.path, text, sizeof text);
    refuses(&f, NULL, LK_EFORMAT, "not a database");
    refuses(&f, &reading, LK_EFORMAT, "not a database");
    write_file(f.path, "short", 5);
    refuses(&f, NULL, LK_EFORMAT, "not a database");
    write_file(f.path, "", 0);
    refuses(&f, &reading, LK_EFORMAT, "empty");
    unlink(f.path);
    LK_CHECK_INT(fixture_change(&f, "CREATE TABLE diary(entry); PRAGMA user_version=1"), 0);
    refuses(&f, NULL, LK_EFORMAT, "no catalogue");
    refuses(&f, &reading, LK_EFORMAT, "no catalogue");
    unlink(f.path);
    LK_CHECK_INT(mkdir(f.path, 0700), 0);
    refuses(&f, NULL, LK_EFORMAT, "regular file");
    rmdir(f.path);
    fixture_close(&f);
}

static void tables_that_are_not_a_catalogues_are_refused(void) {
    struct fixture f;
    LK_REQUIRE(fixture_open(&f) == 0);
    lk_store_close(f.store);
    f.store = NULL;
    LK_CHECK_INT(fixture_change(&f, "ALTER TABLE items RENAME COLUMN metadata TO meta"), 0);
    refuses(&f, NULL, LK_EFORMAT, "metadata");
    refuses(&f, &reading, LK_EFORMAT, "metadata");
    LK_CHECK_INT(fixture_change(&f, "ALTER TABLE items RENAME COLUMN meta TO metadata; DELETE FROM counters"), 0);
    refuses(&f, NULL, LK_EFORMAT, "counters");
    fixture_close(&f);
}

static int visit_nothing(void *arg, const struct lk_item *item) {
    (void)arg;
    (void)item;
    return 0;
}

static void a_damaged_file_is_an_error_and_no_crash(void) {
    struct fixture f;
    struct lk_buf whole;
    char id[24];
    int refused = 0;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(lk_store_begin(f.store), 0);
    for (int i = 0; i < 600; i++) {
        snprintf(id, sizeof id, "item %03d", i);
        LK_CHECK_INT(put_in(f.store, id, id, "s", (float)i), 0);
    }
    LK_CHECK_INT(lk_store_commit(f.store), 0);
    lk_store_close(f.store);
    f.store = NULL;
    whole = read_file(f.path);
    for (size_t at = 0; at < whole.size; at += LK_SCHEMA_PAGE_SIZE / 2) {
        struct lk_store *store;
        int64_t cursor = 0;
        int rc;
        struct lk_buf damaged = {0};
        LK_REQUIRE(lk_buf_append(&damaged, whole.data, whole.size) == 0);
        memset(damaged.data + at, 0xA5, 200 < whole.size - at ? 200 : whole.size - at);
        write_file(f.path, damaged.data, damaged.size);
        lk_buf_free(&damaged);
        if ((rc = lk_store_open(&store, f.path, NULL)) == 0) {
            struct lk_buf image = {0};
            char media_type[64];
            if ((rc = lk_store_list(store, NULL, 1000, "s", visit_nothing, NULL)) == 0)
                rc = lk_store_vectors(store, &cursor, 1000, "s", visit_nothing, NULL);
            for (int i = 0; rc == 0 && i < 600; i++) {
                snprintf(id, sizeof id, "item %03d", i);
                rc = lk_store_image(store, id, &image, media_type);
            }
            if (rc == 0 && (rc = put(store, "another", "image", "s", 1)) == 0)
                rc = put(store, "item 300", "image", "s", 1);
            lk_buf_free(&image);
            lk_store_close(store);
        }
        if (rc != 0) { /* free space, and content that says nothing about itself, may be damaged unseen */
            refused++;
            if (!LK_CHECK(rc == LK_EFORMAT || rc == LK_ENOTFOUND || rc == LK_EUNSUPPORTED))
                printf("     byte %zu: %d, %s\n", at, rc, lk_error());
            LK_CHECK(rc == LK_ENOTFOUND || strstr(lk_error(), f.path) != NULL);
        }
    }
    LK_CHECK(refused > 10);
    write_file(f.path, whole.data, whole.size / 2);
    LK_CHECK(lk_store_open(&f.store, f.path, NULL) == LK_EFORMAT ||
             lk_store_list(f.store, NULL, 1000, "s", visit_nothing, NULL) == LK_EFORMAT);
    lk_buf_free(&whole);
    fixture_close(&f);
}

static void a_second_writer_is_refused_until_the_first_has_gone(void) {
    struct fixture f;
    struct lk_store *second;
    pid_t child;
    int status = -1;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(lk_store_open(&second, f.path, &hurried), LK_EBUSY);
    LK_CHECK_HOLDS(lk_error(), "another process");
    LK_CHECK_INT(put(f.store, "still", "works", NULL, 0), 0);
    if ((child = fork()) == 0)
        _exit(lk_store_open(&second, f.path, &hurried) == LK_EBUSY ? 0 : 1);
    LK_CHECK(waitpid(child, &status, 0) == child && status == 0);
    lk_store_close(f.store);
    LK_CHECK_INT(lk_store_open(&f.store, f.path, &hurried), 0);
    LK_CHECK_INT(list(f.store, NULL, 10, NULL).n, 1);
    fixture_close(&f);
}

static void a_second_writer_by_a_link_is_refused_too(void) {
    struct fixture f;
    struct lk_store *second;
    char link[300];
    LK_REQUIRE(fixture_open(&f) == 0);
    snprintf(link, sizeof link, "%s/link.db", f.folder);
    LK_REQUIRE(symlink("items.db", link) == 0);
    LK_CHECK_INT(lk_store_open(&second, link, &hurried), LK_EBUSY);
    lk_store_close(f.store);
    f.store = NULL;
    LK_CHECK_INT(lk_store_open(&second, link, NULL), 0);
    LK_CHECK_INT(lk_store_open(&f.store, f.path, &hurried), LK_EBUSY);
    lk_store_close(second);
    LK_CHECK_INT(fixture_files(&f), 2); /* the catalogue and the link */
    fixture_close(&f);
}

static void a_writer_that_is_about_to_go_is_waited_for(void) {
    struct fixture f;
    int ready[2];
    char byte;
    pid_t child;
    fixture_folder(&f);
    LK_REQUIRE(pipe(ready) == 0);
    if ((child = fork()) == 0) {
        struct lk_store *store;
        int rc = lk_store_open(&store, f.path, NULL);
        if (rc == 0)
            rc = put(store, "a", "image", NULL, 0);
        (void)!write(ready[1], "x", 1);
        usleep(150000);
        lk_store_close(store);
        _exit(rc == 0 ? 0 : 1);
    }
    LK_CHECK_INT(read(ready[0], &byte, 1), 1);
    LK_CHECK_INT(lk_store_open(&f.store, f.path, NULL), 0);
    LK_REQUIRE(f.store != NULL);
    LK_CHECK_INT(list(f.store, NULL, 10, NULL).n, 1);
    LK_CHECK_INT(waitpid(child, NULL, 0), child);
    close(ready[0]);
    close(ready[1]);
    fixture_close(&f);
}

static void the_lock_file_of_a_dead_process_means_nothing(void) {
    struct fixture f;
    char lock[300];
    fixture_folder(&f);
    snprintf(lock, sizeof lock, "%s-lock", f.path);
    write_file(lock, "1\n", 2);
    LK_CHECK_INT(lk_store_open(&f.store, f.path, &hurried), 0);
    LK_REQUIRE(f.store != NULL);
    LK_CHECK_INT(put(f.store, "a", "image", NULL, 0), 0);
    fixture_close(&f);
}

static void reading_only_creates_nothing_and_writes_nothing(void) {
    struct fixture f;
    struct lk_store *store;
    struct lk_buf before, after;
    fixture_folder(&f);
    LK_CHECK_INT(lk_store_open(&store, f.path, &reading), LK_ENOTFOUND);
    LK_CHECK_HOLDS(lk_error(), f.path);
    LK_CHECK_INT(fixture_files(&f), 0);
    LK_CHECK_INT(fixture_reopen(&f), 0);
    LK_CHECK_INT(put(f.store, "a", "image", "s", 1), 0);
    lk_store_close(f.store);
    before = read_file(f.path);
    LK_CHECK_INT(lk_store_open(&f.store, f.path, &reading), 0);
    LK_REQUIRE(f.store != NULL);
    LK_CHECK_INT(get(f.store, "a", "s").dim, 3);
    LK_CHECK_INT(lk_store_seq(f.store), 1);
    LK_CHECK_INT(lk_store_begin(f.store), LK_EINVAL);
    LK_CHECK_INT(lk_store_set_serving(f.store, &(struct lk_store_serving){.space = "s", .precision = "f32"}),
                 LK_EINVAL);
    lk_store_close(f.store);
    f.store = NULL;
    after = read_file(f.path);
    LK_CHECK(after.size == before.size && memcmp(after.data, before.data, after.size) == 0);
    LK_CHECK_INT(fixture_files(&f), 1);
    lk_buf_free(&before);
    lk_buf_free(&after);
    fixture_close(&f);
}

static void a_reader_works_beside_a_running_writer(void) {
    struct fixture f;
    struct lk_store *reader;
    int64_t items = 0;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(put(f.store, "a", "image", "s", 1), 0);
    LK_REQUIRE(lk_store_open(&reader, f.path, &reading) == 0);
    LK_CHECK_STR(list(reader, NULL, 10, "s").ids, "a ");
    LK_CHECK_INT(put(f.store, "b", "image", "s", 1), 0);
    LK_CHECK_STR(list(reader, NULL, 10, "s").ids, "a b ");
    LK_CHECK_INT(lk_store_seq(reader), 2);
    LK_CHECK_INT(lk_store_count(reader, &items), 0);
    LK_CHECK_INT(items, 2);
    lk_store_close(reader);
    LK_CHECK_INT(put(f.store, "c", "image", "s", 1), 0);
    fixture_close(&f);
}

static void a_reader_needs_no_right_to_write(void) {
    struct fixture f;
    pid_t child;
    int status = -1;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(put(f.store, "a", "image", "s", 1), 0);
    lk_store_close(f.store);
    f.store = NULL;
    LK_CHECK_INT(chmod(f.path, 0444), 0);
    LK_CHECK_INT(chmod(f.folder, 0555), 0);
    if ((child = fork()) == 0) {
        struct lk_store *store;
        int rc;
        if (geteuid() == 0 && setuid(65534) != 0)
            _exit(3);
        if ((rc = lk_store_open(&store, f.path, &reading)) < 0)
            printf("     %s\n", lk_error());
        rc = rc == 0 && get(store, "a", "s").dim == 3 ? 0 : 1;
        if (rc == 0) {
            lk_store_close(store);
            rc = lk_store_open(&store, f.path, &hurried) == LK_EIO ? 0 : 2; /* and writing needs it */
        }
        fflush(stdout);
        _exit(rc);
    }
    LK_CHECK(waitpid(child, &status, 0) == child);
    LK_CHECK_INT(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
    LK_CHECK_INT(chmod(f.folder, 0700), 0);
    fixture_close(&f);
}

static void a_folder_that_does_not_exist_is_named(void) {
    struct fixture f;
    struct lk_store *store;
    char path[300];
    fixture_folder(&f);
    snprintf(path, sizeof path, "%s/not/there.db", f.folder);
    LK_CHECK(lk_store_open(&store, path, NULL) < 0);
    LK_CHECK_HOLDS(lk_error(), path);
    LK_CHECK_INT(lk_store_open(&store, "", NULL), LK_EINVAL);
    lk_store_close(NULL);
    fixture_close(&f);
}

static void a_creation_that_was_interrupted_is_taken_up(void) {
    struct fixture f;
    fixture_folder(&f);
    LK_CHECK_INT(fixture_change(&f, "PRAGMA page_size=16384; PRAGMA journal_mode=WAL; CREATE TABLE t(x); DROP TABLE t"),
                 0);
    LK_CHECK_INT(fixture_reopen(&f), 0);
    LK_REQUIRE(f.store != NULL);
    LK_CHECK_INT(put(f.store, "a", "image", NULL, 0), 0);
    fixture_close(&f);
}

static void each_migration_step_is_whole_or_nothing(void) {
    static const struct lk_migration later[] = {
        {3, "CREATE TABLE never_run_again(x)"},
        {4, "CREATE TABLE extra(x); INSERT INTO extra VALUES(7)"},
        {5, "CREATE TABLE half(x); INSERT INTO no_such_table VALUES(1)"},
    };
    struct fixture f;
    struct lk_store__conn c = {0};
    int version = -1;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(put(f.store, "a", "image", NULL, 0), 0);
    lk_store_close(f.store);
    f.store = NULL;
    LK_REQUIRE(lk_store__conn_open(&c, f.path, 1, 100) == 0);
    LK_CHECK_INT(lk_schema__check(&c, 5, &version), 0);
    LK_CHECK_INT(version, 3);
    LK_CHECK_INT(lk_schema__migrate(&c, later, 2, version), 0);
    LK_CHECK_INT(lk_schema__check(&c, 5, &version), 0);
    LK_CHECK_INT(version, 4);
    LK_CHECK(lk_schema__migrate(&c, later, 3, version) < 0);
    LK_CHECK_HOLDS(lk_error(), "version 5");
    LK_CHECK_INT(lk_schema__check(&c, 5, &version), 0);
    LK_CHECK_INT(version, 4);
    LK_CHECK_INT(lk_schema__check(&c, 3, &version), LK_EUNSUPPORTED);
    lk_store__conn_close(&c);
    LK_CHECK_INT(fixture_sql(&f, "SELECT x FROM extra"), 7);
    LK_CHECK_INT(fixture_sql(&f, "SELECT count(*) FROM sqlite_master WHERE name IN ('half', 'never_run_again')"), 0);
    LK_CHECK_INT(fixture_sql(&f, "SELECT count(*) FROM items"), 1);
    fixture_close(&f);
}

/* tests/data/catalogue-v1.sqlite was written by the server of schema version 1 (tests/data/README.md). */
static void a_catalogue_of_version_1_is_brought_up_to_date_with_all_that_it_holds(void) {
    static const char space_1[] = "07d2ba595b9172d33a5227cc1a56e6ed0925ed11f1f271ce0dd21f72d3a2a0b9",
                      space_2[] = "77b2713c544fbed7b02abf4f2aaa44f3646466ff43524c65d909082d75762522";
    struct fixture f;
    struct lk_buf old;
    struct lk_store_serving serving;
    struct copy item;
    char source[500];
    int64_t items = 0;
    fixture_folder(&f);
    snprintf(source, sizeof source, "%s/tests/data/catalogue-v1.sqlite", getenv("LK_SOURCE_DIR"));
    old = read_file(source);
    LK_REQUIRE(old.size > 0);
    write_file(f.path, old.data, old.size);
    lk_buf_free(&old);
    LK_CHECK_INT(fixture_sql(&f, "PRAGMA user_version"), 1);
    refuses(&f, &reading, LK_EUNSUPPORTED, "older schema 1");
    LK_REQUIRE(fixture_reopen(&f) == 0);
    LK_CHECK_INT(fixture_sql(&f, "PRAGMA user_version"), 3);
    LK_CHECK_INT(fixture_sql(&f, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
    LK_CHECK_INT(lk_store_seq(f.store), 16);
    LK_CHECK_INT(lk_store_count(f.store, &items), 0);
    LK_CHECK_INT(items, 6);
    LK_CHECK_STR(list(f.store, NULL, 100, NULL).ids, "a/b blue green größe red twin ");
    item = get(f.store, "red", space_2);
    LK_CHECK_STR(item.metadata, "{\"n\":0,\"label\":\"warm\"}");
    LK_CHECK(item.seq == 7 && item.dim == 64 && item.created_ms == 1795516221910);
    LK_CHECK_INT(get(f.store, "twin", space_1).dim, 64);
    LK_CHECK_INT(lk_store_serving(f.store, &serving), 0);
    LK_CHECK(serving.generation == 3 && strcmp(serving.space, space_1) == 0);
    LK_CHECK_STR(serving.started_with, serving.model_file_sha256); /* nothing could be published then */
    /* The new tables say what the old ones meant: the one delete is known, and none was forgotten. */
    LK_CHECK_INT(fixture_sql(&f, "SELECT value FROM counters WHERE name = 'deletes'"), 1);
    LK_CHECK_INT(fixture_sql(&f, "SELECT value FROM counters WHERE name = 'forgotten'"), 0);
    LK_CHECK_INT(put(f.store, "new", "image", space_1, 1), 0);
    LK_CHECK_INT(lk_store_seq(f.store), 17);
    fixture_close(&f);
}

static const struct lk_case cases[] = {
    LK_CASE(a_catalogue_of_version_1_is_brought_up_to_date_with_all_that_it_holds),
    LK_CASE(a_new_file_has_the_settings_that_are_documented),
    LK_CASE(a_newer_version_is_refused),
    LK_CASE(a_file_of_another_kind_is_refused_and_unharmed),
    LK_CASE(tables_that_are_not_a_catalogues_are_refused),
    LK_CASE(a_damaged_file_is_an_error_and_no_crash),
    LK_CASE(a_second_writer_is_refused_until_the_first_has_gone),
    LK_CASE(a_second_writer_by_a_link_is_refused_too),
    LK_CASE(a_writer_that_is_about_to_go_is_waited_for),
    LK_CASE(the_lock_file_of_a_dead_process_means_nothing),
    LK_CASE(reading_only_creates_nothing_and_writes_nothing),
    LK_CASE(a_reader_works_beside_a_running_writer),
    LK_CASE(a_reader_needs_no_right_to_write),
    LK_CASE(a_folder_that_does_not_exist_is_named),
    LK_CASE(a_creation_that_was_interrupted_is_taken_up),
    LK_CASE(each_migration_step_is_whole_or_nothing),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
