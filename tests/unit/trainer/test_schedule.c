/* Do learning rate and decay follow the reference's formulas at every kind of step? */
#include "check.h"

#include "trainer/schedule.h"

/* The PyTorch yardstick's rates at the last steps of epochs 1, 8 and 16: 50,000 pictures, batch 128, 16 epochs, .06. */
static void cosine_follows_the_reference_run(void) {
    struct lk_schedule s = {.lr = .06, .lr_cosine = 1, .tau = .99, .steps_per_epoch = 390, .epochs = 16};
    LK_CHECK_INT(lk_schedule_steps(&s), 6240);
    LK_CHECK_NEAR(lk_schedule_lr(&s, 0), .06, 1e-8);
    LK_CHECK_NEAR(lk_schedule_lr(&s, 389), .059427, 5e-7);
    LK_CHECK_NEAR(lk_schedule_lr(&s, 8 * 390 - 1), .030015, 5e-7);
    LK_CHECK_NEAR(lk_schedule_lr(&s, 12 * 390 - 1), .008797, 5e-7);
    LK_CHECK_NEAR(lk_schedule_lr(&s, 6239), 0, 5e-7);
    LK_CHECK_NEAR(lk_schedule_lr(&s, 99999), lk_schedule_lr(&s, 6239), 0);
}

static void warm_up_rises_to_the_peak_and_hands_over(void) {
    struct lk_schedule s = {
        .lr = 1, .warmup_epochs = 2, .lr_cosine = 1, .tau = .99, .steps_per_epoch = 10, .epochs = 6};
    LK_CHECK_NEAR(lk_schedule_lr(&s, 0), 1.0 / 20, 1e-7);
    LK_CHECK_NEAR(lk_schedule_lr(&s, 9), .5, 1e-7);
    LK_CHECK_NEAR(lk_schedule_lr(&s, 19), 1, 1e-7);
    LK_CHECK_NEAR(lk_schedule_lr(&s, 20), 1, 1e-7);
    LK_CHECK_NEAR(lk_schedule_lr(&s, 40), .5, 1e-7);
    LK_CHECK(lk_schedule_lr(&s, 59) > 0 && lk_schedule_lr(&s, 59) < .01f);
}

static void constant_rate_stays_after_its_warm_up(void) {
    struct lk_schedule s = {.lr = 3e-4, .warmup_epochs = .5, .tau = .99, .steps_per_epoch = 8, .epochs = 2};
    LK_CHECK_NEAR(lk_schedule_lr(&s, 1), 1.5e-4, 1e-9);
    LK_CHECK_NEAR(lk_schedule_lr(&s, 4), 3e-4, 1e-9);
    LK_CHECK_NEAR(lk_schedule_lr(&s, 15), 3e-4, 1e-9);
}

static void a_run_that_is_all_warm_up_never_exceeds_the_peak(void) {
    struct lk_schedule s = {.lr = 2, .warmup_epochs = 5, .lr_cosine = 1, .tau = .99, .steps_per_epoch = 4, .epochs = 2};
    LK_CHECK_NEAR(lk_schedule_lr(&s, 7), 2 * 8.0 / 20, 1e-6);
}

static void tau_goes_to_one_by_cosine_or_stays(void) {
    struct lk_schedule s = {.lr = 1, .tau = .99, .tau_cosine = 1, .steps_per_epoch = 50, .epochs = 2};
    LK_CHECK_NEAR(lk_schedule_tau(&s, 0), .99, 1e-7);
    LK_CHECK_NEAR(lk_schedule_tau(&s, 50), .995, 1e-7);
    LK_CHECK(lk_schedule_tau(&s, 99) > .9999f && lk_schedule_tau(&s, 99) < 1);
    s.tau_cosine = 0;
    LK_CHECK_NEAR(lk_schedule_tau(&s, 99), .99, 1e-7);
}

static const struct lk_case cases[] = {
    LK_CASE(cosine_follows_the_reference_run),      LK_CASE(warm_up_rises_to_the_peak_and_hands_over),
    LK_CASE(constant_rate_stays_after_its_warm_up), LK_CASE(a_run_that_is_all_warm_up_never_exceeds_the_peak),
    LK_CASE(tau_goes_to_one_by_cosine_or_stays),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
