#include "byol.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "model/walk.h"

struct collect {
    struct lk_param_span *spans;
    size_t n;
};

static int count_span(void *arg, const struct lk_net_tensor *t) {
    struct collect *c = arg;
    if (t->stat)
        return 0;
    if (c->spans != NULL)
        c->spans[c->n] = (struct lk_param_span){t->offset, t->count, t->ndim == 1};
    c->n++;
    return 0;
}

/* The arena's tensors, for the optimiser's exclusions and trust ratios. */
static int list_spans(struct lk_byol *b) {
    struct collect c = {NULL, 0};
    lk_net_tensors(b->net, b->net->n_nodes, count_span, &c);
    c.spans = b->spans = lk_calloc(c.n, sizeof *b->spans);
    if (b->spans == NULL)
        return LK_ENOMEM;
    b->n_spans = c.n, c.n = 0;
    return lk_net_tensors(b->net, b->net->n_nodes, count_span, &c);
}

static int alloc_floats(struct lk_byol *b, float **out, size_t n) {
    void *p = NULL;
    int rc = b->ops->alloc(b->device, (n > 0 ? n : 1) * sizeof(float), &p);
    *out = p;
    return rc;
}

static int init_weights(struct lk_byol *b, uint64_t seed) {
    struct lk_byol_state s = {0};
    int rc = lk_byol_state_alloc(&s, b);
    if (rc == 0) {
        lk_net_init(b->net, seed, s.params, s.stats);
        memcpy(s.teacher, s.params, s.n_teacher * sizeof(float));
        rc = lk_byol_load(b, &s);
    }
    lk_byol_state_free(&s);
    return rc;
}

int lk_byol_open(struct lk_byol *out, struct lk_backend *device, const struct lk_net *net, int batch,
                 enum lk_precision precision, const struct lk_optimizer_config *optimizer, float loss_scale,
                 uint64_t seed) {
    struct lk_byol *b = out;
    memset(b, 0, sizeof *b);
    b->device = device, b->ops = lk_ops(device), b->net = net;
    b->optimizer = *optimizer, b->loss_scale = loss_scale;
    b->batch = batch;
    b->n_state = optimizer->kind == LK_ADAM ? 2 * net->n_params : net->n_params;
    const struct lk_backend_ops *ops = b->ops;
    int rc = list_spans(b);
    if (rc || (rc = alloc_floats(b, &b->params, net->n_params)) || (rc = alloc_floats(b, &b->grads, net->n_params)) ||
        (rc = alloc_floats(b, &b->state, b->n_state)) || (rc = alloc_floats(b, &b->stats, net->n_stats)) ||
        (rc = alloc_floats(b, &b->teacher_params, net->teacher_params)) ||
        (rc = ops->plan(device, net, net->n_nodes, batch, precision, LK_TRAIN, NULL, &b->student_plan)) ||
        (rc = ops->plan(device, net, net->teacher_nodes, batch, precision, LK_FORWARD, NULL, &b->teacher_plan)))
        goto fail;
    for (int v = 0; v < 2; v++)
        if ((rc = ops->pass(b->student_plan, &b->student[v])) || (rc = ops->pass(b->teacher_plan, &b->teacher[v])))
            goto fail;
    if ((rc = init_weights(b, seed)))
        goto fail;
    return 0;
fail:
    lk_byol_close(b);
    return rc;
}

static void forget_recording(struct lk_byol *b) {
    if (b->recording != NULL)
        b->ops->recording_free(b->recording);
    b->recording = NULL;
    b->settled = 0;
}

void lk_byol_close(struct lk_byol *b) {
    if (b->ops != NULL) {
        forget_recording(b);
        for (int v = 0; v < 2; v++) {
            if (b->student[v] != NULL)
                b->ops->pass_free(b->student[v]);
            if (b->teacher[v] != NULL)
                b->ops->pass_free(b->teacher[v]);
        }
        b->ops->plan_free(b->student_plan);
        b->ops->plan_free(b->teacher_plan);
        b->ops->free(b->device, b->params);
        b->ops->free(b->device, b->grads);
        b->ops->free(b->device, b->state);
        b->ops->free(b->device, b->stats);
        b->ops->free(b->device, b->teacher_params);
    }
    free(b->spans);
    memset(b, 0, sizeof *b);
}

static int augment(struct lk_byol *b, struct lk_pass *pass, const struct lk_augment view[2], int v,
                   const struct lk_step *s) {
    return b->ops->augment(pass, &view[v], s->seed, s->epoch, v, s->pixels, s->widths, s->heights, s->image_ids);
}

static int run_step(struct lk_byol *b, const struct lk_augment view[2], const struct lk_step *s) {
    const struct lk_backend_ops *ops = b->ops;
    const struct lk_net *net = b->net;
    int rc;
    if ((rc = ops->set_weights(b->student_plan, b->params, b->stats)) ||
        (rc = ops->set_weights(b->teacher_plan, b->teacher_params, b->stats)))
        return rc;
    for (int v = 0; v < 2; v++) { /* running statistics: view 1, then view 2 */
        if ((rc = augment(b, b->student[v], view, v, s)) ||
            (rc = ops->input_from != NULL ? ops->input_from(b->teacher[v], b->student[v])
                                          : augment(b, b->teacher[v], view, v, s)) ||
            (rc = lk_walk_forward(ops, net, net->teacher_nodes, LK_FORWARD, b->teacher[v], NULL, 1)) ||
            (rc = lk_walk_forward(ops, net, net->n_nodes, LK_TRAIN, b->student[v], b->stats, 1)))
            return rc;
    }
    if ((rc = ops->byol_loss(b->student[0], b->student[1], b->teacher[0], b->teacher[1], b->loss_scale, s->slot)))
        return rc;
    for (int v = 0; v < 2; v++)
        if ((rc = lk_walk_backward(ops, net, net->n_nodes, b->student[v], b->grads, 1)))
            return rc;
    return ops->update(b->device, &b->optimizer, &s->values, b->spans, b->n_spans, net->n_params, b->params, b->grads,
                       b->state, b->teacher_params, net->teacher_params);
}

/* Where it cannot be done the log says why, and steps go on running as they come. */
static void record(struct lk_byol *b, const struct lk_augment view[2], const struct lk_step *s) {
    char why[256] = "";
    int rc = b->ops->record_begin(b->device, b->batch);
    if (rc == 0) {
        if ((rc = run_step(b, view, s)) != 0)
            snprintf(why, sizeof why, "%s", lk_error()); /* the first reason; what record_end says follows from it */
        int ended = b->ops->record_end(b->device, &b->recording);
        rc = rc != 0 ? rc : ended;
    }
    if (rc == 0)
        return;
    lk_log_warn("training steps cannot be recorded and run call by call, which is slower: %s",
                why[0] ? why : lk_error());
    forget_recording(b);
    b->eager = 1;
}

/* 1 when the settings differ from those of the last step; they are this step's then. */
static int settings_change(struct lk_byol *b, const struct lk_augment view[2]) {
    struct lk_byol_settings now; /* all members have four bytes: there is no padding to compare */
    memset(&now, 0, sizeof now);
    now.view[0] = view[0], now.view[1] = view[1];
    now.optimizer = b->optimizer, now.loss_scale = b->loss_scale;
    /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison): equal numbers of other bits are recorded again, no more */
    int same = memcmp(&now, &b->settings, sizeof now) == 0;
    b->settings = now;
    return !same;
}

int lk_byol_step(struct lk_byol *b, const struct lk_loader *batch, const struct lk_augment view[2], uint64_t seed,
                 uint32_t epoch, const struct lk_step_values *values, int slot) {
    const struct lk_loader *l = batch;
    const struct lk_step s = {seed, epoch, slot, *values, l->pixels, l->width, l->height, l->id};
    if (b->eager || b->ops->replay == NULL)
        return run_step(b, view, &s);
    if (settings_change(b, view))
        forget_recording(b);
    if (b->settled && b->recording == NULL)
        record(b, view, &s);
    int rc = b->recording != NULL ? b->ops->replay(b->recording, &s) : LK_ECONFLICT;
    if (rc != LK_ECONFLICT)
        return rc;
    forget_recording(b);
    rc = run_step(b, view, &s);
    b->settled = rc == 0;
    return rc;
}

int lk_byol_state_alloc(struct lk_byol_state *s, const struct lk_byol *b) {
    memset(s, 0, sizeof *s);
    s->n_params = b->net->n_params, s->n_stats = b->net->n_stats;
    s->n_optimizer = b->n_state, s->n_teacher = b->net->teacher_params;
    s->params = lk_calloc(s->n_params, sizeof(float));
    s->stats = lk_calloc(s->n_stats > 0 ? s->n_stats : 1, sizeof(float));
    s->optimizer = lk_calloc(s->n_optimizer, sizeof(float));
    s->teacher = lk_calloc(s->n_teacher, sizeof(float));
    if (s->params != NULL && s->stats != NULL && s->optimizer != NULL && s->teacher != NULL)
        return 0;
    lk_byol_state_free(s);
    return LK_ENOMEM;
}

void lk_byol_state_free(struct lk_byol_state *s) {
    free(s->params);
    free(s->stats);
    free(s->optimizer);
    free(s->teacher);
    memset(s, 0, sizeof *s);
}

int lk_byol_save(const struct lk_byol *b, struct lk_byol_state *out) {
    const struct lk_backend_ops *ops = b->ops;
    int rc = lk_byol_state_alloc(out, b);
    if (rc || (rc = ops->download(b->device, out->params, b->params, out->n_params * sizeof(float))) ||
        (rc = ops->download(b->device, out->stats, b->stats, out->n_stats * sizeof(float))) ||
        (rc = ops->download(b->device, out->optimizer, b->state, out->n_optimizer * sizeof(float))) ||
        (rc = ops->download(b->device, out->teacher, b->teacher_params, out->n_teacher * sizeof(float))))
        lk_byol_state_free(out);
    return rc;
}

int lk_byol_load(struct lk_byol *b, const struct lk_byol_state *s) {
    const struct lk_backend_ops *ops = b->ops;
    if (s->n_params != b->net->n_params || s->n_stats != b->net->n_stats || s->n_optimizer != b->n_state ||
        s->n_teacher != b->net->teacher_params)
        return lk_err(LK_EINVAL, "the saved state is of another network: %zu parameters, expected %zu", s->n_params,
                      b->net->n_params);
    int rc;
    if ((rc = ops->upload(b->device, b->params, s->params, s->n_params * sizeof(float))) ||
        (rc = ops->upload(b->device, b->stats, s->stats, s->n_stats * sizeof(float))) ||
        (rc = ops->upload(b->device, b->state, s->optimizer, s->n_optimizer * sizeof(float))) ||
        (rc = ops->upload(b->device, b->teacher_params, s->teacher, s->n_teacher * sizeof(float))))
        return rc;
    return ops->sync(b->device);
}
