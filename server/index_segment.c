/* Segments and lists of them. */
#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "index_internal.h"

void lk_segment_release(struct lk_segment *s) {
    if (s == NULL || atomic_fetch_sub(&s->references, 1) != 1)
        return;
    lk_vectors_free(s->vectors);
    for (size_t i = 0; s->ids != NULL && i < s->count; i++)
        free(s->ids[i]);
    free(s->ids);
    free(s->died);
    free(s->moved_to);
    free(s);
}

int lk_segment_open(struct lk_segment **out, size_t slots) {
    struct lk_segment *s = lk_calloc(1, sizeof *s);
    *out = NULL;
    if (s == NULL)
        return LK_ENOMEM;
    atomic_init(&s->references, 1);
    s->slots = slots;
    if ((s->ids = lk_calloc(slots, sizeof *s->ids)) == NULL || (s->died = lk_calloc(slots, sizeof *s->died)) == NULL) {
        lk_segment_release(s);
        return LK_ENOMEM;
    }
    *out = s;
    return 0;
}

int lk_segment_open_flat(struct lk_segment **out, const struct lk_index *index) {
    int rc = lk_segment_open(out, index->slots);
    if (rc == 0 && (rc = lk_vectors_flat(&(*out)->vectors, index->dim, index->slots)) < 0) {
        lk_segment_release(*out);
        *out = NULL;
    }
    return rc;
}

void lk_view_release(struct lk_view *v) {
    if (v == NULL || atomic_fetch_sub(&v->references, 1) != 1)
        return;
    for (size_t i = 0; i < v->n; i++)
        lk_segment_release(v->segments[i]);
    free(v->segments);
    free(v);
}

int lk_view_splice(struct lk_view **out, const struct lk_view *old, size_t at, size_t n_out, struct lk_segment *in) {
    struct lk_view *v = lk_calloc(1, sizeof *v);
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

struct lk_view *lk_index_pin(const struct lk_index *index) {
    atomic_fetch_add(&index->view->references, 1);
    return index->view;
}

struct lk_segment *lk_index_tail(const struct lk_index *index) {
    return index->view->segments[index->view->n - 1];
}

struct lk_segment *lk_view_graph(const struct lk_view *v) {
    return v->n > 0 && v->segments[0]->is_graph ? v->segments[0] : NULL;
}

void lk_index_resolve(struct lk_place *place) {
    const struct lk_segment *s = place->segment;
    if (s->successor == NULL)
        return;
    place->slot = s->moved_to[place->slot];
    place->segment = s->successor;
    place->id = s->successor->ids[place->slot];
}

int lk_index_new_tail(struct lk_index *index) {
    static const struct lk_view nothing = {0};
    const struct lk_view *old = index->view != NULL ? index->view : &nothing;
    struct lk_view *v, *before = index->view;
    struct lk_segment *s;
    int rc;
    if ((rc = lk_segment_open_flat(&s, index)) < 0)
        return rc;
    if ((rc = lk_view_splice(&v, old, old->n, 0, s)) == 0) {
        (void)pthread_rwlock_wrlock(&index->gate);
        index->view = v;
        (void)pthread_rwlock_unlock(&index->gate);
        lk_view_release(before);
    }
    lk_segment_release(s);
    return rc;
}
