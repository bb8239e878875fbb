/* Do filters mean what their header says, for every metadata and whatever a client sends? */
#include <stdlib.h>
#include <time.h>

#include "base/rng.h"
#include "check.h"
#include "server/filter.h"
#include "server/rfc3339.h"

static const struct lk_filter_limits limits = {.bytes = 4096, .depth = 4, .conditions = 16};

static struct lk_filter *open_filter(const char *text) {
    struct lk_fault f = {0};
    struct lk_filter *filter = NULL;
    if (lk_filter_open_text(&filter, text, strlen(text), &limits, "filter", &f))
        printf("%s: %s\n", text, f.message);
    return filter;
}

static void holds(const char *filter_text, const char *metadata, int wanted) {
    struct lk_filter *filter = open_filter(filter_text);
    LK_REQUIRE(filter != NULL);
    if (lk_filter_match(filter, metadata) != wanted) {
        printf("%s on %s\n", filter_text, metadata);
        LK_CHECK(0);
    }
    lk_filter_close(filter);
}

/* A lone condition, under must. */
static void condition(const char *text, const char *metadata, int wanted) {
    char filter[512];
    (void)snprintf(filter, sizeof filter, "{\"must\":[%s]}", text);
    holds(filter, metadata, wanted);
}

static void must_should_and_must_not_combine(void) {
    holds("{}", "{}", 1);
    holds("{\"must\":[],\"should\":[],\"must_not\":[]}", "{}", 1);
    holds("{\"must\":[{\"key\":\"a\",\"match\":1},{\"key\":\"b\",\"match\":2}]}", "{\"a\":1,\"b\":2}", 1);
    holds("{\"must\":[{\"key\":\"a\",\"match\":1},{\"key\":\"b\",\"match\":2}]}", "{\"a\":1,\"b\":3}", 0);
    holds("{\"should\":[{\"key\":\"a\",\"match\":1},{\"key\":\"b\",\"match\":2}]}", "{\"a\":0,\"b\":2}", 1);
    holds("{\"should\":[{\"key\":\"a\",\"match\":1},{\"key\":\"b\",\"match\":2}]}", "{\"a\":0,\"b\":0}", 0);
    holds("{\"must_not\":[{\"key\":\"a\",\"match\":1},{\"key\":\"b\",\"match\":2}]}", "{\"a\":0,\"b\":0}", 1);
    holds("{\"must_not\":[{\"key\":\"a\",\"match\":1},{\"key\":\"b\",\"match\":2}]}", "{\"a\":0,\"b\":2}", 0);
    /* a filter in a list is a condition */
    holds("{\"must\":[{\"should\":[{\"key\":\"a\",\"match\":1},{\"key\":\"a\",\"match\":2}]}]}", "{\"a\":2}", 1);
    holds("{\"must_not\":[{\"must_not\":[{\"key\":\"a\",\"match\":1}]}]}", "{\"a\":1}", 1);
    holds("{\"must_not\":[{\"must_not\":[{\"key\":\"a\",\"match\":1}]}]}", "{}", 0);
}

static void match_compares_by_type_and_value(void) {
    condition("{\"key\":\"a\",\"match\":\"x\"}", "{\"a\":\"x\"}", 1);
    condition("{\"key\":\"a\",\"match\":\"x\"}", "{\"a\":\"xy\"}", 0);
    condition("{\"key\":\"a\",\"match\":\"xy\"}", "{\"a\":\"x\"}", 0);
    condition("{\"key\":\"a\",\"match\":\"\"}", "{\"a\":\"\"}", 1);
    condition("{\"key\":\"a\",\"match\":\"1\"}", "{\"a\":1}", 0);
    condition("{\"key\":\"a\",\"match\":1}", "{\"a\":\"1\"}", 0);
    condition("{\"key\":\"a\",\"match\":1}", "{\"a\":true}", 0);
    condition("{\"key\":\"a\",\"match\":true}", "{\"a\":true}", 1);
    condition("{\"key\":\"a\",\"match\":false}", "{\"a\":true}", 0);
    condition("{\"key\":\"a\",\"match\":null}", "{\"a\":null}", 1);
    condition("{\"key\":\"a\",\"match\":null}", "{}", 0);
    condition("{\"key\":\"a\",\"match\":1}", "{\"a\":1.0}", 1);
    condition("{\"key\":\"a\",\"match\":0}", "{\"a\":-0.0}", 1);
    condition("{\"key\":\"a\",\"match\":100}", "{\"a\":1e2}", 1);
    condition("{\"key\":\"a\",\"match\":\"x\"}", "{\"a\":{\"b\":\"x\"}}", 0);
    condition("{\"key\":\"a\",\"any\":[1,\"x\",null]}", "{\"a\":\"x\"}", 1);
    condition("{\"key\":\"a\",\"any\":[1,\"x\",null]}", "{\"a\":\"y\"}", 0);
    condition("{\"key\":\"a\",\"any\":[]}", "{\"a\":1}", 0);
}

static void large_integers_are_compared_exactly(void) {
    condition("{\"key\":\"a\",\"match\":9007199254740993}", "{\"a\":9007199254740992}", 0);
    condition("{\"key\":\"a\",\"match\":9007199254740993}", "{\"a\":9007199254740993}", 1);
    condition("{\"key\":\"a\",\"match\":9007199254740993}", "{\"a\":9007199254740992.0}", 0);
    condition("{\"key\":\"a\",\"match\":9223372036854775807}", "{\"a\":9223372036854775807}", 1);
    condition("{\"key\":\"a\",\"match\":-9223372036854775808}", "{\"a\":-9223372036854775808}", 1);
    condition("{\"key\":\"a\",\"range\":{\"gt\":9223372036854775806}}", "{\"a\":9223372036854775807}", 1);
    condition("{\"key\":\"a\",\"range\":{\"gt\":9223372036854775807}}", "{\"a\":9223372036854775808}", 1);
    condition("{\"key\":\"a\",\"range\":{\"lt\":-9223372036854775808}}", "{\"a\":-1e300}", 1);
    condition("{\"key\":\"a\",\"range\":{\"gt\":3}}", "{\"a\":3.0000001}", 1);
    condition("{\"key\":\"a\",\"range\":{\"lt\":-3}}", "{\"a\":-3.5}", 1);
}

static void arrays_stand_for_their_elements(void) {
    condition("{\"key\":\"a\",\"match\":2}", "{\"a\":[1,2,3]}", 1);
    condition("{\"key\":\"a\",\"match\":4}", "{\"a\":[1,2,3]}", 0);
    condition("{\"key\":\"a\",\"match\":4}", "{\"a\":[1,[2,[4]],3]}", 1);
    condition("{\"key\":\"a\",\"match\":4}", "{\"a\":[]}", 0);
    condition("{\"key\":\"a.b\",\"match\":2}", "{\"a\":[{\"b\":1},7,{\"b\":[2]}]}", 1);
    /* one element has to fulfil the whole range */
    condition("{\"key\":\"a\",\"range\":{\"gt\":2,\"lt\":4}}", "{\"a\":[1,5]}", 0);
    condition("{\"key\":\"a\",\"range\":{\"gt\":2,\"lt\":4}}", "{\"a\":[1,3,5]}", 1);
    /* and none may fulfil what must not hold */
    holds("{\"must_not\":[{\"key\":\"a\",\"match\":1}]}", "{\"a\":[0,1]}", 0);
}

static void paths_lead_into_objects(void) {
    condition("{\"key\":\"a.b.c\",\"match\":1}", "{\"x\":[{\"a\":0}],\"a\":{\"y\":\"}\\\"\",\"b\":{\"c\":1}}}", 1);
    condition("{\"key\":\"a.b\",\"match\":1}", "{\"a\":{\"c\":1},\"b\":1}", 0);
    condition("{\"key\":\"a\",\"match\":1}", "{\"b\":{\"a\":1}}", 0);
    condition("{\"key\":\"a.b\",\"match\":1}", "{\"a.b\":1}", 0);
    condition("{\"key\":\"\\\"a.b\\\"\",\"match\":1}", "{\"a.b\":1}", 1);
    condition("{\"key\":\"x.\\\"a.b\\\".c\",\"match\":1}", "{\"x\":{\"a.b\":{\"c\":1}}}", 1);
    condition("{\"key\":\"\\\"q\\\\\\\"\\\"\",\"match\":1}", "{\"q\\\"\":1}", 1);
    condition("{\"key\":\"\\\"\\\"\",\"match\":1}", "{\"\":1}", 1);
    condition("{\"key\":\"größe\",\"match\":1}", "{\"gr\\u00f6\\u00dfe\":1}", 1);
}

static void strings_are_compared_unescaped(void) {
    condition("{\"key\":\"a\",\"match\":\"t\\tq\\\"b\\\\\"}", "{\"a\":\"t\\u0009q\\u0022b\\\\\"}", 1);
    condition("{\"key\":\"a\",\"match\":\"😀\"}", "{\"a\":\"\\ud83d\\ude00\"}", 1);
    condition("{\"key\":\"a\",\"match\":\"€/\"}", "{\"a\":\"\\u20AC\\/\"}", 1);
}

static void exists_needs_a_value_that_is_not_null(void) {
    condition("{\"key\":\"a\",\"exists\":true}", "{\"a\":0}", 1);
    condition("{\"key\":\"a\",\"exists\":true}", "{\"a\":{}}", 1);
    condition("{\"key\":\"a\",\"exists\":true}", "{\"a\":null}", 0);
    condition("{\"key\":\"a\",\"exists\":true}", "{\"a\":[]}", 0);
    condition("{\"key\":\"a\",\"exists\":true}", "{\"a\":[null,1]}", 1);
    condition("{\"key\":\"a.b\",\"exists\":true}", "{\"a\":1}", 0);
    condition("{\"key\":\"a\",\"exists\":false}", "{\"b\":1}", 1);
    condition("{\"key\":\"a\",\"exists\":false}", "{\"a\":1}", 0);
}

static void ranges_take_numbers_and_times(void) {
    condition("{\"key\":\"a\",\"range\":{\"gte\":1,\"lt\":2}}", "{\"a\":1}", 1);
    condition("{\"key\":\"a\",\"range\":{\"gte\":1,\"lt\":2}}", "{\"a\":2}", 0);
    condition("{\"key\":\"a\",\"range\":{\"lte\":2.5}}", "{\"a\":2.5}", 1);
    condition("{\"key\":\"a\",\"range\":{\"gt\":2.5}}", "{\"a\":2.5}", 0);
    condition("{\"key\":\"a\",\"range\":{\"gt\":0}}", "{\"a\":\"5\"}", 0);
    condition("{\"key\":\"a\",\"range\":{\"gt\":0}}", "{\"a\":\"2024-01-01T00:00:00Z\"}", 0);
    condition("{\"key\":\"a\",\"range\":{\"gte\":\"2024-01-31T12:00:00Z\"}}", "{\"a\":\"2024-01-31T13:00:00+01:00\"}",
              1);
    condition("{\"key\":\"a\",\"range\":{\"gt\":\"2024-01-31T12:00:00Z\"}}", "{\"a\":\"2024-01-31T13:00:00+01:00\"}",
              0);
    condition("{\"key\":\"a\",\"range\":{\"gt\":\"2024-01-31\"}}", "{\"a\":\"2024-01-31T00:00:00.001Z\"}", 1);
    condition("{\"key\":\"a\",\"range\":{\"gt\":\"2024-01-31\"}}", "{\"a\":\"yesterday\"}", 0);
    condition("{\"key\":\"a\",\"range\":{\"gt\":\"2024-01-31\"}}", "{\"a\":1e18}", 0);
}

static int is_time(const char *text, long long seconds, long nanoseconds) {
    struct lk_instant t = {0};
    return lk_rfc3339_parse(&t, text, strlen(text)) && t.seconds == seconds && t.nanoseconds == nanoseconds;
}

static int is_no_time(const char *text) {
    struct lk_instant t;
    return !lk_rfc3339_parse(&t, text, strlen(text));
}

static void times_are_read_as_rfc_3339_says(void) {
    LK_CHECK(is_time("1970-01-01T00:00:00Z", 0, 0));
    LK_CHECK(is_time("1985-04-12T23:20:50.52Z", 482196050, 520000000)); /* the document's own examples */
    LK_CHECK(is_time("1996-12-19T16:39:57-08:00", 851042397, 0));
    LK_CHECK(is_time("1990-12-31T23:59:60Z", 662688000, 0));
    LK_CHECK(is_time("1937-01-01T12:00:27.87+00:20", -1041337173, 870000000));
    LK_CHECK(is_time("0000-01-01t00:00:00z", -62167219200, 0));
    LK_CHECK(is_time("9999-12-31 23:59:59.9999999999Z", 253402300799, 999999999));
    LK_CHECK(is_time("2000-02-29", 951782400, 0));
    const char *const bad[] = {"",
                               "2024",
                               "2024-1-1",
                               "2023-02-29",
                               "2024-13-01",
                               "1900-02-29",
                               "2024-00-10",
                               "2024-04-31",
                               "2024-01-31T",
                               "2024-01-31T12:00Z",
                               "2024-01-31T12:00:00",
                               "2024-01-31T24:00:00Z",
                               "2024-01-31T12:00:00.Z",
                               "2024-01-31T12:00:00+0100",
                               "2024-01-31T12:00:00+24:00",
                               "2024-01-31T12:00:00Z ",
                               "-024-01-31T12:00:00Z",
                               "2024-01-31T12:60:00Z",
                               "2024-01-31T12:00:61Z"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!is_no_time(bad[i])) {
            printf("%s\n", bad[i]);
            LK_CHECK(0);
        }
}

static void refused(const char *text, const char *param, const char *part) {
    struct lk_fault f = {0};
    struct lk_filter *filter = NULL;
    LK_CHECK(lk_filter_open_text(&filter, text, strlen(text), &limits, "filter", &f) < 0);
    LK_CHECK(filter == NULL);
    LK_CHECK_STR(f.param, param);
    LK_CHECK_HOLDS(f.message, part);
}

static void a_bad_filter_is_refused_with_the_place_and_the_limit(void) {
    refused("{", "filter", "no valid JSON");
    refused("[]", "filter", "object");
    refused("{\"must\":{}}", "filter.must", "array of conditions");
    refused("{\"musst\":[]}", "filter", "unknown member \"musst\"");
    refused("{\"must\":[1]}", "filter.must[0]", "has to be an object");
    refused("{\"must\":[{}]}", "filter.must[0]", "\"key\"");
    refused("{\"must\":[{\"key\":\"a\"}]}", "filter.must[0]", "exactly one of match");
    refused("{\"must\":[{\"key\":\"a\",\"match\":1,\"any\":[]}]}", "filter.must[0]", "exactly one of match");
    refused("{\"must\":[{\"key\":\"a\",\"match\":1,\"x\":1}]}", "filter.must[0]", "exactly one of match");
    refused("{\"must\":[{\"key\":1,\"match\":1}]}", "filter.must[0].key", "string");
    refused("{\"must\":[{\"key\":\"\",\"match\":1}]}", "filter.must[0].key", "empty");
    refused("{\"must\":[{\"key\":\"a..b\",\"match\":1}]}", "filter.must[0].key", "empty");
    refused("{\"must\":[{\"key\":\"a.\",\"match\":1}]}", "filter.must[0].key", "empty");
    refused("{\"must\":[{\"key\":\"\\\"a\",\"match\":1}]}", "filter.must[0].key", "not closed");
    refused("{\"must\":[{\"key\":\"\\\"a\\\"b\",\"match\":1}]}", "filter.must[0].key", "dot or the end");
    refused("{\"must\":[{\"key\":\"a\",\"match\":[1]}]}", "filter.must[0].match", "a value has to be");
    refused("{\"should\":[{\"key\":\"a\",\"match\":1},{\"key\":\"a\",\"any\":1}]}", "filter.should[1].any", "array");
    refused("{\"must\":[{\"key\":\"a\",\"any\":[1,{}]}]}", "filter.must[0].any[1]", "a value has to be");
    refused("{\"must\":[{\"key\":\"a\",\"range\":1}]}", "filter.must[0].range", "object");
    refused("{\"must\":[{\"key\":\"a\",\"range\":{}}]}", "filter.must[0].range", "at least one");
    refused("{\"must\":[{\"key\":\"a\",\"range\":{\"gt\":1,\"x\":1}}]}", "filter.must[0].range", "nothing else");
    refused("{\"must\":[{\"key\":\"a\",\"range\":{\"gt\":\"x\"}}]}", "filter.must[0].range.gt", "2024-01-31T12:00:00Z");
    refused("{\"must\":[{\"key\":\"a\",\"range\":{\"gt\":1,\"lt\":\"2024-01-31\"}}]}", "filter.must[0].range",
            "all times");
    refused("{\"must\":[{\"key\":\"a\",\"exists\":1}]}", "filter.must[0].exists", "true or false");
    refused("{\"must\":[{\"must\":[{\"must_not\":[{\"should\":[{\"must\":[]}]}]}]}]}",
            "filter.must[0].must[0].must_not[0].should[0]", "max_filter_depth, which is 4");
    refused("{\"must\":[{\"key\":\"a\",\"any\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]}]}", "filter.must[0].any",
            "max_filter_conditions, which is 16");
    char large[5000];
    memset(large, ' ', sizeof large);
    memcpy(large, "{}", 2);
    large[sizeof large - 1] = 0;
    refused(large, "filter", "max_filter_bytes, which is 4096");
}

static void damaged_text_gives_an_answer_and_no_more(void) {
    static const char whole[] = "{\"x\":[1,{\"y\":\"\\u00e9\\\\\"}],\"a\":{\"b\":[true,null,-1.5e3,\"z\"]}}";
    struct lk_filter *f = open_filter(
        "{\"must\":[{\"key\":\"a.b\",\"match\":\"z\"}],\"must_not\":[{\"key\":\"x.y\",\"match\":"
        "\"q\"}]}");
    LK_REQUIRE(f != NULL);
    LK_CHECK_INT(lk_filter_match(f, whole), 1);
    for (size_t n = 0; n < sizeof whole; n++)
        for (int change = 0; change < 8; change++) { /* under the sanitizers a read past the end is found */
            char *text = malloc(n + 1);
            LK_REQUIRE(text != NULL);
            memcpy(text, whole, n);
            text[n] = 0;
            if (change && n)
                text[n / 2] = "\"\\[]{},"[change - 1];
            int got = lk_filter_match(f, text);
            LK_CHECK(got == 0 || got == 1);
            free(text);
        }
    lk_filter_close(f);
}

static void deep_metadata_is_walked_within_the_stack(void) {
    enum { DEEP = 200000 };
    char *text = malloc(2 * DEEP + 16);
    LK_REQUIRE(text != NULL);
    size_t n = (size_t)sprintf(text, "{\"a\":");
    memset(text + n, '[', DEEP);
    memset(text + n + DEEP, ']', DEEP);
    strcpy(text + n + 2 * (size_t)DEEP, "}");
    condition("{\"key\":\"a\",\"exists\":true}", text, 0);
    free(text);
}

/* --- against an evaluator that is written as differently as can be --------------------------------------------------- */

static uint64_t drawn;

static unsigned pick(unsigned n) { return lk_rng(20240131, drawn++, LK_RNG_TEST, 0, 0).v[0] % n; }

static const char *const names[] = {"a", "b", "c", "d.e", "q\"\\", "ü"};
#define NAMES (sizeof names / sizeof *names)
static const char *const strings[] = {"",
                                      "x",
                                      "X",
                                      "x y",
                                      "\"\\",
                                      "ü😀",
                                      "\n",
                                      "2024-01-31T12:00:00Z",
                                      "2024-02-01",
                                      "2024-01-31T13:00:00+01:00",
                                      "1969-12-31T23:59:59.5Z",
                                      "2024-02-30"};
#define STRINGS (sizeof strings / sizeof *strings)
static const long long integers[] = {0, 1, 2, -1, 9007199254740992, 9007199254740993, INT64_MAX, INT64_MIN};
static const double reals[] = {0.0, 1.0, 1.5, -1.0, 9007199254740992.0, 9223372036854775808.0, 1e300, -2.5e-3};

static json_t *random_scalar(void) {
    switch (pick(8)) {
    case 0: return json_null();
    case 1: return json_boolean(pick(2));
    case 2:
    case 3: return json_integer(integers[pick(8)]);
    case 4: return json_real(reals[pick(8)]);
    default: return json_string(strings[pick(STRINGS)]);
    }
}

static json_t *random_metadata(int depth) {
    unsigned kind = depth == 0 ? 1 : pick(4);
    if (kind == 0 || kind == 3)
        return random_scalar();
    if (kind == 2) {
        json_t *array = json_array();
        for (unsigned i = pick(4); i > 0; i--)
            json_array_append_new(array, depth < 4 ? random_metadata(depth + 1) : random_scalar());
        return array;
    }
    json_t *object = json_object();
    for (unsigned i = pick(5); i > 0; i--)
        json_object_set_new(object, names[pick(NAMES)], depth < 4 ? random_metadata(depth + 1) : random_scalar());
    return object;
}

static json_t *random_condition(int depth);

static json_t *random_filter(int depth) {
    static const char *const lists[] = {"must", "should", "must_not"};
    json_t *filter = json_object();
    for (int l = 0; l < 3; l++) {
        if (depth > 0 && l == (int)pick(3))
            continue;
        json_t *list = json_array();
        for (unsigned i = pick(3); i > 0; i--)
            json_array_append_new(list, random_condition(depth));
        json_object_set_new(filter, lists[l], list);
    }
    if (json_object_size(filter) == 0)
        json_object_set_new(filter, "must", json_array());
    return filter;
}

/* The path as text, and the same as a list for the other evaluator. */
static json_t *random_path(void) {
    json_t *steps = json_array();
    for (unsigned i = 1 + pick(3); i > 0; i--)
        json_array_append_new(steps, json_string(names[pick(NAMES)]));
    return steps;
}

static json_t *path_text(const json_t *steps) {
    char text[256] = "";
    size_t i, n = 0;
    json_t *step;
    json_array_foreach(steps, i, step) {
        const char *s = json_string_value(step);
        int quoted = strpbrk(s, ".\"\\") != NULL || pick(4) == 0;
        if (i)
            text[n++] = '.';
        if (quoted)
            text[n++] = '"';
        for (; *s; s++) {
            if (quoted && (*s == '"' || *s == '\\'))
                text[n++] = '\\';
            text[n++] = *s;
        }
        if (quoted)
            text[n++] = '"';
    }
    return json_stringn(text, n);
}

static json_t *random_condition(int depth) {
    if (depth < 2 && pick(4) == 0)
        return random_filter(depth + 1);
    json_t *c = json_object(), *steps = random_path();
    json_object_set_new(c, "key", path_text(steps));
    json_object_set_new(c, "steps", steps); /* for the other evaluator; taken out before the real one sees it */
    switch (pick(4)) {
    case 0: json_object_set_new(c, "match", random_scalar()); break;
    case 1: {
        json_t *any = json_array();
        for (unsigned i = pick(4); i > 0; i--)
            json_array_append_new(any, random_scalar());
        json_object_set_new(c, "any", any);
        break;
    }
    case 2: {
        static const char *const bounds[] = {"gt", "gte", "lt", "lte"};
        json_t *range = json_object();
        int times = pick(2) == 0;
        for (unsigned i = 1 + pick(2); i > 0; i--)
            json_object_set_new(range, bounds[pick(4)],
                                times          ? json_string(strings[7 + pick(4)])
                                : pick(2) == 0 ? json_integer(integers[pick(8)])
                                               : json_real(reals[pick(8)]));
        json_object_set_new(c, "range", range);
        break;
    }
    default: json_object_set_new(c, "exists", json_boolean(pick(2))); break;
    }
    return c;
}

/* All values at a path that are no arrays, as a flat list. */
static void collect(json_t *value, const json_t *steps, size_t step, json_t *out) {
    if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++)
            collect(json_array_get(value, i), steps, step, out);
    } else if (step == json_array_size(steps)) {
        json_array_append(out, value);
    } else {
        json_t *next = json_object_get(value, json_string_value(json_array_get(steps, step)));
        if (next)
            collect(next, steps, step + 1, out);
    }
}

static long double number_of(const json_t *v) { /* holds every int64 and every double exactly */
    return json_is_integer(v) ? (long double)json_integer_value(v) : (long double)json_real_value(v);
}

static int same(const json_t *a, const json_t *b) {
    return json_is_number(a) && json_is_number(b) ? number_of(a) == number_of(b) : json_equal(a, b);
}

/* Times of `strings` alone, by the C library. */
static int time_of(const char *text, long double *out) {
    struct tm t = {0};
    const char *rest = strptime(text, "%Y-%m-%d", &t);
    if (!rest || (t.tm_mon == 1 && t.tm_mday > 29))
        return 0;
    long double more = 0;
    if (*rest) {
        if (!(rest = strptime(rest, "T%H:%M:%S", &t)))
            return 0;
        if (*rest == '.')
            more = strtod(rest, (char **)(uintptr_t)&rest);
        if (strcmp(rest, "+01:00") == 0)
            more -= 3600;
        else if (strcmp(rest, "Z") != 0)
            return 0;
    }
    *out = (long double)timegm(&t) + more;
    return 1;
}

static int order_of(const json_t *value, const json_t *bound, int *comparable) {
    long double a = 0, b = 0;
    *comparable = 0;
    if (json_is_number(bound) && json_is_number(value)) {
        *comparable = 1;
        a = number_of(value), b = number_of(bound);
    } else if (json_is_string(bound) && json_is_string(value)) {
        *comparable = time_of(json_string_value(value), &a) && time_of(json_string_value(bound), &b);
    }
    return (a > b) - (a < b);
}

static int brute_filter(const json_t *filter, json_t *metadata);

static int brute_condition(const json_t *c, json_t *metadata) {
    if (!json_object_get(c, "key"))
        return brute_filter(c, metadata);
    json_t *found = json_array(), *v, *w;
    size_t i, j;
    int holds_for_one = 0;
    collect(metadata, json_object_get(c, "steps"), 0, found);
    json_array_foreach(found, i, v) {
        const json_t *match = json_object_get(c, "match"), *range = json_object_get(c, "range");
        if (match) {
            holds_for_one |= same(v, match);
        } else if (range) {
            int all = 1, comparable;
            const char *name;
            json_object_foreach((json_t *)(uintptr_t)range, name, w) {
                int order = order_of(v, w, &comparable);
                all &= comparable && (strcmp(name, "gt") == 0    ? order > 0
                                      : strcmp(name, "gte") == 0 ? order >= 0
                                      : strcmp(name, "lt") == 0  ? order < 0
                                                                 : order <= 0);
            }
            holds_for_one |= all;
        } else if (json_object_get(c, "any")) {
            json_array_foreach(json_object_get(c, "any"), j, w)
                holds_for_one |= same(v, w);
        } else {
            holds_for_one |= !json_is_null(v);
        }
    }
    json_decref(found);
    const json_t *exists = json_object_get(c, "exists");
    return exists ? json_is_true(exists) == holds_for_one : holds_for_one;
}

static int brute_filter(const json_t *filter, json_t *metadata) {
    size_t i;
    json_t *c;
    int all = 1, none = 1, one = json_array_size(json_object_get(filter, "should")) == 0;
    json_array_foreach(json_object_get(filter, "must"), i, c)
        all &= brute_condition(c, metadata);
    json_array_foreach(json_object_get(filter, "must_not"), i, c)
        none &= !brute_condition(c, metadata);
    json_array_foreach(json_object_get(filter, "should"), i, c)
        one |= brute_condition(c, metadata);
    return all && none && one;
}

static void remove_steps(json_t *json) {
    const char *key;
    size_t i;
    json_t *v;
    if (json_is_object(json)) {
        json_object_del(json, "steps");
        json_object_foreach(json, key, v)
            remove_steps(v);
    } else if (json_is_array(json)) {
        json_array_foreach(json, i, v)
            remove_steps(v);
    }
}

static void random_filters_agree_with_a_brute_force_evaluator(void) {
    static const size_t forms[] = {JSON_COMPACT, JSON_ENSURE_ASCII, JSON_INDENT(2), JSON_COMPACT | JSON_ESCAPE_SLASH};
    const struct lk_filter_limits wide = {.bytes = 1 << 20, .depth = 8, .conditions = 1000};
    int matched = 0, asked = 0;
    drawn = 0;
    for (int f = 0; f < 1500; f++) {
        json_t *filter = random_filter(0), *plain = json_deep_copy(filter);
        struct lk_filter *compiled = NULL;
        struct lk_fault fault = {0};
        remove_steps(plain);
        if (!LK_CHECK_INT(lk_filter_open(&compiled, plain, &wide, "filter", &fault), 0))
            printf("%s\n", fault.message);
        json_decref(plain); /* the filter keeps what it needs */
        for (int m = 0; compiled && m < 40; m++) {
            json_t *metadata = random_metadata(0);
            char *text = json_dumps(metadata, forms[pick(4)]);
            int want = brute_filter(filter, metadata);
            if (lk_filter_match(compiled, text) != want) {
                char *shown = json_dumps(filter, JSON_COMPACT);
                printf("%s\non %s: expected %d\n", shown, text, want);
                free(shown);
                LK_CHECK(0);
            }
            asked++;
            matched += want;
            free(text);
            json_decref(metadata);
        }
        lk_filter_close(compiled);
        json_decref(filter);
    }
    LK_CHECK(matched > asked / 10 && matched < asked * 9 / 10);
}

static const struct lk_case cases[] = {
    LK_CASE(must_should_and_must_not_combine),
    LK_CASE(match_compares_by_type_and_value),
    LK_CASE(large_integers_are_compared_exactly),
    LK_CASE(arrays_stand_for_their_elements),
    LK_CASE(paths_lead_into_objects),
    LK_CASE(strings_are_compared_unescaped),
    LK_CASE(exists_needs_a_value_that_is_not_null),
    LK_CASE(ranges_take_numbers_and_times),
    LK_CASE(times_are_read_as_rfc_3339_says),
    LK_CASE(a_bad_filter_is_refused_with_the_place_and_the_limit),
    LK_CASE(damaged_text_gives_an_answer_and_no_more),
    LK_CASE(deep_metadata_is_walked_within_the_stack),
    LK_CASE(random_filters_agree_with_a_brute_force_evaluator),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
