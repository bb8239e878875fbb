#include "weights.h"

#include <string.h>

#include "base/err.h"

static int place(struct lk_weights *w) {
    const struct lk_backend_ops *ops = lk_ops(w->device);
    const struct lk_net *net = &w->model.net;
    void *params = NULL, *stats = NULL;
    int rc = ops->alloc(w->device, net->n_params * sizeof(float), &params);
    w->params = params;
    if (rc == 0)
        rc = ops->alloc(w->device, (net->n_stats > 0 ? net->n_stats : 1) * sizeof(float), &stats);
    w->stats = stats;
    if (rc || (rc = ops->upload(w->device, params, w->model.params, net->n_params * sizeof(float))) ||
        (rc = ops->upload(w->device, stats, w->model.stats, net->n_stats * sizeof(float))))
        return rc;
    return 0;
}

int lk_weights_open(struct lk_weights *out, const struct lk_weights_options *o) {
    struct lk_weights *w = out;
    struct lk_backend_options device = {.threads = o->threads};
    memset(w, 0, sizeof *w);
    int rc;
    if ((rc = lk_model_load(&w->model, o->model, o->image_size)) ||
        (rc = lk_device_open(&w->device, o->device, &device)))
        goto fail;
    lk_ops(w->device)->info(w->device, &w->info);
    int named = strcmp(o->precision, "auto") == 0 ? (int)w->info.best : lk_precision_from_name(o->precision);
    if (named < 0) {
        rc = lk_err(LK_EINVAL, "--precision %s is unknown", o->precision);
        goto fail;
    }
    w->precision = (enum lk_precision)named;
    if (!lk_ops(w->device)->supports(w->device, w->precision)) {
        rc = lk_err(LK_EUNSUPPORTED, "%s cannot compute in %s", w->info.device, o->precision);
        goto fail;
    }
    if ((rc = place(w)) || (rc = lk_pool_open(&w->pool, o->threads, 1)) ||
        (rc = lk_embedder_open(&w->embedder, w->device, &w->model.net, (size_t)o->batch, w->precision, w->model.resize,
                               w->model.mean, w->model.std, w->pool)) ||
        (rc = lk_embedder_weights(&w->embedder, w->params, w->stats)))
        goto fail;
    return 0;
fail:
    lk_weights_close(w);
    return rc;
}

void lk_weights_close(struct lk_weights *w) {
    lk_embedder_close(&w->embedder);
    lk_pool_close(w->pool);
    if (w->device != NULL) {
        lk_ops(w->device)->free(w->device, w->params);
        lk_ops(w->device)->free(w->device, w->stats);
        lk_ops(w->device)->close(w->device);
    }
    lk_model_free(&w->model);
    memset(w, 0, sizeof *w);
}
