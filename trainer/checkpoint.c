#include "checkpoint.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"

/* --- progress as metadata -------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    size_t offset;
    int real, later; /* later: not in every checkpoint of this format */
} fields[] = {
    {"step", offsetof(struct lk_progress, step), 0, 0},
    {"epoch", offsetof(struct lk_progress, epoch), 0, 0},
    {"step_in_epoch", offsetof(struct lk_progress, step_in_epoch), 0, 0},
    {"loss_sum", offsetof(struct lk_progress, loss_sum), 1, 0},
    {"spread_sum", offsetof(struct lk_progress, spread_sum), 1, 0},
    {"epoch_seconds", offsetof(struct lk_progress, epoch_seconds), 1, 0},
    {"total_seconds", offsetof(struct lk_progress, total_seconds), 1, 0},
    {"knn", offsetof(struct lk_progress, knn), 1, 0},
    {"nn1", offsetof(struct lk_progress, nn1), 1, 0},
    {"last_loss", offsetof(struct lk_progress, last_loss), 1, 0},
    {"last_speed", offsetof(struct lk_progress, last_speed), 1, 0},
    {"best_knn", offsetof(struct lk_progress, best_knn), 1, 0},
    {"best_epoch", offsetof(struct lk_progress, best_epoch), 0, 0},
    {"collapsed_epochs", offsetof(struct lk_progress, collapsed_epochs), 0, 0},
    {"collapse_seen", offsetof(struct lk_progress, collapse_seen), 0, 0},
    {"metrics_bytes", offsetof(struct lk_progress, metrics_bytes), 0, 0},
    {"first_knn", offsetof(struct lk_progress, first_knn), 1, 1},
    {"first_nn1", offsetof(struct lk_progress, first_nn1), 1, 1},
    {"first_alignment", offsetof(struct lk_progress, first_alignment), 1, 1},
    {"first_uniformity", offsetof(struct lk_progress, first_uniformity), 1, 1},
};
enum { N_FIELDS = sizeof fields / sizeof fields[0] };

struct pairs {
    char **keys, **values;
    size_t n, room;
};

static int add_pair(struct pairs *p, const char *prefix, const char *key, const char *value) {
    if (p->n == p->room)
        return lk_err(LK_EFAIL, "more settings than a checkpoint has room for");
    struct lk_buf b = {0};
    if (lk_buf_printf(&b, "%s%s", prefix, key) != 0) {
        lk_buf_free(&b);
        return LK_ENOMEM;
    }
    p->keys[p->n] = (char *)b.data;
    p->values[p->n] = lk_strdup(value);
    return p->values[p->n++] == NULL ? LK_ENOMEM : 0;
}

static int add_setting(void *arg, const char *name, const char *value, int frozen) {
    (void)frozen;
    return add_pair(arg, "config.", name, value);
}

static int add_progress(struct pairs *pairs, const struct lk_progress *p) {
    char text[64];
    for (int i = 0; i < N_FIELDS; i++) {
        const char *at = (const char *)p + fields[i].offset;
        if (fields[i].real)
            snprintf(text, sizeof text, "%.17g", *(const double *)(const void *)at);
        else
            snprintf(text, sizeof text, "%" PRIu64, *(const uint64_t *)(const void *)at);
        if (add_pair(pairs, "progress.", fields[i].name, text) != 0)
            return LK_ENOMEM;
    }
    snprintf(text, sizeof text, "%d", p->image_size);
    return add_pair(pairs, "", "image_size", text) || add_pair(pairs, "", "data_hash", p->data_hash) ? LK_ENOMEM : 0;
}

static void free_pairs(struct pairs *p) {
    for (size_t i = 0; i < p->n; i++) {
        free(p->keys[i]);
        free(p->values[i]);
    }
    free(p->keys);
    free(p->values);
}

int lk_checkpoint_write(const char *path, const char *command, const struct lk_train_config *config,
                        const struct lk_progress *progress, const struct lk_byol_state *state) {
    struct pairs p = {.room = LK_CONFIG_MAX + N_FIELDS + 8};
    p.keys = lk_calloc(p.room, sizeof *p.keys);
    p.values = lk_calloc(p.room, sizeof *p.values);
    int rc = p.keys == NULL || p.values == NULL ? LK_ENOMEM : 0;
    if (rc || (rc = add_pair(&p, "", "likeness.checkpoint", LK_CHECKPOINT_FORMAT)) ||
        (rc = add_pair(&p, "", "command", command)) || (rc = add_progress(&p, progress)) ||
        (rc = lk_config_visit(config, add_setting, &p)))
        goto done;
    const struct lk_st_write tensors[] = {
        {"student", LK_DTYPE_F32, 1, {(int64_t)state->n_params}, state->params},
        {"statistics", LK_DTYPE_F32, 1, {(int64_t)state->n_stats}, state->stats},
        {"optimizer", LK_DTYPE_F32, 1, {(int64_t)state->n_optimizer}, state->optimizer},
        {"teacher", LK_DTYPE_F32, 1, {(int64_t)state->n_teacher}, state->teacher},
    };
    rc = lk_safetensors_write(path, tensors, sizeof tensors / sizeof tensors[0], (const char *const *)p.keys,
                              (const char *const *)p.values, p.n);
done:
    free_pairs(&p);
    return rc;
}

/* --- reading --------------------------------------------------------------------------------------------------------- */

int lk_checkpoint_is(const struct lk_safetensors *file) {
    return lk_safetensors_meta(file, "likeness.checkpoint") != NULL;
}

static int read_number(const struct lk_safetensors *file, const char *key, int real, void *out) {
    const char *text = lk_safetensors_meta(file, key);
    char *end = NULL;
    if (text == NULL)
        return lk_err(LK_EFORMAT, "the checkpoint lacks %s", key);
    if (real)
        *(double *)out = strtod(text, &end);
    else
        *(uint64_t *)out = strtoull(text, &end, 10);
    return end != text && *end == '\0' ? 0 : lk_err(LK_EFORMAT, "the checkpoint's %s is '%s'", key, text);
}

static int read_progress(struct lk_progress *p, const struct lk_safetensors *file) {
    for (int i = 0; i < N_FIELDS; i++) {
        char key[64];
        snprintf(key, sizeof key, "progress.%s", fields[i].name);
        char *at = (char *)p + fields[i].offset;
        if (fields[i].later && lk_safetensors_meta(file, key) == NULL) {
            *(double *)(void *)at = -1; /* all of these are real */
            continue;
        }
        int rc = read_number(file, key, fields[i].real, at);
        if (rc != 0)
            return rc;
    }
    uint64_t size = 0;
    int rc = read_number(file, "image_size", 0, &size);
    const char *hash = lk_safetensors_meta(file, "data_hash");
    if (rc != 0)
        return rc;
    if (hash == NULL || strlen(hash) != 64 || size > 65535)
        return lk_err(LK_EFORMAT, "the checkpoint's data_hash or image_size is damaged");
    p->image_size = (int)size;
    memcpy(p->data_hash, hash, 65);
    return 0;
}

int lk_checkpoint_open(struct lk_checkpoint *out, const char *path) {
    memset(out, 0, sizeof *out);
    int rc = lk_safetensors_open(&out->file, path);
    if (rc != 0)
        return rc;
    const char *format = lk_safetensors_meta(&out->file, "likeness.checkpoint");
    if (format == NULL)
        rc = lk_err(LK_EFORMAT, "not a training checkpoint (weights cannot be resumed from)");
    else if (strcmp(format, LK_CHECKPOINT_FORMAT) != 0)
        rc = lk_err(LK_EUNSUPPORTED, "a checkpoint of format '%s'; this version reads '%s'", format,
                    LK_CHECKPOINT_FORMAT);
    else
        rc = read_progress(&out->progress, &out->file);
    if (rc != 0) {
        lk_checkpoint_close(out);
        return lk_err_prefix(rc, "%s", path);
    }
    return 0;
}

void lk_checkpoint_close(struct lk_checkpoint *c) {
    lk_safetensors_close(&c->file);
    memset(c, 0, sizeof *c);
}

const char *lk_checkpoint_command(const struct lk_checkpoint *c) {
    const char *command = lk_safetensors_meta(&c->file, "command");
    return command != NULL ? command : "";
}

static const char *find_setting(void *arg, const char *name) {
    char key[80];
    snprintf(key, sizeof key, "config.%s", name);
    return lk_safetensors_meta(arg, key);
}

int lk_checkpoint_adopt(const struct lk_checkpoint *c, struct lk_train_config *config) {
    struct lk_safetensors file = c->file; /* lk_config_adopt's callback takes a plain pointer */
    return lk_config_adopt(config, find_setting, &file);
}

static int read_tensor(const struct lk_safetensors *file, const char *name, float *out, size_t n) {
    const struct lk_st_tensor *t = lk_safetensors_find(file, name);
    if (t == NULL)
        return lk_err(LK_EFORMAT, "the checkpoint lacks the tensor '%s'", name);
    if (t->dtype != LK_DTYPE_F32 || t->count != n)
        return lk_err(LK_EFORMAT, "the checkpoint's tensor '%s' has %zu numbers, the network needs %zu", name, t->count,
                      n);
    return lk_safetensors_to_float(t, out);
}

int lk_checkpoint_state(const struct lk_checkpoint *c, struct lk_byol_state *s) {
    int rc;
    if ((rc = read_tensor(&c->file, "student", s->params, s->n_params)) ||
        (rc = read_tensor(&c->file, "statistics", s->stats, s->n_stats)) ||
        (rc = read_tensor(&c->file, "optimizer", s->optimizer, s->n_optimizer)))
        return rc;
    return read_tensor(&c->file, "teacher", s->teacher, s->n_teacher);
}
