/* GET /export: the catalogue as a tar, an item at a time, so that memory holds one picture. The catalogue is read in
 * short transactions: a page of ids, then each item by itself. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/sha256.h"
#include "routes.h"
#include "tar.h"

#define PAGE 256

struct export {
    char *ids[PAGE];
    size_t count, next;
    char *after;
    struct lk_buf json, image, name;
};

static void export_free(void *state) {
    struct export *s = state;
    for (size_t i = 0; i < s->count; i++)
        free(s->ids[i]);
    free(s->after);
    lk_buf_free(&s->json);
    lk_buf_free(&s->image);
    lk_buf_free(&s->name);
    free(s);
}

static int keep_id(void *arg, const struct lk_item *item) {
    struct export *s = arg;
    char *id = lk_strdup(item->id);
    if (!id)
        return LK_ENOMEM;
    s->ids[s->count++] = id;
    return 0;
}

/* The next page of ids. */
static int turn_page(struct export *s, struct lk_store *store) {
    if (s->count) {
        free(s->after);
        s->after = s->ids[s->count - 1];
        s->ids[s->count - 1] = NULL;
    }
    for (size_t i = 0; i < s->count; i++)
        free(s->ids[i]);
    s->count = s->next = 0;
    return lk_store_list(store, s->after, PAGE, NULL, keep_id, s);
}

struct reading {
    struct lk_buf *json;
    char sha256[65];
    int64_t updated_ms;
};

static int read_item(void *arg, const struct lk_item *item) {
    struct reading *reading = arg;
    memcpy(reading->sha256, item->image_sha256, sizeof reading->sha256);
    reading->updated_ms = item->updated_ms;
    int rc = lk_item_json(reading->json, item);
    return rc ? rc : lk_json_raw(reading->json, "\n");
}

/* Item and picture that belong together, though they are read one after the other. */
static int read_both(struct export *s, struct lk_store *store, const char *id, struct reading *reading) {
    for (int attempt = 0; attempt < 5; attempt++) {
        char media_type[64], hex[65];
        lk_buf_clear(&s->json);
        lk_buf_clear(&s->image);
        *reading = (struct reading){.json = &s->json};
        int rc;
        if ((rc = lk_store_get(store, id, NULL, read_item, reading)) ||
            (rc = lk_store_image(store, id, &s->image, media_type)))
            return rc;
        struct lk_sha256 hash;
        uint8_t digest[32];
        lk_sha256_init(&hash);
        lk_sha256_update(&hash, s->image.data, s->image.size);
        lk_sha256_final(&hash, digest);
        lk_sha256_hex(digest, hex);
        if (strcmp(hex, reading->sha256) == 0)
            return 0;
    }
    return lk_err(LK_EIO, "the picture of item \"%s\" is not the one that its item names", id);
}

static int add_file(struct export *s, struct lk_buf *out, const char *folder, const char *id, const char *suffix,
                    const struct lk_buf *bytes, int64_t unix_ms) {
    lk_buf_clear(&s->name);
    int rc;
    if ((rc = lk_json_raw(&s->name, folder)) || (rc = lk_uri_encode_name(&s->name, id, strlen(id))) ||
        (rc = lk_json_raw(&s->name, suffix)) || (rc = lk_buf_append(&s->name, "", 1)) ||
        (rc = lk_tar_header(out, (const char *)s->name.data, bytes->size, unix_ms / 1000)) ||
        (rc = lk_buf_append(out, bytes->data, bytes->size)) || (rc = lk_tar_padding(out, bytes->size)))
        return rc;
    return 0;
}

static int fill(struct lk_request *r, struct lk_buf *out, int *end) {
    struct export *s = r->state;
    struct lk_store *store = lk_request_collection(r)->store;
    while (out->size == 0) {
        int rc;
        if (s->next == s->count) {
            if ((rc = turn_page(s, store)))
                return rc;
            if (s->count == 0) {
                *end = 1;
                return lk_tar_end(out);
            }
        }
        const char *id = s->ids[s->next++];
        struct reading reading;
        rc = read_both(s, store, id, &reading);
        if (rc == LK_ENOTFOUND) /* deleted since the page was read */
            continue;
        if (rc || (rc = add_file(s, out, "items/", id, ".json", &s->json, reading.updated_ms)) ||
            (rc = add_file(s, out, "images/", id, "", &s->image, reading.updated_ms)))
            return rc;
    }
    return 0;
}

void lk_route_export(struct lk_request *r) {
    struct lk_fault f = {0};
    if (lk_query_only(r, NULL, 0, &f)) {
        lk_reply_fault(r, &f);
        return;
    }
    if (!(r->state = lk_calloc(1, sizeof(struct export)))) {
        lk_reply_failed(r, LK_ENOMEM);
        return;
    }
    r->state_free = export_free;
    lk_reply_header(r, "Content-Disposition", "attachment; filename=\"likeness-export.tar\"");
    lk_reply_stream(r, 200, "application/x-tar", fill);
}
