#include "run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "json.h"
#include "model/model.h"
#include "report.h"
#include "similarity.h"

/* best.lk shares the checkpoint's bytes: a hard link costs nothing, and the next checkpoint is a new file. Where the file
 * system has no links the checkpoint is written again. */
static int keep_best(struct lk_run *run, const struct lk_byol_state *state) {
    struct lk_buf temporary = {0};
    int rc = lk_buf_printf(&temporary, "%s.new", run->best);
    if (rc == 0) {
        const char *name = (const char *)temporary.data;
        unlink(name);
        if (link(run->checkpoint, name) != 0 || rename(name, run->best) != 0)
            rc = lk_checkpoint_write(run->best, run->command, &run->config, &run->progress, state);
        unlink(name);
    }
    lk_buf_free(&temporary);
    return rc;
}

int lk_run_checkpoint(struct lk_run *run, int best) {
    struct lk_byol_state state = {0};
    struct lk_progress *p = &run->progress;
    p->total_seconds = run->session_seconds_before + lk_console_now() - run->began;
    int rc = lk_runlog_flush(&run->log);
    p->metrics_bytes = run->log.bytes;
    if (rc || (rc = lk_byol_save(&run->byol, &state)) ||
        (rc = lk_checkpoint_write(run->checkpoint, run->command, &run->config, p, &state)) ||
        (best && (rc = keep_best(run, &state)))) {
        lk_byol_state_free(&state);
        return rc;
    }
    if (best) {
        struct lk_buf path = {0};
        rc = lk_buf_printf(&path, "%s/best.safetensors", run->config.run_dir);
        if (rc == 0)
            rc = lk_run_export(run, (const char *)path.data);
        lk_buf_free(&path);
    }
    lk_byol_state_free(&state);
    run->last_saved = lk_console_now();
    return rc;
}

void lk_run_protocol(const struct lk_run *run, char *text, size_t n) {
    size_t bank = run->train.n_labelled, loo = run->config.test_limit > 0 ? (size_t)run->config.test_limit : 10000;
    struct lk_knn_score s = {
        .queries = run->has_test ? run->test.n
                   : bank < loo  ? bank
                                 : loo,
        .bank = bank,
        .k = (size_t)run->config.knn_k,
        .temperature = run->config.knn_temperature,
        .leave_one_out = !run->has_test,
    };
    size_t others = bank - (run->has_test ? 0 : 1);
    s.k = s.k < others ? s.k : others;
    text[0] = '\0';
    if (run->progress.knn >= 0)
        lk_knn_protocol(text, n, &s);
}

static void file_stem(const char *path, char *out, size_t n) {
    const char *base = strrchr(path, '/');
    base = base == NULL ? path : base + 1;
    const char *dot = strrchr(base, '.');
    snprintf(out, n, "%.*s", (int)(dot != NULL && dot != base ? (size_t)(dot - base) : strlen(base)), base);
}

static void model_name(const struct lk_run *run, char *out, size_t n) {
    if (run->config.name != NULL)
        snprintf(out, n, "%s", run->config.name);
    else
        file_stem(run->config.out, out, n);
}

int lk_run_export(struct lk_run *run, const char *path) {
    struct lk_byol_state s = {0};
    const struct lk_progress *p = &run->progress;
    char name[128], epochs[32], knn[32], nn1[32], protocol[160], pictures[32];
    model_name(run, name, sizeof name);
    snprintf(epochs, sizeof epochs, "%" PRIu64, p->epoch);
    snprintf(knn, sizeof knn, "%.2f", p->knn);
    snprintf(nn1, sizeof nn1, "%.2f", p->nn1);
    snprintf(pictures, sizeof pictures, "%zu", run->train.n);
    lk_run_protocol(run, protocol, sizeof protocol);
    const char *keys[] = {"epochs",          "data_hash", "pictures", "command",
                          "trainer_version", "knn",       "nn1",      "knn_protocol"};
    const char *values[] = {epochs, p->data_hash, pictures, run->command, LK_VERSION, knn, nn1, protocol};
    size_t n = sizeof keys / sizeof keys[0] - (p->knn >= 0 ? 0 : 3);
    int rc = lk_byol_save(&run->byol, &s);
    if (rc == 0)
        rc = lk_model_save(path, &run->settings.arch, &run->net, s.params, s.stats, run->settings.view[0].mean,
                           run->settings.view[0].std, name, "byol",
                           strcmp(run->config.export_dtype, "f32") == 0 ? LK_DTYPE_F32 : LK_DTYPE_BF16, keys, values,
                           n);
    lk_byol_state_free(&s);
    return rc;
}

/* --- run.json and report.html ---------------------------------------------------------------------------------------- */

enum { MAX_FACTS = 256 };

/* Facts are gathered once and written twice: as JSON and as the report's table. */
struct facts {
    struct lk_report_fact fact[MAX_FACTS];
    char *owned[2 * MAX_FACTS];
    unsigned char number[MAX_FACTS]; /* written without quotes in JSON */
    size_t n, n_owned;
    int rc;
};

static char *keep(struct facts *f, const char *text) {
    char *copy = f->n_owned < sizeof f->owned / sizeof f->owned[0] ? lk_strdup(text) : NULL;
    if (copy == NULL)
        f->rc = LK_ENOMEM;
    else
        f->owned[f->n_owned++] = copy;
    return copy;
}

static void add(struct facts *f, const char *name, const char *value, int number) {
    if (f->rc != 0 || f->n == MAX_FACTS)
        return;
    f->fact[f->n].name = keep(f, name);
    f->fact[f->n].value = value != NULL ? keep(f, value) : NULL;
    f->number[f->n++] = (unsigned char)number;
}

static void add_number(struct facts *f, const char *name, double value) {
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    add(f, name, text, 1);
}

static void add_decimals(struct facts *f, const char *name, double value, int decimals) {
    char text[40];
    snprintf(text, sizeof text, "%.*f", decimals, value);
    add(f, name, text, 1);
}

static int is_number(const char *text) {
    char *end = NULL;
    if (text[0] == '\0' || strspn(text, "0123456789+-.eE") != strlen(text))
        return 0;
    strtod(text, &end);
    return *end == '\0';
}

static int add_knob(void *arg, const char *name, const char *value, int frozen) {
    (void)frozen;
    add(arg, name, value, is_number(value));
    return ((struct facts *)arg)->rc;
}

static void now_utc(char text[32]) {
    time_t now = time(NULL);
    struct tm utc;
    text[0] = '\0';
    if (gmtime_r(&now, &utc) != NULL)
        strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

static void gather_results(const struct lk_run *run, struct facts *f) {
    const struct lk_progress *p = &run->progress;
    char protocol[160];
    add(f, "results", NULL, 0);
    add_number(f, "epochs", (double)p->epoch);
    add_number(f, "steps", (double)p->step);
    if (p->epoch > 0) {
        add_decimals(f, "loss", p->last_loss, 6);
        add_decimals(f, "images_per_second", p->last_speed, 2);
    }
    if (p->knn >= 0) {
        lk_run_protocol(run, protocol, sizeof protocol);
        add_decimals(f, "knn", p->knn, 2);
        add_decimals(f, "nn1", p->nn1, 2);
        add(f, "knn_protocol", protocol, 0);
    }
    if (p->best_knn >= 0) {
        add_decimals(f, "knn_max", p->best_knn, 2);
        add_number(f, "knn_max_epoch", (double)p->best_epoch);
    }
    add_decimals(f, "seconds", p->total_seconds, 1);
    add_number(f, "collapsed", (double)p->collapse_seen);
}

static void gather(const struct lk_run *run, struct facts *f, const char *status, const char *reason) {
    const struct lk_settings *s = &run->settings;
    char now[32];
    now_utc(now);
    add(f, "run", NULL, 0);
    add(f, "status", status, 0);
    if (reason[0] != '\0')
        add(f, "reason", reason, 0);
    add(f, "command", run->command, 0);
    if (run->resumed_by != NULL)
        add(f, "resumed_by", run->resumed_by, 0);
    add(f, "version", LK_VERSION, 0);
    add(f, "started", run->started, 0);
    add(f, "updated", now, 0);
    gather_results(run, f);
    add(f, "machine", NULL, 0);
    add(f, "device_name", run->info.device, 0);
    add(f, "library", run->info.library, 0);
    add_number(f, "device_threads", run->info.threads);
    add(f, "computes_in", lk_precision_name(run->precision), 0);
    add(f, "similarity", lk_similarity_name(), 0);
    add(f, "pictures", NULL, 0);
    add(f, "path", run->config.data, 0);
    add(f, "hash", run->progress.data_hash, 0);
    add_number(f, "train", (double)run->train.n);
    add_number(f, "test", (double)run->test.n);
    add_number(f, "classes", (double)run->train.n_classes);
    add_number(f, "skipped", (double)(run->train.n_bad + run->test.n_bad));
    add(f, "network", NULL, 0);
    add(f, "backbone", lk_arch_name(s->arch.depth), 0);
    add_number(f, "first_stage_width", s->arch.width);
    add(f, "stem_used", lk_stem_name(s->arch.stem), 0);
    add_number(f, "input_side", s->arch.image_size);
    add_number(f, "feature_dim", run->net.feature_dim);
    add_number(f, "backbone_parameters", (double)run->net.backbone_params);
    add_number(f, "parameters", (double)run->net.n_params);
    add_number(f, "backbone_macs", lk_net_macs(&run->net, run->net.backbone_nodes));
    add(f, "resolved", NULL, 0);
    add_number(f, "learning_rate", s->schedule.lr);
    add_decimals(f, "weight_decay_used", (double)s->optimizer.weight_decay, 8);
    add_number(f, "steps_per_epoch", (double)s->schedule.steps_per_epoch);
    add_number(f, "projector_batch_norm", s->heads.projector_bn);
    add_number(f, "predictor_batch_norm", s->heads.predictor_bn);
    add(f, "settings", NULL, 0);
    int rc = lk_config_visit(&run->config, add_knob, f);
    f->rc = f->rc ? f->rc : rc;
}

static int facts_json(struct lk_buf *out, const struct facts *f) {
    int rc = lk_buf_printf(out, "{\n"), open = 0;
    for (size_t i = 0; i < f->n && rc == 0; i++) {
        const char *name = f->fact[i].name, *value = f->fact[i].value;
        if (value == NULL) {
            rc = lk_buf_printf(out, "%s  \"%s\": {\n", open ? "\n  },\n" : "", name);
            open = 1;
            continue;
        }
        int first = f->fact[i - 1].value == NULL;
        rc = lk_buf_printf(out, "%s    ", first ? "" : ",\n") || lk_json_string(out, name) ||
             lk_buf_printf(out, ": ") ||
             (f->number[i] ? lk_buf_append(out, value, strlen(value)) : lk_json_string(out, value));
    }
    return rc ? LK_ENOMEM : lk_buf_printf(out, "\n  }\n}\n");
}

static int write_in_folder(const struct lk_run *run, const char *name, const struct lk_buf *content) {
    struct lk_buf path = {0};
    int rc = lk_buf_printf(&path, "%s/%s", run->config.run_dir, name);
    if (rc == 0)
        rc = lk_fs_write_atomic((const char *)path.data, content->data, content->size);
    lk_buf_free(&path);
    return rc;
}

static int write_report(const struct lk_run *run, const struct facts *f, const char *status, const char *reason) {
    struct lk_buf page = {0}, metrics = {0};
    char verdict[512], took[32], name[128];
    const struct lk_progress *p = &run->progress;
    model_name(run, name, sizeof name);
    lk_console_duration(took, p->total_seconds);
    snprintf(verdict, sizeof verdict, "%s after %" PRIu64 " of %" PRIu64 " epochs over %zu pictures, %s on %s.%s%s%s",
             status, p->epoch, run->settings.schedule.epochs, run->train.n, took, run->info.device,
             p->collapse_seen ? " The projections collapsed: see the spread." : "", reason[0] != '\0' ? " " : "",
             reason);
    if (verdict[0] >= 'a' && verdict[0] <= 'z')
        verdict[0] = (char)(verdict[0] - 'a' + 'A');
    int rc = lk_fs_read(&metrics, run->log.path, 0);
    if (rc == 0)
        rc = lk_buf_append(&metrics, "", 1); /* the NUL */
    if (rc == 0)
        rc = lk_report_page(&page, name, verdict, (const char *)metrics.data, f->fact, f->n);
    if (rc == 0)
        rc = write_in_folder(run, "report.html", &page);
    lk_buf_free(&page);
    lk_buf_free(&metrics);
    return rc;
}

int lk_run_describe(struct lk_run *run, const char *status, const char *reason) {
    struct lk_buf json = {0};
    struct facts *f = lk_calloc(1, sizeof *f);
    if (f == NULL)
        return LK_ENOMEM;
    gather(run, f, status, reason);
    int rc = f->rc;
    if (rc == 0)
        rc = facts_json(&json, f);
    if (rc == 0)
        rc = write_in_folder(run, "run.json", &json);
    if (rc == 0 && (rc = lk_runlog_flush(&run->log)) == 0)
        rc = write_report(run, f, status, reason);
    for (size_t i = 0; i < f->n_owned; i++)
        free(f->owned[i]);
    free(f);
    lk_buf_free(&json);
    return rc;
}
