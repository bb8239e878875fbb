/* Embedding again: vectors of a generation for all items that have none in its space. Pictures are read from the catalogue
 * in short transactions, embedded as bulk beside live requests, and their vectors written by the collection's writer, so
 * that an item which changes meanwhile is never given the vector of its old picture. */
#ifndef LK_SERVER_REEMBED_H
#define LK_SERVER_REEMBED_H

#include "collection.h"

struct lk_reembed {
    struct lk_collection *collection;
    struct lk_generation *generation;
    long long total;   /* for the log: how many there are to do */
    double share;      /* of the time that may be spent on it: it pauses in between */
    const int *cancel; /* read atomically; NULL, or: stop when it is not 0 */
    int (*stop)(void); /* NULL, or: stop when it says so */
    long long embedded,
        failed; /* out, changed atomically as it goes: items with a vector now, items whose picture makes none */
};

/* Returns when no item without a vector is left but the failed ones. LK_ECANCELLED; what the store returns. */
int lk_reembed_run(struct lk_reembed *r);

#endif
