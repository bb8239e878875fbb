/* A hash map from item ids to places in the index. For index.c alone; not thread-safe. Ids come from clients, so the hash
 * is keyed (SipHash-2-4 with a random key): nobody can choose ids that all collide. The map borrows the id strings. */
#ifndef LK_SERVER_IDMAP_H
#define LK_SERVER_IDMAP_H

#include <stddef.h>
#include <stdint.h>

struct lk_place {
    const char *id; /* borrowed; NULL: an empty cell */
    void *segment;
    uint32_t slot;
    uint32_t hash; /* the low half, kept so that growing reads no strings */
};

struct lk_idmap {
    struct lk_place *cells; /* [capacity], owned; capacity is 0 or a power of 2 */
    size_t capacity, count;
    uint64_t key[2];
};

int lk_idmap_init(struct lk_idmap *map);
void lk_idmap_free(struct lk_idmap *map); /* accepts a zeroed one */

/* Makes sure that `more` insertions cannot fail. LK_ENOMEM leaves the map as it was. */
int lk_idmap_reserve(struct lk_idmap *map, size_t more);
/* The id's place, or NULL. Valid until the next call that changes the map; segment and slot may be written through it. */
struct lk_place *lk_idmap_find(const struct lk_idmap *map, const char *id);
/* Adds an id that is not there; room must have been reserved. */
void lk_idmap_insert(struct lk_idmap *map, const char *id, void *segment, uint32_t slot);
/* Removes what find returned. */
void lk_idmap_remove(struct lk_idmap *map, struct lk_place *place);

#endif
