/* Are the numbers and vectors that are read without Jansson the very ones that it reads, bit for bit, and is everything
 * that is not sure to be one left to it? */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "check.h"
#include "server/json_number.h"
#include "server/neighbors_query.h"

enum { DIM = 4, DRAWS = 40000 };

/* --- numbers ------------------------------------------------------------------------------------------------------- */

/* How Jansson reads it; 0: not at all. */
static int by_jansson(const char *text, double *out) {
    json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);
    const int is = json_is_number(v);
    *out = is ? json_number_value(v) : 0;
    json_decref(v);
    return is;
}

/* 1: both read it, and the same. What only Jansson reads is left to it, which is right; the other way it is not. */
static int same_number(const char *text) {
    double ours = 0, jansson = 0;
    const char *end = text + strlen(text);
    const int taken = lk_json_number(text, end, &ours) == end, is = by_jansson(text, &jansson);
    if (taken && (!is || memcmp(&ours, &jansson, sizeof ours) != 0)) {
        printf("%s is %a, not %a\n", text, ours, jansson);
        LK_CHECK(!"the number that Jansson reads");
    }
    return taken;
}

static void numbers_as_clients_write_them_are_read(void) {
    for (uint32_t i = 0; i < DRAWS; i++) {
        const struct lk_philox p = lk_rng(1, i, LK_RNG_TEST, 0, 0);
        const double unit = 2 * (double)lk_uniform(p.v[0]) - 1 + ldexp(p.v[1], -60);
        const double small = ldexp(unit, -(int)(p.v[2] % 24));
        char text[64];
        for (int digits = 1; digits <= 17; digits += i % 2 ? 8 : 3) {
            snprintf(text, sizeof text, "%.*g", digits, small);
            LK_CHECK(same_number(text));
            snprintf(text, sizeof text, "%.*e", digits, unit);
            LK_CHECK(same_number(text));
            snprintf(text, sizeof text, "%.*f", digits, 1000 * unit);
            LK_CHECK(same_number(text));
        }
        snprintf(text, sizeof text, "%d", (int)p.v[3]);
        LK_CHECK(same_number(text));
    }
}

/* Digits that end within a hair of the middle between two doubles are the ones that rounding goes wrong for. */
static void numbers_near_the_middle_of_two_doubles_are_rounded_right(void) {
    for (uint32_t i = 0; i < DRAWS; i++) {
        const struct lk_philox p = lk_rng(2, i, LK_RNG_TEST, 0, 0);
        const double low = ldexp(1 + ldexp(p.v[0], -32) + ldexp(p.v[1] >> 12, -52), -(int)(p.v[2] % 40));
        const long double middle = ((long double)low + (long double)nextafter(low, 2)) / 2;
        char text[64];
        for (int digits = 15; digits <= 24; digits++) {
            snprintf(text, sizeof text, "%.*Lg", digits, middle);
            (void)same_number(text);
            char *last = strchr(text, 'e');
            last = (last ? last : text + strlen(text)) - 1;
            *last = *last == '9' ? '8' : (char)(*last + 1);
            (void)same_number(text);
        }
    }
}

static void numbers_of_any_digits_and_exponents_are_jansson_s(void) {
    long taken = 0;
    for (uint32_t i = 0; i < DRAWS; i++) {
        struct lk_philox p = lk_rng(3, i, LK_RNG_TEST, 0, 0);
        char text[80];
        size_t n = 0;
        const size_t whole = p.v[0] % 21, fraction = p.v[1] % 24;
        if (p.v[2] & 1)
            text[n++] = '-';
        for (size_t j = 0; j < whole + fraction; j++) {
            if (j == whole)
                text[n++] = '.';
            p = lk_rng(3, i, LK_RNG_TEST, 0, (uint32_t)j + 1);
            text[n++] = (char)('0' + (p.v[0] % 3 ? p.v[1] % 10 : 0));
        }
        snprintf(text + n, sizeof text - n, p.v[2] % 3 ? "" : p.v[2] % 2 ? "e%d" : "E%+d", (int)(p.v[3] % 700) - 350);
        taken += same_number(text);
    }
    LK_CHECK(taken > DRAWS / 5);
}

static void what_is_no_number_is_refused(void) {
    static const char *const bad[] = {"",
                                      "-",
                                      "+1",
                                      "01",
                                      "-01",
                                      "00",
                                      "1.",
                                      ".5",
                                      "-.5",
                                      "1.e5",
                                      "1e",
                                      "1e+",
                                      "1E-",
                                      "0x10",
                                      "1_000",
                                      "NaN",
                                      "nan",
                                      "inf",
                                      "-inf",
                                      "1e5.5",
                                      "1 2",
                                      "1,",
                                      "--1",
                                      "1-",
                                      "0e",
                                      "1e1e1",
                                      "1.2.3",
                                      "1e309",
                                      "-1e400",
                                      "179769313486231590000e290",
                                      "1e9999999999999",
                                      "9223372036854775808",
                                      "1234567890123456789",
                                      "true",
                                      "null",
                                      "\"1\"",
                                      "[1]",
                                      "{}",
                                      "1\v",
                                      "/",
                                      ":",
                                      "1:",
                                      "\x31\x80"};
    static const char *const good[] = {"0",
                                       "-0",
                                       "0.0",
                                       "-0.0",
                                       "-0e0",
                                       "0e999",
                                       "0E-999",
                                       "0.000",
                                       "1e22",
                                       "1e-22",
                                       "1e23",
                                       "1e-27",
                                       "1e-28",
                                       "5e-324",
                                       "2.4703282292062328e-324",
                                       "1e-400",
                                       "-1e-9999",
                                       "1.7976931348623157e308",
                                       "9007199254740993",
                                       "-999999999999999999",
                                       "9007199254740993e-5",
                                       "0.1e1",
                                       "1E+2",
                                       "0.30000000000000004",
                                       "123456789012345.678",
                                       "0.000000000000000000000000012345678901234567",
                                       "18446744073709551615e-27",
                                       "18446744073709551615e-1"};
    double value;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        LK_CHECK(lk_json_number(bad[i], bad[i] + strlen(bad[i]), &value) != bad[i] + strlen(bad[i]));
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        LK_CHECK(same_number(good[i]));
    static const char text[] = "0.0123456789012345678e-5"; /* not past its end, wherever that is */
    for (size_t n = 0; n < sizeof text; n++) {
        char *cut = malloc(n ? n : 1);
        LK_REQUIRE(cut != NULL);
        memcpy(cut, text, n);
        const char *end = lk_json_number(cut, cut + n, &value);
        LK_CHECK(end == NULL || end <= cut + n);
        free(cut);
    }
}

/* --- bodies -------------------------------------------------------------------------------------------------------- */

struct outcome {
    struct lk_neighbors_queries asked;
    struct lk_fault fault;
    int rc;
};

static struct outcome parse(const char *body) {
    const struct lk_neighbors_limits limits = {.dim = DIM,
                                               .generation = 1,
                                               .max_k = 100,
                                               .max_queries = 3,
                                               .max_json_values = 30,
                                               .filter = {.bytes = 1000, .depth = 4, .conditions = 10}};
    struct outcome o = {0};
    char *copy = malloc(strlen(body) + 1);
    if (copy)
        memcpy(copy, body, strlen(body)); /* of the heap, and no NUL: a read past the end is found */
    o.rc = lk_neighbors_parse(&o.asked, copy, strlen(body), &limits, &o.fault);
    free(copy);
    return o;
}

/* The body as Jansson alone reads it: no name of a vector is to be seen. */
static struct outcome parse_spelled(const char *body) {
    char text[2048];
    size_t n = 0;
    for (const char *p = body; *p && n + 16 < sizeof text;) {
        if (strncmp(p, "\"vector\"", 8) == 0) {
            n += (size_t)snprintf(text + n, sizeof text - n, "\"vect\\u006fr\"");
            p += 8;
        } else {
            text[n++] = *p++;
        }
    }
    text[n] = 0;
    return parse(text);
}

static int same_body(const char *body) {
    struct outcome a = parse(body), b = parse_spelled(body);
    int same = a.rc == b.rc && a.fault.error == b.fault.error && a.asked.count == b.asked.count &&
               (a.fault.error == LK_API_INVALID_JSON || strcmp(a.fault.message, b.fault.message) == 0) &&
               strcmp(a.fault.param, b.fault.param) == 0;
    for (size_t i = 0; same && a.rc == 0 && i < a.asked.count; i++) {
        const struct lk_neighbors_query *p = &a.asked.queries[i], *q = &b.asked.queries[i];
        same = p->k == q->k && (p->vector != NULL) == (q->vector != NULL) &&
               (p->filter != NULL) == (q->filter != NULL) &&
               (!p->vector || memcmp(p->vector, q->vector, DIM * sizeof *p->vector) == 0);
    }
    if (!same)
        printf("%s: %s %s, or by Jansson %s %s\n", body, lk_api_code(a.fault.error), a.fault.message,
               lk_api_code(b.fault.error), b.fault.message);
    const int taken = a.rc == 0;
    lk_neighbors_queries_close(&a.asked);
    lk_neighbors_queries_close(&b.asked);
    LK_CHECK(same);
    return taken;
}

static const char *const bodies[] = {
    "{\"vector\":[1,2,3,4]}",
    " { \"k\" : 3 , \"vector\" :\t[ 1 ,\n-2.5e-3,\r0.1 , 12345678901234567e-18 ] , \"with_metadata\":false }",
    "{\"vector\":[0.25,0,-0,-0.0],\"filter\":{\"must\":[{\"key\":\"vector\",\"match\":\"vector\"}]}}",
    "{\"filter\":{\"must\":[{\"key\":\"a\\\"b\",\"match\":1}]},\"vector\":[1,0,0,0]}",
    "{\"queries\":[{\"vector\":[1,2,3,4]},{\"id\":\"a\\\\\"},{\"vector\":[4,3,2,1],\"k\":7}],\"k\":2}",
    "{\"queries\":[{\"id\":\"]}\"},{\"vector\":[1e-9,2e-9,3,4]}]}",
    "{\"vector\":[1,2,3]}",
    "{\"vector\":[1,2,3,4,5]}",
    "{\"vector\":[]}",
    "{\"vector\":[0,0,0,0]}",
    "{\"vector\":[1e200,1e200,1e200,1e200]}",
    "{\"vector\":[1e400,1,1,1]}",
    "{\"vector\":[1,2,3,99999999999999999999]}",
    "{\"vector\":[1,2,3,9223372036854775807]}",
    "{\"vector\":[1,2,03,4]}",
    "{\"vector\":[1,2,3,4,]}",
    "{\"vector\":[1,2,,4]}",
    "{\"vector\":[1 2,3,4]}",
    "{\"vector\":[1,2,3,\"4\"]}",
    "{\"vector\":[1,2,3,[4]]}",
    "{\"vector\":[1,2,3,null]}",
    "{\"vector\":[1,2,3,4}",
    "{\"vector\":[1,2,3,4",
    "{\"vector\":[1,2,3,4]",
    "{\"vector\":[1,2,3,4]]",
    "{\"vector\":[1,2,3,4]}x",
    "{\"vector\":0}",
    "{\"vector\":\"0\"}",
    "{\"vector\"[1,2,3,4]}",
    "{\"vector\":[1,2,3,4]:1}",
    "[\"vector\":[1,2,3,4]]",
    "{\"vector\":[1,2,3,4],\"vector\":[1,2,3,4]}",
    "{\"vector\":[1,2,3,4],\"vector\":0}",
    "{\"vector\":[1,2,3,4],\"vec\\u0074or\":0}",
    "{\"vector\":[1,2,3,4],\"generation\":2}",
    "{\"vector\":[1,2,3,4],\"x\":{\"vector\":[1,2,3,4]}}",
    "{\"vector\":[1,2,3,4],\"queries\":[{\"vector\":[1,2,3,4]}]}",
    "{\"queries\":[{\"vector\":[1,2,3,4]},{\"vec\\u0074or\":0}]}",
    "{\"queries\":[{\"vector\":[1,2,3,4]},{\"vector\":0}]}",
    "{\"queries\":[{\"vector\":[1,2,3,4]},{\"vector\":[1,2,3]}]}",
    "{\"queries\":[{\"vector\":[1,2,3,4]},{\"vector\":1,\"id\":\"a\"}]}",
    "{\"queries\":[{\"vector\":[1,2,3,4]},{\"vector\":[0,0,0,0]}]}",
    "{\"queries\":[{\"vector\":[1,2,3,4]},{\"vector\":[1,2,3,4]},{\"vector\":[1,2,3,4]},{\"vector\":[1,2,3,4]}]}",
    "{\"queries\":[{\"vector\":[1,2,3,4]},{\"vector\":[1,2,3,4]},{\"vector\":[1,2,3,4]}],\"k\":5,\"min_score\":0.5}",
    "{\"queries\":{\"a\":{\"vector\":[1,2,3,4]}}}",
    "{\"queries\":[[{\"vector\":[1,2,3,4]}]]}",
    "{\"queries\":[{\"filter\":{\"vector\":[1,2,3,4]},\"id\":\"a\"}]}",
    "{\"vector\":[1,2,3,4]e1}",
    "{\"vector\":-[1,2,3,4]}",
    "{\"vector\":[1,2,3,4].5}",
    "{\"vector\":[1,2,3,4]\"k\":1}",
    "{\"queries\":5,\"filter\":{\"a\":{\"vector\":[1,2,3,4]}}}",
    "{\"quer\\u0069es\":[{\"vector\":[1,2,3,4]}]}",
    "{\"id\":\"\\\"vector\\\":[1,2,3,4]\"}",
    "{\"id\":\"vector\"}",
    "{\"k\":1}",
    "{}",
    "\"vector\":[1,2,3,4]",
    "\"",
    "{\"",
    "}}}}\"vector\":[1,2,3,4]",
    "]]]{{{{",
};

static void a_body_is_read_as_jansson_reads_it(void) {
    int taken = 0;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        taken += same_body(bodies[i]);
    LK_CHECK_INT(taken, 11);
}

static void a_damaged_body_is_read_as_jansson_reads_it(void) {
    static const char marks[] = "{}[]\",:\\0 1-.e9n";
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        for (uint32_t draw = 0; draw < 300; draw++) {
            const struct lk_philox p = lk_rng(4, (uint32_t)i, LK_RNG_TEST, 0, draw);
            char text[512];
            snprintf(text, sizeof text, "%s", bodies[i]);
            const size_t n = strlen(text);
            for (size_t k = 0; k <= p.v[3] % 2; k++)
                text[p.v[k] % n] = marks[p.v[2] % (sizeof marks - 1)];
            if (p.v[3] % 5 == 0)
                text[p.v[1] % n] = 0;
            (void)same_body(text);
        }
}

static const struct lk_case cases[] = {
    LK_CASE(numbers_as_clients_write_them_are_read),
    LK_CASE(numbers_near_the_middle_of_two_doubles_are_rounded_right),
    LK_CASE(numbers_of_any_digits_and_exponents_are_jansson_s),
    LK_CASE(what_is_no_number_is_refused),
    LK_CASE(a_body_is_read_as_jansson_reads_it),
    LK_CASE(a_damaged_body_is_read_as_jansson_reads_it),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
