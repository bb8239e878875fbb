/* The tar of GET /export as a place with pictures (docs/openapi.yaml has its layout). The file is mapped and looked through
 * once; libarchive then hands out parts of the map, whose places are kept, so that any thread reads any picture later by
 * copying. Nothing is ever written under a name from the tar. Follows libarchive's API as of 3.6. */
#include <archive.h>
#include <archive_entry.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "document.h"
#include "items.h"

enum { ID_BYTES = 255, TEXT_BYTES = 64 << 20, END_BYTES = 1024 };

struct part {
    char *id; /* owned */
    size_t offset, size;
};

struct parts {
    struct part *part;
    size_t n, room;
};

struct export {
    struct lk_fs_map map;
    struct parts pictures; /* in order of their ids; those of the items, once open */
};

static void free_parts(struct parts *p) {
    for (size_t i = 0; i < p->n; i++)
        free(p->part[i].id);
    free(p->part);
    memset(p, 0, sizeof *p);
}

static void close_export(struct lk_items *items) {
    struct export *e = items->state;
    if (e != NULL) {
        free_parts(&e->pictures);
        lk_fs_unmap(&e->map);
    }
    free(e);
}

static int read_picture(const struct lk_items *items, size_t i, struct lk_buf *out) {
    const struct export *e = items->state;
    const struct part *p = &e->pictures.part[i];
    lk_buf_clear(out);
    return p->size > LK_ITEM_BYTES ? lk_err(LK_ELIMIT, "%zu bytes; the limit is %d", p->size, LK_ITEM_BYTES)
                                   : lk_buf_append(out, e->map.data + p->offset, p->size);
}

/* --- names ----------------------------------------------------------------------------------------------------------- */

static int hex(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* The id that a name of n bytes stands for; NULL when it stands for none. id[ID_BYTES + 1]. */
static char *decode_id(char *id, const char *name, size_t n) {
    size_t to = 0;
    for (size_t i = 0; i < n; i++) {
        int c = (unsigned char)name[i];
        if (c == '%') {
            int high = n - i > 2 ? hex(name[i + 1]) : -1, low = n - i > 2 ? hex(name[i + 2]) : -1;
            if (high < 0 || low < 0)
                return NULL;
            c = high * 16 + low, i += 2;
        } else if (c == '/') {
            return NULL;
        }
        if (c < 0x20 || c == 0x7F || to == ID_BYTES)
            return NULL;
        id[to++] = (char)c;
    }
    id[to] = '\0';
    return to > 0 ? id : NULL;
}

enum kind { OTHER, FOLDER, PICTURE, TEXT };

static enum kind kind_of(const char *name, char *id) {
    static const char pictures[] = "images/", texts[] = "items/", json[] = ".json";
    if (strncmp(name, "./", 2) == 0) /* as tar(1) writes it when an export was unpacked and packed again */
        name += 2;
    size_t n = strlen(name);
    if (n == 0 || strcmp(name, pictures) == 0 || strcmp(name, texts) == 0)
        return FOLDER;
    if (strncmp(name, pictures, sizeof pictures - 1) == 0)
        return decode_id(id, name + (sizeof pictures - 1), n - (sizeof pictures - 1)) != NULL ? PICTURE : OTHER;
    if (strncmp(name, texts, sizeof texts - 1) == 0 && n > sizeof texts - 1 + sizeof json - 1 &&
        strcmp(name + n - (sizeof json - 1), json) == 0)
        return decode_id(id, name + (sizeof texts - 1), n - (sizeof texts - 1) - (sizeof json - 1)) != NULL ? TEXT
                                                                                                            : OTHER;
    return OTHER;
}

/* --- looking through ------------------------------------------------------------------------------------------------- */

static int add(struct parts *to, const char *id, size_t offset, size_t size) {
    if (to->n == to->room) {
        size_t more = to->room + to->room / 2 + 256;
        struct part *part = realloc(to->part, more * sizeof *part);
        if (part == NULL)
            return lk_err(LK_ENOMEM, "no memory for %zu entries of an export", more);
        to->part = part, to->room = more;
    }
    char *own = lk_strdup(id);
    if (own == NULL)
        return LK_ENOMEM;
    to->part[to->n++] = (struct part){own, offset, size};
    return 0;
}

/* Where the data of the current entry lie in the map. libarchive hands out memory of the map itself, the whole entry at
 * once, unless the entry is of an unusual kind (sparse). */
static int locate(struct archive *a, const struct lk_fs_map *map, int64_t size, size_t *offset) {
    const void *bytes = NULL;
    size_t n = 0;
    int64_t at = 0;
    *offset = 0;
    if (size == 0)
        return 0;
    if (archive_read_data_block(a, &bytes, &n, &at) != ARCHIVE_OK)
        return lk_err(LK_EFORMAT, "%s", archive_error_string(a) != NULL ? archive_error_string(a) : "cut short");
    uintptr_t from = (uintptr_t)bytes, begin = (uintptr_t)map->data;
    if (at != 0 || from < begin || from - begin > map->size || n > map->size - (from - begin))
        return lk_err(LK_EFORMAT, "not stored in one piece");
    if ((int64_t)n != size)
        return lk_err(LK_EFORMAT, "cut short: %zu of %lld bytes", n, (long long)size);
    *offset = from - begin;
    return 0;
}

static int take_entry(struct export *e, struct parts *texts, struct archive *a, struct archive_entry *entry,
                      size_t number) {
    const char *name = archive_entry_pathname(entry);
    char id[ID_BYTES + 1];
    if (name == NULL)
        return lk_err(LK_EFORMAT, "entry %zu has a name that cannot be read", number);
    enum kind kind = kind_of(name, id);
    if (archive_entry_filetype(entry) == AE_IFDIR && kind == FOLDER)
        return 0;
    if (kind == OTHER || kind == FOLDER)
        return lk_err(LK_EFORMAT, "entry %zu, \"%.200s\", is none of an export (images/NAME and items/NAME.json)",
                      number, name);
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) != NULL)
        return lk_err(LK_EFORMAT, "entry %zu, \"%.200s\", is no regular file", number, name);
    int64_t size = archive_entry_size(entry);
    if (size < 0 || (uint64_t)size > e->map.size)
        return lk_err(LK_EFORMAT, "entry %zu, \"%.200s\", says it has %lld bytes; the whole file has %zu", number, name,
                      (long long)size, e->map.size);
    size_t offset;
    int rc = locate(a, &e->map, size, &offset);
    if (rc != 0)
        return lk_err_prefix(rc, "entry %zu, \"%.200s\"", number, name);
    return add(kind == PICTURE ? &e->pictures : texts, id, offset, (size_t)size);
}

/* The server ends its tar with two blocks of zeros; without them the transfer was cut. */
static int check_end(const struct lk_fs_map *map, int64_t at) {
    static const uint8_t zeros[END_BYTES];
    if (at < 0 || (uint64_t)at > map->size || map->size - (size_t)at < END_BYTES ||
        memcmp(map->data + at, zeros, END_BYTES) != 0)
        return lk_err(LK_EFORMAT, "cut short: the end of the export is missing");
    return 0;
}

static int look_through(struct export *e, struct parts *texts) {
    struct archive *a = archive_read_new();
    struct archive_entry *entry;
    size_t number = 0;
    int rc = 0, status = ARCHIVE_OK;
    if (a == NULL)
        return lk_err(LK_ENOMEM, "no memory for libarchive");
    if (archive_read_support_format_tar(a) != ARCHIVE_OK ||
        archive_read_open_memory(a, e->map.data, e->map.size) != ARCHIVE_OK)
        rc = lk_err(LK_EFORMAT, "no tar: %s", archive_error_string(a));
    while (rc == 0 && (status = archive_read_next_header(a, &entry)) == ARCHIVE_OK)
        rc = take_entry(e, texts, a, entry, ++number);
    if (rc == 0 && status != ARCHIVE_EOF)
        rc = lk_err(LK_EFORMAT, "cut short or damaged behind entry %zu: %s", number,
                    archive_error_string(a) != NULL ? archive_error_string(a) : "no tar");
    if (rc == 0)
        rc = check_end(&e->map, archive_read_header_position(a));
    archive_read_free(a);
    return rc;
}

/* --- joining --------------------------------------------------------------------------------------------------------- */

static int compare_parts(const void *a, const void *b) {
    return strcmp(((const struct part *)a)->id, ((const struct part *)b)->id);
}

static int sort_parts(struct parts *p) {
    if (p->n > 1)
        qsort(p->part, p->n, sizeof *p->part, compare_parts);
    for (size_t i = 1; i < p->n; i++)
        if (strcmp(p->part[i - 1].id, p->part[i].id) == 0)
            return lk_err(LK_EFORMAT, "item \"%s\" is there twice", p->part[i].id);
    return 0;
}

static int label_of(const struct export *e, const struct parts *texts, const char *id, const char *field, char **out) {
    struct part key = {.id = (char *)(uintptr_t)id};
    const struct part *text = texts->n > 0 ? bsearch(&key, texts->part, texts->n, sizeof *texts->part, compare_parts)
                                           : NULL;
    struct lk_document *d = NULL;
    *out = NULL;
    if (text == NULL)
        return 0;
    if (text->size > TEXT_BYTES)
        return lk_err(LK_ELIMIT, "the description of item \"%s\" has %zu bytes; the limit is %d", id, text->size,
                      TEXT_BYTES);
    int rc = lk_document_open(&d, e->map.data + text->offset, text->size);
    if (rc == 0)
        rc = lk_document_label(d, "metadata", field, out);
    else if (rc == LK_EFORMAT)
        lk_err_prefix(rc, "the description of item \"%s\"", id);
    lk_document_close(d);
    return rc;
}

static int name_items(struct lk_items *out, struct parts *texts, const char *label_field) {
    const struct export *e = out->state;
    size_t room = 0;
    for (size_t i = 0; i < e->pictures.n; i++) {
        char *label = NULL, *id = e->pictures.part[i].id;
        int rc = label_field != NULL ? label_of(e, texts, id, label_field, &label) : 0;
        if (rc || (rc = lk_items_add(out, &room, lk_strdup(id), label)))
            return rc;
    }
    return out->n > 0 ? 0 : lk_err(LK_EINVAL, "the export holds no picture");
}

int lk_items_export(struct lk_items *out, const char *path, const char *label_field) {
    struct parts texts = {0};
    memset(out, 0, sizeof *out);
    struct export *e = out->state = lk_calloc(1, sizeof *e);
    out->place = lk_strdup(path);
    out->read = read_picture, out->close = close_export;
    int rc = e == NULL || out->place == NULL ? LK_ENOMEM : lk_fs_map(&e->map, path);
    if (rc == 0 && ((rc = look_through(e, &texts)) || (rc = sort_parts(&e->pictures)) || (rc = sort_parts(&texts)) ||
                    (rc = name_items(out, &texts, label_field))))
        lk_err_prefix(rc, "%s", path);
    free_parts(&texts);
    if (rc != 0)
        lk_items_close(out);
    return rc;
}
