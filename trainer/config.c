#include "config.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/args.h"
#include "base/buf.h"
#include "base/err.h"
#include "image/preprocess.h"

enum keep {
    FREE,   /* remembered, may change on resume */
    FROZEN, /* remembered, decides the numbers: may not change on resume */
    LOCAL   /* of this call alone, not remembered */
};

struct knob {
    enum lk_arg_kind kind;
    const char *name;
    size_t offset;
    const char *placeholder, *initial, *help; /* initial: NULL is a NULL string, 0 or off */
    double minimum, maximum;
    const char *choices;
    enum keep keep;
    int retrain; /* an option of `retrain` alone */
};

#define AT(field) offsetof(struct lk_train_config, field)
#define HEADING(text) \
    { LK_ARG_HEADING, NULL, 0, NULL, NULL, text, 0, 0, NULL, LOCAL, 0 }
#define STRING(name, field, what, initial, keep, help) \
    { LK_ARG_STRING, name, AT(field), what, initial, help, 0, 0, NULL, keep, 0 }
#define CHOICE(name, field, choices, initial, keep, help) \
    { LK_ARG_CHOICE, name, AT(field), NULL, initial, help, 0, 0, choices, keep, 0 }
#define WHOLE(name, field, low, high, initial, keep, help) \
    { LK_ARG_INT, name, AT(field), "N", initial, help, low, high, NULL, keep, 0 }
#define REAL(name, field, low, high, initial, keep, help) \
    { LK_ARG_REAL, name, AT(field), "X", initial, help, low, high, NULL, keep, 0 }
#define FLAG(name, field, keep, help) \
    { LK_ARG_FLAG, name, AT(field), NULL, NULL, help, 0, 0, NULL, keep, 0 }
#define BYTES(name, field, initial, keep, help) \
    { LK_ARG_SIZE, name, AT(field), "BYTES", initial, help, 0, 9e18, NULL, keep, 0 }
#define VIEW2(name, field, high, what) \
    REAL("view2-" name, view[1].field, -1, high, "-1", FROZEN, "second view: " what " (-1: as in the first)")

static const struct knob knobs[] = {
    HEADING("Data and results"),
    STRING("data", data, "PLACE", NULL, FREE,
           "pictures: a folder (class subfolders and train/ and test/ splits are recognised), CIFAR-10's .bin files, a "
           "server's catalogue (photos.db), its export (a tar), or its address (http://...)"),
    STRING("label-field", label_field, "NAME", NULL, FREE,
           "of a catalogue or an export: the field of an item's metadata that is its class, for evaluation alone"),
    {LK_ARG_STRING, "server", AT(server), "URL", NULL,
     "the server whose pictures and weights to begin with, and to which the new weights are published", 0, 0, NULL,
     FREE, 1},
    STRING("key-file", key_file, "FILE", NULL, FREE, "the first line is the bearer key for the server"),
    {LK_ARG_FLAG, "publish", AT(publish), NULL, "1",
     "hand the new weights to the server and wait until it serves them (--no-publish: stop before that)", 0, 0, NULL,
     LOCAL, 1},
    STRING("out", out, "FILE", NULL, FREE,
           "the weights to write, safetensors (default: model.safetensors, or in the run folder when that is given)"),
    STRING("run-dir", run_dir, "FOLDER", NULL, LOCAL,
           "run.json, metrics.jsonl, report.html and checkpoints (default: FILE's name with .run)"),
    STRING("name", name, "NAME", NULL, FREE, "the model's stable name in the weights' metadata (default: FILE's stem)"),
    CHOICE("export-dtype", export_dtype, "bf16|f32", "bf16", FREE, "number format of the exported weights"),
    FLAG("resume", resume, LOCAL, "go on from the run folder's checkpoint; its settings need not be repeated"),
    FLAG("overwrite", overwrite, LOCAL, "begin anew although the run folder holds a checkpoint"),
    BYTES(
        "memory-bytes", memory_bytes, "0", FREE,
        "decoded pictures are kept in memory up to this (k, M, G; 0: half of the machine's); past it they are read again "
        "in every epoch"),
    WHOLE("checkpoint-every", checkpoint_every, 0, 1e6, "0", FREE,
          "epochs between checkpoints; 0: every epoch of a minute or more, and every ten minutes within one"),
    WHOLE("log-every", log_every, 1, 1e9, "10", FREE, "steps between lines of metrics.jsonl"),
    WHOLE("train-limit", train_limit, 0, 4e9, "0", FROZEN, "use this many training pictures, drawn evenly (0: all)"),
    WHOLE("test-limit", test_limit, 0, 4e9, "0", FROZEN, "use this many test pictures (0: all)"),
    REAL("max-bad", max_bad, 0, 100, "10", FREE,
         "stop when more than this per cent of the pictures cannot be read; fewer are reported and skipped"),

    HEADING("Method"),
    CHOICE("recipe", recipe, "default|tutorial|lars", "default", FROZEN,
           "settings to begin with; options given beside it win (see docs/training.md)"),
    WHOLE("epochs", epochs, 1, 1e6, "200", FROZEN, "passes over the pictures; the schedules end with them"),
    WHOLE("batch", batch, 2, 65536, "256", FROZEN, "pictures a step, each seen in two views"),
    WHOLE("seed", seed, 0, 9e15, "0", FROZEN, "of weights, order and views"),
    CHOICE("optimizer", optimizer, "sgd|adam|lars", "sgd", FROZEN, "SGD with momentum, Adam, or LARS"),
    REAL("lr", lr, 0, 1e3, "0", FROZEN,
         "peak learning rate (0: .06 x batch / 128 for sgd, batch / 256 for lars, .0003 for adam)"),
    CHOICE("lr-schedule", lr_schedule, "cosine|constant", "cosine", FROZEN, "to zero over the run, or constant"),
    REAL("lr-factor", lr_factor, 1e-6, 1e3, "1", FROZEN, "multiplies the learning rate that --lr 0 stands for"),
    REAL("warmup-epochs", warmup_epochs, 0, 1e6, "0", FROZEN, "linear rise of the learning rate at the beginning"),
    REAL("weight-decay", weight_decay, -1, 10, "-1", FROZEN, "(-1: .0005 for sgd, .00001 for lars, 0 for adam)"),
    FLAG("exclude-1d", exclude_1d, FROZEN, "no weight decay and no trust ratio for biases and batch norms"),
    REAL("momentum", momentum, 0, 1, ".9", FROZEN, "of sgd and lars"),
    REAL("beta1", beta1, 0, 1, ".9", FROZEN, "of adam"),
    REAL("beta2", beta2, 0, 1, ".999", FROZEN, "of adam"),
    REAL("epsilon", epsilon, 0, 1, "1e-8", FROZEN, "of adam"),
    REAL("trust", trust, 0, 1e3, ".02", FROZEN, "of lars: eta of the trust ratio"),
    FLAG("lars-clip", lars_clip, FROZEN, "of lars: a layer's rate never exceeds the learning rate (LARC)"),
    REAL("tau", tau, 0, 1, ".99", FROZEN, "decay of the teacher's moving average; 0: no momentum, teacher = student"),
    CHOICE("tau-schedule", tau_schedule, "constant|cosine", "constant", FROZEN, "constant, or to 1 over the run"),
    REAL("loss-scale", loss_scale, 1e-6, 1e6, ".25", FROZEN,
         "factor on the loss (2 - 2 cos, both directions added) before the backward pass"),

    HEADING("Network"),
    STRING(
        "init", init, "FILE", NULL, FREE,
        "begin with the backbone of these weights instead of random ones (retrain: default is what the server serves)"),
    CHOICE("arch", arch, "resnet18|resnet34|resnet50", "resnet18", FROZEN, "the backbone"),
    WHOLE("width", width, 8, 512, "64", FROZEN, "channels of its first stage"),
    CHOICE("stem", stem, "auto|cifar|imagenet", "auto", FROZEN,
           "3x3 without pooling (cifar), 7x7 and pooling (imagenet); auto: cifar up to 64 pixels"),
    WHOLE("image-size", image_size, 0, 4096, "0", FROZEN,
          "side of the network's input (0: 32, 64 or 128, by the pictures' size)"),
    WHOLE("projector-hidden", projector_hidden, 16, 65536, "1024", FROZEN, "a multiple of 16"),
    WHOLE("predictor-hidden", predictor_hidden, 16, 65536, "1024", FROZEN, "a multiple of 16"),
    WHOLE("output-dim", output_dim, 16, 65536, "256", FROZEN, "of projector and predictor; a multiple of 16"),
    CHOICE("projector-bn", projector_bn, "on|off", "on", FROZEN, "batch norm in the projector"),
    CHOICE("predictor-bn", predictor_bn, "on|off", "on", FROZEN, "batch norm in the predictor"),
    CHOICE("mlp-bn", mlp_bn, "each|on|off", "each", FROZEN,
           "batch norm in both heads; off may collapse, as the BYOL tutorials describe (each: as the two above say)"),

    HEADING("Views"),
    REAL("crop-min", view[0].crop_min, .001, 1, ".08", FROZEN, "smallest crop, share of the area"),
    REAL("crop-max", view[0].crop_max, .001, 1, "1", FROZEN, "largest crop"),
    REAL("flip-p", view[0].flip_p, 0, 1, ".5", FROZEN, "probability of a mirror image"),
    REAL("jitter-p", view[0].jitter_p, 0, 1, ".8", FROZEN, "probability of colour jitter"),
    REAL("brightness", view[0].brightness, 0, 1, ".4", FROZEN, "jitter: factor in 1 +- X"),
    REAL("contrast", view[0].contrast, 0, 1, ".4", FROZEN, "jitter: factor in 1 +- X"),
    REAL("saturation", view[0].saturation, 0, 1, ".4", FROZEN, "jitter: factor in 1 +- X"),
    REAL("hue", view[0].hue, 0, .5, ".1", FROZEN, "jitter: turns in +- X"),
    CHOICE("jitter-order", jitter_order, "random|fixed", "random", FROZEN, "order of the four jitter operations"),
    REAL("grey-p", view[0].grey_p, 0, 1, ".2", FROZEN, "probability of a grey picture"),
    REAL("blur-p", view[0].blur_p, 0, 1, "0", FROZEN, "probability of Gaussian blur"),
    REAL("blur-sigma-min", view[0].blur_sigma_min, .01, 10, ".1", FROZEN, "in pixels"),
    REAL("blur-sigma-max", view[0].blur_sigma_max, .01, 10, "2", FROZEN, "in pixels"),
    REAL("solarize-p", view[0].solarize_p, 0, 1, "0", FROZEN, "probability of inverting bright pixels"),
    REAL("solarize-threshold", view[0].solarize_threshold, 0, 1, ".5", FROZEN, "from this brightness on"),
    VIEW2("crop-min", crop_min, 1, "smallest crop"),
    VIEW2("crop-max", crop_max, 1, "largest crop"),
    VIEW2("flip-p", flip_p, 1, "mirror image"),
    VIEW2("jitter-p", jitter_p, 1, "colour jitter"),
    VIEW2("brightness", brightness, 1, "brightness"),
    VIEW2("contrast", contrast, 1, "contrast"),
    VIEW2("saturation", saturation, 1, "saturation"),
    VIEW2("hue", hue, .5, "hue"),
    VIEW2("grey-p", grey_p, 1, "grey"),
    VIEW2("blur-p", blur_p, 1, "blur"),
    VIEW2("blur-sigma-min", blur_sigma_min, 10, "blur's smallest sigma"),
    VIEW2("blur-sigma-max", blur_sigma_max, 10, "blur's largest sigma"),
    VIEW2("solarize-p", solarize_p, 1, "solarise"),
    VIEW2("solarize-threshold", solarize_threshold, 1, "solarise's threshold"),

    HEADING("Evaluation"),
    WHOLE("knn-every", knn_every, 0, 1e6, "10", FREE, "epochs between evaluations; the last is always done; 0: none"),
    WHOLE("knn-k", knn_k, 1, 1e6, "200", FREE, "neighbours that vote"),
    REAL("knn-temperature", knn_temperature, .001, 100, ".1", FREE, "their votes weigh exp(cos / X)"),

    HEADING("Machine"),
    STRING("device", device, "NAME", "auto", FREE, "auto, cpu, cuda or cuda:N"),
    CHOICE("precision", precision, "auto|fp32|bf16", "auto", FROZEN, "of the computation; weights are kept in fp32"),
    WHOLE("threads", threads, 0, 4096, "0", FREE, "CPU threads (0: as many as cores)"),
};
#define N_KNOBS (sizeof knobs / sizeof knobs[0])
_Static_assert(N_KNOBS <= LK_CONFIG_MAX, "LK_CONFIG_MAX is too small");

/* What `retrain` begins with where `pretrain` has another default: see docs/training.md for the reasons. */
static const struct {
    const char *name, *value;
} retrain_defaults[] = {
    {"epochs", "20"},
    {"lr-factor", ".25"},
    {"warmup-epochs", "2"},
    {"knn-every", "5"},
};

static const struct {
    const char *recipe, *name, *value;
} recipes[] = {
    /* The AI Summer tutorial "BYOL in CIFAR-10", with the cross-view loss of its text (its code pairs the same view).
     * Adam does not feel the loss's scale but for epsilon; the tutorial's loss is the sum. */
    {"tutorial", "optimizer", "adam"},
    {"tutorial", "lr-schedule", "constant"},
    {"tutorial", "loss-scale", "1"},
    {"tutorial", "epochs", "100"},
    {"tutorial", "knn-every", "4"},
    {"tutorial", "projector-hidden", "2048"},
    {"tutorial", "predictor-hidden", "2048"},
    {"tutorial", "predictor-bn", "off"},
    {"tutorial", "brightness", ".8"},
    {"tutorial", "contrast", ".8"},
    {"tutorial", "saturation", ".8"},
    {"tutorial", "hue", ".2"},
    {"tutorial", "blur-p", ".5"},
    /* solo-learn's scripts/pretrain/cifar/byol.yaml: 92.58 % (online linear head) after 1000 epochs. */
    {"lars", "optimizer", "lars"},
    {"lars", "lars-clip", "1"},
    {"lars", "exclude-1d", "1"},
    {"lars", "warmup-epochs", "10"},
    {"lars", "tau-schedule", "cosine"},
    {"lars", "loss-scale", "1"},
    {"lars", "epochs", "1000"},
    {"lars", "projector-hidden", "4096"},
    {"lars", "predictor-hidden", "4096"},
    {"lars", "saturation", ".2"},
    {"lars", "view2-solarize-p", ".2"},
};

static void *field(const struct lk_train_config *c, const struct knob *k) { return (char *)(uintptr_t)c + k->offset; }

static const struct knob *find_knob(const char *name) {
    for (size_t i = 0; i < N_KNOBS; i++)
        if (knobs[i].name != NULL && strcmp(knobs[i].name, name) == 0)
            return &knobs[i];
    return NULL;
}

static int in_choices(const char *choices, const char *value) {
    size_t n = strlen(value);
    for (const char *at = choices; at != NULL; at = strchr(at, '|')) {
        at += *at == '|';
        if (strncmp(at, value, n) == 0 && (at[n] == '|' || at[n] == '\0'))
            return 1;
    }
    return 0;
}

/* Sets a knob from text; strings are borrowed. */
static int set_text(struct lk_train_config *c, const struct knob *k, const char *text) {
    char *end = NULL;
    void *to = field(c, k);
    if (text == NULL)
        return lk_err(LK_EFORMAT, "no value for %s", k->name);
    errno = 0;
    switch (k->kind) {
    case LK_ARG_FLAG: *(int *)to = strcmp(text, "1") == 0; return 0;
    case LK_ARG_INT:
    case LK_ARG_SIZE: *(long long *)to = strtoll(text, &end, 10); break;
    case LK_ARG_REAL: *(double *)to = strtod(text, &end); break;
    case LK_ARG_CHOICE:
        if (!in_choices(k->choices, text))
            return lk_err(LK_EFORMAT, "'%s' is no value of %s (%s)", text, k->name, k->choices);
        *(const char **)to = text;
        return 0;
    default: *(const char **)to = text; return 0;
    }
    if (end == text || *end != '\0' || errno != 0)
        return lk_err(LK_EFORMAT, "'%s' is no number, for %s", text, k->name);
    return 0;
}

/* A knob as text that reads back equal; NULL for a string that is not set. */
static const char *get_text(const struct lk_train_config *c, const struct knob *k, char text[64]) {
    const void *from = field(c, k);
    switch (k->kind) {
    case LK_ARG_FLAG: return *(const int *)from ? "1" : "0";
    case LK_ARG_INT:
    case LK_ARG_SIZE: snprintf(text, 64, "%lld", *(const long long *)from); return text;
    case LK_ARG_REAL:
        for (int digits = 6; digits <= 17; digits++) {
            snprintf(text, 64, "%.*g", digits, *(const double *)from);
            if (strtod(text, NULL) == *(const double *)from)
                break;
        }
        return text;
    default: return *(const char *const *)from;
    }
}

const char *lk_train_command_name(enum lk_train_command command) {
    return command == LK_RETRAIN ? "retrain" : "pretrain";
}

void lk_config_init(struct lk_train_config *c, enum lk_train_command command) {
    memset(c, 0, sizeof *c);
    c->command = command;
    for (size_t i = 0; i < N_KNOBS; i++)
        if (knobs[i].initial != NULL)
            (void)set_text(c, &knobs[i], knobs[i].initial); /* the tables' own defaults parse: tested */
    for (size_t i = 0; command == LK_RETRAIN && i < sizeof retrain_defaults / sizeof *retrain_defaults; i++)
        (void)set_text(c, find_knob(retrain_defaults[i].name), retrain_defaults[i].value);
}

int lk_config_given(const struct lk_train_config *c, const char *name) {
    const struct knob *k = find_knob(name);
    return k != NULL && c->was_set[k - knobs];
}

void lk_config_free(struct lk_train_config *c) {
    for (size_t i = 0; i < c->n_owned; i++)
        free(c->owned[i]);
    free(c->owned);
    c->owned = NULL, c->n_owned = 0;
}

int lk_config_own(struct lk_train_config *c, const char **out, char *text) {
    char **more = text == NULL ? NULL : realloc(c->owned, (c->n_owned + 1) * sizeof *more);
    if (more == NULL) {
        free(text);
        return lk_err(LK_ENOMEM, "no memory for settings");
    }
    c->owned = more;
    c->owned[c->n_owned++] = text;
    *out = text;
    return 0;
}

/* A recipe is for a run from random weights: its length and its warm-up are not `retrain`'s. */
static int is_retrain_default(const char *name) {
    for (size_t i = 0; i < sizeof retrain_defaults / sizeof *retrain_defaults; i++)
        if (strcmp(retrain_defaults[i].name, name) == 0)
            return 1;
    return 0;
}

static int apply_recipe(struct lk_train_config *c) {
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++) {
        if (strcmp(recipes[i].recipe, c->recipe) != 0)
            continue;
        const struct knob *k = find_knob(recipes[i].name);
        if (k == NULL)
            return lk_err(LK_EFAIL, "recipe %s: unknown option %s", c->recipe, recipes[i].name);
        if (c->was_set[k - knobs] || (c->command == LK_RETRAIN && is_retrain_default(k->name)))
            continue;
        if (set_text(c, k, recipes[i].value) != 0)
            return LK_EFAIL;
    }
    return 0;
}

/* A text that the command line may not set otherwise. */
static int fix_text(struct lk_train_config *c, const char **field_of, const char *name, const char *value) {
    if (lk_config_given(c, name) && strcmp(*field_of, value) != 0)
        return lk_err(LK_ECONFLICT, "--%s %s, but the weights to begin with have %s: leave the option out", name,
                      *field_of, value);
    *field_of = value;
    return 0;
}

int lk_config_network(struct lk_train_config *c, const struct lk_arch *arch) {
    int rc;
    if ((rc = fix_text(c, &c->arch, "arch", lk_arch_name(arch->depth))) ||
        (strcmp(c->stem, "auto") != 0 && (rc = fix_text(c, &c->stem, "stem", lk_stem_name(arch->stem)))))
        return rc;
    if (lk_config_given(c, "width") && c->width != arch->width)
        return lk_err(LK_ECONFLICT, "--width %lld, but the weights to begin with have %d: leave the option out",
                      c->width, arch->width);
    c->stem = lk_stem_name(arch->stem);
    c->width = arch->width;
    if (c->image_size == 0)
        c->image_size = arch->image_size;
    return 0;
}

/* out and run_dir, each from the other where only one is given. */
static int name_places(struct lk_train_config *c) {
    char *text = NULL;
    if (c->run_dir == NULL) {
        if (c->out == NULL)
            c->out = c->command == LK_RETRAIN ? "retrained.safetensors" : "model.safetensors";
        size_t n = strlen(c->out);
        const char suffix[] = ".safetensors";
        if (n > sizeof suffix - 1 && strcmp(c->out + n - (sizeof suffix - 1), suffix) == 0)
            n -= sizeof suffix - 1;
        struct lk_buf b = {0};
        if (lk_buf_printf(&b, "%.*s.run", (int)n, c->out) != 0) {
            lk_buf_free(&b);
            return LK_ENOMEM;
        }
        text = (char *)b.data;
        return lk_config_own(c, &c->run_dir, text);
    }
    if (c->out == NULL && !c->resume) {
        struct lk_buf b = {0};
        if (lk_buf_printf(&b, "%s/model.safetensors", c->run_dir) != 0) {
            lk_buf_free(&b);
            return LK_ENOMEM;
        }
        return lk_config_own(c, &c->out, (char *)b.data);
    }
    return 0;
}

static void show_help(enum lk_train_command command, const struct lk_arg *args, size_t n) {
    if (command == LK_RETRAIN)
        lk_args_help(
            args, n, "likeness-trainer retrain --server URL [--out FILE] [options]",
            "Learns on, with BYOL, from what a server has collected: fetches its pictures and the weights that it "
            "serves, trains from these, says whether they got better, publishes the new ones, and waits until the "
            "server has switched to them. Everything of it lies in the run folder: --resume goes on after a stop.");
    else
        lk_args_help(
            args, n, "likeness-trainer pretrain --data PLACE [--out FILE] [options]",
            "Learns from unlabelled pictures with BYOL (arXiv 2006.07733) and writes a ResNet's weights as "
            "safetensors. Labels, where subfolders or --label-field give them, are used for evaluation alone.");
}

int lk_config_parse(struct lk_train_config *c, int argc, char **argv) {
    struct lk_arg args[N_KNOBS];
    size_t knob_of[N_KNOBS], n = 0;
    memset(args, 0, sizeof args);
    for (size_t i = 0; i < N_KNOBS; i++) {
        const struct knob *k = &knobs[i];
        if (k->retrain && c->command != LK_RETRAIN)
            continue;
        knob_of[n] = i;
        args[n++] = (struct lk_arg){.kind = k->kind,
                                    .name = k->name,
                                    .value = k->kind == LK_ARG_HEADING ? NULL : field(c, k),
                                    .placeholder = k->placeholder,
                                    .help = k->help,
                                    .minimum = k->minimum,
                                    .maximum = k->maximum,
                                    .choices = k->choices};
    }
    const char *words[1];
    size_t n_words = 0;
    int rc = lk_args_parse(args, n, argc, argv, words, 1, &n_words);
    if (rc == 1) {
        show_help(c->command, args, n);
        return 1;
    }
    if (rc != 0)
        return rc;
    if (n_words > 0)
        return lk_err(LK_EINVAL, "unexpected argument '%s': pictures are named by --data", words[0]);
    for (size_t i = 0; i < n; i++)
        c->was_set[knob_of[i]] = args[i].was_set != 0;
    if (c->resume && c->overwrite)
        return lk_err(LK_EINVAL, "--resume goes on and --overwrite begins anew: give one of them");
    if (c->command == LK_RETRAIN && c->server == NULL && !c->resume)
        return lk_err(LK_EINVAL, "--server is missing: the address of the server to learn from");
    if (c->command == LK_PRETRAIN && c->data == NULL && !c->resume)
        return lk_err(LK_EINVAL, "--data is missing: the folder with the pictures");
    if ((rc = apply_recipe(c)) != 0)
        return rc;
    return name_places(c);
}

int lk_config_visit(const struct lk_train_config *c,
                    int (*visit)(void *arg, const char *name, const char *value, int frozen), void *arg) {
    for (size_t i = 0; i < N_KNOBS; i++) {
        char text[64];
        if (knobs[i].kind == LK_ARG_HEADING || knobs[i].keep == LOCAL)
            continue;
        const char *value = get_text(c, &knobs[i], text);
        int rc = value == NULL ? 0 : visit(arg, knobs[i].name, value, knobs[i].keep == FROZEN);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int lk_config_adopt(struct lk_train_config *c, const char *(*find)(void *arg, const char *name), void *arg) {
    for (size_t i = 0; i < N_KNOBS; i++) {
        const struct knob *k = &knobs[i];
        const char *old = k->kind == LK_ARG_HEADING || k->keep == LOCAL ? NULL : find(arg, k->name);
        if (old == NULL)
            continue;
        char text[64];
        if (c->was_set[i]) {
            const char *now = get_text(c, k, text);
            if (k->keep == FROZEN && now != NULL && strcmp(now, old) != 0)
                return lk_err(LK_ECONFLICT,
                              "--%s was %s when this run began and is %s now: a resumed run keeps it; leave the option "
                              "out, or begin another run",
                              k->name, old, now);
            continue;
        }
        const char *kept = NULL;
        if (lk_config_own(c, &kept, lk_strdup(old)) != 0)
            return LK_ENOMEM;
        int rc = set_text(c, k, kept);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int lk_config_image_size(const struct lk_train_config *c, int median_side) {
    if (c->image_size > 0)
        return (int)c->image_size;
    return median_side <= 48 ? 32 : median_side <= 96 ? 64 : 128;
}

static int is_on(const char *value) { return strcmp(value, "on") == 0; }

static double pick(double second, double first) { return second < 0 ? first : second; }

static struct lk_augment make_view(const struct lk_train_config *c, int view, int size) {
    const struct lk_view_knobs *a = &c->view[0], *b = view == 0 ? a : &c->view[1];
    struct lk_augment out = lk_augment_default(size);
    out.crop_min = (float)pick(b->crop_min, a->crop_min);
    out.crop_max = (float)pick(b->crop_max, a->crop_max);
    out.flip_p = (float)pick(b->flip_p, a->flip_p);
    out.jitter_p = (float)pick(b->jitter_p, a->jitter_p);
    out.brightness = (float)pick(b->brightness, a->brightness);
    out.contrast = (float)pick(b->contrast, a->contrast);
    out.saturation = (float)pick(b->saturation, a->saturation);
    out.hue = (float)pick(b->hue, a->hue);
    out.jitter_shuffle = strcmp(c->jitter_order, "random") == 0;
    out.grey_p = (float)pick(b->grey_p, a->grey_p);
    out.blur_p = (float)pick(b->blur_p, a->blur_p);
    out.blur_sigma_min = (float)pick(b->blur_sigma_min, a->blur_sigma_min);
    out.blur_sigma_max = (float)pick(b->blur_sigma_max, a->blur_sigma_max);
    out.solarize_p = (float)pick(b->solarize_p, a->solarize_p);
    out.solarize_threshold = (float)pick(b->solarize_threshold, a->solarize_threshold);
    return out;
}

static void make_optimizer(struct lk_optimizer_config *o, double *lr, const struct lk_train_config *c) {
    double usual_lr = .0003, usual_decay = 0;
    o->kind = LK_ADAM;
    if (strcmp(c->optimizer, "sgd") == 0)
        o->kind = LK_SGD, usual_lr = .06 * (double)c->batch / 128, usual_decay = 5e-4;
    else if (strcmp(c->optimizer, "lars") == 0)
        o->kind = LK_LARS, usual_lr = (double)c->batch / 256, usual_decay = 1e-5;
    *lr = c->lr > 0 ? c->lr : usual_lr * c->lr_factor;
    o->weight_decay = (float)(c->weight_decay >= 0 ? c->weight_decay : usual_decay);
    o->momentum = (float)c->momentum;
    o->beta1 = (float)c->beta1;
    o->beta2 = (float)c->beta2;
    o->epsilon = (float)c->epsilon;
    o->trust = (float)c->trust;
    o->lars_clip = c->lars_clip;
    o->exclude_1d = c->exclude_1d;
}

int lk_config_settings(struct lk_settings *out, const struct lk_train_config *c, int image_size, size_t n_train) {
    memset(out, 0, sizeof *out);
    if (n_train < (size_t)c->batch)
        return lk_err(LK_EINVAL, "--batch %lld is more than the %zu training pictures: a step needs a whole batch",
                      c->batch, n_train);
    int imagenet = strcmp(c->stem, "auto") == 0 ? image_size > 64 : strcmp(c->stem, "imagenet") == 0;
    out->arch = (struct lk_arch){.depth = lk_arch_depth(c->arch),
                                 .width = (int)c->width,
                                 .stem = imagenet ? LK_STEM_IMAGENET : LK_STEM_CIFAR,
                                 .image_size = image_size};
    int both = strcmp(c->mlp_bn, "each") != 0, on = is_on(c->mlp_bn);
    out->heads = (struct lk_heads){.projector_hidden = (int)c->projector_hidden,
                                   .predictor_hidden = (int)c->predictor_hidden,
                                   .output = (int)c->output_dim,
                                   .projector_bn = both ? on : is_on(c->projector_bn),
                                   .predictor_bn = both ? on : is_on(c->predictor_bn)};
    for (int v = 0; v < 2; v++) {
        out->view[v] = make_view(c, v, image_size);
        int rc = lk_augment_check(&out->view[v]);
        if (rc != 0)
            return lk_err_prefix(rc, v == 0 ? "view 1" : "view 2");
    }
    make_optimizer(&out->optimizer, &out->schedule.lr, c);
    out->schedule.warmup_epochs = c->warmup_epochs;
    out->schedule.lr_cosine = strcmp(c->lr_schedule, "cosine") == 0;
    out->schedule.tau = c->tau;
    out->schedule.tau_cosine = strcmp(c->tau_schedule, "cosine") == 0;
    out->schedule.steps_per_epoch = n_train / (size_t)c->batch;
    out->schedule.epochs = (uint64_t)c->epochs;
    out->loss_scale = (float)c->loss_scale;
    out->resize = lk_preprocess_resize_side(image_size);
    return 0;
}
