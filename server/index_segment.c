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
    free(s);
}

int lk_segment_open(struct lk_segment **out, const struct lk_index *index) {
    struct lk_segment *s = lk_calloc(1, sizeof *s);
    int rc = LK_ENOMEM;
    *out = NULL;
    if (s == NULL)
        return LK_ENOMEM;
    atomic_init(&s->references, 1);
    s->slots = index->slots;
    if ((s->ids = lk_calloc(s->slots, sizeof *s->ids)) == NULL ||
        (s->died = lk_calloc(s->slots, sizeof *s->died)) == NULL ||
        (rc = lk_vectors_flat(&s->vectors, index->dim, s->slots)) < 0) {
        lk_segment_release(s);
        return rc;
    }
    *out = s;
    return 0;
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

int lk_index_new_tail(struct lk_index *index) {
    static const struct lk_view nothing = {0};
    const struct lk_view *old = index->view != NULL ? index->view : &nothing;
    struct lk_view *v, *before = index->view;
    struct lk_segment *s;
    int rc;
    if ((rc = lk_segment_open(&s, index)) < 0)
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
