/* Reading filters; filter_match.c evaluates them. */
#include "filter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "filter_internal.h"

struct reader {
    const struct lk_filter_limits *limits;
    size_t conditions;
    struct lk_fault *fault;
    char path[128]; /* where we are: "filter.must[2].range"; what is too long is cut */
    size_t path_size;
};

static const char *const bound_names[LK_BOUNDS] = {
    [LK_BOUND_GT] = "gt", [LK_BOUND_GTE] = "gte", [LK_BOUND_LT] = "lt", [LK_BOUND_LTE] = "lte"};

static void enter(struct reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void enter(struct reader *r, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(r->path + r->path_size, sizeof r->path - r->path_size, format, arguments);
    va_end(arguments);
    r->path_size += n > 0 ? (size_t)n : 0;
    if (r->path_size >= sizeof r->path)
        r->path_size = sizeof r->path - 1;
}

static void leave(struct reader *r, size_t to) {
    r->path_size = to;
    r->path[to] = 0;
}

static int refuse(struct reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int refuse(struct reader *r, const char *format, ...) {
    char why[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    return lk_fault_set(r->fault, LK_API_INVALID_ARGUMENT, r->path, "%s: %s", r->path, why);
}

static int no_memory(struct reader *r) { return lk_fault_from_status(r->fault, LK_ENOMEM, NULL); }

static int count(struct reader *r, size_t n) {
    if (n > r->limits->conditions - r->conditions)
        return refuse(r, "the filter has more conditions and values than max_filter_conditions, which is %zu",
                      r->limits->conditions);
    r->conditions += n;
    return 0;
}

/* --- paths --------------------------------------------------------------------------------------------------------- */

/* One step from *s on, up to its dot or the end; its bytes go to *to. */
static int read_step(struct reader *r, const char **s, const char *end, char **to) {
    const char *start = *to;
    if (*s < end && **s == '"') {
        for (++*s; *s < end && **s != '"'; ++*s) {
            if (**s == '\\' && *s + 1 < end && ((*s)[1] == '"' || (*s)[1] == '\\'))
                ++*s;
            *(*to)++ = **s;
        }
        if (*s == end)
            return refuse(r, "a double quote is not closed");
        ++*s;
        if (*s < end && **s != '.')
            return refuse(r, "after a step in double quotes comes a dot or the end");
        return 0;
    }
    while (*s < end && **s != '.')
        *(*to)++ = *(*s)++;
    return *to > start ? 0 : refuse(r, "a step between dots is empty");
}

static int read_path(struct reader *r, const json_t *key, struct lk_filter__condition *c) {
    if (!json_is_string(key) || json_string_length(key) == 0)
        return refuse(r, "\"key\" has to be a string that is not empty");
    const char *s = json_string_value(key), *end = s + json_string_length(key);
    size_t dots = 0;
    for (const char *p = s; p < end; p++)
        dots += *p == '.';
    c->path_text = lk_calloc((size_t)(end - s) + 1, 1);
    c->steps = lk_calloc(dots + 1, sizeof *c->steps);
    if (!c->path_text || !c->steps)
        return no_memory(r);
    char *to = c->path_text;
    for (;;) {
        struct lk_filter__step *step = &c->steps[c->n_steps++];
        step->text = to;
        int rc = read_step(r, &s, end, &to);
        if (rc)
            return rc;
        step->size = (size_t)(to - step->text);
        if (s == end)
            return 0;
        s++;
    }
}

/* --- values -------------------------------------------------------------------------------------------------------- */

static int read_value(struct reader *r, const json_t *json, struct lk_filter__value *v) {
    *v = (struct lk_filter__value){0};
    switch (json_typeof(json)) {
    case JSON_NULL: v->type = LK_V_NULL; return 0;
    case JSON_TRUE:
    case JSON_FALSE:
        v->type = LK_V_BOOL;
        v->integer = json_is_true(json);
        return 0;
    case JSON_INTEGER:
        v->type = LK_V_INT;
        v->integer = json_integer_value(json);
        return 0;
    case JSON_REAL:
        v->type = LK_V_REAL;
        v->real = json_real_value(json);
        return 0;
    case JSON_STRING:
        v->type = LK_V_STRING;
        v->text = json_string_value(json);
        v->size = json_string_length(json);
        return 0;
    default: return refuse(r, "a value has to be a string, a number, true, false or null");
    }
}

static int read_values(struct reader *r, const json_t *list, struct lk_filter__condition *c) {
    size_t n = json_array_size(list), here = r->path_size;
    int rc;
    if (!json_is_array(list))
        return refuse(r, "\"any\" has to be an array of values");
    if ((rc = count(r, n)))
        return rc;
    if (n && !(c->values = lk_calloc(n, sizeof *c->values)))
        return no_memory(r);
    for (; c->n_values < n; c->n_values++) {
        enter(r, "[%zu]", c->n_values);
        if ((rc = read_value(r, json_array_get(list, c->n_values), &c->values[c->n_values])))
            return rc;
        leave(r, here);
    }
    return 0;
}

static int read_bounds(struct reader *r, const json_t *range, struct lk_filter__condition *c) {
    size_t found = 0, times = 0, here = r->path_size;
    if (!json_is_object(range))
        return refuse(r, "a range has to be an object of gt, gte, lt and lte");
    if (!(c->values = lk_calloc(LK_BOUNDS, sizeof *c->values)))
        return no_memory(r);
    c->n_values = LK_BOUNDS;
    for (int i = 0; i < LK_BOUNDS; i++) {
        const json_t *bound = json_object_get(range, bound_names[i]);
        struct lk_filter__value *v = &c->values[i];
        if (!bound)
            continue;
        found++;
        enter(r, ".%s", bound_names[i]);
        if (json_is_string(bound)) {
            if (!lk_rfc3339_parse(&v->time, json_string_value(bound), json_string_length(bound)))
                return refuse(r, "a bound has to be a number, or a time as in 2024-01-31T12:00:00Z");
            v->type = LK_V_TIME;
            times++;
        } else if (!json_is_number(bound)) {
            return refuse(r, "a bound has to be a number, or a time as in 2024-01-31T12:00:00Z");
        } else {
            (void)read_value(r, bound, v);
        }
        leave(r, here);
    }
    if (found == 0 || json_object_size(range) != found)
        return refuse(r, "a range has at least one of gt, gte, lt and lte, and nothing else");
    if (times != 0 && times != found)
        return refuse(r, "the bounds have to be all numbers or all times");
    return 0;
}

/* --- conditions ---------------------------------------------------------------------------------------------------- */

static int read_filter(struct reader *r, const json_t *json, size_t depth, struct lk_filter *out);

static int read_test(struct reader *r, const json_t *json, struct lk_filter__condition *c) {
    static const char *const tests[] = {"match", "any", "range", "exists"};
    const char *name = NULL;
    const json_t *operand = NULL;
    size_t here = r->path_size;
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (json_object_get(json, tests[i])) {
            name = tests[i];
            operand = json_object_get(json, name);
        }
    if (!name || json_object_size(json) != 2)
        return refuse(r, "a condition has \"key\", exactly one of match, any, range and exists, and nothing else");
    int rc;
    enter(r, ".key");
    if ((rc = read_path(r, json_object_get(json, "key"), c)))
        return rc;
    leave(r, here);
    enter(r, ".%s", name);
    if (strcmp(name, "match") == 0) {
        if (!(c->values = lk_calloc(1, sizeof *c->values)))
            return no_memory(r);
        c->n_values = 1;
        rc = read_value(r, operand, c->values);
        c->test = LK_TEST_ANY;
    } else if (strcmp(name, "any") == 0) {
        rc = read_values(r, operand, c);
        c->test = LK_TEST_ANY;
    } else if (strcmp(name, "range") == 0) {
        rc = read_bounds(r, operand, c);
        c->test = LK_TEST_RANGE;
    } else {
        c->exists = json_is_true(operand);
        c->test = LK_TEST_EXISTS;
        rc = json_is_boolean(operand) ? 0 : refuse(r, "\"exists\" has to be true or false");
    }
    return rc;
}

static int read_condition(struct reader *r, const json_t *json, size_t depth, struct lk_filter__condition *c) {
    if (!json_is_object(json))
        return refuse(r, "a condition has to be an object");
    if (json_object_get(json, "key"))
        return read_test(r, json, c);
    if (json_object_size(json) == 0)
        return refuse(r, "a condition has \"key\", or must, should and must_not");
    if (!(c->filter = lk_calloc(1, sizeof *c->filter)))
        return no_memory(r);
    c->test = LK_TEST_FILTER;
    return read_filter(r, json, depth + 1, c->filter);
}

static int read_list(struct reader *r, const json_t *filter, const char *name, size_t depth,
                     struct lk_filter__list *out) {
    const json_t *list = json_object_get(filter, name);
    size_t n = json_array_size(list), start = r->path_size, here;
    int rc;
    if (!list)
        return 0;
    enter(r, ".%s", name);
    here = r->path_size;
    if (!json_is_array(list))
        return refuse(r, "it has to be an array of conditions");
    if ((rc = count(r, n)))
        return rc;
    if (n && !(out->conditions = lk_calloc(n, sizeof *out->conditions)))
        return no_memory(r);
    while (out->count < n) {
        size_t i = out->count++;
        enter(r, "[%zu]", i);
        if ((rc = read_condition(r, json_array_get(list, i), depth, &out->conditions[i])))
            return rc;
        leave(r, here);
    }
    leave(r, start);
    return 0;
}

static int read_filter(struct reader *r, const json_t *json, size_t depth, struct lk_filter *out) {
    const char *key;
    json_t *value;
    int rc;
    if (!json_is_object(json))
        return refuse(r, "a filter has to be an object of must, should and must_not");
    if (depth > r->limits->depth)
        return refuse(r, "the filter is nested deeper than max_filter_depth, which is %zu", r->limits->depth);
    json_object_foreach((json_t *)(uintptr_t)json, key, value)
        if (strcmp(key, "must") != 0 && strcmp(key, "should") != 0 && strcmp(key, "must_not") != 0)
            return refuse(r, "unknown member \"%.80s\"; a filter has must, should and must_not", key);
    if ((rc = read_list(r, json, "must", depth, &out->must)) ||
        (rc = read_list(r, json, "should", depth, &out->should)) ||
        (rc = read_list(r, json, "must_not", depth, &out->must_not)))
        return rc;
    return 0;
}

static int too_large(size_t bytes, const struct lk_filter_limits *limits, const char *param, struct lk_fault *f) {
    return lk_fault_set(f, LK_API_INVALID_ARGUMENT, param,
                        "%s: the filter has %zu bytes, more than max_filter_bytes, which is %zu", param, bytes,
                        limits->bytes);
}

int lk_filter_open(struct lk_filter **out, json_t *json, const struct lk_filter_limits *limits, const char *param,
                   struct lk_fault *f) {
    struct reader r = {.limits = limits, .fault = f};
    size_t bytes = json_dumpb(json, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);
    *out = NULL;
    enter(&r, "%s", param);
    if (bytes > limits->bytes)
        return too_large(bytes, limits, param, f);
    struct lk_filter *filter = lk_calloc(1, sizeof *filter);
    if (!filter)
        return no_memory(&r);
    filter->source = json_incref(json);
    int rc = read_filter(&r, json, 1, filter);
    if (rc) {
        lk_filter_close(filter);
        return rc;
    }
    *out = filter;
    return 0;
}

int lk_filter_open_text(struct lk_filter **out, const char *text, size_t n, const struct lk_filter_limits *limits,
                        const char *param, struct lk_fault *f) {
    json_t *json;
    *out = NULL;
    if (n > limits->bytes)
        return too_large(n, limits, param, f);
    int rc = lk_json_parse_object(&json, text, n, limits->bytes, param, f);
    if (rc)
        return rc;
    rc = lk_filter_open(out, json, limits, param, f);
    json_decref(json);
    return rc;
}

static void free_list(struct lk_filter__list *list) {
    for (size_t i = 0; i < list->count; i++) {
        struct lk_filter__condition *c = &list->conditions[i];
        lk_filter_close(c->filter);
        free(c->path_text);
        free(c->steps);
        free(c->values);
    }
    free(list->conditions);
}

void lk_filter_close(struct lk_filter *filter) {
    if (!filter)
        return;
    free_list(&filter->must);
    free_list(&filter->should);
    free_list(&filter->must_not);
    json_decref(filter->source);
    free(filter);
}
