#include "collection.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/sha256.h"

#define PAGE 512 /* items read in one short transaction */

/* --- embedding again what has no vector in the space ------------------------------------------------------------- */

struct page {
    char *ids[PAGE];
    int64_t seqs[PAGE];
    size_t count;
};

static int page_item(void *arg, const struct lk_item *item) {
    struct page *page = arg;
    char *id = lk_strdup(item->id);
    if (!id)
        return LK_ENOMEM;
    page->seqs[page->count] = item->seq;
    page->ids[page->count++] = id;
    return 0;
}

static void page_clear(struct page *page) {
    for (size_t i = 0; i < page->count; i++)
        free(page->ids[i]);
    page->count = 0;
}

/* One batch of a page: its pictures are read and decoded by the pool. */
struct batch {
    struct lk_collection *c;
    struct lk_generation *g;
    struct page *page;
    size_t first, count;
    uint8_t *squares; /* [count][S][S][3] */
    char *good;       /* [count] */
};

static void load_square(void *arg, size_t i) {
    struct batch *b = arg;
    struct lk_collection *c = b->c;
    const struct lk_generation *g = b->g;
    const char *id = b->page->ids[b->first + i];
    struct lk_buf bytes = {0};
    char media_type[64];
    int rc = lk_store_image(c->store, id, &bytes, media_type);
    struct lk_picture p = {.bytes = bytes.data, .size = bytes.size};
    if (rc)
        lk_log_warn("the picture of item \"%s\" cannot be read: %s", id, lk_error());
    else if ((rc = lk_picture_decode(c->work, &p, b->squares + i * (size_t)g->side * (size_t)g->side * 3, g->resize,
                                     g->side)))
        lk_log_warn("the picture of item \"%s\" cannot be embedded again: %s", id, p.fault.message);
    b->good[i] = rc == 0;
    lk_buf_free(&bytes);
}

static int embed_batch(struct batch *b, float *vectors, size_t *embedded) {
    struct lk_collection *c = b->c;
    const struct lk_generation *g = b->g;
    size_t square = (size_t)g->side * (size_t)g->side * 3, n = 0;
    lk_pool_for(c->work->pool, b->count, load_square, b);
    for (size_t i = 0; i < b->count; i++) /* the good ones to the front */
        if (b->good[i]) {
            if (n < i)
                memcpy(b->squares + n * square, b->squares + i * square, square);
            n++;
        }
    if (n == 0)
        return 0;
    int rc;
    if ((rc = lk_engine_embed(g->engine, b->squares, (int)n, vectors)) || (rc = lk_store_begin(c->store)))
        return rc;
    for (size_t i = 0, v = 0; i < b->count && rc == 0; i++)
        if (b->good[i]) {
            rc = lk_store_put_vector(c->store, b->page->ids[b->first + i], b->page->seqs[b->first + i], g->space,
                                     vectors + v++ * (size_t)g->dim, g->dim);
            if (rc == LK_ECONFLICT || rc == LK_ENOTFOUND || rc == LK_EINVAL) {
                lk_log_warn("%s", lk_error());
                rc = 0;
            }
        }
    if (rc) {
        lk_store_rollback(c->store);
        return rc;
    }
    *embedded += n;
    return lk_store_commit(c->store);
}

static int embed_missing(struct lk_collection *c, struct lk_generation *g) {
    size_t max = (size_t)lk_engine_max_batch(g->engine), embedded = 0, seen = 0;
    char *after = NULL;
    struct page *page = lk_calloc(1, sizeof *page);
    uint8_t *squares = lk_calloc(max * (size_t)g->side * (size_t)g->side * 3, 1);
    float *vectors = lk_calloc(max * (size_t)g->dim, sizeof *vectors);
    char *good = lk_calloc(max, 1);
    int rc = page && squares && vectors && good ? 0 : LK_ENOMEM;
    int64_t logged = lk_now_ns();
    while (rc == 0 && (rc = lk_store_missing(c->store, after, PAGE, g->space, page_item, page)) == 0 && page->count) {
        if (seen == 0)
            lk_log_info("embedding again what has no vector of this model");
        for (size_t i = 0; i < page->count && rc == 0; i += max) {
            struct batch b = {c, g, page, i, page->count - i < max ? page->count - i : max, squares, good};
            rc = embed_batch(&b, vectors, &embedded);
            seen += b.count;
            if (lk_now_ns() - logged > 2000000000) {
                logged = lk_now_ns();
                lk_log_info("embedded %zu of %zu items so far", embedded, seen);
            }
        }
        free(after);
        after = page->ids[page->count - 1];
        page->ids[page->count - 1] = NULL;
        page_clear(page);
    }
    if (rc == 0 && seen)
        lk_log_info("embedded %zu items, %zu could not be", embedded, seen - embedded);
    if (page)
        page_clear(page);
    free(after);
    free(page);
    free(squares);
    free(vectors);
    free(good);
    return rc;
}

/* --- loading the index -------------------------------------------------------------------------------------------- */

struct load {
    int dim;
    size_t count, loaded;
    char *ids[PAGE];
    float *vectors; /* [PAGE][dim] */
};

static int load_item(void *arg, const struct lk_item *item) {
    struct load *load = arg;
    if (!item->vector || item->dim != load->dim)
        return 0;
    char *id = lk_strdup(item->id);
    if (!id)
        return LK_ENOMEM;
    memcpy(load->vectors + load->count * (size_t)load->dim, item->vector, (size_t)load->dim * sizeof(float));
    load->ids[load->count++] = id;
    return 0;
}

static int load_index(struct lk_collection *c, struct lk_generation *g) {
    const int64_t begun = lk_now_ns(), seq = lk_store_seq(c->store);
    struct load *load = lk_calloc(1, sizeof *load);
    if (!load)
        return LK_ENOMEM;
    load->dim = g->dim;
    load->vectors = lk_calloc((size_t)PAGE * (size_t)g->dim, sizeof(float));
    int rc = load->vectors ? 0 : LK_ENOMEM;
    for (int64_t cursor = 0, before = -1; rc == 0 && cursor != before;) {
        before = cursor;
        if ((rc = lk_store_vectors(c->store, &cursor, PAGE, g->space, load_item, load)) == 0 && load->count)
            rc = lk_index_load(g->index, load->count, (const char *const *)load->ids, load->vectors);
        for (size_t i = 0; i < load->count; i++)
            free(load->ids[i]);
        load->loaded += load->count;
        load->count = 0;
    }
    if (rc == 0 && (rc = lk_index_loaded(g->index)) == 0) {
        lk_index_applied(g->index, seq);
        lk_log_info("read %zu vectors in %.1f s", load->loaded, (double)(lk_now_ns() - begun) / 1e9);
    }
    int64_t items = 0;
    if (rc == 0 && (rc = lk_store_count(c->store, &items)) == 0 && (size_t)items > load->loaded)
        lk_log_warn("%zu items have no vector and are not searched", (size_t)items - load->loaded);
    free(load->vectors);
    free(load);
    return rc;
}

/* --- opening ------------------------------------------------------------------------------------------------------ */

static int hash_file(char hex[65], const char *path) {
    struct lk_fs_map map;
    int rc = lk_fs_map(&map, path);
    if (rc)
        return rc;
    struct lk_sha256 hash;
    uint8_t digest[32];
    lk_sha256_init(&hash);
    lk_sha256_update(&hash, map.data, map.size);
    lk_sha256_final(&hash, digest);
    lk_sha256_hex(digest, hex);
    lk_fs_unmap(&map);
    return 0;
}

/* "auto" means what the catalogue was served in before, where that is possible here, so that nothing has to be embedded
 * again because the processor is another one. */
static int open_generation(struct lk_collection *c, struct lk_generation **out, const struct lk_collection_options *o,
                           const struct lk_store_serving *recorded, const char *file_hash) {
    struct lk_engine_options engine = o->engine;
    struct lk_index_options index = o->index;
    struct lk_buf path = {0};
    int rc = lk_buf_printf(&path, "%s.hnsw", o->catalogue_path);
    index.path = (const char *)path.data;
    int automatic = !engine.precision || strcmp(engine.precision, "auto") == 0;
    if (rc == 0 && automatic && strcmp(recorded->model_file_sha256, file_hash) == 0) {
        engine.precision = strcmp(recorded->precision, "f32") == 0    ? "fp32"
                           : strcmp(recorded->precision, "bf16") == 0 ? "bf16"
                                                                      : "auto";
        rc = lk_generation_open(out, &c->gate, o->model_path, file_hash, &engine, &o->batcher, &index);
        if (rc == LK_EUNSUPPORTED) {
            lk_log_warn("the catalogue's precision is not possible here: %s", lk_error());
            engine.precision = "auto";
            rc = 0;
        }
    }
    if (rc == 0 && *out == NULL)
        rc = lk_generation_open(out, &c->gate, o->model_path, file_hash, &engine, &o->batcher, &index);
    lk_buf_free(&path);
    return rc;
}

/* Records the generation that serves from now on, unless it is the one on record. */
static int record(struct lk_collection *c, struct lk_generation *g, const struct lk_store_serving *recorded) {
    g->number = recorded->generation;
    if (g->number && strcmp(recorded->space, g->space) == 0 && strcmp(recorded->model_file_sha256, g->file_sha256) == 0)
        return 0;
    struct lk_store_serving s = {0};
    snprintf(s.space, sizeof s.space, "%s", g->space);
    snprintf(s.model_file_sha256, sizeof s.model_file_sha256, "%s", g->file_sha256);
    snprintf(s.model_name, sizeof s.model_name, "%s", g->model);
    snprintf(s.precision, sizeof s.precision, "%s", g->precision);
    int rc = lk_store_set_serving(c->store, &s);
    g->number = s.generation;
    return rc;
}

int lk_collection_open(struct lk_collection **out, const struct lk_collection_options *options, struct lk_work *work) {
    *out = NULL;
    struct lk_collection *c = lk_calloc(1, sizeof *c);
    if (!c)
        return LK_ENOMEM;
    c->work = work;
    struct lk_store_serving recorded;
    struct lk_generation *g = NULL;
    char file_hash[65];
    int rc;
    if ((rc = lk_generation_gate_open(&c->gate)))
        goto fail;
    c->gate_open = 1;
    if ((rc = hash_file(file_hash, options->model_path)) ||
        (rc = lk_store_open(&c->store, options->catalogue_path, NULL)))
        goto fail;
    rc = lk_store_serving(c->store, &recorded);
    if (rc == LK_ENOTFOUND)
        recorded = (struct lk_store_serving){0};
    else if (rc)
        goto fail;
    if ((rc = open_generation(c, &g, options, &recorded, file_hash)))
        goto fail;
    c->current = g;
    lk_log_info("model \"%s\" in %s on %s", g->model, lk_engine_precision(g->engine), lk_engine_device(g->engine));
    if ((rc = embed_missing(c, g)) || (rc = load_index(c, g)) || (rc = record(c, g, &recorded)) ||
        (rc = lk_writer_open(&c->writer, c->store, g)))
        goto fail;
    lk_log_info("catalogue \"%s\": %zu items, generation %lld", options->catalogue_path, lk_index_count(g->index),
                (long long)g->number);
    *out = c;
    return 0;
fail:
    lk_collection_close(c);
    return rc;
}

void lk_collection_close(struct lk_collection *c) {
    if (!c)
        return;
    lk_writer_close(c->writer);
    lk_generation_close(c->current);
    lk_store_close(c->store);
    if (c->gate_open)
        lk_generation_gate_close(&c->gate);
    free(c);
}

struct lk_generation *lk_collection_pin(struct lk_collection *c) {
    pthread_mutex_lock(&c->gate.mutex);
    struct lk_generation *g = c->current;
    lk_generation_pin_locked(g);
    pthread_mutex_unlock(&c->gate.mutex);
    return g;
}

int lk_collection_retry_after(struct lk_collection *c) {
    struct lk_generation *g = lk_collection_pin(c);
    struct lk_batcher_stats stats;
    lk_batcher_stats(g->batcher, &stats);
    lk_generation_release(g);
    double seconds = stats.images_per_second > 0 ? ceil(stats.waiting / stats.images_per_second) : 1;
    return seconds < 1 ? 1 : seconds > 3600 ? 3600 : (int)seconds;
}
