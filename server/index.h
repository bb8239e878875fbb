/* Cosine neighbours over FAISS, by inner product on unit vectors: exactly (Flat), or through an HNSW graph, which finds
 * nearly all of them in a small part of the time. FAISS's headers stay in index_faiss.c; docs/decisions/ says why the
 * index is built as it is.
 *
 * Slots are never reused: replace and delete leave a tombstone, and lk_index_compact, called from a background thread when
 * lk_index_wants_compaction says so, rebuilds. New vectors are searched exactly until a compaction links them into the
 * graph. Readers run in parallel; a writer excludes them for microseconds. Results are ordered by score, then by id bytes,
 * and always hold min(k, live) entries. */
#ifndef LK_SERVER_INDEX_H
#define LK_SERVER_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"

struct lk_index;

enum lk_index_kind { LK_INDEX_FLAT, LK_INDEX_HNSW };

struct lk_index_options {
    enum lk_index_kind kind;
    /* Of HNSW; 0: the default. */
    int m;               /* links of a vector; 32 */
    int ef_construction; /* candidates looked at to find them; 80 */
    int ef_search;       /* candidates that a search keeps; more when k is more; 64 */
    int threads;         /* that link vectors; 1 */
    size_t unlinked;     /* so many vectors may wait to be linked, or an eighth of the graph; 4096 */
    /* A file that spares building the graph again at the next start; NULL: none. Both strings are copied. */
    const char *path;
    const char *space; /* of the vectors: a file of another one is not used */
    int fresh;         /* 1: what the file holds is not read, only written over one day */
};

/* options NULL: Flat. With a path, what the file holds is there after a successful open; a file that is missing, damaged,
 * of another space or of other parameters is a line in the log and an empty index. Then lk_index_load for every vector
 * of the catalogue and lk_index_loaded: the catalogue is right where they differ. */
int lk_index_open(struct lk_index **out, int dim, const struct lk_index_options *options);
void lk_index_close(struct lk_index *index); /* NULL is fine */

/* Adds or replaces by id. vector[dim] is unit length. LK_EINVAL for a vector that is not finite. */
int lk_index_put(struct lk_index *index, const char *id, const float *vector);
/* Many at once, ids new or old. vectors[n][dim]. */
int lk_index_put_many(struct lk_index *index, size_t n, const char *const *ids, const float *vectors);
int lk_index_delete(struct lk_index *index, const char *id); /* LK_ENOTFOUND */
/* At start, by one thread, before anything else: puts what the index does not have with these very bits. */
int lk_index_load(struct lk_index *index, size_t n, const char *const *ids, const float *vectors);
int lk_index_loaded(struct lk_index *index); /* removes what no lk_index_load named */
/* Says that writes up to `seq` of the catalogue are in the index: noted in its file. */
void lk_index_applied(struct lk_index *index, int64_t seq);
size_t lk_index_count(const struct lk_index *index); /* live */
size_t lk_index_tombstones(const struct lk_index *index);
size_t lk_index_linked(const struct lk_index *index);         /* slots of the graph */
const char *lk_index_kind_name(const struct lk_index *index); /* "flat" or "hnsw" */

struct lk_hit {
    char *id; /* owned by the result */
    float score;
};
struct lk_hits {
    struct lk_hit *hits;
    size_t count;
    struct lk_arena *arena; /* NULL: it owns itself */
};
/* The k nearest by cosine. exclude (may be NULL) is left out; hits below min_score are cut (-2: none). k >= 1. */
int lk_index_search(struct lk_index *index, const float *query, size_t k, const char *exclude, float min_score,
                    struct lk_hits *out);
/* The same, with the hits and all that it takes to find them in the arena. */
int lk_index_search_in(struct lk_index *index, struct lk_arena *arena, const float *query, size_t k,
                       const char *exclude, float min_score, struct lk_hits *out);
void lk_hits_free(struct lk_hits *hits);

/* Many queries at one moment, each with the results that it would get alone, scores to the bit; several times as fast. On
 * failure none has hits. */
struct lk_index_query {
    const float *vector;
    size_t k;
    const char *exclude;
    float min_score;
    struct lk_hits hits; /* the answer; the caller frees it */
};
int lk_index_search_many(struct lk_index *index, size_t n, struct lk_index_query *queries);

/* As lk_index_search, over the items that accept(arg, id) takes: 1 takes, 0 leaves out, negative ends the search with that
 * status. Always min(k, accepted) hits, however rare they are; the rarer, the more items are asked about, nearest first
 * and each not much more than once. accept runs without a lock of the index, on the calling thread; it must give the
 * same answer about the same id for the length of the search. */
int lk_index_search_where(struct lk_index *index, const float *query, size_t k, const char *exclude, float min_score,
                          int (*accept)(void *arg, const char *id), void *arg, struct lk_hits *out);

/* Exact scores of the items ids[n]: scores[n], NAN for an id that is not there. The same bits that a search gives, except
 * where FAISS has code of its own for few dimensions (8: the last bit may differ). Items that are written meanwhile are
 * scored as they were or as they are. */
int lk_index_score(struct lk_index *index, const float *query, size_t n, const char *const *ids, float *scores);

/* Copies the vector of an id: out[dim]. LK_ENOTFOUND. */
int lk_index_vector(const struct lk_index *index, const char *id, float *out);

/* Rebuilds without tombstones, or links what waits for it into the graph and writes the file; searches go on meanwhile,
 * writes made meanwhile are carried over. May take very long with HNSW: LK_ECANCELLED soon after lk_index_cancel. A graph
 * keeps its tombstones until they are a fifth of it. */
int lk_index_compact(struct lk_index *index);
void lk_index_cancel(struct lk_index *index); /* for good: before closing */
/* Tombstones > live / 4 and > 1024, or more than `unlinked` vectors outside of the graph. */
int lk_index_wants_compaction(const struct lk_index *index);

#endif
