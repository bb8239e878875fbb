/* Learning rate and EMA decay of every step. Pure functions: nothing to save in a checkpoint but the step number. */
#ifndef LK_TRAINER_SCHEDULE_H
#define LK_TRAINER_SCHEDULE_H

#include <stdint.h>

struct lk_schedule {
    double lr;                /* peak */
    double warmup_epochs;     /* linear from lr / steps to lr */
    int lr_cosine;            /* 1: half a cosine from lr to 0, per step; 0: constant */
    double tau;               /* EMA decay at the beginning */
    int tau_cosine;           /* 1: cosine to 1 (BYOL, section 3.2); 0: constant */
    uint64_t steps_per_epoch; /* at least 1 */
    uint64_t epochs;
};

uint64_t lk_schedule_steps(const struct lk_schedule *s); /* of the whole run */

/* `step` counts from 0. Past the end: as at the last step. Cosine: lr * (1 + cos(pi * t)) / 2 with t = 0 at the first
 * step after the warm-up and 1 at one past the last (SGDR, arXiv 1608.03983, one period). */
float lk_schedule_lr(const struct lk_schedule *s, uint64_t step);

/* Cosine: 1 - (1 - tau) * (1 + cos(pi * step / steps)) / 2. */
float lk_schedule_tau(const struct lk_schedule *s, uint64_t step);

#endif
