/* One training run: everything that `pretrain` and `retrain` hold while they work. Opened in order by run_open.c, with what
 * retrain.c fetches from a server, driven by run_main.c and run_train.c, saved and described by run_save.c. Not for other
 * commands. */
#ifndef LK_TRAINER_RUN_H
#define LK_TRAINER_RUN_H

#include "byol.h"
#include "checkpoint.h"
#include "config.h"
#include "console.h"
#include "embedder.h"
#include "evaluate.h"
#include "loader.h"
#include "model/model.h"
#include "runlog.h"
#include "source.h"

struct lk_run {
    struct lk_train_config config;
    struct lk_settings settings;
    struct lk_console console;
    char *command;           /* owned: as the run was first started, for the records */
    char *resumed_by;        /* owned: the command that resumed it last, or NULL */
    char *checkpoint, *best; /* owned: paths in the run folder */
    char started[32];        /* UTC */
    double began;            /* of this process's part, monotonic seconds */

    struct lk_pool *pool;
    struct lk_source source;
    struct lk_dataset train, test;
    int has_test, image_size;
    struct lk_model init; /* the weights that it begins with; zeroed when they are random */

    struct lk_backend *device;
    struct lk_backend_info info;
    enum lk_precision precision;
    uint8_t *device_pixels; /* the training pictures on a device with its own memory; NULL on the CPU, and
                               where they do not fit */
    struct lk_net net;
    struct lk_byol byol;
    struct lk_loader loader;
    struct lk_embedder embedder;

    struct lk_progress progress;
    double session_seconds_before; /* progress.total_seconds when this process began */
    double last_saved;
    struct lk_runlog log;
    struct lk_evaluation evaluation; /* the last one */
    int evaluated;
};

/* The whole command; its exit status. then: what follows a run that came to its end; may be NULL. */
int lk_run_main(enum lk_train_command command, int argc, char **argv, int (*then)(struct lk_run *run));

/* The defaults of `command`; lk_config_parse() on run->config follows. */
void lk_run_init(struct lk_run *run, enum lk_train_command command);
/* Reads the pictures and, with --resume, the checkpoint; builds everything. argv: what was parsed, for the record. */
int lk_run_open(struct lk_run *run, int argc, char **argv);
void lk_run_close(struct lk_run *run); /* accepts a zeroed or half-open one */

/* retrain: the server's weights and export into the run folder, where they are not there already from the run that is
 * resumed; --init and --data are then these. */
int lk_run_fetch(struct lk_run *run);
/* retrain: says how the weights compare with those that it began with, and publishes them unless --no-publish. */
int lk_run_publish(struct lk_run *run);
/* A path in the run folder; owned. NULL when memory ran out. */
char *lk_run_path(const struct lk_run *run, const char *name);

/* Trains to the end. 0; LK_ECANCELLED when a signal asked to stop (everything is saved); other errors. */
int lk_run_train(struct lk_run *run);

/* Writes the checkpoint. best: keep it as the best one too. */
int lk_run_checkpoint(struct lk_run *run, int best);
/* Writes the weights to --out (or best.safetensors in the run folder). */
int lk_run_export(struct lk_run *run, const char *path);
/* Writes run.json and report.html. status: "running", "interrupted", "finished", "failed". */
int lk_run_describe(struct lk_run *run, const char *status, const char *reason);
/* kNN's protocol as a sentence, "" before the first evaluation. */
void lk_run_protocol(const struct lk_run *run, char *text, size_t n);

#endif
