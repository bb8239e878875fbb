#include "neighbors_query.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "json_vectors.h"

struct reader {
    const struct lk_neighbors_limits *limits;
    struct lk_neighbors_queries *out;
    struct lk_fault *f;
    struct lk_json_vectors taken; /* count 0: the vectors are in the JSON */
};

static const struct lk_neighbors_query plain = {.k = 10, .min_score = -2, .with_metadata = 1, .picture = LK_NO_PICTURE};

int lk_neighbors_queries_open(struct lk_neighbors_queries *q, size_t n) {
    q->queries = lk_arena_take(q->arena, n, sizeof *q->queries);
    q->filters = lk_arena_take(q->arena, n + 1, sizeof *q->filters);
    if (!q->queries || !q->filters)
        return LK_ENOMEM;
    for (q->count = 0; q->count < n; q->count++)
        q->queries[q->count] = plain;
    return 0;
}

void lk_neighbors_queries_close(struct lk_neighbors_queries *q) {
    for (size_t i = 0; i < q->count; i++)
        lk_arena_drop(q->arena, q->queries[i].id);
    for (size_t i = 0; i < q->n_filters; i++)
        lk_filter_close(q->filters[i]);
    lk_arena_drop(q->arena, q->queries);
    lk_arena_drop(q->arena, q->filters);
    lk_arena_drop(q->arena, q->vectors);
    lk_pictures_free(&q->pictures);
    *q = (struct lk_neighbors_queries){0};
}

int lk_neighbors_check_generation(int64_t wanted, int64_t serves, struct lk_fault *f) {
    return wanted && wanted != serves
               ? lk_fault_set(f, LK_API_GENERATION_MISMATCH, "generation", "generation %lld serves, not %lld",
                              (long long)serves, (long long)wanted)
               : 0;
}

/* "queries[3].k"; just "k" outside of a list. */
static const char *path_of(char *to, size_t size, const char *prefix, const char *name) {
    snprintf(to, size, "%s%s%s", prefix, prefix[0] ? "." : "", name);
    return to;
}

static int read_filter(struct reader *r, json_t *json, const char *prefix, struct lk_neighbors_query *q) {
    char path[64];
    struct lk_filter **filter = &r->out->filters[r->out->n_filters];
    int rc = lk_filter_open(filter, json, &r->limits->filter, path_of(path, sizeof path, prefix, "filter"), r->f);
    r->out->n_filters += rc == 0;
    q->filter = *filter;
    return rc;
}

/* k, min_score, with_metadata, generation and filter of a JSON object. */
static int read_options(struct reader *r, const json_t *object, const char *prefix, struct lk_neighbors_query *q) {
    char path[64];
    json_t *v;
    int rc;
    if ((v = json_object_get(object, "filter")) && (rc = read_filter(r, v, prefix, q)))
        return rc;
    if ((v = json_object_get(object, "k"))) {
        q->k = json_is_integer(v) ? json_integer_value(v) : 0;
        if (q->k < 1 || q->k > r->limits->max_k)
            return lk_fault_set(r->f, LK_API_INVALID_ARGUMENT, path_of(path, sizeof path, prefix, "k"),
                                "k has to be a whole number within 1..%lld", (long long)r->limits->max_k);
    }
    if ((v = json_object_get(object, "min_score"))) {
        q->min_score = json_is_number(v) ? json_number_value(v) : NAN;
        if (!(q->min_score >= -1 && q->min_score <= 1))
            return lk_fault_set(r->f, LK_API_INVALID_ARGUMENT, path_of(path, sizeof path, prefix, "min_score"),
                                "min_score has to be a number within -1..1");
    }
    if ((v = json_object_get(object, "with_metadata"))) {
        if (!json_is_boolean(v))
            return lk_fault_set(r->f, LK_API_INVALID_ARGUMENT, path_of(path, sizeof path, prefix, "with_metadata"),
                                "with_metadata has to be true or false");
        q->with_metadata = json_is_true(v);
    }
    if ((v = json_object_get(object, "generation"))) {
        if (!json_is_integer(v) || json_integer_value(v) < 1)
            return lk_fault_set(r->f, LK_API_INVALID_ARGUMENT, path_of(path, sizeof path, prefix, "generation"),
                                "generation has to be a whole number above 0");
        return lk_neighbors_check_generation(json_integer_value(v), r->limits->generation, r->f);
    }
    return 0;
}

static int read_numbers(struct reader *r, const json_t *array, const char *param, double *numbers, float *vector) {
    size_t i;
    json_t *v;
    json_array_foreach(array, i, v) {
        if (!json_is_number(v))
            return lk_fault_set(r->f, LK_API_INVALID_ARGUMENT, param, "%s[%zu] is no number", param, i);
        numbers[i] = json_number_value(v);
    }
    return lk_json_vector_unit(vector, numbers, r->limits->dim)
               ? lk_fault_set(r->f, LK_API_INVALID_ARGUMENT, param, "%s has no length, or too much", param)
               : 0;
}

static int read_vector(struct reader *r, const json_t *value, const char *param, struct lk_neighbors_query *q) {
    struct lk_neighbors_queries *out = r->out;
    const size_t dim = r->limits->dim;
    if (r->taken.count) { /* all of them are */
        q->vector = out->vectors + (size_t)json_integer_value(value) * dim;
        return 0;
    }
    if (!json_is_array(value) || json_array_size(value) != dim)
        return lk_fault_set(r->f, LK_API_INVALID_ARGUMENT, param, "%s has to be an array of %zu numbers", param, dim);
    if (!out->vectors && !(out->vectors = lk_arena_take(out->arena, out->count * dim, sizeof *out->vectors)))
        return lk_fault_from_status(r->f, LK_ENOMEM, NULL);
    double *numbers = lk_calloc(dim, sizeof *numbers);
    if (!numbers)
        return lk_fault_from_status(r->f, LK_ENOMEM, NULL);
    float *vector = out->vectors + (size_t)(q - out->queries) * dim;
    int rc = read_numbers(r, value, param, numbers, vector);
    free(numbers);
    q->vector = vector;
    return rc;
}

/* One query object, which holds exactly one of image, vector and id. */
static int read_query(struct reader *r, const json_t *object, const char *prefix, struct lk_neighbors_query *q) {
    static const char *const names[] = {"image",     "vector",        "id",         "k",
                                        "min_score", "with_metadata", "generation", "filter"};
    char path[64];
    int rc;
    if ((rc = lk_json_only(object, names, sizeof names / sizeof *names, r->f)) ||
        (rc = read_options(r, object, prefix, q)))
        return rc;
    const json_t *image = json_object_get(object, "image"), *vector = json_object_get(object, "vector"),
                 *id = json_object_get(object, "id");
    if ((image != NULL) + (vector != NULL) + (id != NULL) != 1)
        return lk_fault_set(r->f, LK_API_INVALID_ARGUMENT, prefix, "a query has exactly one of image, vector and id");
    if (vector)
        return read_vector(r, vector, path_of(path, sizeof path, prefix, "vector"), q);
    if (image) {
        path_of(path, sizeof path, prefix, "image");
        if (!json_is_string(image))
            return lk_fault_set(r->f, LK_API_INVALID_ARGUMENT, path, "%s has to be a string: base64 or a data URI",
                                path);
        q->picture = r->out->pictures.count;
        rc = lk_pictures_add_text(&r->out->pictures, json_string_value(image), json_string_length(image), path);
        return rc ? lk_fault_from_status(r->f, rc, NULL) : 0;
    }
    path_of(path, sizeof path, prefix, "id");
    if (!json_is_string(id))
        return lk_fault_set(r->f, LK_API_INVALID_ARGUMENT, path, "%s has to be a string", path);
    if ((rc = lk_check_id(json_string_value(id), json_string_length(id), path, r->f)))
        return rc;
    q->id = lk_arena_strdup(r->out->arena, json_string_value(id));
    return q->id ? 0 : lk_fault_from_status(r->f, LK_ENOMEM, NULL);
}

static int read_queries(struct reader *r, const json_t *body, const json_t *list) {
    static const char *const names[] = {"queries", "k", "min_score", "with_metadata", "generation", "filter"};
    size_t n = json_array_size(list), max = r->limits->max_queries;
    int rc;
    if ((rc = lk_json_only(body, names, sizeof names / sizeof *names, r->f)))
        return rc;
    if (!json_is_array(list) || n == 0)
        return lk_fault_set(r->f, LK_API_INVALID_ARGUMENT, "queries",
                            "queries has to be an array of at least one query");
    if (n > max)
        return lk_fault_set(r->f, LK_API_TOO_MANY_IMAGES, "queries", "the request holds %zu queries; the limit is %zu",
                            n, max);
    if ((rc = lk_neighbors_queries_open(r->out, n)))
        return lk_fault_from_status(r->f, rc, NULL);
    struct lk_neighbors_query shared = plain;
    r->out->many = 1;
    rc = read_options(r, body, "", &shared);
    for (size_t i = 0; i < n && rc == 0; i++) {
        char prefix[32];
        const json_t *object = json_array_get(list, i);
        snprintf(prefix, sizeof prefix, "queries[%zu]", i);
        r->out->queries[i] = shared;
        rc = json_is_object(object)
                 ? read_query(r, object, prefix, &r->out->queries[i])
                 : lk_fault_set(r->f, LK_API_INVALID_ARGUMENT, prefix, "%s has to be an object", prefix);
    }
    return rc;
}

/* The body's object. Its vectors are taken out when that is possible, and what is no JSON without them is read with them,
 * for the sake of its fault. */
static int parse(struct reader *r, json_t **object, const void *body, size_t n) {
    const struct lk_neighbors_limits *limits = r->limits;
    int rc = lk_json_vectors_take(&r->taken, body, n, limits->dim, limits->max_queries);
    if (rc)
        return lk_fault_from_status(r->f, rc, NULL);
    const size_t values = r->taken.count * limits->dim; /* that the text has not any more */
    *object = NULL;
    if (r->taken.count && values < limits->max_json_values)
        (void)lk_json_parse_object(object, r->taken.text, r->taken.text_size, limits->max_json_values - values, NULL,
                                   r->f);
    if (*object) {
        r->out->vectors = r->taken.vectors;
        r->taken.vectors = NULL;
        return 0;
    }
    lk_json_vectors_close(&r->taken);
    *r->f = (struct lk_fault){0};
    return lk_json_parse_object(object, body, n, limits->max_json_values, NULL, r->f);
}

int lk_neighbors_parse(struct lk_neighbors_queries *out, const void *body, size_t n,
                       const struct lk_neighbors_limits *limits, struct lk_fault *f) {
    struct reader r = {.limits = limits, .out = out, .f = f, .taken.arena = out->arena};
    json_t *object = NULL;
    int rc = parse(&r, &object, body, n);
    if (rc == 0) {
        const json_t *list = json_object_get(object, "queries");
        if (list)
            rc = read_queries(&r, object, list);
        else if ((rc = lk_neighbors_queries_open(out, 1)))
            rc = lk_fault_from_status(f, rc, NULL);
        else
            rc = read_query(&r, object, "", &out->queries[0]);
        json_decref(object);
    }
    lk_json_vectors_close(&r.taken);
    return rc;
}
