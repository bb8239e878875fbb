/* POST /items: many pictures in one multipart body of any length. The body is parsed as it arrives; when a group of
 * pictures is complete the connection pauses, the group is embedded and written, a result line is made of each, and the
 * connection goes on. So memory holds one group, and the client is read as fast as its pictures are stored. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "multipart.h"
#include "routes.h"

#define GROUP 64 /* pictures; or this many bytes: */
#define GROUP_BYTES ((size_t)16 << 20)

struct item {
    char *id;            /* owned; NULL when the part had none */
    char *metadata;      /* owned; NULL: none given */
    size_t offset, size; /* in the group's bytes */
    struct lk_fault fault;
    struct lk_write write;
};

enum part { PART_IGNORED, PART_PICTURE, PART_METADATA };

struct upload {
    struct lk_request *r;
    struct lk_multipart parser;
    int opened, counted; /* the parser; in server->uploads */
    int64_t deadline_ns;
    /* the group that is being read, or worked on while the connection pauses */
    struct item *items;
    size_t count, capacity; /* the last one may still be on its way: */
    size_t complete;        /* those that are not */
    struct lk_buf bytes;
    enum part part;
    struct lk_buf metadata_text; /* of the part being read */
    char *metadata;              /* for the next picture; owned */
    struct lk_fault metadata_fault;
    /* working on a group */
    struct lk_embedding embedding;
    atomic_size_t writes;
    void (*then)(struct upload *u); /* on the pool, when the group is done */
    /* results */
    struct lk_buf lines;
    size_t total;
    int rc;                /* memory ran out while writing lines */
    struct lk_fault fault; /* the stream itself broke; the rest is ignored */
};

/* Forgets the complete pictures; what of the next one is there already moves to the front. */
static void clear_group(struct upload *u) {
    lk_embedding_close(&u->embedding);
    for (size_t i = 0; i < u->complete; i++) {
        free(u->items[i].id);
        free(u->items[i].metadata);
    }
    u->count -= u->complete;
    if (u->count) {
        u->items[0] = u->items[u->complete];
        memmove(u->bytes.data, u->bytes.data + u->items[0].offset, u->items[0].size);
        u->items[0].offset = 0;
        u->bytes.size = u->items[0].size;
    } else {
        lk_buf_clear(&u->bytes);
    }
    u->complete = 0;
}

/* A picture that the stream's end cut off is none. */
static void drop_incomplete(struct upload *u) {
    for (; u->count > u->complete; u->count--) {
        free(u->items[u->count - 1].id);
        free(u->items[u->count - 1].metadata);
    }
}

static void upload_free(void *state) {
    struct upload *u = state;
    drop_incomplete(u);
    clear_group(u);
    if (u->counted)
        __atomic_sub_fetch(&lk_request_server(u->r)->uploads, 1, __ATOMIC_RELAXED);
    if (u->opened)
        lk_multipart_close(&u->parser);
    free(u->items);
    free(u->metadata);
    lk_buf_free(&u->bytes);
    lk_buf_free(&u->metadata_text);
    lk_buf_free(&u->lines);
    free(u);
}

/* --- parts, as they arrive ------------------------------------------------------------------------------------------ */

static int add_item(struct upload *u, const char *id) {
    const struct lk_config *config = lk_request_server(u->r)->config;
    if (u->total + u->count >= (size_t)config->upload_images) {
        lk_fault_set(&u->fault, LK_API_TOO_MANY_IMAGES, NULL, "the upload holds more than %lld pictures",
                     config->upload_images);
        return LK_ELIMIT;
    }
    if (u->count == u->capacity) {
        size_t capacity = u->capacity ? 2 * u->capacity : GROUP;
        struct item *items = realloc(u->items, capacity * sizeof *items);
        if (!items)
            return lk_err(LK_ENOMEM, "out of memory");
        u->items = items;
        u->capacity = capacity;
    }
    struct item *item = &u->items[u->count];
    *item = (struct item){.offset = u->bytes.size};
    if (id && !(item->id = lk_strdup(id)))
        return LK_ENOMEM;
    u->count++;
    if (!id)
        lk_fault_set(&item->fault, LK_API_INVALID_ID, "filename", "a part without a file name has no id");
    else if (lk_check_id(id, strlen(id), "filename", &item->fault) == 0 && u->metadata_fault.error)
        item->fault = u->metadata_fault;
    item->metadata = u->metadata;
    u->metadata = NULL;
    u->metadata_fault = (struct lk_fault){0};
    return 0;
}

static int part_begins(void *arg, const struct lk_part *part) {
    struct upload *u = arg;
    if (!part->file_name && strcmp(part->name, "metadata") == 0) {
        u->part = PART_METADATA;
        lk_buf_clear(&u->metadata_text);
        return 0;
    }
    u->part = PART_PICTURE;
    return add_item(u, part->file_name);
}

static int part_data(void *arg, const void *bytes, size_t n) {
    struct upload *u = arg;
    const struct lk_config *config = lk_request_server(u->r)->config;
    if (u->part == PART_METADATA) {
        size_t room = (size_t)config->max_metadata_bytes + 1 -
                      u->metadata_text.size; /* one more shows that it is too long */
        return lk_buf_append(&u->metadata_text, bytes, n < room ? n : room);
    }
    struct item *item = &u->items[u->count - 1];
    if (item->fault.error)
        return 0;
    if (item->size + n > (size_t)config->max_body_bytes) {
        u->bytes.size = item->offset;
        item->size = 0;
        lk_fault_set(&item->fault, LK_API_BODY_TOO_LARGE, NULL, "the picture has more than %lld bytes",
                     config->max_body_bytes);
        return 0;
    }
    item->size += n;
    return lk_buf_append(&u->bytes, bytes, n);
}

static int part_ends(void *arg) {
    struct upload *u = arg;
    if (u->part == PART_PICTURE)
        u->complete++;
    if (u->part != PART_METADATA)
        return 0;
    struct lk_buf text = {0};
    free(u->metadata);
    u->metadata = NULL;
    u->metadata_fault = (struct lk_fault){0};
    if (lk_check_metadata(lk_request_server(u->r), (const char *)u->metadata_text.data, u->metadata_text.size, &text,
                          &u->metadata_fault) == 0)
        u->metadata = (char *)text.data;
    else
        lk_buf_free(&text);
    return 0;
}

/* --- a group: embed, write, and a line each ------------------------------------------------------------------------ */

static int write_line(struct upload *u, const struct item *item) {
    struct lk_buf *out = &u->lines;
    int rc = lk_json_raw(out, "{");
    if (rc == 0 && item->id)
        (void)((rc = lk_json_raw(out, "\"id\":")) || (rc = lk_json_text(out, item->id)) ||
               (rc = lk_json_raw(out, ",")));
    if (rc)
        return rc;
    if (!item->fault.error)
        return lk_buf_printf(out, "\"status\":%d}\n", item->write.created ? 201 : 200);
    if ((rc = lk_buf_printf(out, "\"status\":%u,\"error\":", lk_api_http_status(item->fault.error))) ||
        (rc = lk_fault_json(out, &item->fault)) || (rc = lk_json_raw(out, "}\n")))
        return rc;
    return 0;
}

static void group_written(void *arg) {
    struct upload *u = arg;
    for (size_t i = 0; i < u->complete; i++) {
        struct item *item = &u->items[i];
        if (!item->fault.error && item->write.status)
            lk_write_fault(&item->fault, &item->write);
        if (u->rc == 0)
            u->rc = write_line(u, item);
    }
    u->total += u->complete;
    clear_group(u);
    u->then(u);
}

static void one_written(struct lk_write *write) { /* on the writer's thread */
    struct upload *u = write->arg;
    if (atomic_fetch_sub(&u->writes, 1) == 1)
        lk_work_do(lk_request_collection(u->r)->work, group_written, u);
}

static void group_embedded(void *arg) {
    struct upload *u = arg;
    struct lk_collection *c = lk_request_collection(u->r);
    size_t good = 0, count = u->complete;
    for (size_t i = 0; i < count; i++) {
        u->items[i].fault = u->embedding.pictures[i].fault;
        good += !u->items[i].fault.error;
    }
    if (good == 0) {
        group_written(u);
        return;
    }
    atomic_store(&u->writes, good);
    for (size_t i = 0; i < count && good; i++) {
        struct item *item = &u->items[i];
        const struct lk_picture *p = &u->embedding.pictures[i];
        if (item->fault.error)
            continue;
        item->write = (struct lk_write){.kind = LK_WRITE_PUT,
                                        .id = item->id,
                                        .metadata = item->metadata,
                                        .media_type = p->media_type,
                                        .image = p->bytes,
                                        .image_bytes = p->size,
                                        .width = p->width,
                                        .height = p->height,
                                        .deadline_ns = u->deadline_ns,
                                        .done = one_written,
                                        .arg = u};
        for (int t = 0; t < LK_EMBEDDING_TARGETS; t++) {
            item->write.vectors[t].generation = u->embedding.targets[t];
            item->write.vectors[t].vector = p->vectors[t];
        }
        good--; /* after the last one the group may be gone */
        lk_writer_submit(c->writer, &item->write);
    }
}

/* Works on the group; then() follows on the pool. */
static void start_group(struct upload *u, void (*then)(struct upload *u)) {
    struct lk_collection *c = lk_request_collection(u->r);
    u->then = then;
    int rc = lk_collection_embedding(c, lk_request_next_generation(u->r), &u->embedding, u->complete, 1);
    if (rc) {
        for (size_t i = 0; i < u->complete; i++)
            lk_fault_from_status(&u->items[i].fault, rc, NULL);
        lk_work_do(c->work, group_written, u);
        return;
    }
    for (size_t i = 0; i < u->complete; i++) {
        u->embedding.pictures[i].bytes = u->bytes.data + u->items[i].offset;
        u->embedding.pictures[i].size = u->items[i].size;
        u->embedding.pictures[i].fault = u->items[i].fault;
    }
    u->embedding.bulk = u->embedding.patient = 1;
    u->embedding.deadline_ns = u->deadline_ns;
    u->embedding.arg = u; /* and no gone(): what was received is stored, even when the client has left */
    u->embedding.stages = &u->r->stages;
    u->embedding.done = group_embedded;
    lk_embedding_start(&u->embedding);
}

/* --- the request ----------------------------------------------------------------------------------------------------- */

static void go_on(struct upload *u) { lk_request_continue(u->r); }

static struct upload *open_upload(struct lk_request *r) {
    static const struct lk_multipart_events events = {part_begins, part_data, part_ends, NULL};
    struct lk_server *server = lk_request_server(r);
    struct lk_fault f = {0};
    struct upload *u = lk_calloc(1, sizeof *u);
    if (!u) {
        lk_fault_from_status(&f, LK_ENOMEM, NULL);
        lk_request_refuse(r, &f);
        return NULL;
    }
    r->state = u;
    r->state_free = upload_free;
    u->r = r;
    u->deadline_ns = lk_now_ns() + (int64_t)(server->config->upload_timeout_seconds * 1e9);
    struct lk_multipart_events mine = events;
    mine.arg = u;
    if (lk_request_form(r) != LK_FORM_MULTIPART) {
        lk_fault_set(&f, LK_API_UNSUPPORTED_MEDIA_TYPE, "Content-Type", "this route takes multipart/form-data");
    } else if (lk_query_only(r, NULL, 0, &f)) {
    } else if (lk_multipart_open(&u->parser, lk_request_header(r, "Content-Type"), &mine)) {
        lk_fault_set(&f, LK_API_INVALID_MULTIPART, "Content-Type", "%s", lk_error());
    } else {
        u->opened = u->counted = 1;
        if (__atomic_add_fetch(&server->uploads, 1, __ATOMIC_RELAXED) > (int)server->config->uploads)
            lk_fault_set(&f, LK_API_OVERLOADED, NULL, "%lld uploads run already", server->config->uploads);
    }
    if (f.error) {
        lk_request_refuse(r, &f);
        return NULL;
    }
    return u;
}

/* The stream is broken; nothing more of it is read. Before anything was stored that is the answer. */
static void break_stream(struct upload *u, int rc) {
    if (!u->fault.error && rc == LK_EFORMAT)
        lk_fault_set(&u->fault, LK_API_INVALID_MULTIPART, NULL, "%s", lk_error());
    else if (!u->fault.error)
        lk_fault_from_status(&u->fault, rc, NULL);
    drop_incomplete(u);
    if (u->total + u->count == 0)
        lk_request_refuse(u->r, &u->fault);
}

void lk_route_upload_chunk(struct lk_request *r, const void *bytes, size_t n) {
    struct upload *u = r->state ? r->state : open_upload(r);
    if (!u || u->fault.error)
        return;
    int rc = lk_multipart_feed(&u->parser, bytes, n);
    if (rc) {
        break_stream(u, rc);
    } else if (u->complete >= GROUP || (u->complete && u->bytes.size >= GROUP_BYTES)) {
        lk_request_pause(r);
        start_group(u, go_on);
    }
}

static void finish(struct upload *u) {
    struct lk_request *r = u->r;
    int rc = u->rc;
    if (rc == 0 && u->fault.error && u->total == 0) {
        lk_reply_fault(r, &u->fault);
        return;
    }
    if (rc == 0 && u->fault.error)
        rc = lk_fault_body(&u->lines, &u->fault);
    if (rc) {
        lk_reply_failed(r, rc);
        return;
    }
    lk_reply_generation_header(r);
    lk_reply(r, 200, "application/x-ndjson", &u->lines);
}

void lk_route_upload(struct lk_request *r) {
    struct upload *u = r->state;
    if (!u) { /* a chunked body without any chunk */
        lk_reply_error(r, LK_API_EMPTY_BODY, NULL, "the body is empty");
        return;
    }
    int rc = u->fault.error ? 0 : lk_multipart_finish(&u->parser);
    if (rc)
        break_stream(u, rc);
    if (u->complete)
        start_group(u, finish);
    else
        finish(u);
}
