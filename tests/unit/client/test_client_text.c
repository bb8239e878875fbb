/* Ids and their percent-encoding, the growable text, and what opening a client refuses. */
#include <stdlib.h>

#include "check.h"
#include "client/text.h"

static char *encoded(const char *id) {
    struct likeness__buf b = {0};
    return likeness__buf_encode(&b, id) || likeness__buf_puts(&b, "") ? NULL : likeness__buf_take(&b);
}

static void only_unreserved_bytes_stay_as_they_are(void) {
    for (int c = 1; c < 256; c++) {
        const char id[2] = {(char)c, 0};
        char expected[8];
        const int plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                          (c < 128 && strchr("-._~", c));
        snprintf(expected, sizeof expected, plain ? "%c" : "%%%02X", c);
        char *got = encoded(id);
        LK_CHECK_STR(got, expected);
        free(got);
    }
}

static void a_path_becomes_one_segment(void) {
    static const char *const pairs[][2] = {
        {"a/b", "a%2Fb"},       {"50% off.png", "50%25%20off.png"},
        {"%2F", "%252F"},       {"a?b#c&d=e+f", "a%3Fb%23c%26d%3De%2Bf"},
        {"\xC3\xBC", "%C3%BC"}, {"..", ".."},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char *got = encoded(pairs[i][0]);
        LK_CHECK_STR(got, pairs[i][1]);
        free(got);
    }
}

static void good_ids_are_1_to_255_bytes_of_utf8(void) {
    char longest[257];
    memset(longest, 'x', sizeof longest);
    longest[255] = '\0';
    const char *const good[] = {"a",
                                "a/b c",
                                longest,
                                "\xC3\xBC",
                                "\xE6\x97\xA5",
                                "\xF0\x9F\x98\x80",
                                "\xC2\xA0",
                                ".",
                                "\xF4\x8F\xBF\xBF",
                                "\xEE\x80\x80"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        LK_CHECK_INT(likeness__check_id(good[i]), 0);
    }
}

static void bad_ids_are_refused_with_a_sentence(void) {
    char too_long[257];
    memset(too_long, 'x', sizeof too_long);
    too_long[256] = '\0';
    static const char *const bad[][2] = {
        {"", "empty"},
        {"a\nb", "control"},
        {"\x7F", "control"},
        {"\xC2\x85", "control"},
        {"\x1F", "control"},
        {"\xFF", "UTF-8"},
        {"\xC3", "UTF-8"},
        {"\xC0\x80", "UTF-8"},
        {"\xC1\xBF", "UTF-8"},
        {"\xE0\x9F\xBF", "UTF-8"},
        {"\xED\xA0\x80", "UTF-8"},
        {"\xF0\x8F\xBF\xBF", "UTF-8"},
        {"\xF4\x90\x80\x80", "UTF-8"},
        {"\xF5\x80\x80\x80", "UTF-8"},
        {"\x80", "UTF-8"},
        {"a\xE6\x97", "UTF-8"},
        {"\xE6\x97"
         "a",
         "UTF-8"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        LK_CHECK_INT(likeness__check_id(bad[i][0]), LIKENESS_EINVAL);
        LK_CHECK_HOLDS(likeness_error()->message, bad[i][1]);
    }
    LK_CHECK_INT(likeness__check_id(too_long), LIKENESS_EINVAL);
    LK_CHECK_HOLDS(likeness_error()->message, "256 bytes");
    LK_CHECK_INT(likeness__check_id(NULL), LIKENESS_EINVAL);
}

static void quotes_backslashes_and_per_cent_signs_do_not_fit_a_file_name(void) {
    LK_CHECK_INT(likeness_id_fits_many("a b/\xC3\xBC'#.png"), 1);
    LK_CHECK_INT(likeness_id_fits_many("a%22b"), 0);
    LK_CHECK_INT(likeness_id_fits_many("a\"b"), 0);
    LK_CHECK_INT(likeness_id_fits_many("a\\b"), 0);
}

static void text_grows_and_always_ends_in_nul(void) {
    struct likeness__buf b = {0};
    for (int i = 0; i < 1000; i++) {
        LK_CHECK_INT(likeness__buf_append(&b, "abc", 3), 0);
    }
    LK_CHECK_INT(b.size, 3000);
    LK_REQUIRE(b.data != NULL);
    LK_CHECK_INT(strlen(b.data), 3000);
    LK_CHECK_INT(likeness__buf_append(&b, "x", (size_t)-2), LIKENESS_ENOMEM);
    LK_CHECK_INT(b.size, 3000);
    likeness__buf_free(&b);
    LK_CHECK(likeness__buf_take(&b) == NULL);
}

static void opening_refuses_what_is_no_server(void) {
    static const char *const bad[] = {"ftp://host", "http://", "://", "http://host/?a=b", "http://host:99999"};
    struct likeness *client;
    struct likeness_options options;
    likeness_options_init(&options);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        options.server = bad[i];
        LK_CHECK_INT(likeness_open(&client, &options), LIKENESS_EINVAL);
        LK_CHECK(client == NULL);
    }
    options.server = "http://127.0.0.1:1/prefix//";
    options.timeout = 0;
    LK_CHECK_INT(likeness_open(&client, &options), LIKENESS_EINVAL);
    options.timeout = 1;
    LK_REQUIRE(likeness_open(&client, &options) == 0);
    LK_CHECK_STR(likeness_server(client), "http://127.0.0.1:1/prefix");
    likeness_close(client);
    likeness_close(NULL);
}

static void without_an_option_the_server_comes_from_the_environment(void) {
    struct likeness *client;
    setenv("LIKENESS_SERVER", "http://elsewhere:1234", 1);
    LK_REQUIRE(likeness_open(&client, NULL) == 0);
    LK_CHECK_STR(likeness_server(client), "http://elsewhere:1234");
    likeness_close(client);
    unsetenv("LIKENESS_SERVER");
    LK_REQUIRE(likeness_open(&client, NULL) == 0);
    LK_CHECK_STR(likeness_server(client), LIKENESS_DEFAULT_SERVER);
    likeness_close(client);
}

static void an_unreachable_server_is_told_apart(void) {
    struct likeness *client;
    struct likeness_options options;
    struct likeness_model model;
    likeness_options_init(&options);
    options.server = "http://127.0.0.1:1";
    LK_REQUIRE(likeness_open(&client, &options) == 0);
    LK_CHECK_INT(likeness_model(client, &model), LIKENESS_ECONNECT);
    LK_CHECK_INT(likeness_error()->http, 0);
    LK_CHECK_HOLDS(likeness_error()->message, "http://127.0.0.1:1");
    LK_CHECK(model.json == NULL);
    likeness_close(client);
}

static void wrong_arguments_send_nothing(void) {
    struct likeness *client;
    struct likeness_options options;
    likeness_options_init(&options);
    options.server = "http://127.0.0.1:1"; /* sending would be ECONNECT */
    LK_REQUIRE(likeness_open(&client, &options) == 0);
    struct likeness_neighbors neighbors;
    struct likeness_vectors vectors;
    struct likeness_outcome outcome;
    const struct likeness_picture picture = {"x", 1};
    const char *id = "a\"b", *good = "a", *array = "[]";
    LK_CHECK_INT(likeness_neighbors(client, &picture, 0, NULL, &neighbors), LIKENESS_EINVAL);
    LK_CHECK_INT(likeness_neighbors_of(client, "", 1, NULL, &neighbors), LIKENESS_EINVAL);
    LK_CHECK_INT(likeness_embed(client, &picture, 0, &vectors), LIKENESS_EINVAL);
    LK_CHECK_INT(likeness_put(client, "a\tb", &picture, NULL, NULL), LIKENESS_EINVAL);
    LK_CHECK_INT(likeness_put(client, "a", &picture, "[1]", NULL), LIKENESS_EINVAL);
    LK_CHECK_INT(likeness_put(client, "a", &picture, "{\"a\":1,\"a\":2}", NULL), LIKENESS_EINVAL);
    LK_CHECK_INT(likeness_put_many(client, &id, &picture, NULL, 1, &outcome), LIKENESS_EINVAL);
    LK_CHECK_INT(outcome.status, LIKENESS_EINVAL);
    LK_CHECK_INT(likeness_put_many(client, &good, &picture, &array, 1, &outcome), LIKENESS_EINVAL);
    LK_CHECK_INT(likeness_delete(client, ""), LIKENESS_EINVAL);
    likeness_close(client);
}

static const struct lk_case cases[] = {
    LK_CASE(only_unreserved_bytes_stay_as_they_are),
    LK_CASE(a_path_becomes_one_segment),
    LK_CASE(good_ids_are_1_to_255_bytes_of_utf8),
    LK_CASE(bad_ids_are_refused_with_a_sentence),
    LK_CASE(quotes_backslashes_and_per_cent_signs_do_not_fit_a_file_name),
    LK_CASE(text_grows_and_always_ends_in_nul),
    LK_CASE(opening_refuses_what_is_no_server),
    LK_CASE(without_an_option_the_server_comes_from_the_environment),
    LK_CASE(an_unreachable_server_is_told_apart),
    LK_CASE(wrong_arguments_send_nothing),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
