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
    struct page *page;
    size_t first, count;
    uint8_t *squares; /* [count][S][S][3] */
    char *good;       /* [count] */
};

static void load_square(void *arg, size_t i) {
    struct batch *b = arg;
    struct lk_collection *c = b->c;
    const char *id = b->page->ids[b->first + i];
    struct lk_buf bytes = {0};
    char media_type[64];
    int rc = lk_store_image(c->store, id, &bytes, media_type);
    struct lk_picture p = {.bytes = bytes.data, .size = bytes.size};
    if (rc)
        lk_log_warn("the picture of item \"%s\" cannot be read: %s", id, lk_error());
    else if ((rc = lk_picture_decode(c->work, &p, b->squares + i * (size_t)c->side * (size_t)c->side * 3, c->resize,
                                     c->side)))
        lk_log_warn("the picture of item \"%s\" cannot be embedded again: %s", id, p.fault.message);
    b->good[i] = rc == 0;
    lk_buf_free(&bytes);
}

static int embed_batch(struct batch *b, const char *space, float *vectors, size_t *embedded) {
    struct lk_collection *c = b->c;
    size_t square = (size_t)c->side * (size_t)c->side * 3, n = 0;
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
    if ((rc = lk_engine_embed(c->engine, b->squares, (int)n, vectors)) || (rc = lk_store_begin(c->store)))
        return rc;
    for (size_t i = 0, v = 0; i < b->count && rc == 0; i++)
        if (b->good[i]) {
            rc = lk_store_put_vector(c->store, b->page->ids[b->first + i], b->page->seqs[b->first + i], space,
                                     vectors + v++ * (size_t)c->dim, c->dim);
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

static int embed_missing(struct lk_collection *c, const char *space) {
    size_t max = (size_t)lk_engine_max_batch(c->engine), embedded = 0, seen = 0;
    char *after = NULL;
    struct page *page = lk_calloc(1, sizeof *page);
    uint8_t *squares = lk_calloc(max * (size_t)c->side * (size_t)c->side * 3, 1);
    float *vectors = lk_calloc(max * (size_t)c->dim, sizeof *vectors);
    char *good = lk_calloc(max, 1);
    int rc = page && squares && vectors && good ? 0 : LK_ENOMEM;
    int64_t logged = lk_now_ns();
    while (rc == 0 && (rc = lk_store_missing(c->store, after, PAGE, space, page_item, page)) == 0 && page->count) {
        if (seen == 0)
            lk_log_info("embedding again what has no vector of this model");
        for (size_t i = 0; i < page->count && rc == 0; i += max) {
            struct batch b = {c, page, i, page->count - i < max ? page->count - i : max, squares, good};
            rc = embed_batch(&b, space, vectors, &embedded);
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

static int load_index(struct lk_collection *c, const char *space) {
    struct load *load = lk_calloc(1, sizeof *load);
    if (!load)
        return LK_ENOMEM;
    load->dim = c->dim;
    load->vectors = lk_calloc((size_t)PAGE * (size_t)c->dim, sizeof(float));
    int rc = load->vectors ? 0 : LK_ENOMEM;
    for (int64_t cursor = 0, before = -1; rc == 0 && cursor != before;) {
        before = cursor;
        if ((rc = lk_store_vectors(c->store, &cursor, PAGE, space, load_item, load)) == 0 && load->count)
            rc = lk_index_put_many(c->index, load->count, (const char *const *)load->ids, load->vectors);
        for (size_t i = 0; i < load->count; i++)
            free(load->ids[i]);
        load->loaded += load->count;
        load->count = 0;
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
static int open_engine(struct lk_collection *c, const struct lk_collection_options *o, const char *file_hash) {
    struct lk_engine_options engine = o->engine;
    int automatic = !engine.precision || strcmp(engine.precision, "auto") == 0;
    if (automatic && strcmp(c->serving.model_file_sha256, file_hash) == 0) {
        engine.precision = strcmp(c->serving.precision, "f32") == 0    ? "fp32"
                           : strcmp(c->serving.precision, "bf16") == 0 ? "bf16"
                                                                       : "auto";
        int rc = lk_engine_open(&c->engine, o->model_path, &engine);
        if (rc != LK_EUNSUPPORTED)
            return rc;
        lk_log_warn("the catalogue's precision is not possible here: %s", lk_error());
        engine.precision = "auto";
    }
    return lk_engine_open(&c->engine, o->model_path, &engine);
}

/* Records the generation that serves from now on, unless it is the one on record. */
static int record(struct lk_collection *c, const char *space, const char *file_hash) {
    if (c->serving.generation && strcmp(c->serving.space, space) == 0 &&
        strcmp(c->serving.model_file_sha256, file_hash) == 0)
        return 0;
    struct lk_store_serving s = {0};
    snprintf(s.space, sizeof s.space, "%s", space);
    snprintf(s.model_file_sha256, sizeof s.model_file_sha256, "%s", file_hash);
    snprintf(s.model_name, sizeof s.model_name, "%s", lk_engine_model(c->engine)->name);
    snprintf(s.precision, sizeof s.precision, "%s", lk_engine_precision_class(c->engine));
    int rc = lk_store_set_serving(c->store, &s);
    c->serving = s;
    return rc;
}

int lk_collection_open(struct lk_collection **out, const struct lk_collection_options *options, struct lk_work *work) {
    *out = NULL;
    struct lk_collection *c = lk_calloc(1, sizeof *c);
    if (!c)
        return LK_ENOMEM;
    c->work = work;
    char file_hash[65], space[65];
    int rc;
    if ((rc = hash_file(file_hash, options->model_path)) ||
        (rc = lk_store_open(&c->store, options->catalogue_path, NULL)))
        goto fail;
    rc = lk_store_serving(c->store, &c->serving);
    if (rc == LK_ENOTFOUND)
        c->serving = (struct lk_store_serving){0};
    else if (rc)
        goto fail;
    if ((rc = open_engine(c, options, file_hash)))
        goto fail;
    c->dim = lk_engine_dim(c->engine);
    c->side = lk_engine_side(c->engine);
    c->resize = lk_engine_model(c->engine)->resize;
    lk_engine_space(c->engine, space);
    lk_log_info("model \"%s\" in %s on %s", lk_engine_model(c->engine)->name, lk_engine_precision(c->engine),
                lk_engine_device(c->engine));
    struct lk_batcher_options batcher = options->batcher;
    if (!lk_engine_on_cpu(c->engine))
        batcher.engine_cores = 0;
    if ((rc = embed_missing(c, space)) || (rc = lk_index_open(&c->index, c->dim)) || (rc = load_index(c, space)) ||
        (rc = record(c, space, file_hash)) || (rc = lk_batcher_open(&c->batcher, c->engine, &batcher)) ||
        (rc = lk_writer_open(&c->writer, c->store, c->index, space, c->dim)))
        goto fail;
    lk_log_info("catalogue \"%s\": %zu items, generation %lld", options->catalogue_path, lk_index_count(c->index),
                (long long)c->serving.generation);
    *out = c;
    return 0;
fail:
    lk_collection_close(c);
    return rc;
}

void lk_collection_close(struct lk_collection *c) {
    if (!c)
        return;
    if (c->batcher)
        lk_batcher_close(c->batcher);
    lk_writer_close(c->writer);
    lk_index_close(c->index);
    lk_engine_close(c->engine);
    lk_store_close(c->store);
    free(c);
}

int lk_collection_embedding(struct lk_collection *c, struct lk_embedding *e, size_t count) {
    *e = (struct lk_embedding){
        .work = c->work, .batcher = c->batcher, .side = c->side, .resize = c->resize, .dim = c->dim};
    return lk_embedding_open(e, count);
}

int lk_collection_retry_after(struct lk_collection *c) {
    struct lk_batcher_stats stats;
    lk_batcher_stats(c->batcher, &stats);
    double seconds = stats.images_per_second > 0 ? ceil(stats.waiting / stats.images_per_second) : 1;
    return seconds < 1 ? 1 : seconds > 3600 ? 3600 : (int)seconds;
}
