/* What the index's files share. For index*.c alone.
 *
 * The index is a list of segments, each with a fixed number of slots: vectors in FAISS and a slot table beside them.
 * Vectors are only ever appended, to the last segment (the tail); a replace or a delete stamps the old slot with the
 * version at which it died. A search notes the version and the list of segments when it starts: it sees every id of that
 * moment exactly once. Sealed segments' vectors never change, so they are searched without a lock; a writer waits for a
 * scan of the tail (under a millisecond) and never for a whole search. Segments bound three more things: how much is
 * copied when memory grows (nothing: the slots are reserved), how much a compaction holds twice, and how long its swaps
 * take.
 *
 * Locks, in the order in which they are taken:
 *   compacting   one compaction at a time
 *   writers      one writer at a time; guards the map and which segment is the tail. Only a holder changes anything.
 *   gate         readers share it while they look at slot tables, the tail or the list; a writer holds it for
 *                microseconds */
#ifndef LK_SERVER_INDEX_INTERNAL_H
#define LK_SERVER_INDEX_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "idmap.h"
#include "index.h"
#include "index_faiss.h"

#define LK_ALIVE UINT64_MAX

struct lk_segment {
    atomic_int references; /* of views */
    struct lk_vectors *vectors;
    size_t slots;   /* how many there can be */
    size_t count;   /* in use */
    size_t dead;    /* of them, tombstones */
    char **ids;     /* [slots]; strings owned */
    uint64_t *died; /* [slots]: the version that removed it, or LK_ALIVE */
};

/* An immutable list of segments; searches keep theirs while writers make another. The last one is the tail. */
struct lk_view {
    atomic_int references;
    size_t n;
    struct lk_segment **segments;
};

struct lk_index {
    int dim;
    size_t slots; /* of a Flat segment */
    pthread_mutex_t compacting, writers;
    pthread_rwlock_t gate;
    int locks_ready;
    struct lk_idmap map;
    struct lk_view *view;
    uint64_t version;
    atomic_size_t live, tombstones;
};

/* A Flat segment without vectors, with one reference. */
int lk_segment_open(struct lk_segment **out, const struct lk_index *index);
void lk_segment_release(struct lk_segment *s); /* NULL is fine */

void lk_view_release(struct lk_view *v); /* NULL is fine */
/* The old list with segments [at, at + n_out) replaced by `in` (NULL: by nothing). Takes references of all of them. */
int lk_view_splice(struct lk_view **out, const struct lk_view *old, size_t at, size_t n_out, struct lk_segment *in);

/* The current list, with a reference. The caller holds the gate. */
struct lk_view *lk_index_pin(const struct lk_index *index);
struct lk_segment *lk_index_tail(const struct lk_index *index);
/* Appends an empty tail; the old one is sealed. The caller holds `writers`. */
int lk_index_new_tail(struct lk_index *index);

/* LK_EINVAL for a component that is not finite; the sentence says whose it is. */
int lk_index_check_vector(const struct lk_index *index, const char *whose, const float *vector);

#endif
