#include "base/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"

enum { BLOCK = 8192, LARGEST = LK_ARENA_KEEPS ? LK_ARENA_PIECE : 0 };

struct lk_arena_block {
    struct lk_arena_block *next;
    size_t size, used;
    alignas(max_align_t) unsigned char bytes[];
};

static void free_list(struct lk_arena_block **list) {
    while (*list != NULL) {
        struct lk_arena_block *b = *list;
        *list = b->next;
        free(b);
    }
}

static void *take_large(struct lk_arena *a, size_t n) {
    struct lk_arena_block *b = calloc(1, sizeof *b + n);
    if (b == NULL)
        return NULL;
    b->next = a->large;
    a->large = b;
    return b->bytes;
}

/* Makes a block current that has room for n bytes: the first such one behind it, or a new one. */
static struct lk_arena_block *next_block(struct lk_arena *a, size_t n) {
    struct lk_arena_block **behind = a->current ? &a->current->next : &a->first, **at = behind, *b;
    while (*at != NULL && (*at)->size < n)
        at = &(*at)->next;
    if ((b = *at) != NULL) {
        *at = b->next;
    } else {
        const size_t size = n < BLOCK ? BLOCK : n;
        if ((b = malloc(sizeof *b + size)) == NULL)
            return NULL;
        b->size = size;
    }
    b->next = *behind;
    b->used = 0;
    *behind = b;
    a->current = b;
    return b;
}

static void *take_shared(struct lk_arena *a, size_t n) {
    struct lk_arena_block *b = a->current;
    if ((b == NULL || n > b->size - b->used) && (b = next_block(a, n)) == NULL)
        return NULL;
    void *p = b->bytes + b->used;
    b->used += n;
    return memset(p, 0, n);
}

void *lk_arena_take(struct lk_arena *a, size_t n, size_t size) {
    const size_t align = alignof(max_align_t), most = SIZE_MAX - sizeof(struct lk_arena_block) - align;
    void *p = NULL;
    if (a == NULL)
        return lk_calloc(n, size);
    if (size == 0 || n <= most / size) {
        const size_t bytes = n * size == 0 ? align : (n * size + align - 1) / align * align;
        p = bytes > LARGEST ? take_large(a, bytes) : take_shared(a, bytes);
    }
    if (p == NULL)
        lk_err(LK_ENOMEM, "out of memory for %zu x %zu bytes", n, size);
    return p;
}

char *lk_arena_strdup(struct lk_arena *a, const char *s) {
    const size_t n = strlen(s) + 1;
    char *copy = lk_arena_take(a, n, 1);
    return copy != NULL ? memcpy(copy, s, n) : NULL;
}

void lk_arena_drop(struct lk_arena *a, void *p) {
    if (a == NULL) {
        free(p);
        return;
    }
    for (struct lk_arena_block **at = &a->large; *at != NULL; at = &(*at)->next) {
        struct lk_arena_block *b = *at;
        if (b->bytes == p) {
            *at = b->next;
            free(b);
            return;
        }
    }
}

void lk_arena_reset(struct lk_arena *a, size_t keep) {
    size_t kept = 0;
    struct lk_arena_block **at = &a->first;
    while (*at != NULL) {
        struct lk_arena_block *b = *at;
        if (b->size <= keep - kept) {
            kept += b->size;
            at = &b->next;
        } else {
            *at = b->next;
            free(b);
        }
    }
    a->current = NULL;
    free_list(&a->large);
}

void lk_arena_close(struct lk_arena *a) { lk_arena_reset(a, 0); }
