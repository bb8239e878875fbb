#include "collection.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/log.h"
#include "publish.h"
#include "reembed.h"

#define PAGE 512 /* vectors read in one short transaction */

/* --- what serves ---------------------------------------------------------------------------------------------------- */

static struct lk_generation *held(struct lk_generation *g) {
    if (g)
        lk_generation_hold(g);
    return g;
}

struct lk_generation *lk_collection_pin(struct lk_collection *c) {
    pthread_mutex_lock(&c->mutex);
    struct lk_generation *g = held(c->current);
    pthread_mutex_unlock(&c->mutex);
    return g;
}

void lk_collection_pin_both(struct lk_collection *c, struct lk_generation **current, struct lk_generation **coming) {
    pthread_mutex_lock(&c->mutex);
    *current = held(c->current);
    *coming = held(c->coming);
    pthread_mutex_unlock(&c->mutex);
}

void lk_collection_expect(struct lk_collection *c, struct lk_generation *g) {
    pthread_mutex_lock(&c->mutex);
    struct lk_generation *before = c->coming;
    c->coming = held(g);
    pthread_mutex_unlock(&c->mutex);
    lk_generation_release(before);
}

/* --- loading an index ----------------------------------------------------------------------------------------------- */

struct load {
    struct lk_collection *collection;
    struct lk_generation *generation;
    int at_start;
    int64_t cursor;
    size_t count, loaded;
    char *ids[PAGE];
    float *vectors; /* [PAGE][dim] */
};

static int load_item(void *arg, const struct lk_item *item) {
    struct load *load = arg;
    size_t dim = (size_t)load->generation->dim;
    if (!item->vector || (size_t)item->dim != dim)
        return 0;
    char *id = lk_strdup(item->id);
    if (!id)
        return LK_ENOMEM;
    memcpy(load->vectors + load->count * dim, item->vector, dim * sizeof(float));
    load->ids[load->count++] = id;
    return 0;
}

/* On the writer's thread, so that no write comes between the reading and the index. */
static int load_page(void *arg) {
    struct load *load = arg;
    const struct lk_generation *g = load->generation;
    int rc = lk_store_vectors(load->collection->store, &load->cursor, PAGE, g->serving.space, load_item, load);
    const char *const *ids = (const char *const *)load->ids;
    if (rc == 0 && load->count)
        rc = load->at_start ? lk_index_load(g->index, load->count, ids, load->vectors)
                            : lk_index_put_many(g->index, load->count, ids, load->vectors);
    load->loaded += load->count;
    for (size_t i = 0; i < load->count; i++)
        free(load->ids[i]);
    load->count = 0;
    return rc;
}

int lk_collection_load(struct lk_collection *c, struct lk_generation *g, int at_start) {
    const int64_t begun = lk_now_ns(), seq = lk_store_seq(c->store);
    struct load *load = lk_calloc(1, sizeof *load);
    if (!load)
        return LK_ENOMEM;
    load->collection = c;
    load->generation = g;
    load->at_start = at_start;
    load->vectors = lk_calloc((size_t)PAGE * (size_t)g->dim, sizeof(float));
    int rc = load->vectors ? 0 : LK_ENOMEM;
    for (int64_t before = -1; rc == 0 && load->cursor != before;) {
        before = load->cursor;
        rc = lk_writer_run(c->writer, load_page, load);
    }
    if (rc == 0 && (!at_start || (rc = lk_index_loaded(g->index)) == 0)) {
        lk_index_applied(g->index, seq);
        lk_log_info("read %zu vectors in %.1f s", load->loaded, (double)(lk_now_ns() - begun) / 1e9);
    }
    free(load->vectors);
    free(load);
    return rc;
}

/* --- switching ------------------------------------------------------------------------------------------------------ */

struct change {
    struct lk_collection *collection;
    struct lk_generation *generation;
};

/* On the writer's thread: a write is made before the switch or after it. */
static int switch_now(void *arg) {
    struct change *change = arg;
    struct lk_collection *c = change->collection;
    struct lk_generation *g = change->generation;
    struct lk_store_serving last;
    int rc = lk_store_serving(c->store, &last);
    if (rc && rc != LK_ENOTFOUND)
        return rc;
    int on_record = rc == 0 && strcmp(last.space, g->serving.space) == 0 &&
                    strcmp(last.model_file_sha256, g->serving.model_file_sha256) == 0 &&
                    strcmp(last.started_with, g->serving.started_with) == 0;
    if (on_record)
        g->serving.generation = last.generation;
    else if ((rc = lk_store_set_serving(c->store, &g->serving)))
        return rc;
    pthread_mutex_lock(&c->mutex);
    struct lk_generation *before = c->current, *expected = c->coming;
    c->current = g;
    c->coming = NULL;
    pthread_mutex_unlock(&c->mutex);
    lk_generation_release(expected);
    if (before)
        lk_index_cancel(before->index); /* nobody needs it rebuilt any more */
    lk_generation_release(before);
    return 0;
}

int lk_collection_switch(struct lk_collection *c, struct lk_generation *g) {
    struct change change = {c, g};
    return lk_writer_run(c->writer, switch_now, &change);
}

/* --- opening -------------------------------------------------------------------------------------------------------- */

struct lk_engine_options lk_collection_engine_options(const struct lk_collection *c,
                                                      const struct lk_store_serving *serving) {
    struct lk_engine_options engine = c->options.engine;
    if (!engine.precision || strcmp(engine.precision, "auto") == 0)
        engine.precision = strcmp(serving->precision, "f32") == 0    ? "fp32"
                           : strcmp(serving->precision, "bf16") == 0 ? "bf16"
                                                                     : "auto";
    return engine;
}

/* The file to serve: --model, unless the catalogue was last started with that and another was published since. */
static int choose_file(struct lk_collection *c, const struct lk_store_serving *last, char **path,
                       char started_with[65]) {
    *path = NULL;
    int rc = lk_fs_sha256(started_with, c->options.model_path);
    if (rc)
        return rc;
    if (strcmp(last->started_with, started_with) == 0 && strcmp(last->model_file_sha256, started_with) != 0) {
        if (!(*path = lk_publish_path(c, last->model_file_sha256)))
            return LK_ENOMEM;
        if (lk_fs_exists(*path))
            return 0;
        lk_log_warn("the model that was published last is missing (\"%s\"): serving \"%s\" instead", *path,
                    c->options.model_path);
        free(*path);
    }
    *path = lk_strdup(c->options.model_path);
    return *path ? 0 : LK_ENOMEM;
}

int lk_collection_open_generation(struct lk_collection *c, struct lk_generation **out, const char *model_path,
                                  const struct lk_engine_options *engine, int fresh) {
    struct lk_index_options index = c->options.index;
    index.path = c->index_path;
    index.fresh = fresh;
    return lk_generation_open(out, model_path, engine, &c->options.batcher, &index, c->work);
}

static int open_generation(struct lk_collection *c, struct lk_generation **out) {
    struct lk_store_serving last;
    char *path = NULL, started_with[65];
    int rc = lk_store_serving(c->store, &last);
    if (rc == LK_ENOTFOUND)
        last = (struct lk_store_serving){0};
    else if (rc)
        return rc;
    if ((rc = choose_file(c, &last, &path, started_with)))
        return rc;
    struct lk_engine_options engine = lk_collection_engine_options(c, &last);
    rc = lk_collection_open_generation(c, out, path, &engine, 0);
    if (rc == LK_EUNSUPPORTED && engine.precision != c->options.engine.precision) {
        lk_log_warn("the catalogue's precision is not possible here: %s", lk_error());
        engine = c->options.engine;
        rc = lk_collection_open_generation(c, out, path, &engine, 0);
    }
    if (rc == 0)
        snprintf((*out)->serving.started_with, sizeof started_with, "%s", started_with);
    free(path);
    return rc;
}

/* Fills the index of the first generation: nothing serves yet, so that it may take all the machine. */
static int fill(struct lk_collection *c, struct lk_generation *g) {
    struct lk_reembed r = {.collection = c, .generation = g, .share = 1, .stop = c->options.stop};
    int64_t items = 0;
    int rc;
    lk_collection_expect(c, g);
    if ((rc = lk_collection_load(c, g, 1)) || (rc = lk_store_count(c->store, &items)))
        return rc;
    r.total = items - (int64_t)lk_index_count(g->index);
    if (r.total)
        lk_log_info("embedding again %lld items that have no vector of this model", r.total);
    if ((rc = lk_reembed_run(&r)) == 0 && r.failed)
        lk_log_warn("%lld items have no vector and are not searched", r.failed);
    return rc;
}

int lk_collection_open(struct lk_collection **out, const struct lk_collection_options *options, struct lk_work *work) {
    *out = NULL;
    struct lk_collection *c = lk_calloc(1, sizeof *c);
    if (!c)
        return LK_ENOMEM;
    c->options = *options;
    c->work = work;
    pthread_mutex_init(&c->mutex, NULL);
    struct lk_generation *g = NULL;
    int rc;
    struct lk_buf index_path = {0};
    if ((rc = lk_buf_printf(&index_path, "%s.hnsw", options->catalogue_path)) ||
        (rc = lk_buf_append(&index_path, "", 1)))
        goto fail;
    c->index_path = (char *)index_path.data;
    const struct lk_store_options store = {.max_metadata = options->max_metadata};
    if ((rc = lk_store_open(&c->store, options->catalogue_path, &store)) || (rc = open_generation(c, &g)) ||
        (rc = lk_writer_open(&c->writer, c)))
        goto fail;
    lk_log_info("model \"%s\" in %s on %s", g->serving.model_name, lk_engine_precision(g->engine),
                lk_engine_device(g->engine));
    if ((rc = fill(c, g)) || (rc = lk_collection_switch(c, g)))
        goto fail;
    lk_log_info("catalogue \"%s\": %zu items, generation %lld", options->catalogue_path, lk_index_count(g->index),
                (long long)g->serving.generation);
    g = NULL; /* the collection's */
    if ((rc = lk_publisher_open(&c->publisher, c)))
        goto fail;
    *out = c;
    return 0;
fail:
    lk_generation_release(g);
    lk_collection_close(c);
    return rc;
}

void lk_collection_close(struct lk_collection *c) {
    if (!c)
        return;
    lk_publisher_close(c->publisher);
    lk_writer_close(c->writer);
    lk_generation_release(c->coming);
    lk_generation_release(c->current);
    lk_store_close(c->store);
    free(c->index_path);
    pthread_mutex_destroy(&c->mutex);
    free(c);
}

int lk_collection_embedding(struct lk_collection *c, struct lk_generation *g, struct lk_embedding *e, size_t count,
                            int writes) {
    struct lk_generation *current = NULL, *coming = NULL;
    *e = (struct lk_embedding){.arena = e->arena};
    if (writes)
        lk_collection_pin_both(c, &current, &coming);
    int rc = lk_embedding_open(e, count, g, coming == g ? NULL : coming);
    lk_generation_release(coming);
    lk_generation_release(current);
    return rc;
}

int lk_collection_retry_after(struct lk_collection *c, int asking) {
    struct lk_generation *g = lk_collection_pin(c);
    struct lk_batcher_stats stats;
    lk_batcher_stats(g->batcher, &stats);
    lk_generation_release(g);
    double seconds = stats.images_per_second > 0
                         ? ceil((stats.waiting > asking ? stats.waiting : asking) / stats.images_per_second)
                         : 1;
    return seconds < 1 ? 1 : seconds > 3600 ? 3600 : (int)seconds;
}
