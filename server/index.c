/* The index is a list of segments, each one FAISS Flat index of a fixed number of slots with a slot table beside it.
 * Vectors are only ever appended, to the last segment (the tail); a replace or a delete stamps the old slot with the
 * version at which it died. A search notes the version and the list of segments when it starts, and then takes the lock
 * for one segment at a time: it sees every id of that moment exactly once, while a writer waits for one segment's scan
 * (under a millisecond) and never for a whole search. Segments bound three more things: how much is copied when memory
 * grows (nothing: the slots are reserved), how much a compaction holds twice, and how long its swaps take.
 *
 * Locks, in the order in which they are taken:
 *   compacting   one compaction at a time
 *   writers      one writer at a time; guards the map and which segment is the tail. Only a holder changes anything.
 *   gate         readers share it while they look at a segment's slots or the list; a writer holds it for microseconds
 *
 * FAISS scans a single query on the calling thread (IndexFlat::search with n below the BLAS threshold of 20), adding the
 * products of one vector in one order: the same two vectors always give the same score, wherever they are stored. */
#include "index.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <IndexFlat_c.h>
#include <Index_c.h>
#include <error_c.h>

#include "base/buf.h"
#include "base/err.h"
#include "idmap.h"

enum {
    SEGMENT_BYTES = 8 << 20, /* of vectors: what one thread scans in about a millisecond */
    MIN_SLOTS = 256,
    MAX_SLOTS = 4096,
    CHUNK = 64 /* vectors added at a time while readers wait */
};
#define ALIVE UINT64_MAX

struct segment {
    atomic_int references; /* of views */
    FaissIndexFlat *flat;
    size_t count;   /* slots in use */
    size_t dead;    /* of them, tombstones */
    char **ids;     /* [slots]; strings owned */
    uint64_t *died; /* [slots]: the version that removed it, or ALIVE */
};

/* An immutable list of segments; searches keep theirs while writers make another. The last one is the tail. */
struct view {
    atomic_int references;
    size_t n;
    struct segment **segments;
};

struct lk_index {
    int dim;
    size_t slots; /* of a segment */
    pthread_mutex_t compacting, writers;
    pthread_rwlock_t gate;
    int locks_ready;
    struct lk_idmap map;
    struct view *view;
    uint64_t version;
    atomic_size_t live, tombstones;
};

/* --- Segments and views ------------------------------------------------------------------------------------------ */

static int faiss_failed(const char *doing) {
    const char *why = faiss_get_last_error();
    int memory = why != NULL && strstr(why, "bad_alloc") != NULL;
    return lk_err(memory ? LK_ENOMEM : LK_EFAIL, "FAISS, %s: %s", doing, why != NULL ? why : "unknown error");
}

static void segment_release(struct segment *s) {
    if (s == NULL || atomic_fetch_sub(&s->references, 1) != 1)
        return;
    if (s->flat != NULL)
        faiss_IndexFlat_free(s->flat);
    for (size_t i = 0; s->ids != NULL && i < s->count; i++)
        free(s->ids[i]);
    free(s->ids);
    free(s->died);
    free(s);
}

/* With one reference; NULL and *rc on failure. Its memory is reserved by filling and emptying it (a C++ vector keeps its
 * capacity), so that adding never copies what is there while readers wait. */
static struct segment *segment_open(const struct lk_index *index, int *rc) {
    struct segment *s = lk_calloc(1, sizeof *s);
    float *zeros = NULL;
    *rc = LK_ENOMEM;
    if (s == NULL)
        return NULL;
    atomic_init(&s->references, 1);
    if ((s->ids = lk_calloc(index->slots, sizeof *s->ids)) == NULL ||
        (s->died = lk_calloc(index->slots, sizeof *s->died)) == NULL ||
        (zeros = lk_calloc(index->slots * (size_t)index->dim, sizeof *zeros)) == NULL)
        goto fail;
    if (faiss_IndexFlat_new_with(&s->flat, index->dim, METRIC_INNER_PRODUCT) != 0 ||
        faiss_Index_add(s->flat, (faiss_idx_t)index->slots, zeros) != 0 || faiss_Index_reset(s->flat) != 0) {
        *rc = faiss_failed("making a segment");
        goto fail;
    }
    free(zeros);
    *rc = 0;
    return s;
fail:
    free(zeros);
    segment_release(s);
    return NULL;
}

static const float *segment_vector(const struct segment *s, size_t slot, int dim) {
    float *vectors = NULL;
    faiss_IndexFlat_xb(s->flat, &vectors, NULL);
    return vectors + slot * (size_t)dim;
}

static void view_release(struct view *v) {
    if (v == NULL || atomic_fetch_sub(&v->references, 1) != 1)
        return;
    for (size_t i = 0; i < v->n; i++)
        segment_release(v->segments[i]);
    free(v->segments);
    free(v);
}

/* The old list with segments [at, at + n_out) replaced by `in` (NULL: by nothing). Takes references of all of them. */
static int view_splice(struct view **out, const struct view *old, size_t at, size_t n_out, struct segment *in) {
    struct view *v = lk_calloc(1, sizeof *v);
    if (v == NULL || (v->segments = lk_calloc(old->n + 1, sizeof(void *))) == NULL) {
        free(v);
        return LK_ENOMEM;
    }
    atomic_init(&v->references, 1);
    for (size_t i = 0; i < at; i++)
        v->segments[v->n++] = old->segments[i];
    if (in != NULL)
        v->segments[v->n++] = in;
    for (size_t i = at + n_out; i < old->n; i++)
        v->segments[v->n++] = old->segments[i];
    for (size_t i = 0; i < v->n; i++)
        atomic_fetch_add(&v->segments[i]->references, 1);
    *out = v;
    return 0;
}

/* The current list, with a reference. The caller holds the gate. */
static struct view *pin(const struct lk_index *index) {
    atomic_fetch_add(&index->view->references, 1);
    return index->view;
}

static struct segment *tail_of(const struct lk_index *index) { return index->view->segments[index->view->n - 1]; }

/* Appends an empty tail. The caller holds `writers`. */
static int new_tail(struct lk_index *index) {
    static const struct view nothing = {0};
    const struct view *old = index->view != NULL ? index->view : &nothing;
    struct view *v, *before = index->view;
    int rc;
    struct segment *s = segment_open(index, &rc);
    if (s == NULL)
        return rc;
    if ((rc = view_splice(&v, old, old->n, 0, s)) == 0) {
        (void)pthread_rwlock_wrlock(&index->gate);
        index->view = v;
        (void)pthread_rwlock_unlock(&index->gate);
        view_release(before);
    }
    segment_release(s);
    return rc;
}

/* --- Opening ----------------------------------------------------------------------------------------------------- */

static int init_locks(struct lk_index *index) {
    pthread_rwlockattr_t attributes;
    if (pthread_rwlockattr_init(&attributes) != 0)
        return lk_err(LK_ENOMEM, "no memory for a lock");
    /* glibc's default lets a stream of searches keep writers out for good. */
    (void)pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    int failed = pthread_rwlock_init(&index->gate, &attributes);
    (void)pthread_rwlockattr_destroy(&attributes);
    if (failed)
        return lk_err(LK_ENOMEM, "no memory for a lock");
    if (pthread_mutex_init(&index->writers, NULL) != 0)
        goto no_writers;
    if (pthread_mutex_init(&index->compacting, NULL) != 0)
        goto no_compacting;
    index->locks_ready = 1;
    return 0;
no_compacting:
    (void)pthread_mutex_destroy(&index->writers);
no_writers:
    (void)pthread_rwlock_destroy(&index->gate);
    return lk_err(LK_ENOMEM, "no memory for a lock");
}

int lk_index_open(struct lk_index **out, int dim) {
    struct lk_index *index;
    int rc;
    *out = NULL;
    if (dim < 1 || dim > 65536)
        return lk_err(LK_EINVAL, "an index of %d dimensions", dim);
    if ((index = lk_calloc(1, sizeof *index)) == NULL)
        return LK_ENOMEM;
    index->dim = dim;
    index->slots = (size_t)SEGMENT_BYTES / (sizeof(float) * (size_t)dim);
    index->slots = index->slots < MIN_SLOTS ? MIN_SLOTS : index->slots > MAX_SLOTS ? MAX_SLOTS : index->slots;
    atomic_init(&index->live, 0);
    atomic_init(&index->tombstones, 0);
    if ((rc = init_locks(index)) < 0 || (rc = lk_idmap_init(&index->map)) < 0 || (rc = new_tail(index)) < 0) {
        lk_index_close(index);
        return rc;
    }
    *out = index;
    return 0;
}

void lk_index_close(struct lk_index *index) {
    if (index == NULL)
        return;
    view_release(index->view);
    lk_idmap_free(&index->map);
    if (index->locks_ready) {
        (void)pthread_rwlock_destroy(&index->gate);
        (void)pthread_mutex_destroy(&index->writers);
        (void)pthread_mutex_destroy(&index->compacting);
    }
    free(index);
}

size_t lk_index_count(const struct lk_index *index) { return atomic_load(&index->live); }
size_t lk_index_tombstones(const struct lk_index *index) { return atomic_load(&index->tombstones); }

/* --- Writing ----------------------------------------------------------------------------------------------------- */

/* Stamps a slot. The caller holds `writers` and the gate. */
static void kill_slot(struct lk_index *index, struct segment *s, size_t slot) {
    s->died[slot] = index->version;
    s->dead++;
    atomic_fetch_sub(&index->live, 1);
    atomic_fetch_add(&index->tombstones, 1);
}

/* Appends n vectors that the tail has room for. strings[n] are taken over. The caller holds `writers`; the map has room. */
static int append(struct lk_index *index, size_t n, char **strings, const float *vectors) {
    struct segment *tail = tail_of(index);
    int rc = 0;
    (void)pthread_rwlock_wrlock(&index->gate);
    if (faiss_Index_add(tail->flat, (faiss_idx_t)n, vectors) != 0) {
        rc = faiss_failed("adding vectors");
        (void)pthread_rwlock_unlock(&index->gate);
        return rc;
    }
    index->version++;
    for (size_t i = 0; i < n; i++) {
        const size_t slot = tail->count++;
        struct lk_place *old = lk_idmap_find(&index->map, strings[i]);
        tail->ids[slot] = strings[i];
        tail->died[slot] = ALIVE;
        atomic_fetch_add(&index->live, 1);
        if (old != NULL) {
            kill_slot(index, old->segment, old->slot);
            old->id = strings[i]; /* the old string goes with its segment */
            old->segment = tail;
            old->slot = (uint32_t)slot;
        } else {
            lk_idmap_insert(&index->map, strings[i], tail, (uint32_t)slot);
        }
    }
    (void)pthread_rwlock_unlock(&index->gate);
    return 0;
}

static int put_chunk(struct lk_index *index, size_t n, const char *const *ids, const float *vectors) {
    char *strings[CHUNK] = {0};
    size_t done = 0;
    int rc = 0;
    for (size_t i = 0; i < n; i++) {
        if ((strings[i] = lk_strdup(ids[i])) == NULL) {
            rc = LK_ENOMEM;
            goto out;
        }
    }
    (void)pthread_mutex_lock(&index->writers);
    rc = lk_idmap_reserve(&index->map, n);
    while (rc == 0 && done < n) {
        const size_t room = index->slots - tail_of(index)->count;
        const size_t now = n - done < room ? n - done : room;
        if (room == 0)
            rc = new_tail(index);
        else if ((rc = append(index, now, strings + done, vectors + done * (size_t)index->dim)) == 0)
            done += now;
    }
    (void)pthread_mutex_unlock(&index->writers);
out:
    for (size_t i = done; i < n; i++)
        free(strings[i]);
    return rc;
}

int lk_index_put_many(struct lk_index *index, size_t n, const char *const *ids, const float *vectors) {
    const size_t dim = (size_t)index->dim;
    int rc;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] == NULL || ids[i][0] == '\0')
            return lk_err(LK_EINVAL, "a vector without an id");
        for (size_t j = 0; j < dim; j++) {
            if (!isfinite(vectors[i * dim + j]))
                return lk_err(LK_EINVAL, "component %zu of the vector of '%s' is not finite", j, ids[i]);
        }
    }
    for (size_t i = 0; i < n; i += CHUNK) {
        if ((rc = put_chunk(index, n - i < CHUNK ? n - i : CHUNK, ids + i, vectors + i * dim)) < 0)
            return rc;
    }
    return 0;
}

int lk_index_put(struct lk_index *index, const char *id, const float *vector) {
    return lk_index_put_many(index, 1, &id, vector);
}

int lk_index_delete(struct lk_index *index, const char *id) {
    struct lk_place *place;
    int rc = 0;
    (void)pthread_mutex_lock(&index->writers);
    if ((place = lk_idmap_find(&index->map, id)) == NULL) {
        rc = lk_err(LK_ENOTFOUND, "the index has no item '%s'", id);
    } else {
        (void)pthread_rwlock_wrlock(&index->gate);
        index->version++;
        kill_slot(index, place->segment, place->slot);
        (void)pthread_rwlock_unlock(&index->gate);
        lk_idmap_remove(&index->map, place);
    }
    (void)pthread_mutex_unlock(&index->writers);
    return rc;
}

int lk_index_vector(const struct lk_index *index, const char *id, float *out) {
    struct lk_index *locks = (struct lk_index *)index; /* what it holds does not change, only who waits */
    const struct lk_place *place;
    int rc = 0;
    (void)pthread_mutex_lock(&locks->writers);
    if ((place = lk_idmap_find(&index->map, id)) == NULL)
        rc = lk_err(LK_ENOTFOUND, "the index has no item '%s'", id);
    else
        memcpy(out, segment_vector(place->segment, place->slot, index->dim), (size_t)index->dim * sizeof *out);
    (void)pthread_mutex_unlock(&locks->writers);
    return rc;
}

/* --- Searching --------------------------------------------------------------------------------------------------- */

struct candidate {
    float score;
    const char *id; /* the segment's */
};

struct search {
    struct lk_index *index;
    const float *query;
    size_t k;
    const char *exclude;
    struct view *view; /* pinned */
    uint64_t version;
    size_t tail_count;               /* slots of the view's tail when the search began */
    struct candidate *best, *merged; /* [k] */
    size_t n_best;
    struct candidate *found; /* of one segment: [room] */
    float *scores;           /* FAISS's output: [room] */
    faiss_idx_t *slots;      /* [room] */
    size_t room;
};

static int better(const struct candidate *a, const struct candidate *b) {
    return a->score != b->score ? a->score > b->score : strcmp(a->id, b->id) < 0;
}

static int by_rank(const void *a, const void *b) { return better(a, b) ? -1 : better(b, a); }

static int make_room(struct search *q, size_t n) {
    if (n <= q->room)
        return 0;
    free(q->found);
    free(q->scores);
    free(q->slots);
    q->room = 0;
    q->found = lk_calloc(n, sizeof *q->found);
    q->scores = lk_calloc(n, sizeof *q->scores);
    q->slots = lk_calloc(n, sizeof *q->slots);
    if (q->found == NULL || q->scores == NULL || q->slots == NULL)
        return LK_ENOMEM;
    q->room = n;
    return 0;
}

/* Asks FAISS for the best `ask` slots of a segment and keeps those that were alive when the search began, into q->found.
 * *more: there is more to ask for, and fewer than k were kept or the cut may have gone through equal scores. */
static int scan_once(struct search *q, const struct segment *s, size_t visible, size_t ask, size_t *n, int *more) {
    size_t i;
    *n = 0;
    if (faiss_Index_search(s->flat, 1, q->query, (faiss_idx_t)ask, q->scores, q->slots) != 0)
        return faiss_failed("searching");
    for (i = 0; i < ask && q->slots[i] >= 0; i++) { /* products that overflow to no number leave places empty */
        const size_t slot = (size_t)q->slots[i];
        if (slot >= visible || s->died[slot] <= q->version ||
            (q->exclude != NULL && strcmp(s->ids[slot], q->exclude) == 0))
            continue;
        q->found[(*n)++] = (struct candidate){.score = q->scores[i], .id = s->ids[slot]};
    }
    *more = i == ask && ask < s->count && (*n < q->k || q->scores[ask - 1] == q->found[q->k - 1].score);
    return 0;
}

/* The segment's best k and whatever ties with the last of them. */
static int scan(struct search *q, const struct segment *s, size_t visible, size_t *n) {
    size_t ask, spare;
    int rc = 0, more = 1;
    *n = 0;
    (void)pthread_rwlock_rdlock(&q->index->gate);
    /* Twice the tombstones that would be among the best if they lay anywhere, what was added since the search began, and
     * one that shows whether the cut goes through a tie. When that is not enough, twice as many are asked for. */
    spare = s->count > 0 ? 2 * s->dead * (q->k < s->count ? q->k : s->count) / s->count + 16 : 0;
    spare = (spare < s->dead ? spare : s->dead) + (s->count - visible) + (q->exclude != NULL) + 1;
    ask = q->k < s->count && spare < s->count - q->k ? q->k + spare : s->count;
    while (rc == 0 && more && ask > 0) {
        if ((rc = make_room(q, ask)) == 0)
            rc = scan_once(q, s, visible, ask, n, &more);
        ask = ask < s->count / 2 ? ask * 2 : s->count;
    }
    (void)pthread_rwlock_unlock(&q->index->gate);
    return rc;
}

/* Merges q->found into q->best, both in order, and keeps k. */
static void merge(struct search *q, size_t n) {
    struct candidate *swap = q->merged;
    size_t a = 0, b = 0, out = 0;
    while (out < q->k && (a < q->n_best || b < n)) {
        if (b == n || (a < q->n_best && better(&q->best[a], &q->found[b])))
            q->merged[out++] = q->best[a++];
        else
            q->merged[out++] = q->found[b++];
    }
    q->merged = q->best;
    q->best = swap;
    q->n_best = out;
}

static int scan_all(struct search *q) {
    int rc;
    for (size_t i = 0; i < q->view->n; i++) {
        const struct segment *s = q->view->segments[i];
        const int is_tail = i + 1 == q->view->n;
        size_t n = 0;
        /* Only a tail grows, and only while it is one: a sealed segment's count is safe to read. */
        if ((rc = scan(q, s, is_tail ? q->tail_count : s->count, &n)) < 0)
            return rc;
        if (n > 1)
            qsort(q->found, n, sizeof *q->found, by_rank);
        merge(q, n);
    }
    return 0;
}

static int copy_hits(const struct search *q, float min_score, struct lk_hits *out) {
    if (q->n_best == 0)
        return 0;
    if ((out->hits = lk_calloc(q->n_best, sizeof *out->hits)) == NULL)
        return LK_ENOMEM;
    for (size_t i = 0; i < q->n_best && q->best[i].score >= min_score; i++) {
        if ((out->hits[i].id = lk_strdup(q->best[i].id)) == NULL)
            return LK_ENOMEM;
        out->hits[i].score = q->best[i].score;
        out->count = i + 1;
    }
    return 0;
}

int lk_index_search(struct lk_index *index, const float *query, size_t k, const char *exclude, float min_score,
                    struct lk_hits *out) {
    struct search q = {.index = index, .query = query, .k = k, .exclude = exclude};
    size_t live;
    int rc = 0;
    *out = (struct lk_hits){0};
    if (k < 1)
        return lk_err(LK_EINVAL, "a search for no neighbours");
    for (int i = 0; i < index->dim; i++) {
        if (!isfinite(query[i]))
            return lk_err(LK_EINVAL, "component %d of the query is not finite", i);
    }
    (void)pthread_rwlock_rdlock(&index->gate);
    q.view = pin(index);
    q.version = index->version;
    q.tail_count = tail_of(index)->count;
    live = atomic_load(&index->live);
    (void)pthread_rwlock_unlock(&index->gate);

    q.k = k < live ? k : live;
    if (q.k > 0) {
        q.best = lk_calloc(q.k, sizeof *q.best);
        q.merged = lk_calloc(q.k, sizeof *q.merged);
        rc = q.best == NULL || q.merged == NULL ? LK_ENOMEM : scan_all(&q);
        if (rc == 0)
            rc = copy_hits(&q, min_score, out);
    }
    if (rc < 0)
        lk_hits_free(out);
    view_release(q.view);
    free(q.best);
    free(q.merged);
    free(q.found);
    free(q.scores);
    free(q.slots);
    return rc;
}

void lk_hits_free(struct lk_hits *hits) {
    for (size_t i = 0; hits->hits != NULL && i < hits->count; i++)
        free(hits->hits[i].id);
    free(hits->hits);
    *hits = (struct lk_hits){0};
}

/* --- Compacting -------------------------------------------------------------------------------------------------- */

/* Where one slot of the new segment came from. */
struct moved {
    struct segment *segment;
    size_t slot;
};

/* How many segments from `at` on fit into one when only live vectors are kept; the tail is none of them. 0 when there is
 * nothing to gain. The caller holds `compacting`, so that the list grows at its end alone and live counts only fall. */
static size_t group_at(struct lk_index *index, const struct view *v, size_t at) {
    size_t n = 0, live = 0, dead = 0;
    (void)pthread_rwlock_rdlock(&index->gate);
    for (size_t i = at; i + 1 < v->n; i++, n++) {
        const size_t more = v->segments[i]->count - v->segments[i]->dead;
        if (n > 0 && live + more > index->slots)
            break;
        live += more;
        dead += v->segments[i]->dead;
    }
    (void)pthread_rwlock_unlock(&index->gate);
    return n > 1 || dead > 0 ? n : 0;
}

/* Copies what is alive in n sealed segments; their vectors never change, so no lock is held while copying. */
static int gather(struct lk_index *index, struct segment **from, size_t n, struct segment *to, struct moved *moved) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        (void)pthread_rwlock_rdlock(&index->gate);
        for (size_t slot = 0; slot < from[i]->count && count < index->slots; slot++) {
            if (from[i]->died[slot] == ALIVE)
                moved[count++] = (struct moved){.segment = from[i], .slot = slot};
        }
        (void)pthread_rwlock_unlock(&index->gate);
    }
    for (size_t i = 0; i < count; i++) {
        if ((to->ids[i] = lk_strdup(moved[i].segment->ids[moved[i].slot])) == NULL)
            return LK_ENOMEM;
        to->count = i + 1;
        if (faiss_Index_add(to->flat, 1, segment_vector(moved[i].segment, moved[i].slot, index->dim)) != 0)
            return faiss_failed("copying vectors");
    }
    return 0;
}

/* Puts the new segment in the place of the old ones. What died while it was copied is dead in it too. */
static int swap_in(struct lk_index *index, size_t at, size_t n, struct segment *to, const struct moved *moved) {
    struct view *v, *before;
    size_t gone = 0;
    int rc;
    (void)pthread_mutex_lock(&index->writers);
    before = index->view;
    if ((rc = view_splice(&v, before, at, n, to->count > 0 ? to : NULL)) < 0) {
        (void)pthread_mutex_unlock(&index->writers);
        return rc;
    }
    (void)pthread_rwlock_wrlock(&index->gate);
    for (size_t i = 0; i < n; i++)
        gone += before->segments[at + i]->dead;
    for (size_t i = 0; i < to->count; i++) {
        to->died[i] = moved[i].segment->died[moved[i].slot];
        to->dead += to->died[i] != ALIVE;
    }
    index->view = v;
    atomic_fetch_sub(&index->tombstones, gone - to->dead);
    (void)pthread_rwlock_unlock(&index->gate);
    for (size_t i = 0; i < to->count; i++) {
        struct lk_place *place = to->died[i] == ALIVE ? lk_idmap_find(&index->map, to->ids[i]) : NULL;
        if (place != NULL) {
            place->id = to->ids[i];
            place->segment = to;
            place->slot = (uint32_t)i;
        }
    }
    (void)pthread_mutex_unlock(&index->writers);
    view_release(before);
    return 0;
}

/* Rewrites the group that begins at segment *at of the list; *at becomes where the next one begins, or the list's end. */
static int compact_group(struct lk_index *index, size_t *at, struct moved *moved) {
    struct segment *to = NULL;
    struct view *v;
    size_t n;
    int rc = 0;
    (void)pthread_rwlock_rdlock(&index->gate);
    v = pin(index);
    (void)pthread_rwlock_unlock(&index->gate);
    if (*at + 1 >= v->n) {
        *at = SIZE_MAX;
    } else if ((n = group_at(index, v, *at)) == 0) {
        ++*at;
    } else if ((to = segment_open(index, &rc)) != NULL && (rc = gather(index, v->segments + *at, n, to, moved)) == 0 &&
               (rc = swap_in(index, *at, n, to, moved)) == 0) {
        *at += to->count > 0;
    }
    segment_release(to);
    view_release(v);
    return rc;
}

int lk_index_compact(struct lk_index *index) {
    struct moved *moved = lk_calloc(index->slots, sizeof *moved);
    int rc = 0;
    if (moved == NULL)
        return LK_ENOMEM;
    (void)pthread_mutex_lock(&index->compacting);
    (void)pthread_mutex_lock(&index->writers);
    if (tail_of(index)->dead > 0)
        rc = new_tail(index); /* seals the old one, so that it can be rewritten */
    (void)pthread_mutex_unlock(&index->writers);
    for (size_t at = 0; rc == 0 && at != SIZE_MAX;)
        rc = compact_group(index, &at, moved);
    (void)pthread_mutex_unlock(&index->compacting);
    free(moved);
    return rc;
}

int lk_index_wants_compaction(const struct lk_index *index) {
    const size_t dead = atomic_load(&index->tombstones);
    return dead > 1024 && dead > atomic_load(&index->live) / 4;
}
