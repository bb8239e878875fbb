/* Do recipes, the command line and a checkpoint's memory give the settings that they promise? */
#include "check.h"

#include <stdlib.h>

#include "base/err.h"
#include "trainer/config.h"

#define PARSE(c, ...) parse(c, LK_PRETRAIN, (char *[]){"pretrain", __VA_ARGS__, NULL})
#define PARSE_RETRAIN(c, ...) parse(c, LK_RETRAIN, (char *[]){"retrain", __VA_ARGS__, NULL})

static int parse(struct lk_train_config *c, enum lk_train_command command, char **argv) {
    int argc = 0;
    while (argv[argc] != NULL)
        argc++;
    lk_config_init(c, command);
    return lk_config_parse(c, argc, argv);
}

static void default_recipe_is_the_published_one(void) {
    struct lk_train_config c;
    struct lk_settings s;
    LK_CHECK_INT(PARSE(&c, "--data", "x", "--batch", "128"), 0);
    LK_CHECK_INT(lk_config_settings(&s, &c, 32, 50000), 0);
    LK_CHECK_INT(s.optimizer.kind, LK_SGD);
    LK_CHECK_NEAR(s.schedule.lr, .06, 1e-12);
    LK_CHECK_NEAR(s.optimizer.weight_decay, 5e-4, 1e-9);
    LK_CHECK_NEAR(s.optimizer.momentum, .9, 1e-7);
    LK_CHECK_INT(s.optimizer.exclude_1d, 0);
    LK_CHECK_INT(s.schedule.lr_cosine, 1);
    LK_CHECK_NEAR(s.schedule.warmup_epochs, 0, 0);
    LK_CHECK_NEAR(s.schedule.tau, .99, 1e-12);
    LK_CHECK_INT(s.schedule.tau_cosine, 0);
    LK_CHECK_INT(s.schedule.steps_per_epoch, 390);
    LK_CHECK_INT(s.schedule.epochs, 200);
    LK_CHECK_NEAR(s.loss_scale, .25, 0);
    LK_CHECK_INT(s.heads.projector_hidden, 1024);
    LK_CHECK_INT(s.heads.predictor_hidden, 1024);
    LK_CHECK_INT(s.heads.output, 256);
    LK_CHECK_INT(s.heads.projector_bn && s.heads.predictor_bn, 1);
    LK_CHECK_INT(s.arch.depth, 18);
    LK_CHECK_INT(s.arch.width, 64);
    LK_CHECK_INT(s.arch.stem, LK_STEM_CIFAR);
    for (int v = 0; v < 2; v++) {
        LK_CHECK_NEAR(s.view[v].crop_min, .08, 1e-7);
        LK_CHECK_NEAR(s.view[v].jitter_p, .8, 1e-7);
        LK_CHECK_NEAR(s.view[v].brightness, .4, 1e-7);
        LK_CHECK_NEAR(s.view[v].saturation, .4, 1e-7);
        LK_CHECK_NEAR(s.view[v].hue, .1, 1e-7);
        LK_CHECK_NEAR(s.view[v].grey_p, .2, 1e-7);
        LK_CHECK_NEAR(s.view[v].blur_p, 0, 0);
        LK_CHECK_NEAR(s.view[v].solarize_p, 0, 0);
    }
    lk_config_free(&c);
}

static void the_rate_grows_with_the_batch_unless_it_is_given(void) {
    struct lk_train_config c;
    struct lk_settings s;
    LK_CHECK_INT(PARSE(&c, "--data", "x", "--batch", "512"), 0);
    LK_CHECK_INT(lk_config_settings(&s, &c, 32, 50000), 0);
    LK_CHECK_NEAR(s.schedule.lr, .24, 1e-12);
    lk_config_free(&c);
    LK_CHECK_INT(PARSE(&c, "--data", "x", "--batch", "512", "--lr", ".1"), 0);
    LK_CHECK_INT(lk_config_settings(&s, &c, 32, 50000), 0);
    LK_CHECK_NEAR(s.schedule.lr, .1, 1e-12);
    lk_config_free(&c);
}

static void tutorial_recipe_holds_the_tutorials_settings(void) {
    struct lk_train_config c;
    struct lk_settings s;
    LK_CHECK_INT(PARSE(&c, "--data", "x", "--recipe", "tutorial"), 0);
    LK_CHECK_INT(lk_config_settings(&s, &c, 32, 50000), 0);
    LK_CHECK_INT(s.optimizer.kind, LK_ADAM);
    LK_CHECK_NEAR(s.schedule.lr, 3e-4, 1e-12);
    LK_CHECK_NEAR(s.optimizer.weight_decay, 0, 0);
    LK_CHECK_INT(s.schedule.lr_cosine, 0);
    LK_CHECK_NEAR(s.schedule.tau, .99, 1e-12);
    LK_CHECK_INT(s.schedule.tau_cosine, 0);
    LK_CHECK_INT(s.schedule.epochs, 100);
    LK_CHECK_INT(c.batch, 256);
    LK_CHECK_INT(s.heads.projector_hidden, 2048);
    LK_CHECK_INT(s.heads.predictor_hidden, 2048);
    LK_CHECK_INT(s.heads.output, 256);
    LK_CHECK_INT(s.heads.projector_bn, 1);
    LK_CHECK_INT(s.heads.predictor_bn, 0);
    LK_CHECK_NEAR(s.view[1].contrast, .8, 1e-7);
    LK_CHECK_NEAR(s.view[1].hue, .2, 1e-7);
    LK_CHECK_NEAR(s.view[1].blur_p, .5, 1e-7);
    lk_config_free(&c);
}

static void lars_recipe_holds_its_exclusions_and_schedules(void) {
    struct lk_train_config c;
    struct lk_settings s;
    LK_CHECK_INT(PARSE(&c, "--data", "x", "--recipe", "lars"), 0);
    LK_CHECK_INT(lk_config_settings(&s, &c, 32, 50000), 0);
    LK_CHECK_INT(s.optimizer.kind, LK_LARS);
    LK_CHECK_NEAR(s.schedule.lr, 1, 1e-12);
    LK_CHECK_NEAR(s.optimizer.weight_decay, 1e-5, 1e-12);
    LK_CHECK_NEAR(s.optimizer.trust, .02, 1e-8);
    LK_CHECK_INT(s.optimizer.lars_clip && s.optimizer.exclude_1d, 1);
    LK_CHECK_NEAR(s.schedule.warmup_epochs, 10, 0);
    LK_CHECK_INT(s.schedule.tau_cosine, 1);
    LK_CHECK_NEAR(s.view[0].solarize_p, 0, 0);
    LK_CHECK_NEAR(s.view[1].solarize_p, .2, 1e-7);
    lk_config_free(&c);
}

static void options_beside_a_recipe_win_in_any_order(void) {
    struct lk_train_config c;
    struct lk_settings s;
    LK_CHECK_INT(PARSE(&c, "--hue", ".05", "--data", "x", "--recipe", "tutorial", "--predictor-bn", "on"), 0);
    LK_CHECK_INT(lk_config_settings(&s, &c, 32, 50000), 0);
    LK_CHECK_NEAR(s.view[0].hue, .05, 1e-7);
    LK_CHECK_INT(s.heads.predictor_bn, 1);
    LK_CHECK_NEAR(s.view[0].contrast, .8, 1e-7);
    lk_config_free(&c);
}

static void mlp_bn_governs_both_heads(void) {
    struct lk_train_config c;
    struct lk_settings s;
    LK_CHECK_INT(PARSE(&c, "--data", "x", "--mlp-bn", "off"), 0);
    LK_CHECK_INT(lk_config_settings(&s, &c, 32, 50000), 0);
    LK_CHECK_INT(s.heads.projector_bn || s.heads.predictor_bn, 0);
    lk_config_free(&c);
}

static void the_second_view_may_differ(void) {
    struct lk_train_config c;
    struct lk_settings s;
    LK_CHECK_INT(PARSE(&c, "--data", "x", "--blur-p", "1", "--view2-blur-p", "0", "--view2-crop-min", ".5"), 0);
    LK_CHECK_INT(lk_config_settings(&s, &c, 32, 50000), 0);
    LK_CHECK_NEAR(s.view[0].blur_p, 1, 0);
    LK_CHECK_NEAR(s.view[1].blur_p, 0, 0);
    LK_CHECK_NEAR(s.view[1].crop_min, .5, 0);
    LK_CHECK_NEAR(s.view[1].crop_max, 1, 0);
    lk_config_free(&c);
}

static void places_follow_from_one_another(void) {
    struct lk_train_config c;
    LK_CHECK_INT(PARSE(&c, "--data", "x"), 0);
    LK_CHECK_STR(c.out, "model.safetensors");
    LK_CHECK_STR(c.run_dir, "model.run");
    lk_config_free(&c);
    LK_CHECK_INT(PARSE(&c, "--data", "x", "--out", "m/photos.safetensors"), 0);
    LK_CHECK_STR(c.run_dir, "m/photos.run");
    lk_config_free(&c);
    LK_CHECK_INT(PARSE(&c, "--data", "x", "--run-dir", "runs/1"), 0);
    LK_CHECK_STR(c.out, "runs/1/model.safetensors");
    lk_config_free(&c);
}

static void wrong_command_lines_are_refused_with_a_reason(void) {
    struct lk_train_config c;
    struct lk_settings s;
    LK_CHECK_INT(PARSE(&c, "--data", "x", "--epoch", "3"), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "epochs");
    LK_CHECK_INT(PARSE(&c, "--epochs", "3"), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "--data");
    LK_CHECK_INT(PARSE(&c, "--data", "x", "--batch", "1"), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "batch");
    LK_CHECK_INT(PARSE(&c, "--data", "x", "--recipe", "best"), LK_EINVAL);
    LK_CHECK_INT(PARSE(&c, "--data", "x", "--resume", "--overwrite"), LK_EINVAL);
    LK_CHECK_INT(PARSE(&c, "--data", "x", "stray"), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "stray");
    LK_CHECK_INT(PARSE(&c, "--data", "x", "--crop-min", ".9", "--crop-max", ".5"), 0);
    LK_CHECK_INT(lk_config_settings(&s, &c, 32, 50000), LK_EINVAL);
    lk_config_free(&c);
    LK_CHECK_INT(PARSE(&c, "--data", "x"), 0);
    LK_CHECK_INT(lk_config_settings(&s, &c, 32, 255), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "--batch 256");
    lk_config_free(&c);
}

static void input_size_and_stem_follow_the_pictures(void) {
    struct lk_train_config c;
    struct lk_settings s;
    LK_CHECK_INT(PARSE(&c, "--data", "x"), 0);
    LK_CHECK_INT(lk_config_image_size(&c, 32), 32);
    LK_CHECK_INT(lk_config_image_size(&c, 64), 64);
    LK_CHECK_INT(lk_config_image_size(&c, 1080), 128);
    LK_CHECK_INT(lk_config_settings(&s, &c, 128, 50000), 0);
    LK_CHECK_INT(s.arch.stem, LK_STEM_IMAGENET);
    lk_config_free(&c);
    LK_CHECK_INT(PARSE(&c, "--data", "x", "--image-size", "48", "--stem", "imagenet"), 0);
    LK_CHECK_INT(lk_config_image_size(&c, 1080), 48);
    LK_CHECK_INT(lk_config_settings(&s, &c, 48, 50000), 0);
    LK_CHECK_INT(s.arch.stem, LK_STEM_IMAGENET);
    lk_config_free(&c);
}

/* --- what a checkpoint remembers ------------------------------------------------------------------------------------- */

struct memory {
    char name[128][32], value[128][64];
    int n;
};

static int remember(void *arg, const char *name, const char *value, int frozen) {
    struct memory *m = arg;
    (void)frozen;
    snprintf(m->name[m->n], sizeof m->name[0], "%s", name);
    snprintf(m->value[m->n++], sizeof m->value[0], "%s", value);
    return 0;
}

static const char *recall(void *arg, const char *name) {
    struct memory *m = arg;
    for (int i = 0; i < m->n; i++)
        if (strcmp(m->name[i], name) == 0)
            return m->value[i];
    return NULL;
}

static void a_resumed_run_takes_over_every_setting(void) {
    struct lk_train_config a, b;
    struct memory m = {.n = 0}, n = {.n = 0};
    LK_CHECK_INT(PARSE(&a, "--data", "photos", "--recipe", "tutorial", "--lr", ".000123", "--seed", "8999999999999999",
                       "--exclude-1d", "--name", "my model", "--run-dir", "r"),
                 0);
    LK_CHECK_INT(lk_config_visit(&a, remember, &m), 0);
    LK_CHECK_INT(PARSE(&b, "--resume", "--run-dir", "r"), 0);
    LK_CHECK_INT(lk_config_adopt(&b, recall, &m), 0);
    LK_CHECK_INT(lk_config_visit(&b, remember, &n), 0);
    LK_CHECK(m.n > 60);
    LK_CHECK_INT(memcmp(&m, &n, sizeof m), 0);
    LK_CHECK_STR(b.name, "my model");
    LK_CHECK_INT(b.seed, 8999999999999999);
    lk_config_free(&a);
    lk_config_free(&b);
}

static void a_resumed_run_refuses_what_would_change_it_by_name(void) {
    struct lk_train_config a, b;
    struct memory m = {.n = 0};
    LK_CHECK_INT(PARSE(&a, "--data", "photos", "--width", "16"), 0);
    LK_CHECK_INT(lk_config_visit(&a, remember, &m), 0);
    LK_CHECK_INT(PARSE(&b, "--resume", "--width", "32"), 0);
    LK_CHECK_INT(lk_config_adopt(&b, recall, &m), LK_ECONFLICT);
    LK_CHECK_HOLDS(lk_error(), "--width was 16");
    lk_config_free(&b);
    LK_CHECK_INT(PARSE(&b, "--resume", "--width", "16", "--device", "cpu", "--knn-every", "3"), 0);
    LK_CHECK_INT(lk_config_adopt(&b, recall, &m), 0);
    LK_CHECK_INT(b.knn_every, 3);
    LK_CHECK_INT(b.width, 16);
    lk_config_free(&a);
    lk_config_free(&b);
}

static void retraining_is_shorter_and_gentler_whatever_the_recipe(void) {
    struct lk_train_config c;
    struct lk_settings s;
    LK_CHECK_INT(PARSE_RETRAIN(&c, "--server", "http://x"), 0);
    LK_CHECK_INT(lk_config_settings(&s, &c, 32, 50000), 0);
    LK_CHECK_NEAR(s.schedule.lr, .25 * .06 * 256 / 128, 1e-12);
    LK_CHECK_NEAR(s.schedule.warmup_epochs, 2, 0);
    LK_CHECK_INT(s.schedule.epochs, 20);
    LK_CHECK_STR(c.out, "retrained.safetensors");
    LK_CHECK_STR(c.run_dir, "retrained.run");
    LK_CHECK_INT(c.publish, 1);
    lk_config_free(&c);
    LK_CHECK_INT(PARSE_RETRAIN(&c, "--server", "http://x", "--recipe", "lars", "--no-publish"), 0);
    LK_CHECK_INT(lk_config_settings(&s, &c, 32, 50000), 0);
    LK_CHECK_INT(s.optimizer.kind, LK_LARS);
    LK_CHECK_NEAR(s.schedule.lr, .25, 1e-12);
    LK_CHECK_NEAR(s.schedule.warmup_epochs, 2, 0);
    LK_CHECK_INT(s.schedule.epochs, 20);
    LK_CHECK_INT(c.publish, 0);
    lk_config_free(&c);
    LK_CHECK_INT(PARSE_RETRAIN(&c, "--server", "http://x", "--epochs", "7", "--lr", ".5"), 0);
    LK_CHECK_INT(lk_config_settings(&s, &c, 32, 50000), 0);
    LK_CHECK_NEAR(s.schedule.lr, .5, 1e-12); /* what is given is meant */
    LK_CHECK_INT(s.schedule.epochs, 7);
    lk_config_free(&c);
    LK_CHECK_INT(PARSE_RETRAIN(&c, "--out", "x"), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "--server is missing");
    lk_config_free(&c);
    LK_CHECK_INT(PARSE(&c, "--data", "x", "--server", "http://x"), LK_EINVAL); /* an option of retrain alone */
    lk_config_free(&c);
}

static void the_network_is_that_of_the_weights_to_begin_with(void) {
    const struct lk_arch arch = {.depth = 34, .width = 16, .stem = LK_STEM_IMAGENET, .image_size = 48};
    struct lk_train_config c;
    struct lk_settings s;
    LK_CHECK_INT(PARSE(&c, "--data", "x", "--init", "y"), 0);
    LK_CHECK_INT(lk_config_network(&c, &arch), 0);
    LK_CHECK_INT(lk_config_settings(&s, &c, lk_config_image_size(&c, 500), 50000), 0);
    LK_CHECK_INT(s.arch.depth, 34);
    LK_CHECK_INT(s.arch.width, 16);
    LK_CHECK_INT(s.arch.stem, LK_STEM_IMAGENET);
    LK_CHECK_INT(s.arch.image_size, 48);
    lk_config_free(&c);
    LK_CHECK_INT(PARSE(&c, "--data", "x", "--init", "y", "--image-size", "64", "--width", "16"), 0);
    LK_CHECK_INT(lk_config_network(&c, &arch), 0); /* equal is fine, and a side is free */
    LK_CHECK_INT(c.image_size, 64);
    lk_config_free(&c);
    static const char *const options[][2] = {{"--arch", "resnet18"}, {"--stem", "cifar"}, {"--width", "64"}};
    for (size_t i = 0; i < 3; i++) {
        LK_CHECK_INT(
            PARSE(&c, "--data", "x", "--init", "y", (char *)(uintptr_t)options[i][0], (char *)(uintptr_t)options[i][1]),
            0);
        LK_CHECK_INT(lk_config_network(&c, &arch), LK_ECONFLICT);
        LK_CHECK_HOLDS(lk_error(), options[i][0]);
        lk_config_free(&c);
    }
}

static const struct lk_case cases[] = {
    LK_CASE(default_recipe_is_the_published_one),
    LK_CASE(the_rate_grows_with_the_batch_unless_it_is_given),
    LK_CASE(tutorial_recipe_holds_the_tutorials_settings),
    LK_CASE(lars_recipe_holds_its_exclusions_and_schedules),
    LK_CASE(options_beside_a_recipe_win_in_any_order),
    LK_CASE(mlp_bn_governs_both_heads),
    LK_CASE(the_second_view_may_differ),
    LK_CASE(places_follow_from_one_another),
    LK_CASE(wrong_command_lines_are_refused_with_a_reason),
    LK_CASE(input_size_and_stem_follow_the_pictures),
    LK_CASE(a_resumed_run_takes_over_every_setting),
    LK_CASE(a_resumed_run_refuses_what_would_change_it_by_name),
    LK_CASE(retraining_is_shorter_and_gentler_whatever_the_recipe),
    LK_CASE(the_network_is_that_of_the_weights_to_begin_with),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
