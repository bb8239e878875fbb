/* What every test includes, as "check.h": checks that print where and what, and a runner that prints each case's name.
 *
 *     static void rows_are_sorted(void) { LK_CHECK_INT(count(), 3); }
 *     static const struct lk_case cases[] = {LK_CASE(rows_are_sorted)};
 *     int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
 *
 * A failed check is counted and the case goes on; LK_REQUIRE leaves the function instead (where going on would crash).
 * Words on the command line run only the cases whose name holds one of them. Checks may be used from any thread.
 * A case that cannot run here (no GPU, no data) calls lk_skip(); the test exits with 77 when all of them did. */
#ifndef LK_TESTS_CHECK_H
#define LK_TESTS_CHECK_H

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

struct lk_case {
    const char *name;
    void (*run)(void);
};
#define LK_CASE(function) \
    { #function, function }

static atomic_int lk_check_failures;
static atomic_int lk_check_skipped;

static inline int lk_check_one(int holds, const char *file, int line, const char *text) {
    if (!holds) {
        printf("%s:%d: failed: %s\n", file, line, text);
        atomic_fetch_add(&lk_check_failures, 1);
    }
    return holds;
}

static inline int lk_check_int(long long got, long long want, const char *file, int line, const char *text) {
    if (got != want) {
        printf("%s:%d: %s is %lld, expected %lld\n", file, line, text, got, want);
        atomic_fetch_add(&lk_check_failures, 1);
    }
    return got == want;
}

static inline int lk_check_near(double got, double want, double tolerance, const char *file, int line,
                                const char *text) {
    int holds = fabs(got - want) <= tolerance; /* false for NaN */
    if (!holds) {
        printf("%s:%d: %s is %.9g, expected %.9g +- %.3g\n", file, line, text, got, want, tolerance);
        atomic_fetch_add(&lk_check_failures, 1);
    }
    return holds;
}

static inline int lk_check_str(const char *got, const char *want, int part, const char *file, int line,
                               const char *text) {
    int holds = got != NULL && want != NULL && (part ? strstr(got, want) != NULL : strcmp(got, want) == 0);
    if (!holds) {
        printf("%s:%d: %s is \"%s\", expected %s\"%s\"\n", file, line, text, got ? got : "(null)",
               part ? "it to hold " : "", want ? want : "(null)");
        atomic_fetch_add(&lk_check_failures, 1);
    }
    return holds;
}

#define LK_CHECK(condition) lk_check_one((condition) ? 1 : 0, __FILE__, __LINE__, #condition)
#define LK_CHECK_INT(got, want) lk_check_int((long long)(got), (long long)(want), __FILE__, __LINE__, #got)
#define LK_CHECK_NEAR(got, want, tolerance) lk_check_near((got), (want), (tolerance), __FILE__, __LINE__, #got)
#define LK_CHECK_STR(got, want) lk_check_str((got), (want), 0, __FILE__, __LINE__, #got)
#define LK_CHECK_HOLDS(got, part) lk_check_str((got), (part), 1, __FILE__, __LINE__, #got)
#define LK_REQUIRE(condition)     \
    do {                          \
        if (!LK_CHECK(condition)) \
            return;               \
    } while (0)

static inline void lk_skip(const char *why) {
    printf("     skipped: %s\n", why);
    atomic_fetch_add(&lk_check_skipped, 1);
}

static inline int lk_run_cases(int argc, char **argv, const struct lk_case *cases, size_t n) {
    int failed = 0, ran = 0;
    for (size_t i = 0; i < n; i++) {
        int wanted = argc < 2;
        for (int a = 1; a < argc; a++)
            wanted |= strstr(cases[i].name, argv[a]) != NULL;
        if (!wanted)
            continue;
        int before = atomic_load(&lk_check_failures);
        cases[i].run();
        int bad = atomic_load(&lk_check_failures) != before;
        printf("%s %s\n", bad ? "FAIL" : "ok  ", cases[i].name);
        fflush(stdout);
        failed += bad, ran++;
    }
    if (failed || ran == 0)
        printf("%d of %d cases failed\n", failed, ran);
    return failed || ran == 0 ? 1 : atomic_load(&lk_check_skipped) == ran ? 77 : 0;
}

#endif
