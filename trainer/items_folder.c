/* Pictures in a folder. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/fs.h"
#include "items.h"

/* Whether a name is meant to be a picture: the codec is found by content, but notes and indexes beside pictures are no
 * broken pictures. Names without an extension are taken for pictures. */
static int is_picture_name(const char *path) {
    static const char *const known[] = {"jpg", "jpeg", "jpe",  "jfif", "png", "webp", "bmp",
                                        "gif", "tif",  "tiff", "ppm",  "pgm", "heic", "avif"};
    const char *base = strrchr(path, '/');
    base = base == NULL ? path : base + 1;
    if (base[0] == '.')
        return 0;
    const char *dot = strrchr(base, '.');
    if (dot == NULL)
        return 1;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcasecmp(dot + 1, known[i]) == 0)
            return 1;
    return 0;
}

static int read_file(const struct lk_items *items, size_t i, struct lk_buf *out) {
    struct lk_buf path = {0};
    lk_buf_clear(out);
    int rc = lk_buf_printf(&path, "%s/%s", items->place, items->name[i]);
    if (rc == 0)
        rc = lk_fs_read(out, (const char *)path.data, LK_ITEM_BYTES);
    lk_buf_free(&path);
    return rc;
}

/* Takes the name over. */
static int add(struct lk_items *items, size_t *room, char *path) {
    const char *slash = strchr(path, '/');
    char *label = NULL;
    if (slash != NULL) {
        label = lk_calloc((size_t)(slash - path) + 1, 1);
        if (label == NULL) {
            free(path);
            return LK_ENOMEM;
        }
        memcpy(label, path, (size_t)(slash - path));
    }
    return lk_items_add(items, room, path, label);
}

int lk_items_folder(struct lk_items *out, const char *folder) {
    struct lk_fs_list list = {0};
    size_t room = 0;
    memset(out, 0, sizeof *out);
    out->read = read_file;
    out->place = lk_strdup(folder);
    int rc = out->place == NULL ? LK_ENOMEM : lk_fs_walk(&list, folder);
    for (size_t i = 0; i < list.count && rc == 0; i++) {
        if (!is_picture_name(list.paths[i]))
            continue;
        rc = add(out, &room, list.paths[i]);
        list.paths[i] = NULL; /* taken over */
    }
    lk_fs_list_free(&list);
    if (rc == 0 && out->n == 0)
        rc = lk_err(LK_EINVAL, "%s: no pictures in this folder", folder);
    if (rc != 0)
        lk_items_close(out);
    return rc;
}
