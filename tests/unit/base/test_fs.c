/* Does an atomic write leave the old file or the new one, whatever happens? Does a walk see each file once, in order? */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "check.h"

static char folder[200];

static const char *in(const char *name) {
    static char paths[4][300];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void check_content(const char *path, const char *want) {
    struct lk_buf b = {0};
    LK_CHECK_INT(lk_fs_read(&b, path, 0), 0);
    LK_CHECK_INT(b.size, strlen(want));
    LK_CHECK(b.size == strlen(want) && memcmp(b.data, want, b.size) == 0);
    lk_buf_free(&b);
}

static size_t count_files(void) {
    struct lk_fs_list list;
    LK_CHECK_INT(lk_fs_walk(&list, folder), 0);
    size_t n = list.count;
    lk_fs_list_free(&list);
    return n;
}

static void write_then_read(void) {
    LK_CHECK_INT(lk_fs_write_atomic(in("a"), "first", 5), 0);
    check_content(in("a"), "first");
    LK_CHECK_INT(lk_fs_write_atomic(in("a"), "", 0), 0);
    check_content(in("a"), "");
    LK_CHECK_INT(lk_fs_write_atomic(in("a"), "second", 6), 0);
    check_content(in("a"), "second");
    LK_CHECK_INT(count_files(), 1); /* no temporary file is left */
    struct stat s;
    LK_REQUIRE(stat(in("a"), &s) == 0);
    mode_t mask = umask(0);
    umask(mask);
    LK_CHECK_INT(s.st_mode & 0777, 0666 & ~mask); /* as any file that a program creates */
}

static void a_failed_write_leaves_the_old_file(void) {
    LK_REQUIRE(lk_fs_write_atomic(in("old"), "old content", 11) == 0);
    size_t before = count_files();
    struct rlimit old, small;
    LK_REQUIRE(getrlimit(RLIMIT_FSIZE, &old) == 0);
    small = old;
    small.rlim_cur = 1000;
    signal(SIGXFSZ, SIG_IGN);
    static char big[5000];
    LK_REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
    int rc = lk_fs_write_atomic(in("old"), big, sizeof big); /* stops in the middle */
    setrlimit(RLIMIT_FSIZE, &old);
    LK_CHECK_INT(rc, LK_EIO);
    LK_CHECK_HOLDS(lk_error(), "/old: cannot write");
    check_content(in("old"), "old content");
    LK_CHECK_INT(count_files(), before);
}

static void a_crash_before_commit_leaves_the_old_file(void) {
    LK_REQUIRE(lk_fs_write_atomic(in("old"), "old content", 11) == 0);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct lk_fs_writer w;
        int rc = lk_fs_writer_begin(&w, in("old")) || lk_fs_writer_append(&w, "new cont", 8);
        _exit(rc);
    }
    int status = -1;
    waitpid(child, &status, 0);
    LK_CHECK_INT(status, 0);
    check_content(in("old"), "old content");
    LK_CHECK_INT(lk_fs_write_atomic(in("old"), "newer", 5), 0); /* what the crash left is not in the way */
    check_content(in("old"), "newer");
}

static void a_writer_commits_pieces_or_aborts(void) {
    struct lk_fs_writer w;
    LK_REQUIRE(lk_fs_writer_begin(&w, in("pieces")) == 0);
    LK_CHECK_INT(lk_fs_writer_append(&w, "one ", 4), 0);
    LK_CHECK(!lk_fs_exists(in("pieces")));
    LK_CHECK_INT(lk_fs_writer_append(&w, "two", 3), 0);
    LK_CHECK_INT(lk_fs_writer_commit(&w), 0);
    lk_fs_writer_abort(&w); /* after a commit: nothing */
    check_content(in("pieces"), "one two");
    LK_REQUIRE(lk_fs_writer_begin(&w, in("pieces")) == 0);
    LK_CHECK_INT(lk_fs_writer_append(&w, "three", 5), 0);
    size_t with_temporary = count_files();
    lk_fs_writer_abort(&w);
    LK_CHECK_INT(count_files(), with_temporary - 1);
    check_content(in("pieces"), "one two");
    struct lk_fs_writer zeroed = {0};
    lk_fs_writer_abort(&zeroed);
    LK_CHECK(write(STDOUT_FILENO, "", 0) == 0); /* and descriptor 0 and 1 are still open */
}

static void errors_name_the_path(void) {
    struct lk_buf b = {0};
    struct lk_fs_map m;
    struct lk_fs_list list;
    LK_CHECK_INT(lk_fs_write_atomic(in("nowhere/x"), "x", 1), LK_ENOTFOUND);
    LK_CHECK_HOLDS(lk_error(), "nowhere/x");
    LK_CHECK_INT(lk_fs_read(&b, in("missing"), 0), LK_ENOTFOUND);
    LK_CHECK_HOLDS(lk_error(), "missing: cannot open: No such file");
    LK_CHECK_INT(lk_fs_read(&b, folder, 0), LK_EIO);
    LK_CHECK_HOLDS(lk_error(), "is a folder");
    LK_CHECK_INT(lk_fs_map(&m, in("missing")), LK_ENOTFOUND);
    LK_CHECK_INT(lk_fs_map(&m, folder), LK_EIO);
    LK_CHECK_INT(lk_fs_walk(&list, in("missing")), LK_ENOTFOUND);
    LK_CHECK_HOLDS(lk_error(), "missing");
    LK_REQUIRE(lk_fs_write_atomic(in("file"), "12345", 5) == 0);
    LK_CHECK_INT(lk_fs_walk(&list, in("file")), LK_ENOTFOUND);
    LK_REQUIRE(mkdir(in("target"), 0777) == 0);
    LK_CHECK_INT(lk_fs_write_atomic(in("target"), "x", 1), LK_EIO); /* a folder is in the way */
    LK_CHECK(lk_fs_is_folder(in("target")));
    lk_buf_free(&b);
}

static void the_limit_holds(void) {
    struct lk_buf b = {0};
    LK_REQUIRE(lk_fs_write_atomic(in("five"), "12345", 5) == 0);
    LK_CHECK_INT(lk_fs_read(&b, in("five"), 5), 0);
    LK_CHECK_INT(b.size, 5);
    LK_CHECK_INT(lk_fs_read(&b, in("five"), 4), LK_ELIMIT);
    LK_CHECK_HOLDS(lk_error(), "5 bytes exceed the limit of 4");
    LK_CHECK_INT(lk_fs_read(&b, "/dev/zero", 100000), LK_ELIMIT); /* a file without an end */
    lk_buf_free(&b);
}

static void a_map_shows_the_file(void) {
    struct lk_fs_map m;
    LK_REQUIRE(lk_fs_write_atomic(in("map"), "mapped", 6) == 0);
    LK_REQUIRE(lk_fs_map(&m, in("map")) == 0);
    LK_CHECK(m.size == 6 && memcmp(m.data, "mapped", 6) == 0);
    lk_fs_unmap(&m);
    lk_fs_unmap(&m);
    LK_REQUIRE(lk_fs_write_atomic(in("map"), "", 0) == 0);
    LK_REQUIRE(lk_fs_map(&m, in("map")) == 0);
    LK_CHECK(m.size == 0 && m.data != NULL);
    lk_fs_unmap(&m);
}

static void folders_are_made_with_their_parents(void) {
    char trailing[300];
    LK_CHECK_INT(lk_fs_mkdir_parents(in("p/q/r")), 0);
    LK_CHECK(lk_fs_is_folder(in("p/q/r")));
    LK_CHECK_INT(lk_fs_mkdir_parents(in("p/q/r")), 0);
    snprintf(trailing, sizeof trailing, "%s//s/", in("p"));
    LK_CHECK_INT(lk_fs_mkdir_parents(trailing), 0);
    LK_CHECK(lk_fs_is_folder(in("p/s")));
    LK_REQUIRE(lk_fs_write_atomic(in("p/file"), "", 0) == 0);
    LK_CHECK(lk_fs_mkdir_parents(in("p/file/x")) < 0);
    LK_CHECK(!lk_fs_is_folder(in("p/file")) && lk_fs_exists(in("p/file")));
    LK_CHECK_INT(lk_fs_mkdir_parents("/"), 0);
}

static void a_walk_is_sorted_and_links_make_no_loops(void) {
    static const char *const files[] = {"w/b/2", "w/b/10", "w/a.txt", "w/Z/x", "w/b.c", "outside/y", "outside/deep/z"};
    static const char *const want[] = {"Z/x", "a.txt", "b/10", "b/2", "b.c", "c/deep/z", "c/y", "f"};
    LK_REQUIRE(lk_fs_mkdir_parents(in("w/b")) == 0 && lk_fs_mkdir_parents(in("w/Z")) == 0 &&
               lk_fs_mkdir_parents(in("outside/deep")) == 0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        LK_REQUIRE(lk_fs_write_atomic(in(files[i]), "x", 1) == 0);
    LK_REQUIRE(symlink("..", in("w/b/up")) == 0 && symlink("../w", in("w/self")) == 0 &&
               symlink("../outside", in("w/c")) == 0 && symlink("../outside", in("w/d")) == 0 &&
               symlink("../w/a.txt", in("w/f")) == 0 && symlink("gone", in("w/broken")) == 0 &&
               symlink("../w", in("outside/back")) == 0);
    struct lk_fs_list list;
    LK_REQUIRE(lk_fs_walk(&list, in("w")) == 0);
    LK_CHECK_INT(list.count, sizeof want / sizeof *want);
    for (size_t i = 0; i < list.count && i < sizeof want / sizeof *want; i++)
        LK_CHECK_STR(list.paths[i], want[i]);
    lk_fs_list_free(&list);
    lk_fs_list_free(&list);
    LK_REQUIRE(mkdir(in("empty"), 0777) == 0 && lk_fs_walk(&list, in("empty")) == 0);
    LK_CHECK_INT(list.count, 0);
    lk_fs_list_free(&list);
}

static const struct lk_case cases[] = {
    LK_CASE(write_then_read),
    LK_CASE(a_failed_write_leaves_the_old_file),
    LK_CASE(a_crash_before_commit_leaves_the_old_file),
    LK_CASE(a_writer_commits_pieces_or_aborts),
    LK_CASE(errors_name_the_path),
    LK_CASE(the_limit_holds),
    LK_CASE(a_map_shows_the_file),
    LK_CASE(folders_are_made_with_their_parents),
    LK_CASE(a_walk_is_sorted_and_links_make_no_loops),
};

int main(int argc, char **argv) {
    const char *temporary = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/likeness-fs-XXXXXX", temporary ? temporary : "/tmp");
    if (mkdtemp(folder) == NULL)
        return 1;
    int rc = lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? rc : 1;
}
