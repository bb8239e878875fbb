/* POST /neighbors and GET /neighbors?id=: cosine neighbours of pictures, vectors and items. */
#include <string.h>

#include "base/err.h"
#include "neighbors_query.h"
#include "search.h"

enum { FEW = 100 }; /* neighbours whose metadata may stay in memory until the answer was sent */

struct neighbors {
    struct lk_neighbors_queries asked;
    struct lk_embedding embedding;
    uint64_t found; /* bytes of the findings, which the answer is made of */
};

static void neighbors_free(void *state) {
    struct neighbors *s = state;
    lk_embedding_close(&s->embedding);
    lk_neighbors_queries_close(&s->asked);
}

static struct neighbors *open_state(struct lk_request *r, size_t queries) {
    struct neighbors *s = r->state = lk_arena_take(r->arena, 1, sizeof *s);
    if (!s)
        return NULL;
    s->asked.arena = r->arena;
    r->state_free = neighbors_free;
    return queries && lk_neighbors_queries_open(&s->asked, queries) ? NULL : s;
}

/* --- what is asked ------------------------------------------------------------------------------------------------- */

static int read_arguments(struct lk_request *r, struct neighbors *s, int with_id, struct lk_fault *f) {
    static const char *const names[] = {"k", "min_score", "with_metadata", "generation", "filter", "id"};
    const struct lk_config *config = lk_request_server(r)->config;
    struct lk_neighbors_query *q = &s->asked.queries[0];
    int64_t generation = 0;
    int rc;
    if ((rc = lk_query_only(r, names, with_id ? 6 : 5, f)) || (rc = lk_query_int(r, "k", 1, config->max_k, &q->k, f)) ||
        (rc = lk_query_real(r, "min_score", -1, 1, &q->min_score, f)) ||
        (rc = lk_query_bool(r, "with_metadata", &q->with_metadata, f)) ||
        (rc = lk_query_int(r, "generation", 1, INT64_MAX, &generation, f)) ||
        (rc = lk_neighbors_check_generation(generation, lk_request_generation(r)->serving.generation, f)) ||
        (rc = lk_query_filter(r, &s->asked.filters[0], f)))
        return rc;
    q->filter = s->asked.filters[0];
    s->asked.n_filters = q->filter != NULL;
    return 0;
}

static int read_json(struct lk_request *r, struct neighbors *s, struct lk_fault *f) {
    const struct lk_config *config = lk_request_server(r)->config;
    const struct lk_generation *g = lk_request_generation(r);
    const struct lk_neighbors_limits limits = {.dim = (size_t)g->dim,
                                               .generation = g->serving.generation,
                                               .max_k = config->max_k,
                                               .max_queries = (size_t)config->max_images,
                                               .max_json_values = (size_t)config->max_json_values,
                                               .filter = lk_config_filter(config)};
    int rc = lk_query_only(r, NULL, 0, f);
    return rc ? rc : lk_neighbors_parse(&s->asked, r->body.data, r->body.size, &limits, f);
}

/* --- the answer ---------------------------------------------------------------------------------------------------- */

static int write_hits(struct lk_buf *out, const struct lk_findings *found, int with_metadata) {
    int rc = lk_json_raw(out, "\"neighbors\":[");
    for (size_t i = 0; i < found->count && rc == 0; i++) {
        const struct lk_found *hit = &found->items[i];
        if ((rc = lk_json_raw(out, i ? ",{\"id\":" : "{\"id\":")) || (rc = lk_json_text(out, hit->id)) ||
            (rc = lk_json_raw(out, ",\"score\":")) || (rc = lk_json_float(out, hit->score)) ||
            (with_metadata && ((rc = lk_json_raw(out, ",\"metadata\":")) || (rc = lk_json_raw(out, hit->metadata)))) ||
            (rc = lk_json_raw(out, "}")))
            break;
    }
    return rc ? rc : lk_json_raw(out, "]");
}

static int on_found(void *request, size_t bytes) {
    struct lk_request *r = request;
    struct neighbors *s = r->state;
    return lk_request_hold(r, s->found += bytes);
}

/* What one query searches for, or why it cannot. */
struct answer {
    struct lk_search search;
    float *stored; /* a stored item's vector */
    struct lk_fault fault;
};

static int prepare(struct lk_request *r, const struct lk_neighbors_query *q, struct answer *a) {
    struct lk_collection *c = lk_request_collection(r);
    const struct lk_generation *g = lk_request_generation(r);
    const struct neighbors *s = r->state;
    a->search = (struct lk_search){.store = c->store,
                                   .index = g->index,
                                   .cores = c->work->cores,
                                   .query = q->vector,
                                   .k = (size_t)q->k,
                                   .exclude = q->id,
                                   .min_score = (float)q->min_score,
                                   .filter = q->filter,
                                   .with_metadata = q->with_metadata,
                                   .deadline_ns = r->deadline_ns,
                                   .gone = lk_route_gone,
                                   .found = on_found,
                                   .arg = r,
                                   .arena = q->k <= FEW ? r->arena : NULL};
    if (q->picture != LK_NO_PICTURE) {
        a->fault = s->embedding.pictures[q->picture].fault;
        a->search.query = s->embedding.pictures[q->picture].vectors[0];
    } else if (q->id) {
        if (!(a->stored = lk_arena_take(r->arena, (size_t)g->dim, sizeof *a->stored)))
            return LK_ENOMEM;
        int rc = lk_index_vector(g->index, q->id, a->stored);
        if (rc == LK_ENOTFOUND)
            (void)lk_fault_set(&a->fault, LK_API_ITEM_NOT_FOUND, "id", "there is no item \"%s\"", q->id);
        a->search.query = a->stored;
        return rc == LK_ENOTFOUND ? 0 : rc;
    }
    return 0;
}

/* Searches for all that have no fault, together; found[i] are query i's. */
static int search_all(struct lk_request *r, const struct answer *answers, size_t n, struct lk_findings *found) {
    struct lk_search *searches = lk_arena_take(r->arena, n, sizeof *searches);
    struct lk_findings *packed = lk_arena_take(r->arena, n, sizeof *packed);
    size_t count = 0;
    int rc = searches && packed ? 0 : LK_ENOMEM;
    for (size_t i = 0; i < n && rc == 0; i++)
        if (!answers[i].fault.error)
            searches[count++] = answers[i].search;
    if (rc == 0 && count) {
        int64_t begun = lk_now_ns();
        rc = lk_search_run_many(searches, count, packed);
        lk_metrics_stage(lk_request_generation(r)->work->metrics, LK_STAGE_SEARCH, lk_now_ns() - begun, &r->stages);
    }
    for (size_t i = n; i-- > 0 && rc == 0;)
        if (!answers[i].fault.error)
            found[i] = packed[--count];
    return rc;
}

static int write_answer(const struct answer *a, const struct lk_findings *found, struct lk_buf *out) {
    int rc;
    if (!a->fault.error)
        return write_hits(out, found, a->search.with_metadata);
    return (rc = lk_json_raw(out, "\"error\":")) ? rc : lk_fault_json(out, &a->fault);
}

static int write_answers(struct lk_request *r, const struct answer *answers, const struct lk_findings *found,
                         struct lk_buf *out) {
    const struct neighbors *s = r->state;
    int rc;
    if ((rc = lk_json_raw(out, "{")) || (rc = lk_reply_generation(r, out)) ||
        (rc = lk_json_raw(out, s->asked.many ? ",\"results\":[" : ",")))
        return rc;
    for (size_t i = 0; i < s->asked.count && rc == 0; i++) {
        if ((s->asked.many && (rc = lk_json_raw(out, i ? ",{" : "{"))) ||
            (rc = write_answer(&answers[i], &found[i], out)) || (s->asked.many && (rc = lk_json_raw(out, "}"))) ||
            (rc = lk_request_hold(r, s->found + out->size)))
            return rc;
    }
    return rc ? rc : lk_json_raw(out, s->asked.many ? "]}\n" : "}\n");
}

/* The first fault that fails the request: among many queries, a picture that is none and an id that is not there do not. */
static const struct lk_fault *failing(const struct neighbors *s, const struct answer *answers) {
    for (size_t i = 0; i < s->asked.count; i++) {
        const struct lk_fault *f = &answers[i].fault;
        if (f->error && !(s->asked.many && (lk_fault_is_pictures(f) || f->error == LK_API_ITEM_NOT_FOUND)))
            return f;
    }
    return NULL;
}

static void answer_all(void *arg) {
    struct lk_request *r = arg;
    struct neighbors *s = r->state;
    const size_t n = s->asked.count;
    struct answer *answers = lk_arena_take(r->arena, n, sizeof *answers);
    struct lk_findings *found = lk_arena_take(r->arena, n, sizeof *found);
    struct lk_buf out = lk_reply_buffer(r);
    struct lk_fault fault = {0};
    const struct lk_fault *f = NULL;
    int rc = answers && found ? 0 : LK_ENOMEM;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = prepare(r, &s->asked.queries[i], &answers[i]);
    if (rc == 0 && !(f = failing(s, answers)) && (rc = search_all(r, answers, n, found)) == 0)
        rc = write_answers(r, answers, found, &out);
    if (rc == LK_ECANCELLED)
        lk_fault_set(&fault, LK_API_DEADLINE_EXCEEDED, NULL, "%s", lk_error());
    else if (rc)
        lk_request_hold_fault(&fault, rc);
    else if (f)
        fault = *f;
    for (size_t i = 0; i < n && found; i++)
        lk_findings_free(&found[i]);
    if (fault.error) {
        lk_buf_free(&out);
        lk_reply_fault(r, &fault);
    } else {
        lk_reply(r, 200, "application/json", &out);
    }
}

void lk_route_neighbors(struct lk_request *r) {
    struct lk_fault f = {0};
    int rc;
    enum lk_body_form form = lk_request_form(r);
    if (form == LK_FORM_MULTIPART) {
        lk_reply_error(r, LK_API_UNSUPPORTED_MEDIA_TYPE, "Content-Type",
                       "this route takes a picture as its body, or application/json");
        return;
    }
    struct neighbors *s = open_state(r, form == LK_FORM_JSON ? 0 : 1);
    if (!s) {
        lk_reply_failed(r, LK_ENOMEM);
        return;
    }
    if (form == LK_FORM_JSON) {
        rc = read_json(r, s, &f);
    } else {
        rc = read_arguments(r, s, 0, &f);
        s->asked.queries[0].picture = 0;
    }
    if (rc) {
        lk_reply_fault(r, &f);
        return;
    }
    if (form == LK_FORM_JSON && s->asked.pictures.count == 0) {
        answer_all(r);
        return;
    }
    rc = form == LK_FORM_JSON ? lk_pictures_embedding(&s->asked.pictures, r, &s->embedding)
                              : lk_body_embedding(r, &s->embedding, 0);
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
    int rc = read_arguments(r, s, 1, &f);
    if (rc == 0 && !id)
        rc = lk_fault_set(&f, LK_API_INVALID_ARGUMENT, "id", "the argument \"id\" is missing");
    else if (rc == 0 && (rc = lk_check_id(id, strlen(id), "id", &f)) == 0 &&
             !(s->asked.queries[0].id = lk_arena_strdup(r->arena, id)))
        rc = lk_fault_from_status(&f, LK_ENOMEM, NULL);
    if (rc)
        lk_reply_fault(r, &f);
    else
        answer_all(r);
}
