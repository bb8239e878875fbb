/* Memory that is given back all at once, and kept for the next time: for what belongs to one request, so that a request
 * needs no allocation of its own once there were others. One thread at a time. Zero-initialise it.
 *
 * An arena is optional for the functions that take one: with NULL, lk_arena_take is lk_calloc and lk_arena_drop is free,
 * so that the same code serves callers that have none. */
#ifndef LK_BASE_ARENA_H
#define LK_BASE_ARENA_H

#include <stddef.h>

/* 0 under AddressSanitizer: each piece is an allocation there, and dropping or resetting frees it, so that a use after the
 * end is found. */
#if defined(__SANITIZE_ADDRESS__)
enum { LK_ARENA_KEEPS = 0 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
enum { LK_ARENA_KEEPS = 0 };
#else
enum { LK_ARENA_KEEPS = 1 };
#endif
#else
enum { LK_ARENA_KEEPS = 1 };
#endif

/* Bytes of a piece that may share memory with others. A larger one is an allocation of its own, and never kept. */
enum { LK_ARENA_PIECE = 256 << 10 };

struct lk_arena_block;

struct lk_arena {
    struct lk_arena_block *first, *current; /* a list; what lies behind current is not in use */
    struct lk_arena_block *large;           /* a list of one piece each */
};

/* Zeroed memory for n of `size` bytes, aligned for any type, until the next reset. NULL and lk_err(LK_ENOMEM). */
void *lk_arena_take(struct lk_arena *a, size_t n, size_t size);
char *lk_arena_strdup(struct lk_arena *a, const char *s);
/* Of a piece that is not needed any more (or NULL): frees it when there is no arena, or when it is a large one. */
void lk_arena_drop(struct lk_arena *a, void *p);
/* Takes everything back; blocks of at most `keep` bytes together are kept. */
void lk_arena_reset(struct lk_arena *a, size_t keep);
void lk_arena_close(struct lk_arena *a); /* accepts a zeroed one */

#endif
