/* POST /neighbors and GET /neighbors?id=: cosine neighbours of pictures, vectors and items. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "pictures.h"

#define NO_PICTURE ((size_t)-1)

struct query {
    int64_t k;
    double min_score;
    int with_metadata;
    char *id;       /* owned; NULL unless by id */
    float *vector;  /* owned, unit length; NULL unless by vector */
    size_t picture; /* its number in the embedding, or NO_PICTURE */
};

struct neighbors {
    struct query *queries;
    size_t count;
    int many; /* "queries" was given: results, and faults in their places */
    struct lk_pictures pictures;
    struct lk_embedding embedding;
};

static void neighbors_free(void *state) {
    struct neighbors *s = state;
    for (size_t i = 0; i < s->count; i++) {
        free(s->queries[i].id);
        free(s->queries[i].vector);
    }
    free(s->queries);
    lk_embedding_close(&s->embedding);
    lk_pictures_free(&s->pictures);
    free(s);
}

static struct neighbors *open_state(struct lk_request *r, size_t count) {
    struct neighbors *s = r->state;
    if (!s) {
        s = r->state = lk_calloc(1, sizeof *s);
        if (!s)
            return NULL;
        r->state_free = neighbors_free;
    }
    if (count) {
        s->queries = lk_calloc(count, sizeof *s->queries);
        if (!s->queries)
            return NULL;
        s->count = count;
        for (size_t i = 0; i < count; i++)
            s->queries[i] = (struct query){.k = 10, .min_score = -2, .with_metadata = 1, .picture = NO_PICTURE};
    }
    return s;
}

static int check_generation(struct lk_request *r, int64_t wanted, struct lk_fault *f) {
    int64_t serves = lk_request_generation(r)->serving.generation;
    return wanted && wanted != serves
               ? lk_fault_set(f, LK_API_GENERATION_MISMATCH, "generation", "generation %lld serves, not %lld",
                              (long long)serves, (long long)wanted)
               : 0;
}

/* --- what is asked ------------------------------------------------------------------------------------------------- */

static int query_string(struct lk_request *r, struct query *q, int with_id, struct lk_fault *f) {
    static const char *const names[] = {"k", "min_score", "with_metadata", "generation", "id"};
    const struct lk_config *config = lk_request_server(r)->config;
    int64_t generation = 0;
    int rc;
    if ((rc = lk_query_only(r, names, with_id ? 5 : 4, f)) || (rc = lk_query_int(r, "k", 1, config->max_k, &q->k, f)) ||
        (rc = lk_query_real(r, "min_score", -1, 1, &q->min_score, f)) ||
        (rc = lk_query_bool(r, "with_metadata", &q->with_metadata, f)) ||
        (rc = lk_query_int(r, "generation", 1, INT64_MAX, &generation, f)))
        return rc;
    return check_generation(r, generation, f);
}

/* "queries[3].k"; just "k" outside of a list. */
static const char *path_of(char *to, size_t size, const char *prefix, const char *name) {
    snprintf(to, size, "%s%s%s", prefix, prefix[0] ? "." : "", name);
    return to;
}

/* k, min_score, with_metadata, generation of a JSON object. */
static int json_options(struct lk_request *r, const json_t *object, const char *prefix, struct query *q,
                        struct lk_fault *f) {
    const struct lk_config *config = lk_request_server(r)->config;
    char path[64];
    json_t *v;
    if (json_object_get(object, "filter"))
        return lk_fault_set(f, LK_API_UNSUPPORTED_PARAMETER, path_of(path, sizeof path, prefix, "filter"),
                            "filters are not supported yet");
    if ((v = json_object_get(object, "k"))) {
        q->k = json_is_integer(v) ? json_integer_value(v) : 0;
        if (q->k < 1 || q->k > config->max_k)
            return lk_fault_set(f, LK_API_INVALID_ARGUMENT, path_of(path, sizeof path, prefix, "k"),
                                "k has to be a whole number within 1..%lld", config->max_k);
    }
    if ((v = json_object_get(object, "min_score"))) {
        q->min_score = json_is_number(v) ? json_number_value(v) : NAN;
        if (!(q->min_score >= -1 && q->min_score <= 1))
            return lk_fault_set(f, LK_API_INVALID_ARGUMENT, path_of(path, sizeof path, prefix, "min_score"),
                                "min_score has to be a number within -1..1");
    }
    if ((v = json_object_get(object, "with_metadata"))) {
        if (!json_is_boolean(v))
            return lk_fault_set(f, LK_API_INVALID_ARGUMENT, path_of(path, sizeof path, prefix, "with_metadata"),
                                "with_metadata has to be true or false");
        q->with_metadata = json_is_true(v);
    }
    if ((v = json_object_get(object, "generation"))) {
        if (!json_is_integer(v) || json_integer_value(v) < 1)
            return lk_fault_set(f, LK_API_INVALID_ARGUMENT, path_of(path, sizeof path, prefix, "generation"),
                                "generation has to be a whole number above 0");
        return check_generation(r, json_integer_value(v), f);
    }
    return 0;
}

static int json_vector(struct lk_request *r, const json_t *array, const char *param, struct query *q,
                       struct lk_fault *f) {
    size_t dim = (size_t)lk_request_generation(r)->dim, i;
    if (!json_is_array(array) || json_array_size(array) != dim)
        return lk_fault_set(f, LK_API_INVALID_ARGUMENT, param, "%s has to be an array of %zu numbers", param, dim);
    q->vector = lk_calloc(dim, sizeof *q->vector);
    double sum = 0;
    json_t *v;
    if (!q->vector)
        return lk_fault_from_status(f, LK_ENOMEM, NULL);
    json_array_foreach(array, i, v) {
        if (!json_is_number(v))
            return lk_fault_set(f, LK_API_INVALID_ARGUMENT, param, "%s[%zu] is no number", param, i);
        double x = json_number_value(v);
        sum += x * x;
    }
    double length = sqrt(sum);
    if (!isfinite(length) || !(length > 1e-30))
        return lk_fault_set(f, LK_API_INVALID_ARGUMENT, param, "%s has no length, or too much", param);
    json_array_foreach(array, i, v)
        q->vector[i] = (float)(json_number_value(v) / length);
    return 0;
}

/* One query object, which holds exactly one of image, vector and id. */
static int json_query(struct lk_request *r, const json_t *object, const char *prefix, struct query *q,
                      struct lk_fault *f) {
    static const char *const names[] = {"image",     "vector",        "id",         "k",
                                        "min_score", "with_metadata", "generation", "filter"};
    struct neighbors *s = r->state;
    char path[64];
    int rc;
    if ((rc = lk_json_only(object, names, sizeof names / sizeof *names, f)) ||
        (rc = json_options(r, object, prefix, q, f)))
        return rc;
    const json_t *image = json_object_get(object, "image"), *vector = json_object_get(object, "vector"),
                 *id = json_object_get(object, "id");
    if ((image != NULL) + (vector != NULL) + (id != NULL) != 1)
        return lk_fault_set(f, LK_API_INVALID_ARGUMENT, prefix, "a query has exactly one of image, vector and id");
    if (vector)
        return json_vector(r, vector, path_of(path, sizeof path, prefix, "vector"), q, f);
    if (image) {
        path_of(path, sizeof path, prefix, "image");
        if (!json_is_string(image))
            return lk_fault_set(f, LK_API_INVALID_ARGUMENT, path, "%s has to be a string: base64 or a data URI", path);
        q->picture = s->pictures.count;
        rc = lk_pictures_add_text(&s->pictures, json_string_value(image), json_string_length(image), path);
        return rc ? lk_fault_from_status(f, rc, NULL) : 0;
    }
    path_of(path, sizeof path, prefix, "id");
    if (!json_is_string(id))
        return lk_fault_set(f, LK_API_INVALID_ARGUMENT, path, "%s has to be a string", path);
    if ((rc = lk_check_id(json_string_value(id), json_string_length(id), path, f)))
        return rc;
    q->id = lk_strdup(json_string_value(id));
    return q->id ? 0 : lk_fault_from_status(f, LK_ENOMEM, NULL);
}

static int json_queries(struct lk_request *r, const json_t *body, const json_t *list, struct lk_fault *f) {
    static const char *const names[] = {"queries", "k", "min_score", "with_metadata", "generation", "filter"};
    size_t max = (size_t)lk_request_server(r)->config->max_images, n = json_array_size(list);
    struct query shared = {.k = 10, .min_score = -2, .with_metadata = 1, .picture = NO_PICTURE};
    int rc;
    if ((rc = lk_json_only(body, names, sizeof names / sizeof *names, f)) ||
        (rc = json_options(r, body, "", &shared, f)))
        return rc;
    if (!json_is_array(list) || n == 0)
        return lk_fault_set(f, LK_API_INVALID_ARGUMENT, "queries", "queries has to be an array of at least one query");
    if (n > max)
        return lk_fault_set(f, LK_API_TOO_MANY_IMAGES, "queries", "the request holds %zu queries; the limit is %zu", n,
                            max);
    struct neighbors *s = open_state(r, n);
    if (!s)
        return lk_fault_from_status(f, LK_ENOMEM, NULL);
    s->many = 1;
    for (size_t i = 0; i < n && rc == 0; i++) {
        char prefix[32];
        const json_t *object = json_array_get(list, i);
        snprintf(prefix, sizeof prefix, "queries[%zu]", i);
        s->queries[i] = shared;
        rc = json_is_object(object)
                 ? json_query(r, object, prefix, &s->queries[i], f)
                 : lk_fault_set(f, LK_API_INVALID_ARGUMENT, prefix, "%s has to be an object", prefix);
    }
    return rc;
}

static int read_json(struct lk_request *r, struct lk_fault *f) {
    size_t max_values = (size_t)lk_request_server(r)->config->max_json_values;
    json_t *body;
    int rc;
    if ((rc = lk_query_only(r, NULL, 0, f)) ||
        (rc = lk_json_parse_object(&body, r->body.data, r->body.size, max_values, NULL, f)))
        return rc;
    const json_t *list = json_object_get(body, "queries");
    if (list) {
        rc = json_queries(r, body, list, f);
    } else {
        struct neighbors *s = open_state(r, 1);
        rc = s ? json_query(r, body, "", &s->queries[0], f) : lk_fault_from_status(f, LK_ENOMEM, NULL);
    }
    json_decref(body);
    return rc;
}

/* --- the answer ---------------------------------------------------------------------------------------------------- */

static int write_metadata(void *arg, const struct lk_item *item) { return lk_json_raw(arg, item->metadata); }

static int write_hits(struct lk_buf *out, struct lk_collection *c, const struct lk_hits *hits, int with_metadata) {
    int rc = lk_json_raw(out, "\"neighbors\":[");
    for (size_t i = 0; i < hits->count && rc == 0; i++) {
        const struct lk_hit *hit = &hits->hits[i];
        if ((rc = lk_json_raw(out, i ? ",{\"id\":" : "{\"id\":")) || (rc = lk_json_text(out, hit->id)) ||
            (rc = lk_json_raw(out, ",\"score\":")) || (rc = lk_json_float(out, hit->score)))
            break;
        if (with_metadata) {
            if ((rc = lk_json_raw(out, ",\"metadata\":")))
                break;
            rc = lk_store_get(c->store, hit->id, NULL, write_metadata, out);
            if (rc == LK_ENOTFOUND) /* deleted since the search */
                rc = lk_json_raw(out, "{}");
        }
        if (rc == 0)
            rc = lk_json_raw(out, "}");
    }
    return rc ? rc : lk_json_raw(out, "]");
}

/* Answers one query into out. Negative: *f says why. */
static int answer(struct lk_request *r, struct query *q, struct lk_buf *out, struct lk_fault *f) {
    struct lk_collection *c = lk_request_collection(r);
    const struct lk_generation *g = lk_request_generation(r);
    struct neighbors *s = r->state;
    const float *vector = q->vector;
    float *stored = NULL;
    int rc = 0;
    if (q->picture != NO_PICTURE) {
        if (s->embedding.pictures[q->picture].fault.error) {
            *f = s->embedding.pictures[q->picture].fault;
            return LK_EFAIL;
        }
        vector = s->embedding.pictures[q->picture].vectors[0];
    } else if (q->id) {
        if (!(stored = lk_calloc((size_t)g->dim, sizeof *stored)))
            rc = LK_ENOMEM;
        else if ((rc = lk_index_vector(g->index, q->id, stored)) == LK_ENOTFOUND)
            lk_err(rc, "there is no item \"%s\"", q->id);
        vector = stored;
    }
    struct lk_hits hits = {0};
    if (rc == 0) {
        lk_cores_take(c->work->cores, 1);
        rc = lk_index_search(g->index, vector, (size_t)q->k, q->id, (float)q->min_score, &hits);
        lk_cores_give(c->work->cores, 1);
        if (rc == 0)
            rc = write_hits(out, c, &hits, q->with_metadata);
        lk_hits_free(&hits);
    }
    free(stored);
    return rc ? lk_fault_from_status(f, rc, q->id ? "id" : NULL) : 0;
}

static void answer_all(void *arg) {
    struct lk_request *r = arg;
    struct neighbors *s = r->state;
    struct lk_buf out = {0};
    struct lk_fault f = {0};
    int rc;
    if ((rc = lk_json_raw(&out, "{")) || (rc = lk_reply_generation(r, &out)) ||
        (rc = lk_json_raw(&out, s->many ? ",\"results\":[" : ",")))
        goto fail;
    for (size_t i = 0; i < s->count; i++) {
        if (s->many && (rc = lk_json_raw(&out, i ? ",{" : "{")))
            goto fail;
        size_t before = out.size;
        if (answer(r, &s->queries[i], &out, &f)) {
            if (!s->many || !(lk_fault_is_pictures(&f) || f.error == LK_API_ITEM_NOT_FOUND))
                goto fault;
            out.size = before;
            if ((rc = lk_json_raw(&out, "\"error\":")) || (rc = lk_fault_json(&out, &f)))
                goto fail;
        }
        if (s->many && (rc = lk_json_raw(&out, "}")))
            goto fail;
    }
    if ((rc = lk_json_raw(&out, s->many ? "]}\n" : "}\n")))
        goto fail;
    lk_reply(r, 200, "application/json", &out);
    return;
fail:
    lk_fault_from_status(&f, rc, NULL);
fault:
    lk_buf_free(&out);
    lk_reply_fault(r, &f);
}

void lk_route_neighbors(struct lk_request *r) {
    struct lk_fault f = {0};
    int rc;
    enum lk_body_form form = lk_request_form(r);
    struct neighbors *s = NULL;
    if (form == LK_FORM_JSON) {
        rc = read_json(r, &f);
    } else if (form == LK_FORM_MULTIPART) {
        rc = lk_fault_set(&f, LK_API_UNSUPPORTED_MEDIA_TYPE, "Content-Type",
                          "this route takes a picture as its body, or application/json");
    } else if (!(s = open_state(r, 1))) {
        rc = lk_fault_from_status(&f, LK_ENOMEM, NULL);
    } else {
        rc = query_string(r, &s->queries[0], 0, &f);
        s->queries[0].picture = 0;
    }
    if (rc) {
        lk_reply_fault(r, &f);
        return;
    }
    s = r->state;
    if (form == LK_FORM_JSON && s->pictures.count == 0) {
        answer_all(r);
        return;
    }
    if (form == LK_FORM_JSON) {
        rc = lk_pictures_embedding(&s->pictures, r, &s->embedding);
    } else if ((rc = lk_collection_embedding(lk_request_collection(r), lk_request_generation(r), &s->embedding, 1,
                                             0)) == 0) {
        s->embedding.pictures[0].bytes = r->body.data;
        s->embedding.pictures[0].size = r->body.size;
        s->embedding.deadline_ns = r->deadline_ns;
        s->embedding.gone = lk_route_gone;
        s->embedding.arg = r;
    }
    if (rc) {
        lk_reply_failed(r, rc);
        return;
    }
    s->embedding.bulk = s->embedding.count > 1;
    s->embedding.done = answer_all;
    lk_embedding_start(&s->embedding);
}

void lk_route_neighbors_of_item(struct lk_request *r) {
    struct lk_fault f = {0};
    struct neighbors *s = open_state(r, 1);
    if (!s) {
        lk_reply_failed(r, LK_ENOMEM);
        return;
    }
    const char *id = lk_query_get(&r->query, "id");
    int rc = query_string(r, &s->queries[0], 1, &f);
    if (rc == 0 && !id)
        rc = lk_fault_set(&f, LK_API_INVALID_ARGUMENT, "id", "the argument \"id\" is missing");
    else if (rc == 0 && (rc = lk_check_id(id, strlen(id), "id", &f)) == 0 && !(s->queries[0].id = lk_strdup(id)))
        rc = lk_fault_from_status(&f, LK_ENOMEM, NULL);
    if (rc)
        lk_reply_fault(r, &f);
    else
        answer_all(r);
}
