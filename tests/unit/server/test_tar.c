/* Does the system's tar read what we write, long names and all sizes included? */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "check.h"
#include "server/tar.h"

static int add(struct lk_buf *out, const char *name, const char *bytes, size_t n) {
    return lk_tar_header(out, name, n, 1700000000) || lk_buf_append(out, bytes, n) || lk_tar_padding(out, n);
}

static void tar_lists_what_was_written(void) {
    struct lk_buf out = {0};
    char long_name[301], exact[101], content[1025];
    memset(content, 'x', sizeof content);
    memset(long_name, 'n', 300);
    memset(exact, 'e', 100);
    long_name[300] = exact[100] = 0;
    LK_CHECK_INT(add(&out, "empty", content, 0) || add(&out, "one", content, 1) || add(&out, "block", content, 512) ||
                     add(&out, "more", content, 1025) || add(&out, exact, content, 3) ||
                     add(&out, long_name, content, 4) || add(&out, "images/a%2Fb", content, 5) || lk_tar_end(&out),
                 0);
    LK_CHECK_INT(out.size % 512, 0);
    char path[] = "/tmp/likeness-tar-XXXXXX", command[128], line[512];
    int fd = mkstemp(path);
    LK_REQUIRE(fd >= 0);
    LK_CHECK_INT(write(fd, out.data, out.size), (long long)out.size);
    close(fd);
    snprintf(command, sizeof command, "TZ=UTC tar tvf %s 2>&1", path);
    FILE *tar = popen(command, "r");
    LK_REQUIRE(tar != NULL);
    const struct {
        const char *name;
        int size;
    } want[] = {{"empty", 0}, {"one", 1},     {"block", 512},     {"more", 1025},
                {exact, 3},   {long_name, 4}, {"images/a%2Fb", 5}};
    size_t n = 0;
    while (fgets(line, sizeof line, tar)) {
        line[strcspn(line, "\n")] = 0;
        /* "-rw-r--r-- 0/0  5 2023-11-14 22:13 images/a%2Fb" */
        char *owner = strchr(line, ' '), *size_at = owner ? strchr(owner + 1, ' ') : NULL, *name = strrchr(line, ' ');
        LK_REQUIRE(size_at != NULL && name != NULL);
        long size = strtol(size_at, NULL, 10);
        name++;
        LK_REQUIRE(n < sizeof want / sizeof *want);
        LK_CHECK_STR(name, want[n].name);
        LK_CHECK_INT(size, want[n].size);
        LK_CHECK_HOLDS(line, "2023-11-14");
        n++;
    }
    LK_CHECK_INT(n, sizeof want / sizeof *want);
    LK_CHECK_INT(pclose(tar), 0);
    unlink(path);
    lk_buf_free(&out);
}

static void a_pax_record_counts_its_own_length(void) {
    for (size_t n = 101; n < 1100; n++) { /* the length passes from 3 to 4 digits on the way */
        struct lk_buf out = {0};
        char name[1101];
        memset(name, 'a', n);
        name[n] = 0;
        LK_REQUIRE(lk_tar_header(&out, name, 0, 0) == 0);
        size_t said = strtoul((const char *)out.data + 512, NULL, 10);
        const char *record = (const char *)out.data + 512;
        LK_CHECK(said < out.size - 512 && record[said - 1] == '\n' && (said % 512 == 0 || record[said] == 0));
        lk_buf_free(&out);
    }
}

static void a_file_beyond_the_format_is_refused(void) {
    struct lk_buf out = {0};
    LK_CHECK_INT(lk_tar_header(&out, "big", 1ull << 33, 0), LK_EINVAL);
    LK_CHECK_INT(lk_tar_header(&out, "big", (1ull << 33) - 1, -5), 0);
    lk_buf_free(&out);
}

static const struct lk_case cases[] = {
    LK_CASE(tar_lists_what_was_written),
    LK_CASE(a_pax_record_counts_its_own_length),
    LK_CASE(a_file_beyond_the_format_is_refused),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
