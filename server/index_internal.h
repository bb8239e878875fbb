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
    int is_graph;   /* HNSW; else Flat */
    int64_t seq;    /* of a graph: it has what the catalogue's writes up to here left; 0: not known */
    char **ids;     /* [slots]; strings owned; NULL for a tombstone that never was anything else here */
    uint64_t *died; /* [slots]: the version that removed it, or LK_ALIVE */
    /* Of a segment that has been rewritten, until the map does not name it any more; guarded by `writers`. */
    struct lk_segment *successor;
    uint32_t *moved_to; /* [count]: slots of the successor */
};

/* An immutable list of segments; searches keep theirs while writers make another. The last one is the tail. */
struct lk_view {
    atomic_int references;
    size_t n;
    struct lk_segment **segments;
};

struct lk_index {
    int dim;
    struct lk_index_options options; /* without zeros; strings owned */
    size_t slots;                    /* of a Flat segment */
    pthread_mutex_t compacting, writers;
    pthread_rwlock_t gate;
    int locks_ready;
    struct lk_idmap map;
    struct lk_view *view;
    uint64_t version;
    atomic_size_t live, tombstones;
    atomic_llong applied; /* seq */
    atomic_int cancelled;
    /* For tests, NULL otherwise: called while a segment has been rewritten and not yet put in place (0), and when it is in
     * place and the map does not name it yet (1); `compacting` is held, and the index may be written. */
    void (*halfway)(struct lk_index *index, int stage);
    uint64_t *named; /* while loading over a file: bits of the graph's slots that lk_index_load named */
};

/* A segment with one reference and a table of so many slots; the caller gives it vectors. */
int lk_segment_open(struct lk_segment **out, size_t slots);
/* The same with room for as many vectors in a Flat index. */
int lk_segment_open_flat(struct lk_segment **out, const struct lk_index *index);
void lk_segment_release(struct lk_segment *s); /* NULL is fine */

void lk_view_release(struct lk_view *v); /* NULL is fine */
/* The old list with segments [at, at + n_out) replaced by `in` (NULL: by nothing). Takes references of all of them. */
int lk_view_splice(struct lk_view **out, const struct lk_view *old, size_t at, size_t n_out, struct lk_segment *in);

/* The current list, with a reference. The caller holds the gate. */
struct lk_view *lk_index_pin(const struct lk_index *index);
struct lk_segment *lk_index_tail(const struct lk_index *index);
/* The graph of a list, or NULL: it is the first segment. */
struct lk_segment *lk_view_graph(const struct lk_view *v);
/* Appends an empty tail; the old one is sealed. The caller holds `writers`. */
int lk_index_new_tail(struct lk_index *index);

/* LK_EINVAL for a component that is not finite; the sentence says whose it is. */
int lk_index_check_vector(const struct lk_index *index, const char *whose, const float *vector);

/* A place as it is now: follows a rewritten segment to its successor. The caller holds `writers`. */
void lk_index_resolve(struct lk_place *place);

/* Where a slot of a rewritten segment came from. */
struct lk_moved {
    struct lk_segment *segment; /* NULL: a tombstone */
    uint32_t slot;
};
/* Puts `to`, whose slots came from moved[to->count], in the place of segments [at, at + n), which nobody else replaces
 * meanwhile. What died while it was made is dead in it too. The caller holds `compacting`. */
int lk_index_swap(struct lk_index *index, size_t at, size_t n, struct lk_segment *to, const struct lk_moved *moved);

/* Links what waits into a copy of the graph, or into a new one when every fifth slot of it is dead: a round.
 * 1 when some of what waited is left for another one. The caller holds `compacting`. */
int lk_index_link(struct lk_index *index);
int lk_index_wants_linking(const struct lk_index *index);

/* The file of the graph. Reading: 0 and NULL when there is none that can be used, for which the log has the reason. */
int lk_index_file_read(struct lk_segment **out, const struct lk_index *index);
int lk_index_file_write(struct lk_index *index); /* The caller holds `compacting`. */

#endif
