/* A training command from its first line to its last. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "run.h"
#include "stop.h"

static void announce(struct lk_run *run) {
    const struct lk_settings *s = &run->settings;
    struct lk_console *c = &run->console;
    lk_console_line(c, "pictures   %zu for training%s, %zu test, %zu classes%s; %zu skipped", run->train.n,
                    run->train.n_classes > 0 ? "" : " (no labels)", run->test.n, run->train.n_classes,
                    run->train.n_classes > 0 && !run->has_test && run->config.knn_every > 0 ? " (kNN: leave one out)"
                                                                                            : "",
                    run->train.n_bad + run->test.n_bad);
    if (run->train.streamed)
        lk_console_line(c,
                        "memory     %.2f GB of pictures are more than --memory-bytes allows: read again in every epoch",
                        (double)run->train.bytes / 1e9);
    if (run->config.init != NULL && run->progress.step == 0)
        lk_console_line(c, "begins     with %s", run->config.init);
    lk_console_line(c, "network    %s, width %d, %s stem, %d x %d pixels: %.2f M parameters, %.2f M with heads",
                    lk_arch_name(s->arch.depth), s->arch.width, lk_stem_name(s->arch.stem), s->arch.image_size,
                    s->arch.image_size, (double)run->net.backbone_params / 1e6, (double)run->net.n_params / 1e6);
    lk_console_line(c, "device     %s, %s, %s", run->info.device, run->info.library, lk_precision_name(run->precision));
    lk_console_line(c,
                    "method     %s recipe, %s, learning rate %g, batch %lld, %" PRIu64 " epochs of %" PRIu64 " steps",
                    run->config.recipe, run->config.optimizer, s->schedule.lr, run->config.batch, s->schedule.epochs,
                    s->schedule.steps_per_epoch);
    lk_console_line(c, "run folder %s", run->config.run_dir);
    if (run->config.resume)
        lk_console_line(c, "resumed    after %" PRIu64 " epochs and %" PRIu64 " steps", run->progress.epoch,
                        run->progress.step_in_epoch);
}

static int finished(struct lk_run *run) {
    const struct lk_progress *p = &run->progress;
    char protocol[160], took[32];
    lk_run_protocol(run, protocol, sizeof protocol);
    struct lk_final_record r = {
        .loss = p->last_loss,
        .images_per_second = p->last_speed,
        .wall_seconds = p->total_seconds,
        .knn = p->knn,
        .nn1 = p->nn1,
        .knn_max = p->best_knn,
        .epochs = p->epoch,
        .steps = p->step,
        .images = run->train.n,
        .protocol = protocol,
        .device = run->info.device,
        .collapsed = p->collapse_seen != 0,
    };
    int rc = lk_runlog_final(&run->log, &r);
    if (rc || (rc = lk_run_export(run, run->config.out)) || (rc = lk_run_describe(run, "finished", "")))
        return rc;
    lk_console_duration(took, p->total_seconds);
    lk_console_line(&run->console, "finished   %" PRIu64 " epochs in %s: %s", p->epoch, took, run->config.out);
    if (p->knn >= 0)
        lk_console_line(&run->console, "kNN        %.2f %%, nearest neighbour %.2f %%, best %.2f %% (%s)", p->knn,
                        p->nn1, p->best_knn, protocol);
    if (p->collapse_seen)
        lk_log_warn("the projections collapsed during this run: see %s/report.html", run->config.run_dir);
    return 0;
}

static int interrupted(struct lk_run *run) {
    int rc = lk_run_describe(run, "interrupted", "");
    if (rc == 0 && run->progress.epoch > 0)
        rc = lk_run_export(run, run->config.out);
    if (rc != 0)
        return rc;
    lk_console_line(&run->console,
                    "stopped    after %" PRIu64 " epochs and %" PRIu64 " steps; everything is saved. To go on:",
                    run->progress.epoch, run->progress.step_in_epoch);
    lk_console_line(&run->console, "  likeness-trainer %s --resume --run-dir %s",
                    lk_train_command_name(run->config.command), run->config.run_dir);
    return 0;
}

static int run_to_the_end(struct lk_run *run, int (*then)(struct lk_run *run)) {
    announce(run);
    int rc = lk_run_describe(run, "running", "");
    if (rc == 0)
        rc = lk_run_train(run);
    if (rc == 0 && (rc = finished(run)) == 0)
        return then != NULL ? then(run) : 0;
    if (rc == LK_ECANCELLED)
        return interrupted(run);
    char reason[512];
    snprintf(reason, sizeof reason, "%s", lk_error());
    (void)lk_run_describe(run, "failed", reason); /* the reason matters more than whether it is on paper */
    return lk_err(rc, "%s", reason);
}

int lk_run_main(enum lk_train_command command, int argc, char **argv, int (*then)(struct lk_run *run)) {
    const char *name = lk_train_command_name(command);
    struct lk_run *run = calloc(1, sizeof *run);
    if (run == NULL) {
        fprintf(stderr, "likeness-trainer %s: no memory\n", name);
        return EXIT_FAILURE;
    }
    lk_run_init(run, command);
    int rc = lk_config_parse(&run->config, argc, argv);
    if (rc != 0) {
        lk_run_close(run);
        free(run);
        return rc == 1 ? EXIT_SUCCESS : lk_wrong_usage(name); /* 1: --help */
    }
    if ((rc = lk_run_open(run, argc, argv)) == 0)
        rc = run_to_the_end(run, then);
    if (rc != 0) {
        lk_console_clear(&run->console);
        fprintf(stderr, "likeness-trainer %s: %s\n", name, lk_error());
    }
    lk_run_close(run);
    free(run);
    /* Stopped by a signal before training began: nothing to save, and what was asked for. */
    return rc == 0 || (rc == LK_ECANCELLED && lk_stop_asked()) ? EXIT_SUCCESS : EXIT_FAILURE;
}
