/* The vectors in a body of POST /neighbors, read without Jansson, which makes a value in memory of every number: for 512 of
 * them that costs as much as the search. What is not certain to be right is left to Jansson, so that there is one judge of
 * bad bodies and one set of sentences. Knows no request. */
#ifndef LK_SERVER_JSON_VECTORS_H
#define LK_SERVER_JSON_VECTORS_H

#include <stddef.h>

#include "base/arena.h"

struct lk_json_vectors {
    struct lk_arena *arena; /* set before: for what is below; NULL: memory of its own */
    char *text;             /* the body, in which each vector is replaced by its number: 0, 1, ... in their order */
    size_t text_size;
    float *vectors; /* [count][dim], unit length */
    size_t count;
};

/* Takes the members "vector" of the body's object and of the objects in its array "queries" out of the text: all of them,
 * at least one and at most `most`, each an array of dim numbers that has a length; or none, count 0, when any is
 * something else. If the text that is left is valid JSON, so is the body. LK_ENOMEM. The caller closes it. */
int lk_json_vectors_take(struct lk_json_vectors *out, const char *body, size_t n, size_t dim, size_t most);
void lk_json_vectors_close(struct lk_json_vectors *v); /* accepts a zeroed one */

/* out[i] = values[i] / length. LK_EINVAL, without a sentence: they have no length, or too much. */
int lk_json_vector_unit(float *out, const double *values, size_t dim);

#endif
