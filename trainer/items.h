/* The encoded pictures of one place, by number: a folder's files, a catalogue's images, an export's entries. What opens
 * a place fills the struct; reading is the same everywhere afterwards (source.h). */
#ifndef LK_TRAINER_ITEMS_H
#define LK_TRAINER_ITEMS_H

#include <stddef.h>

#include "base/buf.h"

enum { LK_ITEM_BYTES = 1 << 29 }; /* the largest file that is taken for a picture */

struct lk_items {
    size_t n;
    char *place;  /* owned: the folder or file, for messages */
    char **name;  /* owned [n]: the path below the folder, or the item's id; in a fixed order, none twice */
    char **label; /* owned [n], each owned or NULL; NULL: there are no labels at all */
    /* The encoded bytes of picture i into out, which is cleared first. Any thread, several at a time. */
    int (*read)(const struct lk_items *items, size_t i, struct lk_buf *out);
    void (*close)(struct lk_items *items); /* frees `state`; NULL when there is none */
    void *state;
};

void lk_items_close(struct lk_items *items); /* accepts a zeroed or half-open one */

/* Appends a picture; name and label (or NULL) are taken over, also on failure. *room: entries allocated so far. */
int lk_items_add(struct lk_items *items, size_t *room, char *name, char *label);

/* Every picture below a folder: hidden files and files with an extension that is no picture's are left out. label: the
 * first subfolder's name, NULL outside of one. LK_ENOTFOUND; LK_EINVAL when there are none. */
int lk_items_folder(struct lk_items *out, const char *folder);
/* A server's catalogue, opened read-only, in order of its ids. label: the text (or number) of this field of an item's
 * metadata; label_field NULL: none. LK_EUNSUPPORTED when this build has no SQLite, or no Jansson for labels. */
int lk_items_catalogue(struct lk_items *out, const char *path, const char *label_field);
/* The tar of a server's GET /export, in order of its ids. Nothing is unpacked. LK_EFORMAT when it is cut short or anything
 * else than such an export; LK_EUNSUPPORTED when this build has no libarchive. */
int lk_items_export(struct lk_items *out, const char *path, const char *label_field);

#endif
