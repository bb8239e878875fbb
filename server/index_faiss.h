/* FAISS, as the index uses it: vectors in slots 0, 1, 2..., searched by inner product. FAISS's headers and OpenMP's
 * setting of threads stay in index_faiss.c. For index*.c alone.
 *
 * Calls that only read may run side by side; an addition excludes every other call, which is the caller's business. All
 * compute on the calling thread, unless `threads` says otherwise. */
#ifndef LK_SERVER_INDEX_FAISS_H
#define LK_SERVER_INDEX_FAISS_H

#include <stddef.h>
#include <stdint.h>

struct lk_vectors;

/* An exact Flat index. Memory for `reserve` vectors is there from the start, so that adding so many copies nothing. */
int lk_vectors_flat(struct lk_vectors **out, int dim, size_t reserve);
void lk_vectors_free(struct lk_vectors *v); /* NULL is fine */

/* Appends vectors[n][dim]. */
int lk_vectors_add(struct lk_vectors *v, size_t n, const float *vectors);

/* The `ask` best slots for each of queries[n][dim], best first: scores[n][ask], slots[n][ask]; slots are -1 where there
 * are no more. With one query, scores are the exact sums that lk_vectors_scores gives; with many, FAISS multiplies
 * matrices, and they may differ in the last bits. */
int lk_vectors_search(const struct lk_vectors *v, size_t n, const float *queries, size_t ask, float *scores,
                      int64_t *slots);

/* scores[n]: the inner products with the vectors in slots[n]. */
int lk_vectors_scores(const struct lk_vectors *v, const float *query, size_t n, const int64_t *slots, float *scores);

/* Copies the vectors of n slots from `first` on: out[n][dim]. */
int lk_vectors_copy(const struct lk_vectors *v, size_t first, size_t n, float *out);

#endif
