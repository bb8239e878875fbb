/* /items and /items/{id}: the catalogue, one item at a time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "pictures.h"

struct change { /* a PUT, PATCH or DELETE on its way */
    struct lk_buf metadata;
    struct lk_embedding embedding;
    struct lk_write write;
};

static void change_free(void *state) {
    struct change *s = state;
    lk_embedding_close(&s->embedding);
    lk_buf_free(&s->metadata);
    free(s);
}

/* The id in the path; NULL after a fault was answered. */
static const char *path_id(struct lk_request *r) {
    struct lk_fault f = {0};
    if (lk_check_id(r->captures[0].data, r->captures[0].size, "id", &f)) {
        lk_reply_fault(r, &f);
        return NULL;
    }
    return r->captures[0].data;
}

static int no_arguments(struct lk_request *r) {
    struct lk_fault f = {0};
    if (lk_query_only(r, NULL, 0, &f) == 0)
        return 1;
    lk_reply_fault(r, &f);
    return 0;
}

static struct change *open_change(struct lk_request *r, enum lk_write_kind kind, const char *id) {
    struct change *s = r->state = lk_calloc(1, sizeof *s);
    if (!s) {
        lk_reply_failed(r, LK_ENOMEM);
        return NULL;
    }
    r->state_free = change_free;
    s->write = (struct lk_write){.kind = kind, .id = id, .arg = r};
    return s;
}

/* The write is durable, or was refused. On the pool. */
static void changed(void *arg) {
    struct lk_request *r = arg;
    struct change *s = r->state;
    const struct lk_write *w = &s->write;
    if (w->status) {
        struct lk_fault f = {0};
        lk_write_fault(&f, w);
        lk_reply_fault(r, &f);
        return;
    }
    if (w->kind == LK_WRITE_DELETE) {
        lk_reply(r, 204, NULL, NULL);
        return;
    }
    struct lk_buf out = {0};
    int rc = lk_item_json_of(&out, lk_request_collection(r), w->id);
    if (rc == 0)
        rc = lk_json_raw(&out, "\n");
    if (rc) { /* LK_ENOTFOUND: deleted again since */
        lk_buf_free(&out);
        lk_reply_status(r, rc, "id");
        return;
    }
    if (w->kind == LK_WRITE_PUT)
        lk_reply_generation_header(r);
    lk_reply(r, w->kind == LK_WRITE_PUT && w->created ? 201 : 200, "application/json", &out);
}

static void written(struct lk_write *write) { /* on the writer's thread */
    struct lk_request *r = write->arg;
    lk_work_do(lk_request_collection(r)->work, changed, r);
}

static void submit(struct lk_request *r) {
    struct change *s = r->state;
    s->write.stages = &r->stages;
    s->write.deadline_ns = r->deadline_ns;
    s->write.done = written;
    lk_writer_submit(lk_request_collection(r)->writer, &s->write);
}

static void put_embedded(void *arg) {
    struct lk_request *r = arg;
    struct change *s = r->state;
    const struct lk_picture *p = &s->embedding.pictures[0];
    if (p->fault.error) {
        lk_reply_fault(r, &p->fault);
        return;
    }
    s->write.metadata = s->metadata.size ? (const char *)s->metadata.data : NULL;
    s->write.media_type = p->media_type;
    s->write.image = p->bytes;
    s->write.image_bytes = p->size;
    s->write.width = p->width;
    s->write.height = p->height;
    for (int t = 0; t < LK_EMBEDDING_TARGETS; t++) {
        s->write.vectors[t].generation = s->embedding.targets[t];
        s->write.vectors[t].vector = p->vectors[t];
    }
    submit(r);
}

void lk_route_put_item(struct lk_request *r) {
    static const char *const names[] = {"metadata"};
    struct lk_fault f = {0};
    const char *id = path_id(r);
    struct change *s = id ? open_change(r, LK_WRITE_PUT, id) : NULL;
    if (!s)
        return;
    const char *metadata = lk_query_get(&r->query, "metadata");
    int rc = lk_query_only(r, names, 1, &f);
    if (rc == 0 && lk_request_form(r) != LK_FORM_PICTURE)
        rc = lk_fault_set(&f, LK_API_UNSUPPORTED_MEDIA_TYPE, "Content-Type", "this route takes a picture as its body");
    if (rc == 0 && metadata)
        rc = lk_check_metadata(lk_request_server(r), metadata, strlen(metadata), &s->metadata, &f);
    if (rc) {
        lk_reply_fault(r, &f);
        return;
    }
    if ((rc = lk_body_embedding(r, &s->embedding, 1))) {
        lk_reply_failed(r, rc);
        return;
    }
    s->embedding.done = put_embedded;
    lk_embedding_start(&s->embedding);
}

void lk_route_patch_item(struct lk_request *r) {
    struct lk_fault f = {0};
    const char *id = no_arguments(r) ? path_id(r) : NULL;
    struct change *s = id ? open_change(r, LK_WRITE_PATCH, id) : NULL;
    if (!s)
        return;
    const char *type = lk_request_header(r, "Content-Type");
    static const char merge[] = "application/merge-patch+json";
    if (lk_request_form(r) != LK_FORM_JSON && !(type && strncasecmp(type, merge, sizeof merge - 1) == 0)) {
        lk_reply_error(r, LK_API_UNSUPPORTED_MEDIA_TYPE, "Content-Type",
                       "this route takes application/json or application/merge-patch+json");
        return;
    }
    if (lk_check_metadata(lk_request_server(r), (const char *)r->body.data, r->body.size, &s->metadata, &f)) {
        f.param[0] = 0;
        lk_reply_fault(r, &f);
        return;
    }
    s->write.metadata = (const char *)s->metadata.data;
    submit(r);
}

void lk_route_delete_item(struct lk_request *r) {
    const char *id = no_arguments(r) ? path_id(r) : NULL;
    if (id && open_change(r, LK_WRITE_DELETE, id))
        submit(r);
}

void lk_route_get_item(struct lk_request *r) {
    const char *id = no_arguments(r) ? path_id(r) : NULL;
    if (!id)
        return;
    struct lk_buf out = lk_reply_buffer(r);
    int rc = lk_item_json_of(&out, lk_request_collection(r), id);
    if (rc == 0)
        rc = lk_json_raw(&out, "\n");
    if (rc) {
        lk_buf_free(&out);
        lk_reply_status(r, rc, "id");
        return;
    }
    lk_reply(r, 200, "application/json", &out);
}

struct picture_facts {
    char media_type[64], etag[72];
};

static int read_facts(void *arg, const struct lk_item *item) {
    struct picture_facts *facts = arg;
    snprintf(facts->etag, sizeof facts->etag, "\"%s\"", item->image_sha256);
    snprintf(facts->media_type, sizeof facts->media_type, "%s", item->media_type);
    return 0;
}

/* lk_reply wants a constant, and a picture is of one of few types. */
static const char *constant_type(const char *type) {
    return strcmp(type, "image/png") == 0    ? "image/png"
           : strcmp(type, "image/jpeg") == 0 ? "image/jpeg"
                                             : "application/octet-stream";
}

void lk_route_item_image(struct lk_request *r) {
    const char *id = no_arguments(r) ? path_id(r) : NULL;
    if (!id)
        return;
    struct lk_collection *c = lk_request_collection(r);
    struct picture_facts facts = {0};
    struct lk_buf out = {0};
    char media_type[64];
    int rc = lk_store_get(c->store, id, NULL, read_facts, &facts);
    const char *have = lk_request_header(r, "If-None-Match");
    if (rc == 0 && have && strstr(have, facts.etag)) {
        lk_reply_header(r, "ETag", facts.etag);
        lk_reply(r, 304, NULL, NULL);
        return;
    }
    if (rc == 0)
        rc = lk_store_image(c->store, id, &out, media_type);
    if (rc) {
        lk_buf_free(&out);
        lk_reply_status(r, rc, "id");
        return;
    }
    lk_reply_header(r, "ETag", facts.etag);
    lk_reply_header(r, "Cache-Control", "no-cache"); /* ask again, and get a 304 */
    lk_reply(r, 200, constant_type(media_type), &out);
}

#define FILTER_PAGE 512 /* items of one short transaction, when they are filtered */
#define ITEM_BYTES 2048 /* an item's JSON takes at most, beside its metadata */

struct page {
    struct lk_request *request;
    struct lk_filter *filter; /* owned; NULL: all */
    struct lk_buf out;
    int64_t limit, count;
    char *last;  /* id of the last item in `out`, owned */
    char *after; /* of the last item that was read, owned */
    int more;
    unsigned seen;
};

static int replace(char **to, const char *text) {
    free(*to);
    *to = lk_strdup(text);
    return *to ? 0 : LK_ENOMEM;
}

static int page_item(void *arg, const struct lk_item *item) {
    struct page *page = arg;
    int rc;
    if (++page->seen % 64 == 0 && (page->request->deadline_ns < lk_now_ns() || lk_request_gone(page->request)))
        return lk_err(LK_ECANCELLED, "the deadline passed while items were filtered");
    if (page->filter && ((rc = replace(&page->after, item->id)) || !lk_filter_match(page->filter, item->metadata)))
        return rc;
    if (page->count == page->limit || /* or what the memory of answers lets in */
        (page->count && lk_request_hold(page->request, page->out.size + strlen(item->metadata) + ITEM_BYTES))) {
        page->more = 1;
        return 1;
    }
    if ((rc = replace(&page->last, item->id)) || (page->count++ && (rc = lk_json_raw(&page->out, ","))))
        return rc;
    return lk_item_json(&page->out, item);
}

/* Items from `after` on, until the page is full. With a filter in short transactions, since most may not match. */
static int read_page(struct page *page, struct lk_store *store, const char *after) {
    int rc;
    if (!page->filter)
        rc = lk_store_list(store, after, (int)page->limit + 1, NULL, page_item, page);
    else {
        if (after && (rc = replace(&page->after, after)))
            return rc;
        unsigned before;
        do {
            char *from = page->after;
            before = page->seen;
            page->after = NULL;
            rc = lk_store_list(store, from, FILTER_PAGE, NULL, page_item, page);
            free(from);
        } while (rc == 0 && page->seen != before);
    }
    return rc < 0 ? rc : 0;
}

static int write_page(struct page *page, const char *after) {
    int rc;
    if ((rc = lk_json_raw(&page->out, "{\"items\":[")) ||
        (rc = read_page(page, lk_request_collection(page->request)->store, after)) ||
        (rc = lk_json_raw(&page->out, "],\"next\":")) ||
        (rc = page->more ? lk_json_text(&page->out, page->last) : lk_json_raw(&page->out, "null")) ||
        (rc = lk_json_raw(&page->out, "}\n")))
        return rc;
    return 0;
}

void lk_route_list_items(struct lk_request *r) {
    static const char *const names[] = {"limit", "after", "filter"};
    struct lk_fault f = {0};
    const struct lk_config *config = lk_request_server(r)->config;
    struct page page = {.request = r, .limit = config->page_limit < 100 ? config->page_limit : 100};
    int rc = 0;
    if (lk_query_only(r, names, 3, &f) || lk_query_int(r, "limit", 1, config->page_limit, &page.limit, &f) ||
        lk_query_filter(r, &page.filter, &f))
        lk_reply_fault(r, &f);
    else if ((rc = write_page(&page, lk_query_get(&r->query, "after"))) == LK_ECANCELLED)
        lk_reply_error(r, LK_API_DEADLINE_EXCEEDED, NULL, "%s", lk_error());
    else if (rc)
        lk_reply_failed(r, rc);
    else
        lk_reply(r, 200, "application/json", &page.out);
    lk_buf_free(&page.out);
    lk_filter_close(page.filter);
    free(page.last);
    free(page.after);
}
