/* Opening, writing and looking up; index_internal.h says how the index is built. */
#include "index.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
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
    if ((rc = init_locks(index)) < 0 || (rc = lk_idmap_init(&index->map)) < 0 || (rc = lk_index_new_tail(index)) < 0) {
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
    free(index);
}

size_t lk_index_count(const struct lk_index *index) { return atomic_load(&index->live); }
size_t lk_index_tombstones(const struct lk_index *index) { return atomic_load(&index->tombstones); }

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
    if ((rc = lk_vectors_add(tail->vectors, n, vectors)) < 0) {
        (void)pthread_rwlock_unlock(&index->gate);
        return rc;
    }
    index->version++;
    for (size_t i = 0; i < n; i++) {
        const size_t slot = tail->count++;
        struct lk_place *old = lk_idmap_find(&index->map, strings[i]);
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
            const struct lk_place *place = lk_idmap_find(&index->map, ids[i]);
            int64_t slot;
            scores[i] = NAN;
            if (place == NULL)
                continue;
            slot = place->slot;
            rc = lk_vectors_scores(((struct lk_segment *)place->segment)->vectors, query, 1, &slot, &scores[i]);
        }
        (void)pthread_mutex_unlock(&index->writers);
    }
    return rc;
}
