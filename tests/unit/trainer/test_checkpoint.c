/* Does a checkpoint give back exactly what it was given, and refuse what it is not? */
#include "check.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/rng.h"
#include "trainer/checkpoint.h"

static char path[64];

static float *numbers(size_t n, uint32_t tensor) {
    float *x = calloc(n, sizeof *x);
    if (x == NULL)
        abort();
    lk_rng_normal(x, n, 1, 9, tensor);
    return x;
}

static struct lk_byol_state make_state(int filled) {
    struct lk_byol_state s = {.n_params = 1000, .n_stats = 40, .n_optimizer = 2000, .n_teacher = 700};
    s.params = numbers(s.n_params, 1), s.stats = numbers(s.n_stats, 2);
    s.optimizer = numbers(s.n_optimizer, 3), s.teacher = numbers(s.n_teacher, 4);
    if (!filled) {
        memset(s.params, 0, s.n_params * 4), memset(s.stats, 0, s.n_stats * 4);
        memset(s.optimizer, 0, s.n_optimizer * 4), memset(s.teacher, 0, s.n_teacher * 4);
    } else {
        s.params[0] = 1e-42f, s.params[1] = -0.0f,
        s.params[2] = 3.4e38f; /* denormal, sign, extreme: kept bit for bit */
    }
    return s;
}

static struct lk_progress make_progress(void) {
    struct lk_progress p = {.step = 1234567890123,
                            .epoch = 7,
                            .step_in_epoch = 13,
                            .loss_sum = 1.0 / 3,
                            .spread_sum = 1e-300,
                            .knn = 48.046,
                            .nn1 = -1,
                            .best_knn = 50.5,
                            .best_epoch = 6,
                            .last_loss = .7,
                            .metrics_bytes = 98765,
                            .image_size = 32};
    memset(p.data_hash, 'a', 64);
    return p;
}

static void write_one(void) {
    struct lk_train_config c;
    char *argv[] = {"pretrain", "--data", "photos", "--width", "16", "--lr", ".0123456789", NULL};
    struct lk_byol_state s = make_state(1);
    struct lk_progress p = make_progress();
    lk_config_init(&c, LK_PRETRAIN);
    LK_CHECK_INT(lk_config_parse(&c, 7, argv), 0);
    LK_CHECK_INT(lk_checkpoint_write(path, "likeness-trainer pretrain --data photos", &c, &p, &s), 0);
    lk_config_free(&c);
    lk_byol_state_free(&s);
}

static void state_and_progress_come_back_bit_for_bit(void) {
    struct lk_checkpoint k;
    struct lk_byol_state want = make_state(1), got = make_state(0);
    struct lk_progress p = make_progress();
    write_one();
    LK_REQUIRE(lk_checkpoint_open(&k, path) == 0);
    LK_CHECK_INT(lk_checkpoint_is(&k.file), 1);
    LK_CHECK_INT(memcmp(&p, &k.progress, sizeof p), 0);
    LK_CHECK_INT(lk_checkpoint_state(&k, &got), 0);
    LK_CHECK_INT(memcmp(got.params, want.params, want.n_params * 4), 0);
    LK_CHECK_INT(memcmp(got.stats, want.stats, want.n_stats * 4), 0);
    LK_CHECK_INT(memcmp(got.optimizer, want.optimizer, want.n_optimizer * 4), 0);
    LK_CHECK_INT(memcmp(got.teacher, want.teacher, want.n_teacher * 4), 0);
    lk_checkpoint_close(&k);
    lk_byol_state_free(&want), lk_byol_state_free(&got);
}

static void settings_come_back(void) {
    struct lk_checkpoint k;
    struct lk_train_config c;
    char *argv[] = {"pretrain", "--resume", NULL};
    write_one();
    LK_REQUIRE(lk_checkpoint_open(&k, path) == 0);
    lk_config_init(&c, LK_PRETRAIN);
    LK_CHECK_INT(lk_config_parse(&c, 2, argv), 0);
    LK_CHECK_INT(lk_checkpoint_adopt(&k, &c), 0);
    LK_CHECK_STR(lk_checkpoint_command(&k), "likeness-trainer pretrain --data photos");
    lk_checkpoint_close(&k); /* what was adopted must not point into the file */
    LK_CHECK_INT(c.width, 16);
    LK_CHECK(c.lr == .0123456789);
    LK_CHECK_STR(c.data, "photos");
    LK_CHECK_STR(c.optimizer, "sgd");
    lk_config_free(&c);
}

static void another_network_is_refused(void) {
    struct lk_checkpoint k;
    struct lk_byol_state s = make_state(0);
    write_one();
    LK_REQUIRE(lk_checkpoint_open(&k, path) == 0);
    s.n_teacher = 699;
    LK_CHECK_INT(lk_checkpoint_state(&k, &s), LK_EFORMAT);
    LK_CHECK_HOLDS(lk_error(), "teacher");
    lk_checkpoint_close(&k);
    lk_byol_state_free(&s);
}

static void a_file_cut_short_or_foreign_is_refused(void) {
    struct lk_checkpoint k;
    struct lk_buf b = {0};
    write_one();
    LK_REQUIRE(lk_fs_read(&b, path, 0) == 0);
    for (size_t part = 0; part < 8; part++) {
        LK_CHECK_INT(lk_fs_write_atomic(path, b.data, b.size * part / 8), 0);
        LK_CHECK_INT(lk_checkpoint_open(&k, path), LK_EFORMAT);
        lk_checkpoint_close(&k);
    }
    float x = 1;
    struct lk_st_write t = {"conv1.weight", LK_DTYPE_F32, 1, {1}, &x};
    LK_CHECK_INT(lk_safetensors_write(path, &t, 1, NULL, NULL, 0), 0);
    LK_CHECK_INT(lk_checkpoint_open(&k, path), LK_EFORMAT);
    LK_CHECK_HOLDS(lk_error(), "not a training checkpoint");
    unlink(path);
    LK_CHECK_INT(lk_checkpoint_open(&k, path), LK_ENOTFOUND);
    lk_buf_free(&b);
}

static const struct lk_case cases[] = {
    LK_CASE(state_and_progress_come_back_bit_for_bit),
    LK_CASE(settings_come_back),
    LK_CASE(another_network_is_refused),
    LK_CASE(a_file_cut_short_or_foreign_is_refused),
};

int main(int argc, char **argv) {
    snprintf(path, sizeof path, "/tmp/lk_checkpoint_%ld.lk", (long)getpid());
    int rc = lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
    unlink(path);
    return rc;
}
