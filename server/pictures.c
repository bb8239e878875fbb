#include "pictures.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base64.h"
#include "multipart.h"

void lk_pictures_free(struct lk_pictures *p) {
    lk_buf_free(&p->bytes);
    free(p->list);
    *p = (struct lk_pictures){0};
}

static int add(struct lk_pictures *p) {
    if (p->count == p->capacity) {
        size_t capacity = p->capacity ? 2 * p->capacity : 8;
        void *list = realloc(p->list, capacity * sizeof *p->list);
        if (!list)
            return lk_err(LK_ENOMEM, "out of memory");
        p->list = list;
        p->capacity = capacity;
    }
    p->list[p->count].offset = p->bytes.size;
    p->list[p->count].size = 0;
    p->list[p->count].fault = (struct lk_fault){0};
    p->count++;
    return 0;
}

int lk_pictures_add_text(struct lk_pictures *p, const char *text, size_t n, const char *param) {
    int rc = add(p);
    if (rc == 0 && (rc = lk_base64_picture(&p->bytes, text, n)) == LK_EINVAL) {
        lk_fault_set(&p->list[p->count - 1].fault, LK_API_INVALID_ARGUMENT, param, "%s", lk_error());
        rc = 0;
    }
    if (rc == 0)
        p->list[p->count - 1].size = p->bytes.size - p->list[p->count - 1].offset;
    return rc;
}

int lk_pictures_json(struct lk_pictures *p, struct lk_buf *body, size_t max_values, size_t max_images,
                     struct lk_fault *f) {
    static const char *const names[] = {"images"};
    json_t *object, *image;
    size_t i;
    int rc = lk_json_parse_object(&object, body->data, body->size, max_values, NULL, f);
    lk_buf_free(body); /* Jansson has its own copy */
    if (rc || (rc = lk_json_only(object, names, 1, f)))
        goto done;
    json_t *images = json_object_get(object, "images");
    if (!json_is_array(images) || json_array_size(images) == 0)
        rc = lk_fault_set(f, LK_API_INVALID_ARGUMENT, "images", "images has to be an array of at least one picture");
    else if (json_array_size(images) > max_images)
        rc = lk_fault_set(f, LK_API_TOO_MANY_IMAGES, "images", "the request holds %zu pictures; the limit is %zu",
                          json_array_size(images), max_images);
    if (rc)
        goto done;
    json_array_foreach(images, i, image) {
        char param[32];
        snprintf(param, sizeof param, "images[%zu]", i);
        if (!json_is_string(image))
            rc = lk_fault_set(f, LK_API_INVALID_ARGUMENT, param, "%s has to be a string: base64 or a data URI", param);
        else if ((rc = lk_pictures_add_text(p, json_string_value(image), json_string_length(image), param)))
            rc = lk_fault_from_status(f, rc, NULL);
        if (rc)
            goto done;
    }
done:
    json_decref(object);
    return rc;
}

struct reading {
    struct lk_pictures *pictures;
    size_t max;
};

static int part_begins(void *arg, const struct lk_part *part) {
    struct reading *reading = arg;
    (void)part;
    if (reading->pictures->count >= reading->max)
        return LK_ELIMIT;
    return add(reading->pictures);
}

static int part_data(void *arg, const void *bytes, size_t n) {
    struct lk_pictures *p = ((struct reading *)arg)->pictures;
    p->list[p->count - 1].size += n;
    return lk_buf_append(&p->bytes, bytes, n);
}

static int part_ends(void *arg) {
    (void)arg;
    return 0;
}

int lk_pictures_multipart(struct lk_pictures *p, struct lk_request *r, struct lk_fault *f) {
    struct reading reading = {p, (size_t)lk_request_server(r)->config->max_images};
    struct lk_multipart_events events = {part_begins, part_data, part_ends, &reading};
    struct lk_multipart m;
    int rc = lk_multipart_open(&m, lk_request_header(r, "Content-Type"), &events);
    if (rc == 0 && (rc = lk_buf_reserve(&p->bytes, r->body.size)) == 0 &&
        (rc = lk_multipart_feed(&m, r->body.data, r->body.size)) == 0)
        rc = lk_multipart_finish(&m);
    lk_multipart_close(&m);
    if (rc == LK_ELIMIT)
        return lk_fault_set(f, LK_API_TOO_MANY_IMAGES, NULL, "the request holds more than %zu pictures", reading.max);
    if (rc == LK_EINVAL || rc == LK_EFORMAT)
        return lk_fault_set(f, LK_API_INVALID_MULTIPART, NULL, "%s", lk_error());
    if (rc)
        return lk_fault_from_status(f, rc, NULL);
    if (p->count == 0)
        return lk_fault_set(f, LK_API_INVALID_MULTIPART, NULL, "the multipart body has no parts");
    return 0;
}

static int open_embedding(struct lk_request *r, struct lk_embedding *e, size_t count, int writes) {
    e->arena = r->arena;
    int rc = lk_collection_embedding(lk_request_collection(r), lk_request_generation(r), e, count, writes);
    if (rc)
        return rc;
    e->deadline_ns = r->deadline_ns;
    e->stages = &r->stages;
    e->gone = lk_route_gone;
    e->arg = r;
    return 0;
}

int lk_pictures_embedding(struct lk_pictures *p, struct lk_request *r, struct lk_embedding *e) {
    int rc = open_embedding(r, e, p->count, 0);
    for (size_t i = 0; i < p->count && rc == 0; i++) {
        e->pictures[i].bytes = p->bytes.data + p->list[i].offset;
        e->pictures[i].size = p->list[i].size;
        e->pictures[i].fault = p->list[i].fault;
    }
    return rc;
}

int lk_body_embedding(struct lk_request *r, struct lk_embedding *e, int writes) {
    int rc = open_embedding(r, e, 1, writes);
    if (rc == 0) {
        e->pictures[0].bytes = r->body.data;
        e->pictures[0].size = r->body.size;
    }
    return rc;
}
