/* FAISS, as the index uses it: vectors in slots 0, 1, 2..., searched by inner product. FAISS's headers and OpenMP's
 * setting of threads stay in index_faiss.c. For index*.c alone.
 *
 * Calls that only read may run side by side; an addition excludes every other call, which is the caller's business. All
 * compute on the calling thread, unless `threads` says otherwise. */
#ifndef LK_SERVER_INDEX_FAISS_H
#define LK_SERVER_INDEX_FAISS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct lk_vectors;

/* An exact Flat index. Memory for `reserve` vectors is there from the start, so that adding so many copies nothing. */
int lk_vectors_flat(struct lk_vectors **out, int dim, size_t reserve);
/* An HNSW graph over its own vectors: m links a vector and layer (twice that in the lowest), ef_construction candidates
 * looked at to find them. (Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
 * Hierarchical Navigable Small World graphs", 2016.) */
int lk_vectors_graph(struct lk_vectors **out, int dim, int m, int ef_construction);
/* A copy of a graph, to which can be added while the first one is searched. */
int lk_vectors_clone(struct lk_vectors **out, const struct lk_vectors *from);
void lk_vectors_free(struct lk_vectors *v); /* NULL is fine */

/* Appends vectors[n][dim]. threads: of a graph; a Flat index takes one. */
int lk_vectors_add(struct lk_vectors *v, size_t n, const float *vectors, int threads);

/* The `ask` best slots for each of queries[n][dim], best first: scores[n][ask], slots[n][ask]; slots are -1 where there
 * are no more, or where a graph found no more. ef (>= 1): how many candidates a graph's search keeps, doubled until
 * that is at least `ask`; searches with another one wait for each other, in the order in which they came. With one query, scores are the sums that
 * lk_vectors_scores gives, to the bit; with many, FAISS multiplies matrices, and they may differ in the last bits. */
int lk_vectors_search(struct lk_vectors *v, size_t n, const float *queries, size_t ask, size_t ef, float *scores,
                      int64_t *slots);

/* scores[n]: the inner products with the vectors in slots first, first + 1... */
int lk_vectors_scores(const struct lk_vectors *v, const float *query, size_t first, size_t n, float *scores);

/* Copies the vectors of n slots from `first` on: out[n][dim]. */
int lk_vectors_copy(const struct lk_vectors *v, size_t first, size_t n, float *out);

/* A graph in FAISS's own format. Reading trusts the bytes: FAISS may crash on damaged ones, so check them first. LK_EFORMAT
 * when what was read is no index of so many vectors of this dimension. */
int lk_vectors_write(const struct lk_vectors *v, FILE *file);
int lk_vectors_read(struct lk_vectors **out, FILE *file, int dim, size_t count);

#endif
