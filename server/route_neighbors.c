/* POST /neighbors and GET /neighbors?id=: cosine neighbours of pictures, vectors and items. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "neighbors_query.h"
#include "search.h"

struct neighbors {
    struct lk_neighbors_queries asked;
    struct lk_embedding embedding;
};

static void neighbors_free(void *state) {
    struct neighbors *s = state;
    lk_embedding_close(&s->embedding);
    lk_neighbors_queries_close(&s->asked);
    free(s);
}

static struct neighbors *open_state(struct lk_request *r, size_t queries) {
    struct neighbors *s = r->state = lk_calloc(1, sizeof *s);
    if (!s)
        return NULL;
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

/* Answers one query into out. Negative: *f says why. */
static int answer(struct lk_request *r, const struct lk_neighbors_query *q, struct lk_buf *out, struct lk_fault *f) {
    struct lk_collection *c = lk_request_collection(r);
    const struct lk_generation *g = lk_request_generation(r);
    const struct neighbors *s = r->state;
    struct lk_search search = {.store = c->store,
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
                               .arg = r};
    struct lk_findings found = {0};
    float *stored = NULL;
    int rc = 0;
    if (q->picture != LK_NO_PICTURE) {
        if (s->embedding.pictures[q->picture].fault.error) {
            *f = s->embedding.pictures[q->picture].fault;
            return LK_EFAIL;
        }
        search.query = s->embedding.pictures[q->picture].vectors[0];
    } else if (q->id) {
        if (!(stored = lk_calloc((size_t)g->dim, sizeof *stored)))
            rc = LK_ENOMEM;
        else if ((rc = lk_index_vector(g->index, q->id, stored)) == LK_ENOTFOUND)
            lk_err(rc, "there is no item \"%s\"", q->id);
        search.query = stored;
    }
    if (rc == 0) {
        int64_t begun = lk_now_ns();
        rc = lk_search_run(&search, &found);
        lk_metrics_stage(g->work->metrics, LK_STAGE_SEARCH, lk_now_ns() - begun, &r->stages);
    }
    if (rc == 0)
        rc = write_hits(out, &found, q->with_metadata);
    lk_findings_free(&found);
    free(stored);
    if (rc == LK_ECANCELLED)
        return lk_fault_set(f, LK_API_DEADLINE_EXCEEDED, NULL, "%s", lk_error());
    return rc ? lk_fault_from_status(f, rc, q->id ? "id" : NULL) : 0;
}

static void answer_all(void *arg) {
    struct lk_request *r = arg;
    struct neighbors *s = r->state;
    struct lk_buf out = {0};
    struct lk_fault f = {0};
    int rc;
    if ((rc = lk_json_raw(&out, "{")) || (rc = lk_reply_generation(r, &out)) ||
        (rc = lk_json_raw(&out, s->asked.many ? ",\"results\":[" : ",")))
        goto fail;
    for (size_t i = 0; i < s->asked.count; i++) {
        if (s->asked.many && (rc = lk_json_raw(&out, i ? ",{" : "{")))
            goto fail;
        size_t before = out.size;
        if (answer(r, &s->asked.queries[i], &out, &f)) {
            if (!s->asked.many || !(lk_fault_is_pictures(&f) || f.error == LK_API_ITEM_NOT_FOUND))
                goto fault;
            out.size = before;
            if ((rc = lk_json_raw(&out, "\"error\":")) || (rc = lk_fault_json(&out, &f)))
                goto fail;
        }
        if (s->asked.many && (rc = lk_json_raw(&out, "}")))
            goto fail;
    }
    if ((rc = lk_json_raw(&out, s->asked.many ? "]}\n" : "}\n")))
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
    else if (rc == 0 && (rc = lk_check_id(id, strlen(id), "id", &f)) == 0 && !(s->asked.queries[0].id = lk_strdup(id)))
        rc = lk_fault_from_status(&f, LK_ENOMEM, NULL);
    if (rc)
        lk_reply_fault(r, &f);
    else
        answer_all(r);
}
