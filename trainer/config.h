/* Every knob of `pretrain` and `retrain`, in one table: the table gives parsing, defaults, ranges, --help, recipes, what a checkpoint
 * remembers and what a resumed run may not change, so that these cannot differ.
 *
 * Where a value comes from, strongest first: the command line; with --resume the checkpoint; the recipe; the table's
 * default, for `retrain` another one in places. The table's is docs/training.md's first recipe (the published one of lightly:
 * 87.2 % kNN after 200 epochs on CIFAR-10). */
#ifndef LK_TRAINER_CONFIG_H
#define LK_TRAINER_CONFIG_H

#include <stddef.h>

#include "image/augment.h"
#include "model/backend.h"
#include "model/net.h"
#include "schedule.h"

/* One view's random operations; -1 in the second view's means "as in the first". */
struct lk_view_knobs {
    double crop_min, crop_max, flip_p, jitter_p, brightness, contrast, saturation, hue, grey_p;
    double blur_p, blur_sigma_min, blur_sigma_max, solarize_p, solarize_threshold;
};

#define LK_CONFIG_MAX 128

enum lk_train_command { LK_PRETRAIN, LK_RETRAIN };
const char *lk_train_command_name(enum lk_train_command command); /* "pretrain", "retrain" */

struct lk_train_config {
    /* data and results */
    const char *data, *label_field, *key_file, *out, *run_dir, *name, *export_dtype;
    long long train_limit, test_limit;
    double max_bad;
    int resume, overwrite;
    long long checkpoint_every, log_every;
    /* the server of `retrain` */
    const char *server;
    int publish;
    /* network */
    const char *init;
    const char *recipe, *arch, *stem, *mlp_bn, *projector_bn, *predictor_bn;
    long long width, image_size, projector_hidden, predictor_hidden, output_dim;
    /* optimisation */
    const char *optimizer, *lr_schedule, *tau_schedule;
    long long epochs, batch, seed;
    double lr, lr_factor, warmup_epochs, weight_decay, momentum, beta1, beta2, epsilon, trust, tau, loss_scale;
    int lars_clip, exclude_1d;
    /* views */
    const char *jitter_order;
    struct lk_view_knobs view[2];
    /* evaluation */
    long long knn_every, knn_k;
    double knn_temperature;
    /* machine */
    const char *device, *precision;
    long long threads, memory_bytes;

    enum lk_train_command command;
    unsigned char was_set[LK_CONFIG_MAX]; /* by the command line */
    char **owned;                         /* strings adopted from a checkpoint */
    size_t n_owned;
};

/* What the knobs mean for one data set: the terms of the rooms below. */
struct lk_settings {
    struct lk_arch arch;
    struct lk_heads heads;
    struct lk_augment view[2];
    struct lk_optimizer_config optimizer;
    struct lk_schedule schedule; /* its steps_per_epoch and epochs filled in by lk_config_settings */
    float loss_scale;
    int resize; /* short side for evaluation */
};

/* Defaults of a command; nothing is owned yet. */
void lk_config_init(struct lk_train_config *c, enum lk_train_command command);
void lk_config_free(struct lk_train_config *c);

/* Parses the words after the command and applies the recipe. 0, 1 when --help was printed, LK_EINVAL. argv must outlive
 * the config. Also fills in out and run_dir, which depend on each other. */
int lk_config_parse(struct lk_train_config *c, int argc, char **argv);

/* 1 when the command line named the option. */
int lk_config_given(const struct lk_train_config *c, const char *name);
/* Takes over a text for as long as the config lives; NULL (memory ran out) is LK_ENOMEM. */
int lk_config_own(struct lk_train_config *c, const char **out, char *text);

/* Begins with the network of a weights file: takes over what the command line left open of --arch, --width, --stem and
 * --image-size. LK_ECONFLICT names what it sets otherwise. */
int lk_config_network(struct lk_train_config *c, const struct lk_arch *arch);

/* Visits every remembered knob as text, in table order; `frozen` is 1 when a resumed run may not change it. */
int lk_config_visit(const struct lk_train_config *c,
                    int (*visit)(void *arg, const char *name, const char *value, int frozen), void *arg);

/* Takes over, for every knob that the command line did not name, what an earlier run remembered: find(arg, name)
 * returns its text or NULL. LK_ECONFLICT with a sentence that names the knob when the command line changes one that is
 * frozen; LK_EFORMAT when a text does not parse. */
int lk_config_adopt(struct lk_train_config *c, const char *(*find)(void *arg, const char *name), void *arg_);

/* What the pictures decide when --image-size and --stem are left at 0 and auto: median_side is the median short side of
 * the data set. 32 up to 48, 64 up to 96, else 128; CIFAR's stem up to 64, ImageNet's above. */
int lk_config_image_size(const struct lk_train_config *c, int median_side);

/* Checks what depends on several knobs and translates. image_size as resolved, n_train pictures. LK_EINVAL names the
 * knob. */
int lk_config_settings(struct lk_settings *out, const struct lk_train_config *c, int image_size, size_t n_train);

#endif
