/* Neighbours under a filter, with their metadata: what the index knows (vectors) and what the catalogue knows (metadata)
 * brought together. Knows no HTTP.
 *
 * With a filter the index is asked first, nearest items first, and the catalogue about each of them; when that has cost as
 * much as reading all metadata would, all of it is read and every match is scored exactly. So the answer holds min(k,
 * matches) hits however rare the matches are, and the work is bounded by a small multiple of the cheaper of both ways.
 * docs/decisions/ has the figures. */
#ifndef LK_SERVER_SEARCH_H
#define LK_SERVER_SEARCH_H

#include <stddef.h>
#include <stdint.h>

#include "filter.h"
#include "index.h"
#include "store/store.h"
#include "work.h"

struct lk_search {
    struct lk_store *store;
    struct lk_index *index;
    struct lk_cores *cores;         /* taken while the index computes; may be NULL */
    const float *query;             /* [dim], unit length */
    size_t k;                       /* >= 1 */
    const char *exclude;            /* an id that is left out; may be NULL */
    float min_score;                /* -2: none */
    const struct lk_filter *filter; /* NULL: none */
    int with_metadata;
    int64_t deadline_ns;    /* of lk_now_ns(); a filter's work ends there. 0: none */
    int (*gone)(void *arg); /* the client left; may be NULL */
    /* Told the bytes of ids and metadata that were found, before the next of many searches; negative ends them all with
     * that status. May be NULL. */
    int (*found)(void *arg, size_t bytes);
    void *arg;
    struct lk_arena *arena; /* NULL, or: a search without a filter uses its memory, and leaves its findings there */
};

struct lk_found {
    char *id; /* owned by the result */
    float score;
    char *metadata; /* owned; NULL without with_metadata. The text that the filter saw. */
};
struct lk_findings {
    struct lk_found *items; /* by score, then by id */
    size_t count;
    struct lk_arena *arena; /* NULL: it owns itself */
};

/* LK_ECANCELLED: the deadline passed, or the client left. */
int lk_search_run(const struct lk_search *search, struct lk_findings *out);
/* Many searches of one index: out[i] is what searches[i] gives alone, and those without a filter are made together, several
 * times as fast. On failure none has findings. */
int lk_search_run_many(const struct lk_search *searches, size_t n, struct lk_findings *out);
void lk_findings_free(struct lk_findings *f); /* accepts a zeroed one */

#endif
