#include "run.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/sha256.h"
#include "image/preprocess.h"
#include "remote.h"
#include "stop.h"

/* --- the command line, for the records ------------------------------------------------------------------------------- */

static int plain(const char *word) {
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%";
    return word[0] != '\0' && word[strspn(word, safe)] == '\0';
}

static char *quote_command(enum lk_train_command command, int argc, char **argv) {
    struct lk_buf b = {0};
    int rc = lk_buf_printf(&b, "likeness-trainer %s", lk_train_command_name(command));
    for (int i = 1; i < argc && rc == 0; i++) {
        if (plain(argv[i])) {
            rc = lk_buf_printf(&b, " %s", argv[i]);
            continue;
        }
        rc = lk_buf_printf(&b, " '");
        for (const char *c = argv[i]; *c != '\0' && rc == 0; c++)
            rc = *c == '\'' ? lk_buf_printf(&b, "'\\''") : lk_buf_append(&b, c, 1);
        rc = rc ? rc : lk_buf_printf(&b, "'");
    }
    if (rc != 0) {
        lk_buf_free(&b);
        return NULL;
    }
    return (char *)b.data;
}

char *lk_run_path(const struct lk_run *run, const char *name) {
    struct lk_buf b = {0};
    if (lk_buf_printf(&b, "%s/%s", run->config.run_dir, name) != 0) {
        lk_buf_free(&b);
        return NULL;
    }
    return (char *)b.data;
}

/* --- folders and the checkpoint -------------------------------------------------------------------------------------- */

static int make_parent(const char *path) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path)
        return 0;
    char *folder = lk_strdup(path);
    if (folder == NULL)
        return LK_ENOMEM;
    folder[slash - path] = '\0';
    int rc = lk_fs_mkdir_parents(folder);
    free(folder);
    return rc;
}

/* Opens the checkpoint when resuming and takes over its settings; refuses to write over one when not asked to. */
static int open_checkpoint(struct lk_run *run, struct lk_checkpoint *c) {
    struct lk_train_config *config = &run->config;
    run->checkpoint = lk_run_path(run, "checkpoint.lk");
    run->best = lk_run_path(run, "best.lk");
    if (run->checkpoint == NULL || run->best == NULL)
        return LK_ENOMEM;
    int there = lk_fs_exists(run->checkpoint);
    if (!config->resume && there && !config->overwrite)
        return lk_err(LK_EEXISTS,
                      "%s holds a checkpoint of an earlier run: --resume goes on with it, --overwrite begins anew, "
                      "--run-dir names another folder",
                      config->run_dir);
    if (!config->resume)
        return 0;
    if (!there)
        return lk_err(LK_ENOTFOUND, "%s: no checkpoint to resume from", run->checkpoint);
    int rc = lk_checkpoint_open(c, run->checkpoint);
    if (rc || (rc = lk_checkpoint_adopt(c, config)))
        return rc;
    if (config->data == NULL)
        return lk_err(LK_EFORMAT, "%s does not say where the pictures are: give --data", run->checkpoint);
    run->progress = c->progress;
    run->resumed_by = run->command;
    run->command = lk_strdup(lk_checkpoint_command(c));
    return run->command == NULL ? LK_ENOMEM : 0;
}

static int make_folders(struct lk_run *run) {
    struct lk_train_config *c = &run->config;
    if (c->out == NULL) { /* resumed by --run-dir alone, from a run that had no --out */
        int rc = lk_config_own(c, &c->out, lk_run_path(run, "model.safetensors"));
        if (rc != 0)
            return rc;
    }
    int rc = lk_fs_mkdir_parents(c->run_dir);
    return rc ? rc : make_parent(c->out);
}

/* --- pictures -------------------------------------------------------------------------------------------------------- */

struct reading {
    struct lk_console *console;
    const char *what;
};

static void show_reading(void *arg, size_t done, size_t of) {
    const struct reading *r = arg;
    if (lk_console_due(r->console))
        lk_console_progress(r->console, "reading %s pictures: %zu of %zu", r->what, done, of);
}

/* What the pictures of a split may take: training pictures come first. */
static uint64_t memory_left(const struct lk_run *run) {
    uint64_t all = run->config.memory_bytes > 0 ? (uint64_t)run->config.memory_bytes : lk_source_memory();
    uint64_t taken = run->train.streamed ? 0 : run->train.bytes;
    return all > taken ? all - taken : 1; /* 0 would be no limit */
}

static int read_split(struct lk_run *run, struct lk_dataset *out, enum lk_split split) {
    struct reading shown = {&run->console, split == LK_SPLIT_TRAIN ? "training" : "test"};
    const struct lk_train_config *c = &run->config;
    struct lk_read_options o = {
        .limit = (size_t)(split == LK_SPLIT_TRAIN ? c->train_limit : c->test_limit),
        .short_side = lk_preprocess_resize_side(run->image_size),
        .max_bad = c->max_bad,
        .memory = memory_left(run),
        .progress = show_reading,
        .arg = &shown,
        .stop = lk_stop_asked,
    };
    int rc = lk_source_read(out, &run->source, split, &o, split == LK_SPLIT_TEST ? &run->train : NULL, run->pool);
    lk_console_clear(&run->console);
    return rc;
}

/* An export that is fetched stays in the run folder, since a resumed run needs the very same pictures. */
static int open_source(struct lk_run *run, int resumed) {
    const struct lk_train_config *c = &run->config;
    char *keep = lk_run_path(run, "export.tar");
    const struct lk_source_options options = {.label_field = c->label_field,
                                              .key_file = c->key_file,
                                              .keep = keep,
                                              .progress = lk_console_bytes,
                                              .arg = &run->console,
                                              .stop = lk_stop_asked};
    int rc = keep == NULL ? LK_ENOMEM : 0;
    if (rc == 0 && lk_remote_is_url(c->data) && (rc = lk_fs_mkdir_parents(c->run_dir)) == 0 && !resumed)
        (void)unlink(keep); /* of an earlier run; it may not be there */
    if (rc == 0)
        rc = lk_source_open(&run->source, c->data, &options);
    lk_console_clear(&run->console);
    free(keep);
    return rc;
}

/* A run from a server's own pictures fits its batch to few of them; others are told that theirs does not fit. */
static void fit_batch(struct lk_run *run) {
    struct lk_train_config *c = &run->config;
    long long n = (long long)run->train.n;
    if (c->command == LK_RETRAIN && !c->resume && !lk_config_given(c, "batch") && n < c->batch && n >= 2)
        c->batch = n < 16 ? n : n / 8 * 8;
}

static int read_pictures(struct lk_run *run, int resumed) {
    struct lk_train_config *c = &run->config;
    int rc = open_source(run, resumed), median = 0;
    if (rc == 0 && c->image_size == 0 && !resumed)
        rc = lk_source_median_side(&median, &run->source, LK_SPLIT_TRAIN);
    if (rc != 0)
        return rc;
    run->image_size = resumed ? run->progress.image_size : lk_config_image_size(c, median);
    if ((rc = read_split(run, &run->train, LK_SPLIT_TRAIN)))
        return rc;
    run->has_test = run->source.has_test && run->train.n_classes > 0 && c->knn_every > 0;
    if (run->has_test && (rc = read_split(run, &run->test, LK_SPLIT_TEST)))
        return rc;
    char hash[65];
    lk_sha256_hex(run->train.hash, hash);
    if (resumed && strcmp(hash, run->progress.data_hash) != 0)
        return lk_err(LK_ECONFLICT, "the pictures in %s are not those that this run began with", c->data);
    memcpy(run->progress.data_hash, hash, sizeof hash);
    fit_batch(run);
    run->progress.image_size = run->image_size;
    return 0;
}

/* --- device and networks --------------------------------------------------------------------------------------------- */

static int choose_precision(struct lk_run *run) {
    const char *name = run->config.precision;
    if (strcmp(name, "auto") == 0) {
        run->precision = run->info.best == LK_FP16 ? LK_BF16 : run->info.best; /* fp16 is for inference */
        return 0;
    }
    run->precision = (enum lk_precision)lk_precision_from_name(name);
    if (!lk_ops(run->device)->supports(run->device, run->precision))
        return lk_err(LK_EUNSUPPORTED, "%s cannot compute in %s: use --precision auto", run->info.device, name);
    return 0;
}

/* The weights to begin with decide what the network is. */
static int load_init(struct lk_run *run) {
    struct lk_train_config *c = &run->config;
    if (c->init == NULL)
        return 0;
    int rc = lk_model_load(&run->init, c->init, 0);
    if (rc || c->resume) /* a resumed run knows its network; the pixels' mean and deviation are the file's */
        return rc;
    return lk_config_network(c, &run->init.arch);
}

/* A device with its own memory gets a copy of the training pictures, when it leaves room for the rest. */
static int place_pixels(struct lk_run *run) {
    const struct lk_backend_ops *ops = lk_ops(run->device);
    if (!lk_device_has_memory(run->device) || run->train.streamed ||
        (run->info.memory > 0 && run->train.bytes > run->info.memory / 2))
        return 0;
    void *p = NULL;
    int rc = ops->alloc(run->device, run->train.bytes, &p);
    run->device_pixels = p;
    return rc ? rc : ops->upload(run->device, p, run->train.pixels, run->train.bytes);
}

static int open_loader(struct lk_run *run) {
    const struct lk_train_config *c = &run->config;
    const uint8_t *base = lk_device_has_memory(run->device) ? run->device_pixels : run->train.pixels;
    if (base != NULL)
        return lk_loader_open(&run->loader, &run->train, base, (size_t)c->batch, (uint64_t)c->seed);
    return lk_loader_open_ahead(&run->loader, &run->train, run->device, (size_t)c->batch, (uint64_t)c->seed,
                                (uint64_t)c->epochs, (int)c->threads);
}

/* Student and teacher get the backbone of --init; the heads stay random. */
static int warm_start(struct lk_run *run) {
    const struct lk_model *from = &run->init;
    const struct lk_net *net = &run->net;
    struct lk_byol_state s = {0};
    if (run->config.init == NULL || run->config.resume)
        return 0;
    if (from->net.n_params != net->backbone_params || from->net.n_stats != net->backbone_stats)
        return lk_err(LK_ECONFLICT, "%s holds another network: %zu parameters, expected %zu", run->config.init,
                      from->net.n_params, net->backbone_params);
    int rc = lk_byol_save(&run->byol, &s);
    if (rc == 0) {
        memcpy(s.params, from->params, from->net.n_params * sizeof(float));
        memcpy(s.stats, from->stats, from->net.n_stats * sizeof(float));
        memcpy(s.teacher, from->params, from->net.n_params * sizeof(float));
        rc = lk_byol_load(&run->byol, &s);
    }
    lk_byol_state_free(&s);
    return rc;
}

static int build(struct lk_run *run) {
    const struct lk_train_config *c = &run->config;
    const struct lk_settings *s = &run->settings;
    struct lk_backend_options options = {.threads = (int)c->threads};
    struct lk_augment *view = run->settings.view;
    size_t embed_batch = c->batch < 128 ? (size_t)c->batch : 128;
    int rc;
    if ((rc = lk_config_settings(&run->settings, c, run->image_size, run->train.n)))
        return rc;
    for (int v = 0; v < 2 && c->init != NULL; v++) {
        memcpy(view[v].mean, run->init.mean, sizeof view[v].mean);
        memcpy(view[v].std, run->init.std, sizeof view[v].std);
    }
    if ((rc = lk_device_open(&run->device, c->device, &options)))
        return rc;
    lk_ops(run->device)->info(run->device, &run->info);
    if ((rc = choose_precision(run)) || (rc = place_pixels(run)) ||
        (rc = lk_net_build(&run->net, &s->arch, &s->heads)) ||
        (rc = lk_byol_open(&run->byol, run->device, &run->net, (int)c->batch, run->precision, &s->optimizer,
                           s->loss_scale, (uint64_t)c->seed)))
        return rc;
    if ((rc = open_loader(run)))
        return rc;
    return lk_embedder_open(&run->embedder, run->device, &run->net, embed_batch, run->precision, s->resize,
                            view[0].mean, view[0].std, run->pool);
}

static int restore(struct lk_run *run, const struct lk_checkpoint *c) {
    struct lk_byol_state state = {0};
    int rc;
    if ((rc = lk_byol_state_alloc(&state, &run->byol)) == 0 && (rc = lk_checkpoint_state(c, &state)) == 0)
        rc = lk_byol_load(&run->byol, &state);
    lk_byol_state_free(&state);
    return rc;
}

void lk_run_init(struct lk_run *run, enum lk_train_command command) {
    time_t now = time(NULL);
    struct tm utc;
    memset(run, 0, sizeof *run);
    lk_config_init(&run->config, command);
    lk_console_init(&run->console);
    run->began = run->last_saved = lk_console_now();
    if (gmtime_r(&now, &utc) != NULL)
        strftime(run->started, sizeof run->started, "%Y-%m-%dT%H:%M:%SZ", &utc);
    run->progress.knn = run->progress.nn1 = run->progress.best_knn = -1;
    run->progress.first_knn = run->progress.first_nn1 = run->progress.first_alignment = -1;
}

int lk_run_open(struct lk_run *run, int argc, char **argv) {
    struct lk_checkpoint checkpoint = {0};
    enum lk_train_command command = run->config.command;
    int rc;
    lk_stop_install();
    run->command = quote_command(command, argc, argv);
    if (run->command == NULL) {
        rc = LK_ENOMEM;
        goto out;
    }
    if ((rc = open_checkpoint(run, &checkpoint)) || (rc = lk_pool_open(&run->pool, (int)run->config.threads, 1)) ||
        (command == LK_RETRAIN && (rc = lk_run_fetch(run))) || (rc = load_init(run)) ||
        (rc = read_pictures(run, run->config.resume)) || (rc = build(run)) || (rc = warm_start(run)) ||
        (rc = make_folders(run)) || (run->config.resume && (rc = restore(run, &checkpoint))) ||
        (rc = lk_runlog_open(&run->log, run->config.run_dir, run->progress.metrics_bytes)))
        goto out;
    run->session_seconds_before = run->progress.total_seconds;
out:
    lk_checkpoint_close(&checkpoint);
    if (rc != 0)
        lk_run_close(run);
    return rc;
}

void lk_run_close(struct lk_run *run) {
    lk_console_clear(&run->console);
    lk_runlog_close(&run->log);
    lk_embedder_close(&run->embedder);
    lk_loader_close(&run->loader);
    lk_byol_close(&run->byol);
    lk_net_free(&run->net);
    if (run->device != NULL) {
        lk_ops(run->device)->free(run->device, run->device_pixels);
        lk_ops(run->device)->close(run->device);
    }
    lk_dataset_free(&run->train);
    lk_dataset_free(&run->test);
    lk_source_close(&run->source);
    lk_model_free(&run->init);
    lk_pool_close(run->pool);
    free(run->checkpoint);
    free(run->best);
    free(run->command);
    free(run->resumed_by);
    lk_config_free(&run->config);
    memset(run, 0, sizeof *run);
}
