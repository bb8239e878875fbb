/* Linking vectors into an HNSW graph. A graph that is searched never changes: the vectors that came since are added to a
 * copy, or a new one is built, while the old one and the Flat segments go on answering; then they change places. What
 * waits is linked in rounds of a quarter of the graph, each of which ends in its file: a stop loses the one it was in, and
 * all the copying and writing is that of five graphs. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "index_internal.h"
#include "work.h"

enum {
    LINKED = 256,  /* vectors linked at a time: how soon a stop is heard */
    ROUND = 16384, /* vectors at least, */
    PART = 4,      /* and this part of the graph */
    LOG_SECONDS = 10,
    NICE = 5
};

struct link {
    struct lk_index *index;
    struct lk_view *view; /* pinned */
    size_t n;             /* its first n segments are rewritten */
    struct lk_segment *to;
    size_t kept;            /* slots of the copy that is added to; 0: a new graph */
    struct lk_moved *moved; /* [to->slots] */
    int status;
    char error[256];
};

static int is_worn(const struct lk_segment *graph) { return graph->dead > graph->count / 5; }

size_t lk_index_linked(const struct lk_index *index) {
    struct lk_index *locks = (struct lk_index *)index; /* what it holds does not change, only who waits */
    const struct lk_segment *graph;
    size_t linked;
    (void)pthread_rwlock_rdlock(&locks->gate);
    graph = lk_view_graph(index->view);
    linked = graph != NULL ? graph->count : 0;
    (void)pthread_rwlock_unlock(&locks->gate);
    return linked;
}

int lk_index_wants_linking(const struct lk_index *index) {
    struct lk_index *locks = (struct lk_index *)index; /* what it holds does not change, only who waits */
    const struct lk_segment *graph;
    size_t linked, flat = 0;
    int worn;
    if (index->options.kind != LK_INDEX_HNSW)
        return 0;
    (void)pthread_rwlock_rdlock(&locks->gate);
    graph = lk_view_graph(index->view);
    linked = graph != NULL ? graph->count : 0;
    worn = graph != NULL && is_worn(graph);
    for (size_t i = graph != NULL; i < index->view->n; i++)
        flat += index->view->segments[i]->count;
    (void)pthread_rwlock_unlock(&locks->gate);
    return worn || (flat > index->options.unlinked && flat > linked / 8);
}

/* Which segments, and which of their slots, this round rewrites. */
static int choose(struct link *l) {
    struct lk_segment *const *from = l->view->segments;
    const struct lk_segment *graph = lk_view_graph(l->view);
    const size_t linked = graph != NULL ? graph->count : 0;
    const size_t most = linked / PART > ROUND ? linked / PART : ROUND;
    size_t slots = 0, count = 0;
    for (l->n = graph != NULL; l->n + 1 < l->view->n && slots < most; l->n++)
        slots += from[l->n]->count;
    slots += linked;
    if ((l->moved = lk_calloc(slots + 1, sizeof *l->moved)) == NULL || lk_segment_open(&l->to, slots + 1) < 0)
        return LK_ENOMEM;
    for (size_t i = 0; i < l->n; i++) {
        (void)pthread_rwlock_rdlock(&l->index->gate);
        const int keep = from[i]->is_graph && !is_worn(from[i]);
        for (size_t slot = 0; slot < from[i]->count; slot++) {
            const int alive = from[i]->died[slot] == LK_ALIVE;
            if (alive || keep)
                l->moved[count++] = (struct lk_moved){.segment = alive ? from[i] : NULL, .slot = (uint32_t)slot};
        }
        (void)pthread_rwlock_unlock(&l->index->gate);
        l->kept = keep ? count : l->kept;
    }
    l->to->is_graph = 1;
    l->to->count = count;
    return 0;
}

static int name_slots(struct link *l) {
    for (size_t i = 0; i < l->to->count; i++) {
        const struct lk_moved *m = &l->moved[i];
        if (m->segment != NULL && (l->to->ids[i] = lk_strdup(m->segment->ids[m->slot])) == NULL)
            return LK_ENOMEM;
    }
    return 0;
}

static int add_all(struct link *l) {
    const size_t dim = (size_t)l->index->dim, count = l->to->count;
    float *vectors = lk_calloc(LINKED * dim, sizeof *vectors);
    const int64_t begun = lk_now_ns();
    int64_t logged = begun;
    int rc = vectors != NULL ? 0 : LK_ENOMEM;
    for (size_t done = l->kept; rc == 0 && done < count;) {
        const size_t now = count - done < LINKED ? count - done : LINKED;
        if (atomic_load(&l->index->cancelled)) {
            rc = lk_err(LK_ECANCELLED, "linking was stopped after %zu of %zu vectors", done, count);
            break;
        }
        for (size_t i = 0; rc == 0 && i < now; i++) {
            const struct lk_moved *m = &l->moved[done + i];
            rc = lk_vectors_copy(m->segment->vectors, m->slot, 1, vectors + i * dim);
        }
        if (rc == 0)
            rc = lk_vectors_add(l->to->vectors, now, vectors, l->index->options.threads);
        done += now;
        const int64_t time = lk_now_ns();
        if (rc == 0 && time - logged > LOG_SECONDS * (int64_t)1000000000) {
            const double seconds = (double)(time - begun) / 1e9;
            logged = time;
            lk_log_info("linked %zu of %zu vectors; about %.0f s left of this round", done, count,
                        seconds * (double)(count - done) / (double)(done - l->kept));
        }
    }
    free(vectors);
    return rc;
}

/* On a thread of its own, since only a thread as a whole can step back behind the others, and FAISS's threads inherit it. */
static void *build(void *arg) {
    struct link *l = arg;
    (void)setpriority(PRIO_PROCESS, 0, NICE);
    l->status = l->kept > 0 ? lk_vectors_clone(&l->to->vectors, l->view->segments[0]->vectors)
                            : lk_vectors_graph(&l->to->vectors, l->index->dim, l->index->options.m,
                                               l->index->options.ef_construction);
    if (l->status == 0)
        l->status = add_all(l);
    if (l->status < 0)
        snprintf(l->error, sizeof l->error, "%s", lk_error());
    return NULL;
}

static int build_aside(struct link *l) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, build, l) != 0)
        return lk_err(LK_EFAIL, "no thread to link vectors");
    (void)pthread_join(thread, NULL);
    return l->status < 0 ? lk_err(l->status, "%s", l->error) : 0;
}

int lk_index_link(struct lk_index *index) {
    struct link l = {.index = index};
    int64_t seq;
    int rc = 0;
    (void)pthread_mutex_lock(&index->writers);
    seq = atomic_load(&index->applied);
    if (lk_index_tail(index)->count > 0)
        rc = lk_index_new_tail(index);
    (void)pthread_mutex_unlock(&index->writers);
    if (rc < 0)
        return rc;
    (void)pthread_rwlock_rdlock(&index->gate);
    l.view = lk_index_pin(index);
    (void)pthread_rwlock_unlock(&index->gate);
    if ((rc = choose(&l)) == 0 && (rc = name_slots(&l)) == 0 && (rc = build_aside(&l)) == 0) {
        /* Only what the last round took in is all there was at `seq`. */
        l.to->seq = l.n + 1 == l.view->n ? seq : 0;
        rc = lk_index_swap(index, 0, l.n, l.to, l.moved);
        if (rc == 0 && l.n + 1 < l.view->n)
            rc = 1;
    }
    lk_segment_release(l.to);
    lk_view_release(l.view);
    free(l.moved);
    return rc;
}
