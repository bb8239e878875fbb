#include "run.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/err.h"
#include "base/log.h"
#include "stop.h"

enum { LAG = 8 };                   /* steps whose results may be in flight: a GPU is never waited for */
static const double collapsed = .2; /* of the spread that an uncollapsed projection has */
enum { COLLAPSED_EPOCHS = 3 };
enum { EPOCH_SAVE_SECONDS = 60, STEP_SAVE_SECONDS = 600 };

/* Results of steps that have been issued and not read yet: a ring. */
struct in_flight {
    struct lk_step_record record[LK_LOSS_RING];
    uint64_t issued, read, first; /* steps in all; first: read when this began */
    float last_loss;
    double last_step, per_step; /* seconds */
};

static double root_of_dimension(const struct lk_run *run) { return sqrt((double)run->net.output_dim); }

/* Reads results until at most `keep` are outstanding. */
static int read_results(struct lk_run *run, struct in_flight *f, uint64_t keep) {
    while (f->issued - f->read > keep) {
        int slot = (int)(f->read % LK_LOSS_RING);
        struct lk_step_record *r = &f->record[slot];
        struct lk_byol_stats stats;
        int rc = run->byol.ops->byol_stats(run->device, slot, &stats);
        if (rc != 0)
            return rc;
        f->read++;
        r->loss = f->last_loss = stats.loss;
        r->spread = (double)stats.projection_std * root_of_dimension(run);
        run->progress.loss_sum += (double)stats.loss;
        run->progress.spread_sum += r->spread;
        if (r->step % (uint64_t)run->config.log_every == 0 && (rc = lk_runlog_step(&run->log, r)) != 0)
            return rc;
        if (!stats.finite || !isfinite(stats.loss))
            return lk_err(LK_EFAIL,
                          "the loss is not finite at step %" PRIu64 " (epoch %" PRIu64
                          "): a smaller --lr, or --precision fp32, may help",
                          r->step, r->epoch);
    }
    return 0;
}

/* Time of a step as shown: a moving mean over about 30 steps, so that it follows a machine whose load changes. */
static void note_step_time(struct in_flight *f, double now) {
    double took = now - f->last_step;
    f->per_step = f->per_step > 0 ? f->per_step + (took - f->per_step) / 30 : took;
    f->last_step = now;
}

static void show_progress(struct lk_run *run, const struct in_flight *f) {
    if (!lk_console_due(&run->console))
        return;
    const struct lk_progress *p = &run->progress;
    uint64_t per = run->settings.schedule.steps_per_epoch, all = lk_schedule_steps(&run->settings.schedule);
    char eta[32], knn[48] = "", loss[48] = "";
    lk_console_duration(eta, f->per_step * (double)(all - p->step));
    if (p->knn >= 0)
        snprintf(knn, sizeof knn, "  kNN %.2f %%", p->knn);
    if (f->read > f->first)
        snprintf(loss, sizeof loss, "  loss %.4f", (double)f->last_loss);
    lk_console_progress(&run->console,
                        "epoch %" PRIu64 "/%" PRIu64 "  step %" PRIu64 "/%" PRIu64 "%s  %.0f img/s  ETA %s%s",
                        p->epoch + 1, run->settings.schedule.epochs, p->step_in_epoch, per, loss,
                        (double)run->loader.batch / f->per_step, eta, knn);
}

/* --- evaluation ------------------------------------------------------------------------------------------------------ */

static int evaluate(struct lk_run *run) {
    struct lk_evaluate_options o = {
        .k = (size_t)run->config.knn_k,
        .temperature = run->config.knn_temperature,
        .query_limit = (size_t)run->config.test_limit,
        .stop = lk_stop_asked,
        .view = run->settings.view,
        .base = run->loader.base,
    };
    if (run->console.terminal)
        lk_console_progress(&run->console, "epoch %" PRIu64 ": evaluating", run->progress.epoch);
    int rc = lk_embedder_weights(&run->embedder, run->byol.params, run->byol.stats);
    if (rc == 0)
        rc = lk_evaluate(&run->evaluation, &run->embedder, &run->train, run->has_test ? &run->test : NULL, &o);
    if (rc == 0)
        run->evaluated = 1;
    if (rc == 0 && run->evaluation.has_knn)
        run->progress.knn = run->evaluation.score.knn, run->progress.nn1 = run->evaluation.score.nn1;
    return rc;
}

static void describe_evaluation(const struct lk_run *run, char *text, size_t n) {
    const struct lk_evaluation *e = &run->evaluation;
    char protocol[160];
    if (e->has_knn) {
        lk_knn_protocol(protocol, sizeof protocol, &e->score);
        snprintf(text, n, "  kNN %.2f %%  1-NN %.2f %%  (%s)", e->score.knn, e->score.nn1, protocol);
    } else {
        snprintf(text, n, "  alignment %.3f  uniformity %.3f  embedding spread %.2f", e->alignment, e->uniformity,
                 e->spread);
    }
}

/* The weights that the run begins with, for comparison. */
static int evaluate_start(struct lk_run *run) {
    char text[256];
    int rc = evaluate(run);
    if (rc != 0)
        return rc;
    struct lk_epoch_record r = {.epoch = 0, .evaluation = &run->evaluation};
    describe_evaluation(run, text, sizeof text);
    lk_console_line(&run->console, "epoch 0 (%s weights)%s", run->config.init != NULL ? "given" : "random", text);
    struct lk_progress *p = &run->progress;
    const struct lk_evaluation *e = &run->evaluation;
    p->first_knn = p->knn, p->first_nn1 = p->nn1;
    if (e->has_alignment)
        p->first_alignment = e->alignment, p->first_uniformity = e->uniformity;
    return lk_runlog_epoch(&run->log, &r);
}

/* --- an epoch -------------------------------------------------------------------------------------------------------- */

static void watch_collapse(struct lk_run *run, double spread) {
    struct lk_progress *p = &run->progress;
    int is = spread < collapsed;
    if (!is && p->collapsed_epochs >= COLLAPSED_EPOCHS) {
        lk_console_clear(&run->console);
        lk_log_info("the projections spread again: %.2f of what they should", spread);
    }
    p->collapsed_epochs = is ? p->collapsed_epochs + 1 : 0;
    if (p->collapsed_epochs == COLLAPSED_EPOCHS) {
        p->collapse_seen = 1;
        lk_console_clear(&run->console);
        lk_log_warn("collapsed: for %d epochs the normalised projections deviate by %.4f, where 1/sqrt(%d) = %.4f is "
                    "spread out: all pictures get nearly the same vector and the loss says nothing. Batch norm in the "
                    "heads (--mlp-bn on) or a smaller --lr prevents it",
                    COLLAPSED_EPOCHS, spread / root_of_dimension(run), run->net.output_dim, 1 / root_of_dimension(run));
    }
}

/* Everything after an epoch's last step: evaluation, records, checkpoint. */
static int finish_epoch(struct lk_run *run) {
    struct lk_progress *p = &run->progress;
    const struct lk_schedule *s = &run->settings.schedule;
    uint64_t epoch = p->epoch + 1, every = (uint64_t)run->config.knn_every;
    double steps = (double)s->steps_per_epoch;
    int due = every > 0 && (epoch % every == 0 || epoch == s->epochs), rc;
    if (due && (rc = evaluate(run)) != 0)
        return rc;
    struct lk_epoch_record r = {
        .epoch = epoch,
        .trained = 1,
        .loss = p->loss_sum / steps,
        .spread = p->spread_sum / steps,
        .lr = lk_schedule_lr(s, p->step - 1),
        .tau = lk_schedule_tau(s, p->step - 1),
        .seconds = p->epoch_seconds,
        .images_per_second = steps * (double)run->loader.batch / (p->epoch_seconds > 0 ? p->epoch_seconds : 1e-9),
        .evaluation = due ? &run->evaluation : NULL,
    };
    char text[256] = "", took[32];
    if (due)
        describe_evaluation(run, text, sizeof text);
    lk_console_duration(took, r.seconds);
    lk_console_line(&run->console, "epoch %" PRIu64 "/%" PRIu64 "  loss %.5f  lr %.5f  spread %.2f  %.1f img/s  %s%s",
                    epoch, s->epochs, r.loss, (double)r.lr, r.spread, r.images_per_second, took, text);
    if ((rc = lk_runlog_epoch(&run->log, &r)) != 0)
        return rc;
    watch_collapse(run, r.spread);
    p->last_loss = r.loss, p->last_speed = r.images_per_second;
    p->epoch = epoch, p->step_in_epoch = 0;
    p->loss_sum = p->spread_sum = p->epoch_seconds = 0;

    int best = due && run->evaluation.has_knn && p->knn > p->best_knn;
    if (best)
        p->best_knn = p->knn, p->best_epoch = epoch;
    double now = lk_console_now();
    every = (uint64_t)run->config.checkpoint_every;
    int save = best || epoch == s->epochs ||
               (every > 0 ? epoch % every == 0 : now - run->last_saved >= EPOCH_SAVE_SECONDS);
    if (save && (rc = lk_run_checkpoint(run, best)) != 0)
        return rc;
    if (save && (rc = lk_run_export(run, run->config.out)) != 0)
        return rc;
    return save || due ? lk_run_describe(run, "running", "") : 0;
}

/* Steps until the epoch's end, or until a signal. */
static int train_epoch(struct lk_run *run) {
    struct lk_progress *p = &run->progress;
    const struct lk_schedule *s = &run->settings.schedule;
    double began = lk_console_now(), before = p->epoch_seconds;
    struct in_flight f = {.issued = p->step, .read = p->step, .first = p->step, .last_step = began};
    int rc = 0;
    while (p->step_in_epoch < s->steps_per_epoch && rc == 0 && !lk_stop_asked()) {
        int slot = (int)(f.issued % LK_LOSS_RING);
        struct lk_step_values v = {lk_schedule_lr(s, p->step), lk_schedule_tau(s, p->step), p->step + 1};
        f.record[slot] = (struct lk_step_record){.epoch = p->epoch + 1, .step = p->step + 1, .lr = v.lr, .tau = v.tau};
        rc = lk_loader_batch(&run->loader, (uint32_t)p->epoch, (size_t)p->step_in_epoch);
        if (rc != 0)
            break;
        rc = lk_byol_step(&run->byol, &run->loader, run->settings.view, (uint64_t)run->config.seed, (uint32_t)p->epoch,
                          &v, slot);
        if (rc != 0)
            break;
        f.issued++, p->step++, p->step_in_epoch++;
        rc = read_results(run, &f, LAG);
        double now = lk_console_now();
        p->epoch_seconds = before + now - began;
        note_step_time(&f, now);
        show_progress(run, &f);
        if (rc == 0 && now - run->last_saved > STEP_SAVE_SECONDS && run->config.checkpoint_every == 0 &&
            p->step_in_epoch < s->steps_per_epoch && (rc = read_results(run, &f, 0)) == 0)
            rc = lk_run_checkpoint(run, 0);
    }
    if (rc == 0)
        rc = read_results(run, &f, 0);
    p->epoch_seconds = before + lk_console_now() - began;
    return rc;
}

int lk_run_train(struct lk_run *run) {
    struct lk_progress *p = &run->progress;
    int rc = 0;
    if (p->step == 0 && p->metrics_bytes == 0 && run->config.knn_every > 0)
        rc = evaluate_start(run);
    while (rc == 0 && p->epoch < run->settings.schedule.epochs) {
        rc = train_epoch(run);
        if (rc == 0 && p->step_in_epoch == run->settings.schedule.steps_per_epoch)
            rc = finish_epoch(run);
        if (rc == 0 && lk_stop_asked() && p->epoch < run->settings.schedule.epochs)
            rc = lk_err(LK_ECANCELLED, "stopped by a signal");
    }
    p->total_seconds = run->session_seconds_before + lk_console_now() - run->began;
    if (rc == LK_ECANCELLED) { /* everything is in memory as the last whole step left it */
        int saved = lk_run_checkpoint(run, 0);
        if (saved != 0)
            return saved;
    }
    return rc;
}
