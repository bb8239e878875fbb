/* A server's catalogue as a place with pictures. Another process may write to it meanwhile: ids are listed in pages, each
 * image is read by itself. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/pool.h"
#include "document.h"
#include "items.h"
#include "store/store.h"

enum { PAGE = 512 };

static int read_image(const struct lk_items *items, size_t i, struct lk_buf *out) {
    char media_type[64];
    lk_buf_clear(out);
    int rc = lk_store_image(items->state, items->name[i], out, media_type);
    return rc == LK_ENOTFOUND ? lk_err(rc, "no longer in the catalogue") : rc;
}

static void close_store(struct lk_items *items) { lk_store_close(items->state); }

struct listing {
    struct lk_items *items;
    const char *label_field;
    size_t room;
};

static int add(void *arg, const struct lk_item *item) {
    struct listing *l = arg;
    struct lk_document *metadata = NULL;
    char *label = NULL;
    int rc = 0;
    if (l->label_field != NULL && (rc = lk_document_open(&metadata, item->metadata, strlen(item->metadata))) == 0)
        rc = lk_document_label(metadata, NULL, l->label_field, &label);
    lk_document_close(metadata);
    return rc ? rc : lk_items_add(l->items, &l->room, lk_strdup(item->id), label);
}

int lk_items_catalogue(struct lk_items *out, const char *path, const char *label_field) {
    const struct lk_store_options options = {.read_only = 1, .readers = lk_cpu_count() + 1};
    struct lk_store *store = NULL;
    struct listing l = {out, label_field, 0};
    memset(out, 0, sizeof *out);
    out->place = lk_strdup(path);
    int rc = out->place == NULL ? LK_ENOMEM : lk_store_open(&store, path, &options);
    out->state = store, out->close = close_store, out->read = read_image;
    for (size_t before = 1; rc == 0 && out->n != before;) {
        before = out->n;
        rc = lk_store_list(store, out->n > 0 ? out->name[out->n - 1] : NULL, PAGE, NULL, add, &l);
    }
    if (rc == 0 && out->n == 0)
        rc = lk_err(LK_EINVAL, "%s: the catalogue is empty", path);
    if (rc != 0)
        lk_items_close(out);
    return rc;
}
