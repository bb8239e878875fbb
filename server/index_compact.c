/* Compaction: segments are rewritten without their tombstones while searches and writes go on. */
#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "index_internal.h"

/* --- Compacting -------------------------------------------------------------------------------------------------- */

/* Where one slot of the new segment came from. */
struct moved {
    struct lk_segment *segment;
    size_t slot;
};

/* How many segments from `at` on fit into one when only live vectors are kept; the tail is none of them. 0 when there is
 * nothing to gain. The caller holds `compacting`, so that the list grows at its end alone and live counts only fall. */
static size_t group_at(struct lk_index *index, const struct lk_view *v, size_t at) {
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
static int gather(struct lk_index *index, struct lk_segment **from, size_t n, struct lk_segment *to,
                  struct moved *moved) {
    float *vector = lk_calloc((size_t)index->dim, sizeof *vector);
    size_t count = 0;
    int rc = vector != NULL ? 0 : LK_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        (void)pthread_rwlock_rdlock(&index->gate);
        for (size_t slot = 0; slot < from[i]->count && count < index->slots; slot++) {
            if (from[i]->died[slot] == LK_ALIVE)
                moved[count++] = (struct moved){.segment = from[i], .slot = slot};
        }
        (void)pthread_rwlock_unlock(&index->gate);
    }
    for (size_t i = 0; rc == 0 && i < count; i++) {
        if ((to->ids[i] = lk_strdup(moved[i].segment->ids[moved[i].slot])) == NULL) {
            rc = LK_ENOMEM;
            break;
        }
        to->count = i + 1;
        if ((rc = lk_vectors_copy(moved[i].segment->vectors, moved[i].slot, 1, vector)) == 0)
            rc = lk_vectors_add(to->vectors, 1, vector);
    }
    free(vector);
    return rc;
}

/* Puts the new segment in the place of the old ones. What died while it was copied is dead in it too. */
static int swap_in(struct lk_index *index, size_t at, size_t n, struct lk_segment *to, const struct moved *moved) {
    struct lk_view *v, *before;
    size_t gone = 0;
    int rc;
    (void)pthread_mutex_lock(&index->writers);
    before = index->view;
    if ((rc = lk_view_splice(&v, before, at, n, to->count > 0 ? to : NULL)) < 0) {
        (void)pthread_mutex_unlock(&index->writers);
        return rc;
    }
    (void)pthread_rwlock_wrlock(&index->gate);
    for (size_t i = 0; i < n; i++)
        gone += before->segments[at + i]->dead;
    for (size_t i = 0; i < to->count; i++) {
        to->died[i] = moved[i].segment->died[moved[i].slot];
        to->dead += to->died[i] != LK_ALIVE;
    }
    index->view = v;
    atomic_fetch_sub(&index->tombstones, gone - to->dead);
    (void)pthread_rwlock_unlock(&index->gate);
    for (size_t i = 0; i < to->count; i++) {
        struct lk_place *place = to->died[i] == LK_ALIVE ? lk_idmap_find(&index->map, to->ids[i]) : NULL;
        if (place != NULL) {
            place->id = to->ids[i];
            place->segment = to;
            place->slot = (uint32_t)i;
        }
    }
    (void)pthread_mutex_unlock(&index->writers);
    lk_view_release(before);
    return 0;
}

/* Rewrites the group that begins at segment *at of the list; *at becomes where the next one begins, or the list's end. */
static int compact_group(struct lk_index *index, size_t *at, struct moved *moved) {
    struct lk_segment *to = NULL;
    struct lk_view *v;
    size_t n;
    int rc = 0;
    (void)pthread_rwlock_rdlock(&index->gate);
    v = lk_index_pin(index);
    (void)pthread_rwlock_unlock(&index->gate);
    if (*at + 1 >= v->n) {
        *at = SIZE_MAX;
    } else if ((n = group_at(index, v, *at)) == 0) {
        ++*at;
    } else if ((rc = lk_segment_open(&to, index)) == 0 && (rc = gather(index, v->segments + *at, n, to, moved)) == 0 &&
               (rc = swap_in(index, *at, n, to, moved)) == 0) {
        *at += to->count > 0;
    }
    lk_segment_release(to);
    lk_view_release(v);
    return rc;
}

int lk_index_compact(struct lk_index *index) {
    struct moved *moved = lk_calloc(index->slots, sizeof *moved);
    int rc = 0;
    if (moved == NULL)
        return LK_ENOMEM;
    (void)pthread_mutex_lock(&index->compacting);
    (void)pthread_mutex_lock(&index->writers);
    if (lk_index_tail(index)->dead > 0)
        rc = lk_index_new_tail(index); /* seals the old one, so that it can be rewritten */
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
