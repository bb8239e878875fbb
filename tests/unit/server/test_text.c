/* Are numbers, strings, base64, escapes and query strings read and written as their standards say? */
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "check.h"
#include "server/base64.h"
#include "server/json.h"
#include "server/uri.h"

static const char *text_of(struct lk_buf *b) {
    if (lk_buf_append(b, "", 1))
        return "";
    return (const char *)b->data;
}

static void check_float(float value) {
    struct lk_buf b = {0};
    LK_CHECK_INT(lk_json_float(&b, value), 0);
    float back = strtof(text_of(&b), NULL);
    if (back != value)
        LK_CHECK_STR((const char *)b.data, "the float that was written");
    lk_buf_free(&b);
}

static void floats_read_back_as_the_same_float(void) {
    for (uint32_t i = 0; i < 200000; i++) {
        struct lk_philox p = lk_rng(7, i, LK_RNG_TEST, 0, 0);
        float any, unit = (float)(2 * (double)lk_uniform(p.v[0]) - 1);
        memcpy(&any, &p.v[1], sizeof any);
        check_float(unit);
        check_float(unit * unit * unit * unit);
        if (isfinite(any))
            check_float(any);
    }
    const float edges[] = {0.0f,   1.0f,    -1.0f,   0.00390625f,      0.99999994f, 0.0039062498f, 3.8146973e-6f,
                           1e-10f, FLT_MAX, FLT_MIN, -0.5f / 16777216, 1e-45f,      123456.789f};
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        check_float(edges[i]);
}

static void floats_are_valid_json(void) {
    const float values[] = {0.5f, -0.25f, 1.0f, 0.99999994f, 1e-20f, 0.0f, 0.01f};
    struct lk_buf b = {0};
    LK_CHECK_INT(lk_json_floats(&b, values, 7), 0);
    struct lk_fault f = {0};
    json_t *array;
    LK_REQUIRE(lk_json_parse(&array, b.data, b.size, 100, NULL, &f) == 0);
    LK_CHECK_INT(json_array_size(array), 7);
    json_decref(array);
    lk_buf_clear(&b);
    LK_CHECK_INT(lk_json_float(&b, NAN) || lk_json_float(&b, INFINITY), 0);
    LK_CHECK_STR(text_of(&b), "nullnull");
    lk_buf_free(&b);
}

static void strings_are_escaped_and_bad_utf8_is_replaced(void) {
    struct lk_buf b = {0};
    LK_CHECK_INT(lk_json_text_n(&b, "a\"\\\n\t\x01\x7F\xC3\xA4\xFF\xE2\x82", 12), 0);
    LK_CHECK_STR(text_of(&b), "\"a\\\"\\\\\\n\\t\\u0001\\u007f\xC3\xA4\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
    lk_buf_clear(&b);
    LK_CHECK_INT(lk_json_text_n(&b, "\xED\xA0\x80\xC0\x80", 5), 0); /* a surrogate, an overlong NUL */
    struct lk_fault f = {0};
    json_t *text;
    LK_CHECK_INT(lk_json_parse(&text, b.data, b.size, 10, NULL, &f), 0);
    json_decref(text);
    lk_buf_free(&b);
}

static void times_are_rfc_3339(void) {
    struct lk_buf b = {0};
    LK_CHECK_INT(lk_json_time(&b, 1706702400005), 0);
    LK_CHECK_STR(text_of(&b), "\"2024-01-31T12:00:00.005Z\"");
    lk_buf_free(&b);
}

static void json_that_is_wrong_says_where(void) {
    struct lk_fault f = {0};
    json_t *v;
    LK_CHECK(lk_json_parse(&v, "{\"a\":1,}", 8, 100, "metadata", &f) < 0);
    LK_CHECK_INT(f.error, LK_API_INVALID_JSON);
    LK_CHECK_STR(f.param, "metadata");
    LK_CHECK_HOLDS(f.message, "line 1");
    LK_CHECK(lk_json_parse(&v, "{\"a\":1,\"a\":2}", 13, 100, NULL, &f) < 0);
    LK_CHECK_HOLDS(f.message, "duplicate");
    LK_CHECK(lk_json_parse(&v, "\"\\u0000\"", 8, 100, NULL, &f) < 0);
    LK_CHECK(lk_json_parse_object(&v, "[1]", 3, 100, NULL, &f) < 0);
    LK_CHECK_HOLDS(f.message, "object");
    LK_CHECK(lk_json_parse(&v, "", 0, 100, NULL, &f) < 0);
}

static void json_with_too_many_values_is_refused_before_it_is_parsed(void) {
    struct lk_fault f = {0};
    json_t *v;
    LK_CHECK(lk_json_parse(&v, "[1,2,3,4,5,6,7,8]", 17, 8, NULL, &f) < 0);
    LK_CHECK_HOLDS(f.message, "more than 8 values");
    LK_REQUIRE(lk_json_parse(&v, "[\",,,,,,,,,,,,\\\",\",1]", 21, 8, NULL, &f) == 0);
    json_decref(v);
}

static void check_base64(const char *text, int rc, const char *bytes) {
    struct lk_buf b = {0};
    LK_CHECK_INT(lk_base64_picture(&b, text, strlen(text)), rc);
    if (rc == 0)
        LK_CHECK_STR(text_of(&b), bytes);
    else
        LK_CHECK_INT(b.size, 0);
    lk_buf_free(&b);
}

static void base64_follows_rfc_4648(void) {
    check_base64("", 0, "");
    check_base64("Zg==", 0, "f");
    check_base64("Zm8=", 0, "fo");
    check_base64("Zm9v", 0, "foo");
    check_base64("Zm9vYg==", 0, "foob");
    check_base64("Zm9vYg", 0, "foob"); /* without padding */
    check_base64("Zm9v\r\nYmFy", 0, "foobar");
    check_base64("Z", LK_EINVAL, NULL);
    check_base64("Zg=", LK_EINVAL, NULL);
    check_base64("Zg===", LK_EINVAL, NULL);
    check_base64("Zh==", LK_EINVAL, NULL); /* bits after the last byte */
    check_base64("Zg==Zg==", LK_EINVAL, NULL);
    check_base64("Zm9_", LK_EINVAL, NULL);
    check_base64("data:image/png;base64,Zm9v", 0, "foo");
    check_base64("DATA:image/png;charset=x;BASE64,Zm9v", 0, "foo");
    check_base64("data:;base64,Zm9v", 0, "foo");
    check_base64("data:image/png,Zm9v", LK_EINVAL, NULL);
    check_base64("data:image/png;base64", LK_EINVAL, NULL);
    check_base64("data:base64,Zm9v", LK_EINVAL, NULL);
    check_base64("https://example.org/a.png", LK_EINVAL, NULL);
}

static void every_length_of_base64_comes_back(void) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t n = 0; n < 100; n++) {
        uint8_t bytes[100];
        char text[160];
        size_t used = 0;
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)(i * 77 + n * 13);
        for (size_t i = 0; i < n; i += 3) {
            uint32_t v = (uint32_t)bytes[i] << 16 | (i + 1 < n ? (uint32_t)bytes[i + 1] << 8 : 0) |
                         (i + 2 < n ? bytes[i + 2] : 0u);
            text[used++] = digits[v >> 18];
            text[used++] = digits[v >> 12 & 63];
            text[used++] = i + 1 < n ? digits[v >> 6 & 63] : '=';
            text[used++] = i + 2 < n ? digits[v & 63] : '=';
        }
        struct lk_buf b = {0};
        LK_CHECK_INT(lk_base64_decode(&b, text, used), 0);
        LK_CHECK_INT(b.size, n);
        LK_CHECK(n == 0 || (b.data && memcmp(b.data, bytes, n) == 0));
        lk_buf_free(&b);
    }
}

static void check_decoded(const char *text, int plus, int rc, const char *bytes, size_t n) {
    struct lk_text out;
    LK_CHECK_INT(lk_uri_decode(&out, text, strlen(text), plus, NULL), rc);
    if (rc == 0) {
        LK_CHECK_INT(out.size, n);
        LK_CHECK(memcmp(out.data, bytes, n) == 0 && out.data[n] == 0);
        free(out.data);
    }
}

static void percent_escapes_are_decoded_or_refused(void) {
    check_decoded("a%2Fb%2f", 0, 0, "a/b/", 4);
    check_decoded("%00x", 0, 0, "\0x", 2);
    check_decoded("a+b", 0, 0, "a+b", 3);
    check_decoded("a+b%2B", 1, 0, "a b+", 4);
    check_decoded("", 0, 0, "", 0);
    check_decoded("%", 0, LK_EINVAL, NULL, 0);
    check_decoded("%4", 0, LK_EINVAL, NULL, 0);
    check_decoded("a%4g", 0, LK_EINVAL, NULL, 0);
    check_decoded("%%41", 0, LK_EINVAL, NULL, 0);
    check_decoded("%C3%A4", 0, 0, "\xC3\xA4", 2);
}

static void query_strings_are_parsed_or_refused(void) {
    struct lk_query q;
    struct lk_arena arena = {0};
    const char good[] = "k=5&id=a%26b+c&&flag&empty=&x=1=2";
    LK_REQUIRE(lk_query_parse(&q, good, strlen(good), &arena) == 0);
    LK_CHECK_INT(q.count, 5);
    LK_CHECK_STR(lk_query_get(&q, "k"), "5");
    LK_CHECK_STR(lk_query_get(&q, "id"), "a&b c");
    LK_CHECK_STR(lk_query_get(&q, "flag"), "");
    LK_CHECK_STR(lk_query_get(&q, "empty"), "");
    LK_CHECK_STR(lk_query_get(&q, "x"), "1=2");
    LK_CHECK(lk_query_get(&q, "absent") == NULL);
    const char *const bad[] = {"a=%zz", "a=1&a=2", "a=%00", "%=1"};
    for (size_t i = 0; i < 4; i++)
        LK_CHECK_INT(lk_query_parse(&q, bad[i], strlen(bad[i]), &arena), LK_EINVAL);
    struct lk_buf many = {0};
    for (int i = 0; i < 70; i++)
        LK_CHECK_INT(lk_buf_printf(&many, "a%d=1&", i), 0);
    LK_CHECK_INT(lk_query_parse(&q, (const char *)many.data, many.size, &arena), LK_EINVAL);
    lk_buf_free(&many);
    lk_arena_close(&arena);
}

static void ids_become_safe_file_names(void) {
    const struct {
        const char *id, *name;
    } cases[] = {{"cat.png", "cat.png"}, {"a/b c", "a%2Fb%20c"}, {".", "%2E"},    {"..", "%2E%2E"},
                 {"...", "..."},         {"\xC3\xA4", "%C3%A4"}, {"a%b", "a%25b"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lk_buf b = {0};
        LK_CHECK_INT(lk_uri_encode_name(&b, cases[i].id, strlen(cases[i].id)), 0);
        LK_CHECK_STR(text_of(&b), cases[i].name);
        lk_buf_free(&b);
    }
}

static const struct lk_case cases[] = {
    LK_CASE(floats_read_back_as_the_same_float),
    LK_CASE(floats_are_valid_json),
    LK_CASE(strings_are_escaped_and_bad_utf8_is_replaced),
    LK_CASE(times_are_rfc_3339),
    LK_CASE(json_that_is_wrong_says_where),
    LK_CASE(json_with_too_many_values_is_refused_before_it_is_parsed),
    LK_CASE(base64_follows_rfc_4648),
    LK_CASE(every_length_of_base64_comes_back),
    LK_CASE(percent_escapes_are_decoded_or_refused),
    LK_CASE(query_strings_are_parsed_or_refused),
    LK_CASE(ids_become_safe_file_names),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
