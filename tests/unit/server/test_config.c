/* Do the settings keep their promises: loopback by default, cores shared, impossible settings refused? */
#include <string.h>

#include "base/err.h"
#include "check.h"
#include "server/config.h"

static int parse(struct lk_config *c, int n, const char *const *arguments) {
    char *argv[16] = {"likeness-server"};
    for (int i = 0; i < n; i++)
        argv[i + 1] = (char *)(uintptr_t)arguments[i];
    return lk_config_parse(c, n + 1, argv);
}
#define PARSE(c, ...) \
    parse(c, (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)), (const char *const[]){__VA_ARGS__})

static void only_loopback_is_listened_on_unless_told(void) {
    struct lk_config c;
    const char *const fine[] = {"127.0.0.1:80", "127.9.9.9:0", "localhost:8080", "[::1]:65535"};
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++)
        LK_CHECK_INT(PARSE(&c, "--model", "m", "--listen", fine[i]), 0);
    LK_CHECK_STR(c.address, "::1");
    LK_CHECK_INT(c.port, 65535);
    const char *const public[] = {"0.0.0.0:80", "192.168.1.1:80", "[::]:80", "[2001:db8::1]:80"};
    for (size_t i = 0; i < sizeof public / sizeof *public; i++) {
        LK_CHECK_INT(PARSE(&c, "--model", "m", "--listen", public[i]), LK_EINVAL);
        LK_CHECK_HOLDS(lk_error(), "--insecure-public");
        LK_CHECK_INT(PARSE(&c, "--model", "m", "--listen", public[i], "--insecure-public"), 0);
    }
    const char *const bad[] = {
        "",       "8080",         ":8080",  "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536",
        "a.b:80", "127.0.0.1:-1", "[::1:80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        LK_CHECK_INT(PARSE(&c, "--model", "m", "--listen", bad[i]), LK_EINVAL);
}

static void engine_and_pool_fit_the_cores_or_take_turns(void) {
    for (int cores = 1; cores <= 128; cores++) {
        struct lk_config c;
        char text[8];
        snprintf(text, sizeof text, "%d", cores);
        LK_REQUIRE(PARSE(&c, "--model", "m", "--device", "cpu", "--threads", text) == 0);
        LK_CHECK(c.engine_threads >= 1 && c.engine_threads <= cores);
        LK_CHECK(c.pool_threads >= 1 && c.pool_threads <= cores);
        LK_CHECK_INT(c.engine_cores, c.engine_threads); /* what it takes from lk_cores, of which there are `cores` */
        LK_CHECK(cores < 4 || c.engine_threads + c.pool_threads <= cores);
        LK_REQUIRE(PARSE(&c, "--model", "m", "--device", "cuda:0", "--threads", text) == 0);
        LK_CHECK_INT(c.engine_cores, 0);
    }
    struct lk_config c;
    LK_REQUIRE(PARSE(&c, "--model", "m", "--threads", "8", "--engine-threads", "5") == 0);
    LK_CHECK_INT(c.pool_threads, 3);
}

static void impossible_settings_are_refused(void) {
    struct lk_config c;
    LK_CHECK_INT(PARSE(&c, "--catalogue", "c.db"), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "--model");
    LK_CHECK_INT(PARSE(&c, "--model", "m", "--max-k", "0"), LK_EINVAL);
    LK_CHECK_INT(PARSE(&c, "--model", "m", "--max-kk", "5"), LK_EINVAL);
    LK_CHECK_INT(PARSE(&c, "--model", "m", "--precision", "fp8"), LK_EINVAL);
    LK_CHECK_INT(PARSE(&c, "--model", "m", "--decode-memory-bytes", "1M"), LK_EINVAL);
    LK_CHECK_INT(PARSE(&c, "--model", "m", "--body-memory-bytes", "1M"), LK_EINVAL);
    LK_CHECK_INT(PARSE(&c, "--model", "m", "--max-body-bytes", "1M", "--body-memory-bytes", "1M"), 0);
    LK_CHECK_INT(PARSE(&c, "--model", "m", "stray"), LK_EINVAL);
}

static void count(void *arg, const struct lk_arg *option, int is_limit) {
    int *n = arg;
    n[is_limit]++;
    LK_REQUIRE(option->name != NULL && option->value != NULL);
    if (strcmp(option->name, "max-k") == 0)
        LK_CHECK(is_limit && *(const long long *)option->value == 77);
}

static void every_option_can_be_listed_with_its_value(void) {
    struct lk_config c;
    int n[2] = {0, 0};
    LK_REQUIRE(PARSE(&c, "--model", "m", "--max-k", "77") == 0);
    lk_config_visit(&c, count, n);
    LK_CHECK(n[0] >= 12);
    LK_CHECK(n[1] >= 20);
}

static const struct lk_case cases[] = {
    LK_CASE(only_loopback_is_listened_on_unless_told),
    LK_CASE(engine_and_pool_fit_the_cores_or_take_turns),
    LK_CASE(impossible_settings_are_refused),
    LK_CASE(every_option_can_be_listed_with_its_value),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
