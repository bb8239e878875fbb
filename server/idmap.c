/* Open addressing with linear probing; removal shifts back what follows, so there are no deleted marks to sweep up.
 * SipHash-2-4: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012, sections 2.2 to 2.4. */
#include "idmap.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/buf.h"
#include "base/err.h"

static uint64_t rotate(uint64_t x, int by) { return x << by | x >> (64 - by); }

static void sip_round(uint64_t v[4]) {
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

static uint32_t hash_of(const struct lk_idmap *map, const char *id) {
    const size_t n = strlen(id);
    uint64_t v[4] = {map->key[0] ^ 0x736f6d6570736575U, map->key[1] ^ 0x646f72616e646f6dU,
                     map->key[0] ^ 0x6c7967656e657261U, map->key[1] ^ 0x7465646279746573U};
    for (size_t i = 0;; i += 8) {
        const size_t left = n - i;
        uint64_t word = left < 8 ? (uint64_t)n << 56 : 0;
        for (size_t j = 0; j < (left < 8 ? left : 8); j++)
            word |= (uint64_t)(unsigned char)id[i + j] << (8 * j);
        v[3] ^= word;
        sip_round(v);
        sip_round(v);
        v[0] ^= word;
        if (left < 8)
            break;
    }
    v[2] ^= 0xFF;
    for (int i = 0; i < 4; i++)
        sip_round(v);
    return (uint32_t)(v[0] ^ v[1] ^ v[2] ^ v[3]);
}

int lk_idmap_init(struct lk_idmap *map) {
    *map = (struct lk_idmap){0};
    if (getrandom(map->key, sizeof map->key, 0) != (ssize_t)sizeof map->key)
        return lk_err(LK_EFAIL, "no random bytes for a hash key");
    return 0;
}

void lk_idmap_free(struct lk_idmap *map) {
    free(map->cells);
    map->cells = NULL;
    map->capacity = map->count = 0;
}

static void settle(struct lk_place *cells, size_t capacity, const struct lk_place *p) {
    size_t i = p->hash & (capacity - 1);
    while (cells[i].id != NULL)
        i = (i + 1) & (capacity - 1);
    cells[i] = *p;
}

int lk_idmap_reserve(struct lk_idmap *map, size_t more) {
    size_t capacity = map->capacity != 0 ? map->capacity : 64;
    struct lk_place *cells;
    if (more > UINT32_MAX / 2 - map->count) /* 32 bits of hash spread no further */
        return lk_err(LK_ELIMIT, "an index holds at most %u items", UINT32_MAX / 2);
    while (map->count + more > capacity / 4 * 3)
        capacity *= 2;
    if (capacity == map->capacity)
        return 0;
    if ((cells = lk_calloc(capacity, sizeof *cells)) == NULL)
        return LK_ENOMEM;
    for (size_t i = 0; i < map->capacity; i++) {
        if (map->cells[i].id != NULL)
            settle(cells, capacity, &map->cells[i]);
    }
    free(map->cells);
    map->cells = cells;
    map->capacity = capacity;
    return 0;
}

struct lk_place *lk_idmap_find(const struct lk_idmap *map, const char *id) {
    uint32_t hash;
    if (map->count == 0)
        return NULL;
    hash = hash_of(map, id);
    for (size_t i = hash & (map->capacity - 1); map->cells[i].id != NULL; i = (i + 1) & (map->capacity - 1)) {
        if (map->cells[i].hash == hash && strcmp(map->cells[i].id, id) == 0)
            return &map->cells[i];
    }
    return NULL;
}

void lk_idmap_insert(struct lk_idmap *map, const char *id, void *segment, uint32_t slot) {
    const struct lk_place p = {.id = id, .segment = segment, .slot = slot, .hash = hash_of(map, id)};
    settle(map->cells, map->capacity, &p);
    map->count++;
}

void lk_idmap_remove(struct lk_idmap *map, struct lk_place *place) {
    const size_t mask = map->capacity - 1;
    size_t hole = (size_t)(place - map->cells);
    for (size_t i = (hole + 1) & mask; map->cells[i].id != NULL; i = (i + 1) & mask) {
        /* A cell may move into the hole unless its home lies behind the hole, cyclically. */
        if (((i - map->cells[i].hash) & mask) >= ((i - hole) & mask)) {
            map->cells[hole] = map->cells[i];
            hole = i;
        }
    }
    map->cells[hole].id = NULL;
    map->count--;
}
