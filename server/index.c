/* Opening, writing and looking up; index_internal.h says how the index is built. */
#include "index.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "index_internal.h"

enum {
    SEGMENT_BYTES = 8 << 20, /* of vectors: what one thread scans in about a millisecond */
    MIN_SLOTS = 256,
    MAX_SLOTS = 4096,
    CHUNK = 64,  /* vectors added at a time while readers wait */
    SCORED = 256 /* ids looked up and scored while writers wait */
};

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

static int take_options(struct lk_index *index, const struct lk_index_options *options) {
    static const struct lk_index_options flat = {.kind = LK_INDEX_FLAT};
    struct lk_index_options *o = &index->options;
    const char *path, *space;
    *o = options != NULL ? *options : flat;
    path = o->path;
    space = o->space;
    o->path = o->space = NULL;
    o->m = o->m != 0 ? o->m : 32;
    o->ef_construction = o->ef_construction != 0 ? o->ef_construction : 80;
    o->ef_search = o->ef_search != 0 ? o->ef_search : 64;
    o->threads = o->threads != 0 ? o->threads : 1;
    o->unlinked = o->unlinked != 0 ? o->unlinked : 4096;
    if (o->m < 2 || o->m > 512 || o->ef_construction < 1 || o->ef_search < 1 || o->threads < 1)
        return lk_err(LK_EINVAL, "a graph of m %d, ef_construction %d, ef_search %d by %d threads", o->m,
                      o->ef_construction, o->ef_search, o->threads);
    if (path != NULL && ((o->path = lk_strdup(path)) == NULL || (o->space = lk_strdup(space)) == NULL))
        return LK_ENOMEM;
    return 0;
}

/* Takes over the graph that the file holds, when it holds one. */
static int take_file(struct lk_index *index) {
    struct lk_segment *s = NULL;
    int rc = lk_index_file_read(&s, index);
    if (rc < 0 || s == NULL)
        return rc;
    static const struct lk_view nothing = {0};
    if ((rc = lk_idmap_reserve(&index->map, s->count)) == 0 &&
        (index->named = lk_calloc(s->count / 64 + 1, sizeof *index->named)) == NULL)
        rc = LK_ENOMEM;
    if (rc == 0 && (rc = lk_view_splice(&index->view, &nothing, 0, 0, s)) == 0) {
        for (size_t i = 0; i < s->count; i++) {
            if (s->died[i] == LK_ALIVE)
                lk_idmap_insert(&index->map, s->ids[i], s, (uint32_t)i);
        }
        atomic_store(&index->live, s->count - s->dead);
        atomic_store(&index->tombstones, s->dead);
    }
    lk_segment_release(s);
    return rc;
}

int lk_index_open(struct lk_index **out, int dim, const struct lk_index_options *options) {
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
    if ((rc = take_options(index, options)) < 0 || (rc = init_locks(index)) < 0 ||
        (rc = lk_idmap_init(&index->map)) < 0 ||
        (index->options.kind == LK_INDEX_HNSW && index->options.path != NULL && !index->options.fresh &&
         (rc = take_file(index)) < 0) ||
        (rc = lk_index_new_tail(index)) < 0) {
        lk_index_close(index);
        return rc;
    }
    *out = index;
    return 0;
}

void lk_index_close(struct lk_index *index) {
    if (index == NULL)
        return;
    lk_view_release(index->view);
    lk_idmap_free(&index->map);
    if (index->locks_ready) {
        (void)pthread_rwlock_destroy(&index->gate);
        (void)pthread_mutex_destroy(&index->writers);
        (void)pthread_mutex_destroy(&index->compacting);
    }
    free(index->named);
    free((char *)index->options.path);
    free((char *)index->options.space);
    free(index);
}

const char *lk_index_kind_name(const struct lk_index *index) {
    return index->options.kind == LK_INDEX_HNSW ? "hnsw" : "flat";
}

void lk_index_applied(struct lk_index *index, int64_t seq) { atomic_store(&index->applied, seq); }
void lk_index_cancel(struct lk_index *index) { atomic_store(&index->cancelled, 1); }

size_t lk_index_count(const struct lk_index *index) { return atomic_load(&index->live); }
size_t lk_index_tombstones(const struct lk_index *index) { return atomic_load(&index->tombstones); }

/* Where an id is, or NULL. The caller holds `writers`. */
static struct lk_place *find(const struct lk_index *index, const char *id) {
    struct lk_place *place = lk_idmap_find(&index->map, id);
    if (place != NULL)
        lk_index_resolve(place);
    return place;
}

/* --- Writing ----------------------------------------------------------------------------------------------------- */

/* Stamps a slot. The caller holds `writers` and the gate. */
static void kill_slot(struct lk_index *index, struct lk_segment *s, size_t slot) {
    s->died[slot] = index->version;
    s->dead++;
    atomic_fetch_sub(&index->live, 1);
    atomic_fetch_add(&index->tombstones, 1);
}

/* Appends n vectors that the tail has room for. strings[n] are taken over. The caller holds `writers`; the map has room. */
static int append(struct lk_index *index, size_t n, char **strings, const float *vectors) {
    struct lk_segment *tail = lk_index_tail(index);
    int rc = 0;
    (void)pthread_rwlock_wrlock(&index->gate);
    if ((rc = lk_vectors_add(tail->vectors, n, vectors, 1)) < 0) {
        (void)pthread_rwlock_unlock(&index->gate);
        return rc;
    }
    index->version++;
    for (size_t i = 0; i < n; i++) {
        const size_t slot = tail->count++;
        struct lk_place *old = find(index, strings[i]);
        tail->ids[slot] = strings[i];
        tail->died[slot] = LK_ALIVE;
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
        const size_t room = index->slots - lk_index_tail(index)->count;
        const size_t now = n - done < room ? n - done : room;
        if (room == 0)
            rc = lk_index_new_tail(index);
        else if ((rc = append(index, now, strings + done, vectors + done * (size_t)index->dim)) == 0)
            done += now;
    }
    (void)pthread_mutex_unlock(&index->writers);
out:
    for (size_t i = done; i < n; i++)
        free(strings[i]);
    return rc;
}

int lk_index_check_vector(const struct lk_index *index, const char *whose, const float *vector) {
    for (int i = 0; i < index->dim; i++) {
        if (!isfinite(vector[i]))
            return lk_err(LK_EINVAL, "component %d of the vector of '%s' is not finite", i, whose);
    }
    return 0;
}

int lk_index_put_many(struct lk_index *index, size_t n, const char *const *ids, const float *vectors) {
    const size_t dim = (size_t)index->dim;
    int rc;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] == NULL || ids[i][0] == '\0')
            return lk_err(LK_EINVAL, "a vector without an id");
        if ((rc = lk_index_check_vector(index, ids[i], vectors + i * dim)) < 0)
            return rc;
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

/* --- Loading over a file ------------------------------------------------------------------------------------------ */

/* Whether the index has the id with these very bits; says so in `named` when the file had it, whatever its bits. */
static int has(struct lk_index *index, const char *id, const float *vector, float *scratch) {
    const size_t bytes = (size_t)index->dim * sizeof *vector;
    const struct lk_place *place = find(index, id);
    const struct lk_segment *s;
    if (place == NULL)
        return 0;
    s = place->segment;
    if (s->is_graph)
        index->named[place->slot / 64] |= (uint64_t)1 << place->slot % 64;
    return lk_vectors_copy(s->vectors, place->slot, 1, scratch) == 0 && memcmp(scratch, vector, bytes) == 0;
}

int lk_index_load(struct lk_index *index, size_t n, const char *const *ids, const float *vectors) {
    const size_t dim = (size_t)index->dim;
    float *scratch;
    int rc = 0;
    if (index->named == NULL)
        return lk_index_put_many(index, n, ids, vectors);
    if ((scratch = lk_calloc(dim, sizeof *scratch)) == NULL)
        return LK_ENOMEM;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (!has(index, ids[i], vectors + i * dim, scratch))
            rc = lk_index_put(index, ids[i], vectors + i * dim);
    }
    free(scratch);
    return rc;
}

int lk_index_loaded(struct lk_index *index) {
    const struct lk_segment *s = lk_view_graph(index->view);
    size_t removed = 0;
    int rc = 0;
    for (size_t i = 0; rc == 0 && index->named != NULL && s != NULL && i < s->count; i++) {
        if (s->died[i] == LK_ALIVE && (index->named[i / 64] >> i % 64 & 1) == 0) {
            rc = lk_index_delete(index, s->ids[i]);
            removed++;
        }
    }
    if (rc == 0 && index->named != NULL && s != NULL)
        lk_log_info("the graph of %zu vectors was brought up to date: %zu came since, %zu are gone", s->count,
                    atomic_load(&index->live) + s->dead - s->count, removed);
    free(index->named);
    index->named = NULL;
    return rc;
}

int lk_index_delete(struct lk_index *index, const char *id) {
    struct lk_place *place;
    int rc = 0;
    (void)pthread_mutex_lock(&index->writers);
    if ((place = find(index, id)) == NULL) {
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
    if ((place = find(index, id)) == NULL)
        rc = lk_err(LK_ENOTFOUND, "the index has no item '%s'", id);
    else
        rc = lk_vectors_copy(((struct lk_segment *)place->segment)->vectors, place->slot, 1, out);
    (void)pthread_mutex_unlock(&locks->writers);
    return rc;
}

/* Under `writers`, so that no place moves and the tail does not grow; a chunk at a time, so that writers get their turn. */
int lk_index_score(struct lk_index *index, const float *query, size_t n, const char *const *ids, float *scores) {
    int rc = lk_index_check_vector(index, "query", query);
    for (size_t i = 0; rc == 0 && i < n;) {
        const size_t end = n - i < SCORED ? n : i + SCORED;
        (void)pthread_mutex_lock(&index->writers);
        for (; rc == 0 && i < end; i++) {
            const struct lk_place *place = find(index, ids[i]);
            scores[i] = NAN;
            if (place == NULL)
                continue;
            rc = lk_vectors_scores(((struct lk_segment *)place->segment)->vectors, query, place->slot, 1, &scores[i]);
        }
        (void)pthread_mutex_unlock(&index->writers);
    }
    return rc;
}
