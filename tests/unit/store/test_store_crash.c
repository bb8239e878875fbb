/* Does an acknowledged write survive kill -9 and a full disk, and does commit really sync? */
#include "fixture.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

/* SQLite calls these by name, so the ones of this program are found first: they count, then do the real thing. */
static int wal_syncs;

static void count_sync(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    wal_syncs += n > 4 && memcmp(path + n - 4, "-wal", 4) == 0;
}

/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): glibc's are reserved */
int fsync(int fd) {
    count_sync(fd);
    return (int)syscall(SYS_fsync, fd);
}

/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name) */
int fdatasync(int fd) {
    count_sync(fd);
    return (int)syscall(SYS_fdatasync, fd);
}

static void commit_returns_after_the_wal_is_synced(void) {
    struct fixture f;
    LK_REQUIRE(fixture_open(&f) == 0);
    for (int i = 0; i < 5; i++) {
        int before;
        LK_CHECK_INT(lk_store_begin(f.store), 0);
        for (int j = 0; j < 10; j++)
            LK_CHECK_INT(put_in(f.store, (char[]){(char)('a' + j), 0}, i % 2 ? "image" : "another", "s", 1), 0);
        before = wal_syncs;
        LK_CHECK_INT(lk_store_commit(f.store), 0);
        LK_CHECK(wal_syncs > before);
    }
    struct lk_store_serving s = {.space = "s", .precision = "f32"};
    int before = wal_syncs;
    LK_CHECK_INT(lk_store_set_serving(f.store, &s), 0);
    LK_CHECK(wal_syncs > before);
    fixture_close(&f);
}

enum { PER_BATCH = 5, IDS = 60 };

/* What write number n does to which item, so that the parent can work out what must be there. */
static void name_of(char id[24], int n) { snprintf(id, 24, "item %d", n * 7 % IDS); }
static void image_of(char image[3000], int n) {
    memset(image, 'a' + n % 26, 2999);
    snprintf(image, 12, "%d", n);
    image[strlen(image)] = '-';
    image[2999] = '\0';
}
static int is_delete(int n) { return n % 11 == 10; }

/* Writes batches for ever and says after each commit how far it is. */
static void write_until_killed(const char *path, int from, int tell) {
    struct lk_store *store;
    if (lk_store_open(&store, path, NULL) < 0)
        _exit(1);
    for (int n = from;;) {
        if (lk_store_begin(store) < 0)
            _exit(2);
        for (int i = 0; i < PER_BATCH; i++, n++) {
            char id[24], image[3000];
            name_of(id, n);
            image_of(image, n);
            int rc = is_delete(n) ? lk_store_delete(store, id, NULL) : put_in(store, id, image, "s", (float)n);
            if (rc < 0 && rc != LK_ENOTFOUND)
                _exit(3);
        }
        if (lk_store_commit(store) < 0)
            _exit(4);
        if (write(tell, &n, sizeof n) != (ssize_t)sizeof n)
            _exit(5);
    }
}

/* The catalogue must be what the first `n` writes leave, item by item. 1 when it is. */
static int is_state_after(struct lk_store *store, int n) {
    int last[IDS];
    int64_t items = 0, expected = 0;
    memset(last, -1, sizeof last);
    for (int i = 0; i < n; i++)
        last[i * 7 % IDS] = i;
    for (int i = 0; i < IDS; i++) {
        char id[24], image[3000], media_type[64];
        struct lk_buf got = {0};
        struct copy c = {0};
        snprintf(id, sizeof id, "item %d", i);
        const int there = last[i] >= 0 && !is_delete(last[i]);
        expected += there;
        int rc = lk_store_get(store, id, "s", copy_item, &c);
        if (rc != (there ? 0 : LK_ENOTFOUND))
            return 0;
        if (!there)
            continue;
        image_of(image, last[i]);
        rc = lk_store_image(store, id, &got, media_type);
        int same = rc == 0 && got.size == strlen(image) && memcmp(got.data, image, got.size) == 0 && c.dim == 3 &&
                   c.vector[0] == (float)last[i];
        lk_buf_free(&got);
        if (!same)
            return 0;
    }
    return lk_store_count(store, &items) == 0 && items == expected;
}

static void acknowledged_writes_survive_kill_9_at_any_moment(void) {
    struct fixture f;
    int done = 0, kills = 0;
    uint64_t random = 11;
    fixture_folder(&f);
    for (int round = 0; round < 25; round++) {
        int tell[2], acknowledged = done, status = 0, n;
        LK_REQUIRE(pipe(tell) == 0);
        pid_t child = fork();
        if (child == 0) {
            close(tell[0]);
            write_until_killed(f.path, done, tell[1]);
        }
        close(tell[1]);
        if (round > 2 && read(tell[0], &n, sizeof n) == (ssize_t)sizeof n) /* before that, even creation is hit */
            acknowledged = n;
        random = random * 6364136223846793005U + 1442695040888963407U;
        nanosleep(&(struct timespec){.tv_nsec = (long)(random >> 40) % (round > 2 ? 30000000 : 6000000)}, NULL);
        kill(child, SIGKILL);
        while (read(tell[0], &n, sizeof n) == (ssize_t)sizeof n)
            acknowledged = n;
        close(tell[0]);
        LK_CHECK(waitpid(child, &status, 0) == child);
        LK_CHECK(WIFSIGNALED(status)); /* else it failed by itself */
        kills += WIFSIGNALED(status);

        LK_REQUIRE(fixture_reopen(&f) == 0);
        /* One batch may have been committed and not told. */
        if (is_state_after(f.store, acknowledged))
            done = acknowledged;
        else if (LK_CHECK(is_state_after(f.store, acknowledged + PER_BATCH)))
            done = acknowledged + PER_BATCH;
        LK_CHECK_INT(fixture_sql(&f, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
        LK_CHECK_INT(fixture_sql(&f, "SELECT count(*) FROM images WHERE sha256 NOT IN (SELECT image FROM items)"), 0);
        if (done == 0) { /* what the next child continues from must not be half a batch */
            LK_CHECK(is_state_after(f.store, 0));
        }
        lk_store_close(f.store);
        f.store = NULL;
    }
    LK_CHECK(done > 50 && kills == 25);
    fixture_close(&f);
}

/* In a child, because the limit on a file's size holds for the whole process. Exit status 0: as it should be. */
static int fill_the_disk(const char *path, int tell) {
    struct lk_store *store;
    static char image[40000];
    const struct rlimit limit = {.rlim_cur = 4 << 20, .rlim_max = 4 << 20};
    int64_t items = -1;
    int rc = 0, n = 0;
    if (lk_store_open(&store, path, NULL) < 0)
        return 1;
    signal(SIGXFSZ, SIG_IGN); /* write then fails with EFBIG, as it would with ENOSPC */
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
        return 2;
    memset(image, 'x', sizeof image - 1);
    while (rc == 0 && n < 1000) {
        char id[24];
        snprintf(id, sizeof id, "%04d", n);
        snprintf(image, 12, "%d", n);
        image[strlen(image)] = 'x';
        if ((rc = put(store, id, image, "s", (float)n)) == 0) {
            n++;
            if (write(tell, &n, sizeof n) != (ssize_t)sizeof n)
                return 3;
        }
    }
    if (rc != LK_ENOSPACE || strstr(lk_error(), path) == NULL) {
        printf("     %d: %s\n", rc, lk_error());
        return 4;
    }
    if (lk_store_count(store, &items) != 0 || items != n || lk_store_seq(store) != n)
        return 5; /* reading goes on */
    if (put(store, "one more", image, "s", 0) != LK_ENOSPACE)
        return 6;
    lk_store_close(store);
    return 0;
}

static void a_full_disk_is_an_error_that_loses_nothing(void) {
    struct fixture f;
    int tell[2], status = -1, n, acknowledged = 0;
    int64_t items = 0;
    fixture_folder(&f);
    LK_REQUIRE(pipe(tell) == 0);
    pid_t child = fork();
    if (child == 0) {
        int rc = fill_the_disk(f.path, tell[1]);
        fflush(stdout);
        _exit(rc);
    }
    close(tell[1]);
    while (read(tell[0], &n, sizeof n) == (ssize_t)sizeof n)
        acknowledged = n;
    close(tell[0]);
    LK_CHECK(waitpid(child, &status, 0) == child);
    LK_CHECK_INT(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
    LK_CHECK(acknowledged > 5 && acknowledged < 100);
    LK_REQUIRE(fixture_reopen(&f) == 0);
    LK_CHECK_INT(lk_store_count(f.store, &items), 0);
    LK_CHECK_INT(items, acknowledged);
    LK_CHECK_INT(fixture_sql(&f, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
    LK_CHECK_INT(put(f.store, "now there is room", "image", "s", 1), 0);
    LK_CHECK_INT(lk_store_seq(f.store), acknowledged + 1);
    fixture_close(&f);
}

static void a_database_that_may_not_grow_breaks_the_batch_and_nothing_else(void) {
    struct fixture f;
    static char image[200000];
    int64_t items = 0;
    LK_REQUIRE(fixture_open(&f) == 0);
    memset(image, 'y', sizeof image - 1);
    LK_CHECK_INT(put(f.store, "first", "image", "s", 1), 0);
    lk_store_close(f.store); /* no connection may cross a fork */
    f.store = NULL;
    pid_t child = fork();
    if (child == 0) {
        const struct rlimit limit = {.rlim_cur = 400000, .rlim_max = 400000};
        signal(SIGXFSZ, SIG_IGN);
        if (lk_store_open(&f.store, f.path, NULL) < 0 || setrlimit(RLIMIT_FSIZE, &limit) != 0 ||
            lk_store_begin(f.store) < 0)
            _exit(1);
        int rc = 0;
        for (int i = 0; i < 200 && rc == 0; i++) { /* past the cache, so that it spills inside the batch */
            snprintf(image, 12, "%d", i);
            image[strlen(image)] = 'y';
            rc = put_in(f.store, (char[]){(char)('A' + i / 20), (char)('A' + i % 20), 0}, image, NULL, 0);
        }
        if (rc != LK_ENOSPACE || put_in(f.store, "after", "image", NULL, 0) != LK_ENOSPACE)
            _exit(2);
        if (lk_store_commit(f.store) != LK_ENOSPACE || strstr(lk_error(), f.path) == NULL)
            _exit(3);
        if (lk_store_count(f.store, &items) != 0 || items != 1 || lk_store_seq(f.store) != 1)
            _exit(4);
        _exit(put(f.store, "small", "image", NULL, 0) == 0 ? 0 : 5); /* the next batch is a new one */
    }
    int status = -1;
    LK_CHECK(waitpid(child, &status, 0) == child);
    LK_CHECK_INT(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
    LK_REQUIRE(fixture_reopen(&f) == 0);
    LK_CHECK_INT(list(f.store, NULL, 300, NULL).n, 2);
    fixture_close(&f);
}

static const struct lk_case cases[] = {
    LK_CASE(commit_returns_after_the_wal_is_synced),
    LK_CASE(acknowledged_writes_survive_kill_9_at_any_moment),
    LK_CASE(a_full_disk_is_an_error_that_loses_nothing),
    LK_CASE(a_database_that_may_not_grow_breaks_the_batch_and_nothing_else),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
