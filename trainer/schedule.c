#include "schedule.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

uint64_t lk_schedule_steps(const struct lk_schedule *s) { return s->steps_per_epoch * s->epochs; }

static uint64_t clamp_step(const struct lk_schedule *s, uint64_t step) {
    uint64_t steps = lk_schedule_steps(s);
    return steps == 0 ? 0 : step < steps ? step : steps - 1;
}

float lk_schedule_lr(const struct lk_schedule *s, uint64_t step) {
    double at = (double)clamp_step(s, step), ramp = s->warmup_epochs * (double)s->steps_per_epoch;
    if (at < ramp) {
        double share = (at + 1) / ramp;
        return (float)(s->lr * (share < 1 ? share : 1));
    }
    if (!s->lr_cosine)
        return (float)s->lr;
    double rest = (double)lk_schedule_steps(s) - ramp;
    return (float)(s->lr * 0.5 * (1 + cos(pi * (at - ramp) / (rest > 1 ? rest : 1))));
}

float lk_schedule_tau(const struct lk_schedule *s, uint64_t step) {
    if (!s->tau_cosine)
        return (float)s->tau;
    uint64_t steps = lk_schedule_steps(s);
    double t = (double)clamp_step(s, step) / (double)(steps > 0 ? steps : 1);
    return (float)(1 - (1 - s->tau) * 0.5 * (1 + cos(pi * t)));
}
