/* Compaction: segments are rewritten without their tombstones while searches and writes go on. */
#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "index_internal.h"

enum { MAPPED = 4096 /* places of the map that are changed while writers wait */ };

/* --- Replacing segments ------------------------------------------------------------------------------------------ */

/* Tells the old segments where their slots went. Readers of the map follow it until every place names the new one. */
static int make_forwarding(struct lk_segment **from, size_t n, const struct lk_segment *to,
                           const struct lk_moved *moved) {
    for (size_t i = 0; i < n; i++) {
        if ((from[i]->moved_to = lk_calloc(from[i]->count + 1, sizeof *from[i]->moved_to)) == NULL) {
            while (i-- > 0) {
                free(from[i]->moved_to);
                from[i]->moved_to = NULL;
            }
            return LK_ENOMEM;
        }
    }
    for (size_t i = 0; i < to->count; i++) {
        if (moved[i].segment != NULL)
            moved[i].segment->moved_to[moved[i].slot] = (uint32_t)i;
    }
    return 0;
}

/* Carries over what died since. The caller holds `writers`: nothing dies meanwhile. Returns the tombstones gone. */
static size_t carry_over(struct lk_segment **from, size_t n, struct lk_segment *to, const struct lk_moved *moved) {
    size_t gone = 0;
    for (size_t i = 0; i < n; i++)
        gone += from[i]->dead;
    to->dead = 0;
    for (size_t i = 0; i < to->count; i++) {
        to->died[i] = moved[i].segment != NULL ? moved[i].segment->died[moved[i].slot] : 0;
        to->dead += to->died[i] != LK_ALIVE;
    }
    return gone - to->dead;
}

/* Lets the map name the new segment, some places at a time. */
static void move_places(struct lk_index *index, const struct lk_segment *to) {
    for (size_t i = 0; i < to->count;) {
        (void)pthread_mutex_lock(&index->writers);
        for (const size_t end = i + MAPPED; i < end && i < to->count; i++) {
            struct lk_place *place = to->died[i] == LK_ALIVE ? lk_idmap_find(&index->map, to->ids[i]) : NULL;
            if (place != NULL)
                lk_index_resolve(place);
        }
        (void)pthread_mutex_unlock(&index->writers);
    }
}

int lk_index_swap(struct lk_index *index, size_t at, size_t n, struct lk_segment *to, const struct lk_moved *moved) {
    struct lk_view *v = NULL, *before;
    size_t gone;
    int rc;
    if (index->halfway != NULL)
        index->halfway(index, 0);
    (void)pthread_mutex_lock(&index->writers);
    before = index->view;
    if ((rc = lk_view_splice(&v, before, at, n, to->count > 0 ? to : NULL)) < 0 ||
        (rc = make_forwarding(before->segments + at, n, to, moved)) < 0) {
        lk_view_release(v);
        (void)pthread_mutex_unlock(&index->writers);
        return rc;
    }
    gone = carry_over(before->segments + at, n, to, moved);
    for (size_t i = 0; i < n; i++)
        before->segments[at + i]->successor = to;
    (void)pthread_rwlock_wrlock(&index->gate);
    index->view = v;
    (void)pthread_rwlock_unlock(&index->gate);
    atomic_fetch_sub(&index->tombstones, gone);
    (void)pthread_mutex_unlock(&index->writers);
    if (index->halfway != NULL)
        index->halfway(index, 1);
    move_places(index, to);
    lk_view_release(before);
    return 0;
}

/* --- Flat segments ------------------------------------------------------------------------------------------------ */

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
                  struct lk_moved *moved) {
    float *vector = lk_calloc((size_t)index->dim, sizeof *vector);
    size_t count = 0;
    int rc = vector != NULL ? 0 : LK_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        (void)pthread_rwlock_rdlock(&index->gate);
        for (size_t slot = 0; slot < from[i]->count && count < index->slots; slot++) {
            if (from[i]->died[slot] == LK_ALIVE)
                moved[count++] = (struct lk_moved){.segment = from[i], .slot = (uint32_t)slot};
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
            rc = lk_vectors_add(to->vectors, 1, vector, 1);
    }
    free(vector);
    return rc;
}

/* Rewrites the group that begins at segment *at of the list; *at becomes where the next one begins, or the list's end. */
static int compact_group(struct lk_index *index, size_t *at, struct lk_moved *moved) {
    struct lk_segment *to = NULL;
    struct lk_view *v;
    size_t n;
    int rc = 0;
    (void)pthread_rwlock_rdlock(&index->gate);
    v = lk_index_pin(index);
    (void)pthread_rwlock_unlock(&index->gate);
    if (*at + 1 >= v->n) {
        *at = SIZE_MAX;
    } else if (v->segments[*at]->is_graph || (n = group_at(index, v, *at)) == 0) {
        ++*at;
    } else if ((rc = lk_segment_open_flat(&to, index)) == 0 &&
               (rc = gather(index, v->segments + *at, n, to, moved)) == 0 &&
               (rc = lk_index_swap(index, *at, n, to, moved)) == 0) {
        *at += to->count > 0;
    }
    lk_segment_release(to);
    lk_view_release(v);
    return rc;
}

static int compact_flat(struct lk_index *index) {
    struct lk_moved *moved = lk_calloc(index->slots, sizeof *moved);
    int rc = 0;
    if (moved == NULL)
        return LK_ENOMEM;
    (void)pthread_mutex_lock(&index->writers);
    if (lk_index_tail(index)->dead > 0)
        rc = lk_index_new_tail(index); /* seals the old one, so that it can be rewritten */
    (void)pthread_mutex_unlock(&index->writers);
    for (size_t at = 0; rc == 0 && at != SIZE_MAX;)
        rc = compact_group(index, &at, moved);
    free(moved);
    return rc;
}

int lk_index_compact(struct lk_index *index) {
    int rc = 0;
    (void)pthread_mutex_lock(&index->compacting);
    if (lk_index_wants_linking(index)) {
        while ((rc = lk_index_link(index)) >= 0) {
            if (index->options.path != NULL && lk_index_file_write(index) < 0)
                lk_log_warn("the graph is not kept: %s", lk_error());
            if (rc == 0)
                break;
        }
    } else {
        rc = compact_flat(index);
    }
    (void)pthread_mutex_unlock(&index->compacting);
    return rc;
}

int lk_index_wants_compaction(const struct lk_index *index) {
    const size_t dead = atomic_load(&index->tombstones);
    return (dead > 1024 && dead > atomic_load(&index->live) / 4) || lk_index_wants_linking(index);
}
