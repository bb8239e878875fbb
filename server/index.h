/* Cosine neighbours over FAISS: an exact Flat inner-product index on unit vectors. The FAISS headers stay in index_faiss.c.
 *
 * Slots are never reused: replace and delete leave a tombstone, and lk_index_compact (called from a background thread
 * when tombstones pass a quarter) rebuilds. Readers run in parallel; a writer excludes them for microseconds. Results
 * are ordered by score, then by id bytes, and always hold min(k, live) entries. */
#ifndef LK_SERVER_INDEX_H
#define LK_SERVER_INDEX_H

#include <stddef.h>
#include <stdint.h>

struct lk_index;

int lk_index_open(struct lk_index **out, int dim);
void lk_index_close(struct lk_index *index); /* NULL is fine */

/* Adds or replaces by id. vector[dim] is unit length. LK_EINVAL for a vector that is not finite. */
int lk_index_put(struct lk_index *index, const char *id, const float *vector);
/* Many at once, ids new or old. vectors[n][dim]. */
int lk_index_put_many(struct lk_index *index, size_t n, const char *const *ids, const float *vectors);
int lk_index_delete(struct lk_index *index, const char *id); /* LK_ENOTFOUND */
size_t lk_index_count(const struct lk_index *index);         /* live */
size_t lk_index_tombstones(const struct lk_index *index);

struct lk_hit {
    char *id; /* owned by the result */
    float score;
};
struct lk_hits {
    struct lk_hit *hits;
    size_t count;
};
/* The k nearest by cosine. exclude (may be NULL) is left out; hits below min_score are cut (-2: none). k >= 1. */
int lk_index_search(struct lk_index *index, const float *query, size_t k, const char *exclude, float min_score,
                    struct lk_hits *out);
void lk_hits_free(struct lk_hits *hits);

/* As lk_index_search, over the items that accept(arg, id) takes: 1 takes, 0 leaves out, negative ends the search with that
 * status. Always min(k, accepted) hits, however rare they are; the rarer, the more items are asked about, nearest first
 * and each not much more than once. accept runs without a lock of the index, on the calling thread; it must give the
 * same answer about the same id for the length of the search. */
int lk_index_search_where(struct lk_index *index, const float *query, size_t k, const char *exclude, float min_score,
                          int (*accept)(void *arg, const char *id), void *arg, struct lk_hits *out);

/* Exact scores of the items ids[n]: scores[n], NAN for an id that is not there. The same bits that a search gives. Items
 * that are written meanwhile are scored as they were or as they are. */
int lk_index_score(struct lk_index *index, const float *query, size_t n, const char *const *ids, float *scores);

/* Copies the vector of an id: out[dim]. LK_ENOTFOUND. */
int lk_index_vector(const struct lk_index *index, const char *id, float *out);

/* Rebuilds without tombstones; searches go on meanwhile, writes made meanwhile are carried over. */
int lk_index_compact(struct lk_index *index);
int lk_index_wants_compaction(const struct lk_index *index); /* tombstones > live / 4 and > 1024 */

#endif
