/* Searching: segment by segment, widening where tombstones or a filter take out too many, always the exact best k of one
 * moment in a stable order. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "index_internal.h"

enum {
    WINDOW = 1024, /* slots of a graph looked at together when all of them are */
    TOGETHER = 64  /* queries answered together */
};

struct candidate {
    float score;
    const char *id; /* the segment's */
};

struct search {
    struct lk_index *index;
    struct lk_arena *arena; /* for all that is [..] below; NULL: memory of its own */
    const float *query;
    size_t k, ef;
    const char *exclude;
    float min_score;
    int (*accept)(void *arg, const char *id); /* NULL: all */
    void *arg;
    struct lk_view *view; /* pinned */
    uint64_t version;
    size_t live;
    size_t tail_count;               /* slots of the view's tail when the search began */
    struct candidate *best, *merged; /* [k], in order */
    size_t n_best;
    struct candidate *found; /* of one segment, in order: [room] */
    size_t n_found;
    float *scores;  /* FAISS's output: [room] */
    int64_t *slots; /* [room] */
    size_t room;
};

static int better(const struct candidate *a, const struct candidate *b) {
    return a->score != b->score ? a->score > b->score : strcmp(a->id, b->id) < 0;
}

static int by_rank(const void *a, const void *b) { return better(a, b) ? -1 : better(b, a); }

static int make_room(struct search *q, size_t n) {
    if (n <= q->room)
        return 0;
    lk_arena_drop(q->arena, q->found);
    lk_arena_drop(q->arena, q->scores);
    lk_arena_drop(q->arena, q->slots);
    q->room = 0;
    q->found = lk_arena_take(q->arena, n, sizeof *q->found);
    q->scores = lk_arena_take(q->arena, n, sizeof *q->scores);
    q->slots = lk_arena_take(q->arena, n, sizeof *q->slots);
    if (q->found == NULL || q->scores == NULL || q->slots == NULL)
        return LK_ENOMEM;
    q->room = n;
    return 0;
}

/* Of n slots that FAISS found, those that were alive when the search began, in order, into q->found. The caller holds the
 * gate. */
static void keep_alive(struct search *q, const struct lk_segment *s, size_t visible, size_t n) {
    q->n_found = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t slot = (size_t)q->slots[i];
        if (slot >= visible || s->died[slot] <= q->version || q->scores[i] < q->min_score ||
            (q->exclude != NULL && strcmp(s->ids[slot], q->exclude) == 0))
            continue;
        q->found[q->n_found++] = (struct candidate){.score = q->scores[i], .id = s->ids[slot]};
    }
}

/* One segment's part of a search. */
struct scan {
    const struct lk_segment *segment;
    int is_tail;
    size_t visible; /* slots there were when the search began */
    size_t count;   /* slots now */
    size_t end;     /* so many of q->found are certain to be the first ones */
    float cut;      /* above which that is certain; -INFINITY: there is nothing more to ask for */
    int below;      /* the cut is below the least score */
};

/* Keeps what was alive of the `ask` slots that FAISS was asked for. cut: no slot that it did not name scores more. The
 * caller holds the gate. */
static void sift(struct search *q, struct scan *scan, size_t ask, float cut) {
    size_t n = 0;
    while (n < ask && q->slots[n] >= 0) /* products that overflow to no number leave places empty */
        n++;
    keep_alive(q, scan->segment, scan->visible, n);
    scan->count = scan->segment->count;
    scan->cut = n == ask && ask < scan->count ? cut : -INFINITY;
}

static void rank(struct search *q, struct scan *scan) {
    if (q->n_found > 1)
        qsort(q->found, q->n_found, sizeof *q->found, by_rank);
    for (scan->end = 0; scan->end < q->n_found && q->found[scan->end].score > scan->cut;)
        scan->end++;
    scan->below = scan->cut > -INFINITY && scan->cut < q->min_score;
}

/* The segment's best `ask` slots. Scores equal to the last one that came back may have been cut off, so that only what
 * is above it is certain. */
static int fetch(struct search *q, struct scan *scan, size_t ask) {
    const struct lk_segment *s = scan->segment;
    int rc;
    if (scan->is_tail) { /* writers add to it: "all" are more than they were */
        (void)pthread_rwlock_rdlock(&q->index->gate);
        ask = ask < scan->count ? ask : s->count;
    }
    if ((rc = make_room(q, ask)) == 0)
        rc = lk_vectors_search(s->vectors, 1, q->query, ask, q->ef, q->scores, q->slots);
    if (!scan->is_tail)
        (void)pthread_rwlock_rdlock(&q->index->gate);
    if (rc == 0)
        sift(q, scan, ask, q->scores[ask - 1]);
    (void)pthread_rwlock_unlock(&q->index->gate);
    if (rc == 0)
        rank(q, scan);
    return rc;
}

/* Merges those of q->found[from..end) that are accepted into q->best, and keeps k. Nobody is asked about a candidate that
 * cannot be among the best. */
static int merge(struct search *q, size_t from, size_t end) {
    struct candidate *swap = q->merged;
    size_t old = 0, out = 0;
    for (size_t i = from; i < end && out < q->k; i++) {
        int take = 1;
        while (out < q->k && old < q->n_best && better(&q->best[old], &q->found[i]))
            q->merged[out++] = q->best[old++];
        if (out == q->k || (q->accept != NULL && (take = q->accept(q->arg, q->found[i].id)) == 0))
            continue;
        if (take < 0)
            return take;
        q->merged[out++] = q->found[i];
    }
    while (out < q->k && old < q->n_best)
        q->merged[out++] = q->best[old++];
    q->merged = q->best;
    q->best = swap;
    q->n_best = out;
    return 0;
}

/* How many slots to ask for at first: k, twice the tombstones that would be among them if they lay anywhere, what was
 * added since the search began, and one that shows whether the cut goes through a tie. */
static size_t first_ask(const struct search *q, size_t count, size_t dead, size_t visible) {
    size_t spare;
    if (count == 0)
        return 0;
    spare = 2 * dead * (q->k < count ? q->k : count) / count + 16;
    spare = (spare < dead ? spare : dead) + (count - visible) + (q->exclude != NULL) + 1;
    return q->k < count && spare < count - q->k ? q->k + spare : count;
}

/* Every slot of a segment that is no tail, some at a time. */
static int scan_exactly(struct search *q, const struct lk_segment *s) {
    int rc = make_room(q, WINDOW);
    for (size_t first = 0; rc == 0 && first < s->count; first += WINDOW) {
        const size_t n = s->count - first < WINDOW ? s->count - first : WINDOW;
        if ((rc = lk_vectors_scores(s->vectors, q->query, first, n, q->scores)) < 0)
            break;
        for (size_t i = 0; i < n; i++)
            q->slots[i] = (int64_t)(first + i);
        (void)pthread_rwlock_rdlock(&q->index->gate);
        keep_alive(q, s, s->count, n);
        (void)pthread_rwlock_unlock(&q->index->gate);
        if (q->n_found > 1)
            qsort(q->found, q->n_found, sizeof *q->found, by_rank);
        rc = merge(q, 0, q->n_found);
    }
    return rc;
}

/* A graph is the first segment, so that every try may begin from nothing. It is asked for more until k of what it gives
 * are accepted and above the cut; when that is a good part of all, or when it finds no more, every slot is looked at. */
static int scan_graph(struct search *q, const struct lk_segment *s) {
    struct scan scan = {.segment = s, .visible = s->count, .count = s->count};
    size_t ask;
    int rc;
    (void)pthread_rwlock_rdlock(&q->index->gate);
    ask = first_ask(q, s->count, s->dead, s->count);
    (void)pthread_rwlock_unlock(&q->index->gate);
    for (; ask < s->count / 8; ask *= 2) {
        q->n_best = 0;
        if ((rc = fetch(q, &scan, ask)) < 0 || (rc = merge(q, 0, scan.end)) < 0)
            return rc;
        if (q->n_best == q->k || scan.below)
            return 0;
        if (scan.cut == -INFINITY)
            break; /* it cannot reach more */
    }
    q->n_best = 0;
    return scan_exactly(q, s);
}

static int scan_segment(struct search *q, const struct lk_segment *s, int is_tail) {
    struct scan scan = {.segment = s, .is_tail = is_tail, .cut = INFINITY};
    size_t dead, ask, judged = 0;
    int rc = 0;
    (void)pthread_rwlock_rdlock(&q->index->gate);
    scan.count = s->count;
    dead = s->dead;
    (void)pthread_rwlock_unlock(&q->index->gate);
    scan.visible = is_tail ? q->tail_count : scan.count;
    ask = first_ask(q, scan.count, dead, scan.visible);
    while (rc == 0 && ask > 0 && scan.cut > -INFINITY && !scan.below &&
           (q->n_best < q->k || q->best[q->k - 1].score <= scan.cut)) {
        if ((rc = fetch(q, &scan, ask)) == 0)
            rc = merge(q, judged, scan.end);
        judged = scan.end > judged ? scan.end : judged; /* a tail that grew may show less of what was there */
        ask = ask < scan.count / 2 ? ask * 2 : scan.count;
    }
    return rc;
}

static int scan_one(struct search *q, size_t i) {
    struct lk_segment *s = q->view->segments[i];
    return s->is_graph ? scan_graph(q, s) : scan_segment(q, s, i + 1 == q->view->n);
}

static int copy_hits(const struct search *q, struct lk_hits *out) {
    if (q->n_best == 0)
        return 0;
    out->arena = q->arena;
    if ((out->hits = lk_arena_take(q->arena, q->n_best, sizeof *out->hits)) == NULL)
        return LK_ENOMEM;
    for (size_t i = 0; i < q->n_best; i++) {
        if ((out->hits[i].id = lk_arena_strdup(q->arena, q->best[i].id)) == NULL)
            return LK_ENOMEM;
        out->hits[i].score = q->best[i].score;
        out->count = i + 1;
    }
    return 0;
}

/* --- One query ---------------------------------------------------------------------------------------------------- */

/* Pins the moment that the search sees. */
static void begin(struct search *q, struct lk_index *index) {
    (void)pthread_rwlock_rdlock(&index->gate);
    q->view = lk_index_pin(index);
    q->version = index->version;
    q->tail_count = lk_index_tail(index)->count;
    q->live = atomic_load(&index->live);
    (void)pthread_rwlock_unlock(&index->gate);
}

/* At the pinned moment: checks the query, and makes room for its results. Nothing to find: q->k is 0. */
static int prepare(struct search *q, struct lk_index *index, const struct lk_index_query *query) {
    int rc;
    q->index = index;
    q->query = query->vector;
    q->exclude = query->exclude;
    q->min_score = query->min_score;
    q->ef = (size_t)index->options.ef_search;
    q->k = query->k < q->live ? query->k : q->live;
    if (query->k < 1)
        return lk_err(LK_EINVAL, "a search for no neighbours");
    if ((rc = lk_index_check_vector(index, "query", query->vector)) < 0 || q->k == 0)
        return rc;
    q->best = lk_arena_take(q->arena, q->k, sizeof *q->best);
    q->merged = lk_arena_take(q->arena, q->k, sizeof *q->merged);
    return q->best == NULL || q->merged == NULL ? LK_ENOMEM : 0;
}

static void end(struct search *q) {
    lk_arena_drop(q->arena, q->best);
    lk_arena_drop(q->arena, q->merged);
    lk_arena_drop(q->arena, q->found);
    lk_arena_drop(q->arena, q->scores);
    lk_arena_drop(q->arena, q->slots);
}

static int search_one(struct search *q, struct lk_index *index, const struct lk_index_query *query,
                      struct lk_hits *out) {
    int rc;
    *out = (struct lk_hits){0};
    begin(q, index);
    rc = prepare(q, index, query);
    for (size_t i = 0; rc == 0 && q->k > 0 && i < q->view->n; i++)
        rc = scan_one(q, i);
    if (rc == 0)
        rc = copy_hits(q, out);
    if (rc < 0)
        lk_hits_free(out);
    lk_view_release(q->view);
    end(q);
    return rc;
}

int lk_index_search_where(struct lk_index *index, const float *query, size_t k, const char *exclude, float min_score,
                          int (*accept)(void *arg, const char *id), void *arg, struct lk_hits *out) {
    const struct lk_index_query one = {.vector = query, .k = k, .exclude = exclude, .min_score = min_score};
    struct search q = {.accept = accept, .arg = arg};
    return search_one(&q, index, &one, out);
}

int lk_index_search_in(struct lk_index *index, struct lk_arena *arena, const float *query, size_t k,
                       const char *exclude, float min_score, struct lk_hits *out) {
    const struct lk_index_query one = {.vector = query, .k = k, .exclude = exclude, .min_score = min_score};
    struct search q = {.arena = arena};
    return search_one(&q, index, &one, out);
}

int lk_index_search(struct lk_index *index, const float *query, size_t k, const char *exclude, float min_score,
                    struct lk_hits *out) {
    return lk_index_search_in(index, NULL, query, k, exclude, min_score, out);
}

/* --- Many queries ------------------------------------------------------------------------------------------------- */

/* Queries that are answered together: a segment is read once for all of them, and their products are one of matrices. */
struct together {
    struct search *searches; /* [n] */
    size_t n;
    float *vectors; /* [n][dim] */
    float *scores;  /* [n][room] */
    int64_t *slots; /* [n][room] */
    size_t room;
};

static int make_rows(struct together *t, size_t ask) {
    if (ask <= t->room)
        return 0;
    free(t->scores);
    free(t->slots);
    t->room = 0;
    t->scores = lk_calloc(t->n * ask, sizeof *t->scores);
    t->slots = lk_calloc(t->n * ask, sizeof *t->slots);
    if (t->scores == NULL || t->slots == NULL)
        return LK_ENOMEM;
    t->room = ask;
    return 0;
}

/* One query's row of a segment's answer. Scores are computed again one by one, so that they do not depend on who else asks.
 * When the row does not settle the segment, the query looks at it by itself. */
static int take_row(struct search *q, size_t segment, size_t ask, const float *scores, const int64_t *slots) {
    struct scan scan = {.segment = q->view->segments[segment]};
    /* Of sums of dim products of unit vectors in two orders: Higham, "Accuracy and Stability", 2002, section 3.1. */
    const float error = (float)q->index->dim * 2 * 1.2e-7F;
    struct candidate *best = q->best;
    const size_t n_best = q->n_best;
    int rc = make_room(q, ask);
    for (size_t i = 0; rc == 0 && i < ask; i++) {
        q->slots[i] = slots[i];
        q->scores[i] = scores[i];
        if (slots[i] >= 0)
            rc = lk_vectors_scores(scan.segment->vectors, q->query, (size_t)slots[i], 1, &q->scores[i]);
    }
    if (rc < 0)
        return rc;
    scan.visible = scan.segment->count;
    (void)pthread_rwlock_rdlock(&q->index->gate);
    sift(q, &scan, ask, scores[ask - 1] + error);
    (void)pthread_rwlock_unlock(&q->index->gate);
    rank(q, &scan);
    if ((rc = merge(q, 0, scan.end)) < 0)
        return rc;
    if (scan.cut == -INFINITY || scan.below || (q->n_best == q->k && q->best[q->k - 1].score > scan.cut))
        return 0;
    q->merged = q->best;
    q->best = best;
    q->n_best = n_best;
    return scan_segment(q, scan.segment, 0);
}

/* A sealed Flat segment for all. */
static int scan_together(struct together *t, struct lk_index *index, size_t segment) {
    const struct lk_segment *s = t->searches[0].view->segments[segment];
    size_t ask = 0, dead;
    int rc = 0;
    (void)pthread_rwlock_rdlock(&index->gate);
    dead = s->dead;
    (void)pthread_rwlock_unlock(&index->gate);
    for (size_t i = 0; i < t->n; i++) {
        const size_t one = first_ask(&t->searches[i], s->count, dead, s->count);
        ask = one > ask && one <= s->count / 4 ? one : ask; /* who wants most of it looks by himself */
    }
    if (ask > 0 && (rc = make_rows(t, ask)) == 0)
        rc = lk_vectors_search(s->vectors, t->n, t->vectors, ask, 1, t->scores, t->slots);
    for (size_t i = 0; rc == 0 && i < t->n; i++)
        rc = first_ask(&t->searches[i], s->count, dead, s->count) <= ask
                 ? take_row(&t->searches[i], segment, ask, t->scores + i * ask, t->slots + i * ask)
                 : scan_segment(&t->searches[i], s, 0);
    return rc;
}

static int search_together(struct together *t, struct lk_index *index) {
    const struct lk_view *v = t->searches[0].view;
    int rc = 0;
    for (size_t segment = 0; rc == 0 && segment < v->n; segment++) {
        if (!v->segments[segment]->is_graph && segment + 1 < v->n && t->n > 1) {
            rc = scan_together(t, index, segment);
            continue;
        }
        for (size_t i = 0; rc == 0 && i < t->n; i++)
            rc = scan_one(&t->searches[i], segment);
    }
    return rc;
}

int lk_index_search_many(struct lk_index *index, size_t n, struct lk_index_query *queries) {
    const size_t dim = (size_t)index->dim;
    struct together t = {.n = 0};
    struct search moment = {0};
    int rc = 0;
    for (size_t i = 0; i < n; i++)
        queries[i].hits = (struct lk_hits){0};
    begin(&moment, index);
    t.searches = lk_calloc(n + 1, sizeof *t.searches);
    t.vectors = lk_calloc(TOGETHER * dim, sizeof *t.vectors);
    if (t.searches == NULL || t.vectors == NULL)
        rc = LK_ENOMEM;
    for (size_t first = 0; rc == 0 && first < n; first += t.n) {
        t.n = n - first < TOGETHER ? n - first : TOGETHER;
        for (size_t i = 0; rc == 0 && i < t.n; i++) {
            t.searches[i] = moment;
            if ((rc = prepare(&t.searches[i], index, &queries[first + i])) == 0)
                memcpy(t.vectors + i * dim, queries[first + i].vector, dim * sizeof *t.vectors);
        }
        if (rc == 0 && moment.live > 0)
            rc = search_together(&t, index);
        for (size_t i = 0; i < t.n; i++) {
            if (rc == 0)
                rc = copy_hits(&t.searches[i], &queries[first + i].hits);
            end(&t.searches[i]);
            t.searches[i] = (struct search){0};
        }
    }
    for (size_t i = 0; rc < 0 && i < n; i++)
        lk_hits_free(&queries[i].hits);
    lk_view_release(moment.view);
    free(t.searches);
    free(t.vectors);
    free(t.scores);
    free(t.slots);
    return rc;
}

void lk_hits_free(struct lk_hits *hits) {
    for (size_t i = 0; hits->hits != NULL && i < hits->count; i++)
        lk_arena_drop(hits->arena, hits->hits[i].id);
    lk_arena_drop(hits->arena, hits->hits);
    *hits = (struct lk_hits){0};
}
