#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "model/walk.h"

#define DEFAULT_BATCH 32
#define MAX_BUCKETS 11 /* 1, 2, 4 ... 512, and one for a maximum between two of them */

struct bucket {
    int batch;
    struct lk_plan *plan;
    struct lk_pass *pass;
};

struct flight { /* a batch that has begun and not ended */
    struct bucket *bucket;
    int n;
};

struct lk_engine {
    struct lk_model model;
    struct lk_backend *backend;
    const struct lk_backend_ops *ops;
    struct lk_backend_info info;
    enum lk_precision precision;
    struct bucket buckets[MAX_BUCKETS]; /* ascending */
    int n_buckets, max_batch;
    struct flight flights[LK_EMBED_SLOTS]; /* in turn */
    unsigned begun, ended;
    char space[65];
    char broken[512]; /* why the engine is out of service; "" while it works */
};

/* "auto", or a name that the device has. */
static int choose_precision(struct lk_engine *e, const char *name) {
    if (!name || strcmp(name, "auto") == 0) {
        e->precision = e->info.best;
        return 0;
    }
    int precision = lk_precision_from_name(name);
    if (precision < 0)
        return precision;
    e->precision = (enum lk_precision)precision;
    if (!e->ops->supports(e->backend, e->precision))
        return lk_err(LK_EUNSUPPORTED, "%s cannot compute in %s", e->info.device, name);
    return 0;
}

/* The widest plan first: the others share its weights. */
static int make_buckets(struct lk_engine *e) {
    for (int batch = 1; batch < e->max_batch; batch *= 2)
        e->buckets[e->n_buckets++].batch = batch;
    e->buckets[e->n_buckets++].batch = e->max_batch;
    struct lk_plan *widest = NULL;
    const struct lk_net *net = &e->model.net;
    for (int i = e->n_buckets - 1; i >= 0; i--) {
        struct bucket *b = &e->buckets[i];
        int rc;
        if ((rc = e->ops->plan(e->backend, net, net->backbone_nodes, b->batch, e->precision, LK_INFERENCE, widest,
                               &b->plan)))
            return rc;
        if (!widest)
            widest = b->plan;
    }
    int rc = e->ops->set_weights(widest, e->model.params, e->model.stats);
    for (int i = 0; i < e->n_buckets && rc == 0; i++)
        rc = e->ops->pass(e->buckets[i].plan, &e->buckets[i].pass);
    return rc;
}

static int warm(struct lk_engine *e) {
    size_t picture = (size_t)e->model.net.image_size * (size_t)e->model.net.image_size * 3;
    uint8_t *pixels = lk_calloc((size_t)e->max_batch, picture);
    float *vectors = lk_calloc((size_t)e->max_batch * (size_t)e->model.net.feature_dim, sizeof *vectors);
    int rc = pixels && vectors ? 0 : LK_ENOMEM;
    for (int i = 0; i < e->n_buckets && rc == 0; i++)
        rc = lk_engine_embed(e, pixels, e->buckets[i].batch, vectors);
    free(pixels);
    free(vectors);
    return rc;
}

int lk_engine_open(struct lk_engine **out, const char *model_path, const struct lk_engine_options *options) {
    static const struct lk_engine_options defaults = {0};
    const struct lk_engine_options *o = options ? options : &defaults;
    *out = NULL;
    if (o->max_batch < 0 || o->max_batch > 512)
        return lk_err(LK_EINVAL, "a batch of %d is not within 1..512", o->max_batch);
    struct lk_engine *e = lk_calloc(1, sizeof *e);
    if (!e)
        return LK_ENOMEM;
    e->max_batch = o->max_batch ? o->max_batch : DEFAULT_BATCH;
    struct lk_backend_options backend_options = {.threads = o->threads};
    int rc;
    if ((rc = lk_model_load(&e->model, model_path, o->image_size)) ||
        (rc = lk_device_open(&e->backend, o->device ? o->device : "auto", &backend_options)))
        goto fail;
    e->ops = lk_ops(e->backend);
    e->ops->info(e->backend, &e->info);
    if ((rc = choose_precision(e, o->precision)) || (rc = make_buckets(e)) || (rc = warm(e)))
        goto fail;
    lk_model_space(&e->model, lk_engine_precision_class(e), e->space);
    *out = e;
    return 0;
fail:
    lk_engine_close(e);
    return rc;
}

void lk_engine_close(struct lk_engine *engine) {
    if (!engine)
        return;
    for (int i = 0; i < engine->n_buckets; i++) { /* the widest plan, which the others share, goes last */
        if (engine->buckets[i].pass)
            engine->ops->pass_free(engine->buckets[i].pass);
        engine->buckets[i].pass = NULL;
        if (engine->buckets[i].plan)
            engine->ops->plan_free(engine->buckets[i].plan);
    }
    if (engine->backend)
        lk_ops(engine->backend)->close(engine->backend);
    lk_model_free(&engine->model);
    free(engine);
}

const struct lk_model *lk_engine_model(const struct lk_engine *engine) { return &engine->model; }
int lk_engine_dim(const struct lk_engine *engine) { return engine->model.net.feature_dim; }
int lk_engine_side(const struct lk_engine *engine) { return engine->model.net.image_size; }
int lk_engine_max_batch(const struct lk_engine *engine) { return engine->max_batch; }
const char *lk_engine_precision(const struct lk_engine *engine) { return lk_precision_name(engine->precision); }
const char *lk_engine_precision_class(const struct lk_engine *engine) {
    switch (engine->precision) {
    case LK_FP32: return "f32";
    case LK_BF16: return "bf16";
    default: return "f16";
    }
}
const char *lk_engine_device(const struct lk_engine *engine) { return engine->info.device; }
int lk_engine_on_cpu(const struct lk_engine *engine) { return strcmp(engine->ops->name, "cpu") == 0; }
void lk_engine_space(const struct lk_engine *engine, char hex[65]) { memcpy(hex, engine->space, sizeof engine->space); }

int lk_engine_slots(const struct lk_engine *engine) { return engine->ops->embed_begin ? LK_EMBED_SLOTS : 1; }

/* A device that can take a batch in one piece gets it so. */
static int begin(struct lk_engine *e, struct bucket *b, const uint8_t *pixels, int n) {
    const struct lk_net *net = &e->model.net;
    if (e->ops->embed_begin)
        return e->ops->embed_begin(b->pass, pixels, n, e->model.mean, e->model.std, NULL);
    int rc = e->ops->input_u8(b->pass, pixels, n, e->model.mean, e->model.std);
    return rc ? rc : lk_walk_forward(e->ops, net, net->backbone_nodes, LK_INFERENCE, b->pass, NULL, 1);
}

static int out_of_service(struct lk_engine *e) {
    if (!e->broken[0]) {
        snprintf(e->broken, sizeof e->broken, "the engine is out of service: %s", lk_error());
        lk_log_error("%s", e->broken);
    }
    return lk_err(LK_EFAIL, "%s", e->broken);
}

int lk_engine_begin(struct lk_engine *engine, const uint8_t *pixels, int n) {
    struct lk_engine *e = engine;
    if (e->broken[0])
        return out_of_service(e);
    if (n < 1 || n > e->max_batch)
        return lk_err(LK_EINVAL, "a batch of %d is not within 1..%d", n, e->max_batch);
    if (e->begun - e->ended == (unsigned)lk_engine_slots(e))
        return lk_err(LK_EBUSY, "%u batches have begun and none has been ended", e->begun - e->ended);
    struct bucket *b = e->buckets;
    while (b->batch < n)
        b++;
    if (begin(e, b, pixels, n))
        return out_of_service(e);
    struct flight *f = &e->flights[e->begun++ % LK_EMBED_SLOTS];
    f->bucket = b, f->n = n;
    return 0;
}

int lk_engine_end(struct lk_engine *engine, float *vectors) {
    struct lk_engine *e = engine;
    if (e->begun == e->ended)
        return lk_err(LK_EINVAL, "no batch has begun");
    const struct flight *f = &e->flights[e->ended++ % LK_EMBED_SLOTS];
    int rc = e->ops->embed_end ? e->ops->embed_end(f->bucket->pass, vectors)
                               : e->ops->output(f->bucket->pass, e->model.net.backbone_nodes, f->n, 1, vectors);
    return rc ? out_of_service(e) : 0;
}

int lk_engine_embed(struct lk_engine *engine, const uint8_t *pixels, int n, float *vectors) {
    int rc = lk_engine_begin(engine, pixels, n);
    return rc ? rc : lk_engine_end(engine, vectors);
}
