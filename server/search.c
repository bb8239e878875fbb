#include "search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define SCAN_PAGE 512      /* items of one short transaction */
#define PROBES_LEAST 64    /* items asked about, one by one, before all are read */
#define PROBES_MOST 8192   /* past it the index's own work in widening exceeds a reading of everything */
#define PROBE_COST 20      /* asking for one item's metadata costs as much as reading so many in a row */
#define VANISHED_RETRIES 3 /* searches again, when hits were deleted before their metadata was read */

struct kept { /* an item that the filter took */
    char *id, *metadata;
};

struct run {
    const struct lk_search *s;
    /* probing */
    struct lk_store_view *view;
    struct kept *kept; /* [n_kept], owned */
    size_t n_kept, kept_room, probes, max_probes;
    int gave_up;
    /* scanning */
    struct lk_found *best; /* [n_best], a heap with the last of them on top, owned */
    size_t n_best, best_room;
    struct kept page[SCAN_PAGE]; /* matches that are not scored yet */
    size_t n_page;
    unsigned seen;
};

static int check_time(const struct lk_search *s) {
    if (s->deadline_ns && lk_now_ns() > s->deadline_ns)
        return lk_err(LK_ECANCELLED, "the deadline passed while items were filtered");
    if (s->gone && s->gone(s->arg))
        return lk_err(LK_ECANCELLED, "the client left");
    return 0;
}

static void kept_free(struct kept *k) {
    free(k->id);
    free(k->metadata);
    *k = (struct kept){0};
}

static int keep(struct kept *to, const struct lk_search *s, const char *id, const char *metadata) {
    *to = (struct kept){.id = lk_strdup(id), .metadata = s->with_metadata ? lk_strdup(metadata) : NULL};
    if (to->id && (to->metadata || !s->with_metadata))
        return 0;
    kept_free(to);
    return LK_ENOMEM;
}

static int compare_kept(const void *a, const void *b) {
    return strcmp(((const struct kept *)a)->id, ((const struct kept *)b)->id);
}

/* --- one item at a time, nearest first ------------------------------------------------------------------------------ */

static int keep_match(struct run *run, const char *id, const char *metadata) {
    if (!run->s->with_metadata)
        return 1;
    if (run->n_kept == run->kept_room) {
        size_t room = run->kept_room ? 2 * run->kept_room : 64;
        struct kept *kept = realloc(run->kept, room * sizeof *kept);
        if (!kept)
            return lk_err(LK_ENOMEM, "out of memory for %zu matches", room);
        run->kept = kept;
        run->kept_room = room;
    }
    int rc = keep(&run->kept[run->n_kept], run->s, id, metadata);
    run->n_kept += rc == 0;
    return rc ? rc : 1;
}

static int probe(void *arg, const char *id) {
    struct run *run = arg;
    if (run->probes++ == run->max_probes) {
        run->gave_up = 1;
        return LK_ECANCELLED;
    }
    const char *metadata;
    int rc = run->probes % 64 == 0 ? check_time(run->s) : 0;
    if (rc == 0 && (rc = lk_store_view_metadata(run->view, id, &metadata)) == 0)
        return lk_filter_match(run->s->filter, metadata) ? keep_match(run, id, metadata) : 0;
    return rc == LK_ENOTFOUND ? 0 : rc; /* deleted, or not there yet */
}

/* Hits into found items; takes the ids over. */
static int take_hits(struct run *run, struct lk_hits *hits, struct lk_findings *out) {
    if (hits->count && !(out->items = lk_arena_take(out->arena, hits->count, sizeof *out->items)))
        return LK_ENOMEM;
    if (run->n_kept)
        qsort(run->kept, run->n_kept, sizeof *run->kept, compare_kept);
    for (; out->count < hits->count; out->count++) {
        struct lk_hit *hit = &hits->hits[out->count];
        struct kept key = {.id = hit->id};
        struct kept *kept = run->n_kept ? bsearch(&key, run->kept, run->n_kept, sizeof key, compare_kept) : NULL;
        struct lk_found *to = &out->items[out->count];
        *to = (struct lk_found){.id = hit->id, .score = hit->score};
        hit->id = NULL;
        if (kept) {
            to->metadata = kept->metadata;
            kept->metadata = NULL;
        }
    }
    return 0;
}

static int search_by_probing(struct run *run, struct lk_findings *out) {
    const struct lk_search *s = run->s;
    struct lk_hits hits = {0};
    lk_cores_take(s->cores, 1);
    int rc = lk_store_view_open(&run->view, s->store);
    if (rc == 0)
        rc = lk_index_search_where(s->index, s->query, s->k, s->exclude, s->min_score, probe, run, &hits);
    lk_store_view_close(run->view);
    lk_cores_give(s->cores, 1);
    if (rc == 0)
        rc = take_hits(run, &hits, out);
    lk_hits_free(&hits);
    return rc;
}

/* --- everything, in the order of the file --------------------------------------------------------------------------- */

static int scan_item(void *arg, const char *id, const char *metadata) {
    struct run *run = arg;
    int rc = ++run->seen % 64 == 0 ? check_time(run->s) : 0;
    if (rc || !lk_filter_match(run->s->filter, metadata) || (run->s->exclude && strcmp(id, run->s->exclude) == 0))
        return rc;
    rc = keep(&run->page[run->n_page], run->s, id, metadata);
    run->n_page += rc == 0;
    return rc;
}

/* The better one is first in answers. */
static int compare_found(const void *a, const void *b) {
    const struct lk_found *x = a, *y = b;
    return x->score != y->score ? (x->score > y->score ? -1 : 1) : strcmp(x->id, y->id);
}

static void swap_found(struct lk_found *a, struct lk_found *b) {
    struct lk_found swap = *a;
    *a = *b;
    *b = swap;
}

static void sift_up(struct lk_found *heap, size_t i) {
    for (; i > 0 && compare_found(&heap[i], &heap[(i - 1) / 2]) > 0; i = (i - 1) / 2)
        swap_found(&heap[i], &heap[(i - 1) / 2]);
}

static void sift_down(struct lk_found *heap, size_t n) {
    for (size_t i = 0, child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && compare_found(&heap[child + 1], &heap[child]) > 0)
            child++;
        if (compare_found(&heap[child], &heap[i]) <= 0)
            return;
        swap_found(&heap[i], &heap[child]);
    }
}

/* Puts a match among the best, if it belongs there; takes it over then. */
static int rank(struct run *run, struct kept *match, float score) {
    struct lk_found found = {.id = match->id, .score = score, .metadata = match->metadata};
    if (run->n_best == run->s->k) {
        if (compare_found(&found, &run->best[0]) > 0)
            return 0;
        free(run->best[0].id);
        free(run->best[0].metadata);
        run->best[0] = found;
        sift_down(run->best, run->n_best);
    } else {
        if (run->n_best == run->best_room) {
            size_t room = run->best_room ? 2 * run->best_room : 64;
            struct lk_found *best = realloc(run->best, room * sizeof *best);
            if (!best)
                return lk_err(LK_ENOMEM, "out of memory for %zu hits", room);
            run->best = best;
            run->best_room = room;
        }
        run->best[run->n_best] = found;
        sift_up(run->best, run->n_best++);
    }
    *match = (struct kept){0};
    return 0;
}

static int score_page(struct run *run) {
    const char *ids[SCAN_PAGE];
    float scores[SCAN_PAGE];
    for (size_t i = 0; i < run->n_page; i++)
        ids[i] = run->page[i].id;
    int rc = run->n_page ? lk_index_score(run->s->index, run->s->query, run->n_page, ids, scores) : 0;
    for (size_t i = 0; i < run->n_page; i++) {
        if (rc == 0 && scores[i] >= run->s->min_score) /* not for NAN: deleted, or not in the index yet */
            rc = rank(run, &run->page[i], scores[i]);
        kept_free(&run->page[i]);
    }
    run->n_page = 0;
    return rc;
}

static int search_by_scanning(struct run *run, struct lk_findings *out) {
    const struct lk_search *s = run->s;
    int64_t cursor = 0, before = -1;
    int rc = 0;
    while (rc == 0 && cursor != before) {
        before = cursor;
        lk_cores_take(s->cores, 1); /* page by page, so that pictures and batches get their turns */
        rc = lk_store_scan(s->store, &cursor, SCAN_PAGE, scan_item, run);
        if (rc == 0)
            rc = score_page(run);
        lk_cores_give(s->cores, 1);
    }
    if (rc == 0 && run->n_best) {
        qsort(run->best, run->n_best, sizeof *run->best, compare_found);
        *out = (struct lk_findings){.items = run->best, .count = run->n_best};
        run->best = NULL;
        run->n_best = 0;
    }
    return rc;
}

/* --- both ----------------------------------------------------------------------------------------------------------- */

static int search_filtered(const struct lk_search *s, struct lk_findings *out) {
    struct run *run = lk_calloc(1, sizeof *run);
    if (!run)
        return LK_ENOMEM;
    size_t probes = lk_index_count(s->index) / PROBE_COST;
    run->s = s;
    run->max_probes = probes < PROBES_LEAST ? PROBES_LEAST : probes > PROBES_MOST ? PROBES_MOST : probes;
    int rc = check_time(s);
    if (rc == 0)
        rc = search_by_probing(run, out);
    if (rc < 0 && run->gave_up)
        rc = search_by_scanning(run, out);
    for (size_t i = 0; i < run->n_kept; i++)
        kept_free(&run->kept[i]);
    for (size_t i = 0; i < run->n_page; i++)
        kept_free(&run->page[i]);
    lk_findings_free(&(struct lk_findings){.items = run->best, .count = run->n_best});
    free(run->kept);
    free(run);
    return rc;
}

struct copying {
    struct lk_found *to;
    struct lk_arena *arena;
};

static int copy_metadata(void *arg, const struct lk_item *item) {
    const struct copying *c = arg;
    c->to->metadata = lk_arena_strdup(c->arena, item->metadata);
    return c->to->metadata ? 0 : LK_ENOMEM;
}

/* Without a filter the index alone decides, and the catalogue is asked about its hits. *vanished counts the hits that were
 * deleted in between; they are left out. */
static int take_plain(const struct lk_search *s, struct lk_hits *hits, struct lk_findings *out, size_t *vanished) {
    struct run none = {.s = s};
    size_t kept = 0;
    int rc = take_hits(&none, hits, out);
    *vanished = 0;
    for (size_t i = 0; rc == 0 && s->with_metadata && i < out->count; i++) {
        struct lk_found *hit = &out->items[i];
        struct copying c = {hit, out->arena};
        rc = lk_store_get(s->store, hit->id, NULL, copy_metadata, &c);
        if (rc == LK_ENOTFOUND) {
            lk_arena_drop(out->arena, hit->id);
            *hit = (struct lk_found){0};
            ++*vanished;
            rc = 0;
        } else if (rc == 0 && kept++ != i) {
            out->items[kept - 1] = *hit;
            *hit = (struct lk_found){0};
        }
    }
    if (rc == 0 && s->with_metadata)
        out->count = kept;
    return rc;
}

static int search_plain(const struct lk_search *s, struct lk_findings *out, size_t *vanished) {
    struct lk_hits hits = {0};
    lk_cores_take(s->cores, 1);
    int rc = lk_index_search_in(s->index, s->arena, s->query, s->k, s->exclude, s->min_score, &hits);
    lk_cores_give(s->cores, 1);
    out->arena = s->arena;
    if (rc == 0)
        rc = take_plain(s, &hits, out, vanished);
    lk_hits_free(&hits);
    return rc;
}

static int tell(const struct lk_search *s, const struct lk_findings *f) {
    size_t bytes = 0;
    for (size_t i = 0; s->found && i < f->count; i++)
        bytes += strlen(f->items[i].id) + (f->items[i].metadata ? strlen(f->items[i].metadata) : 0);
    return s->found ? s->found(s->arg, bytes) : 0;
}

int lk_search_run(const struct lk_search *search, struct lk_findings *out) {
    *out = (struct lk_findings){0};
    int rc;
    if (search->filter) {
        rc = search_filtered(search, out);
    } else {
        size_t vanished = 0;
        int tries = 0;
        do {
            lk_findings_free(out);
            rc = search_plain(search, out, &vanished);
        } while (rc == 0 && vanished && ++tries < VANISHED_RETRIES);
    }
    if (rc == 0)
        rc = tell(search, out);
    if (rc)
        lk_findings_free(out);
    return rc;
}

/* Searches together those that have no filter; the others keep empty hits. */
static int plain_hits(const struct lk_search *searches, size_t n, struct lk_index_query *queries) {
    size_t plain = 0;
    int rc = 0;
    for (size_t i = 0; i < n; i++) /* packed in front: the index takes them in one array */
        if (!searches[i].filter)
            queries[plain++] = (struct lk_index_query){.vector = searches[i].query,
                                                       .k = searches[i].k,
                                                       .exclude = searches[i].exclude,
                                                       .min_score = searches[i].min_score};
    if (plain) {
        lk_cores_take(searches[0].cores, 1);
        rc = lk_index_search_many(searches[0].index, plain, queries);
        lk_cores_give(searches[0].cores, 1);
    }
    return rc;
}

int lk_search_run_many(const struct lk_search *searches, size_t n, struct lk_findings *out) {
    for (size_t i = 0; i < n; i++)
        out[i] = (struct lk_findings){0};
    if (n == 1)
        return lk_search_run(searches, out);
    struct lk_index_query *queries = n ? lk_calloc(n, sizeof *queries) : NULL;
    if (!queries)
        return n ? LK_ENOMEM : 0;
    int rc = plain_hits(searches, n, queries);
    for (size_t i = 0, plain = 0; i < n && rc == 0; i++) {
        size_t vanished = 0;
        if (!searches[i].filter)
            rc = take_plain(&searches[i], &queries[plain++].hits, &out[i], &vanished);
        if (rc == 0 && (vanished || searches[i].filter)) {
            lk_findings_free(&out[i]);
            rc = lk_search_run(&searches[i], &out[i]);
        } else if (rc == 0) {
            rc = tell(&searches[i], &out[i]);
        }
    }
    for (size_t i = 0; i < n; i++) {
        lk_hits_free(&queries[i].hits);
        if (rc)
            lk_findings_free(&out[i]);
    }
    free(queries);
    return rc;
}

void lk_findings_free(struct lk_findings *f) {
    for (size_t i = 0; i < f->count; i++) {
        lk_arena_drop(f->arena, f->items[i].id);
        lk_arena_drop(f->arena, f->items[i].metadata);
    }
    lk_arena_drop(f->arena, f->items);
    *f = (struct lk_findings){0};
}
