/* Bootstrap Your Own Latent (Grill et al. 2020, arXiv 2006.07733) on a backend: the student (backbone, projector,
 * predictor) learns to predict, from one view of a picture, the teacher's projection of the other; the teacher (backbone,
 * projector) is a moving average of the student. Both see both views, each view in its own pass, because batch
 * statistics are per view in every reference implementation. Teacher parameters are a prefix of the student's arena.
 *
 * One thread at a time. Owns its device memory; borrows the backend and the net, which must outlive it. */
#ifndef LK_TRAINER_BYOL_H
#define LK_TRAINER_BYOL_H

#include "loader.h"
#include "model/backend.h"
#include "model/net.h"

struct lk_byol {
    struct lk_backend *device;
    const struct lk_backend_ops *ops;
    const struct lk_net *net;
    struct lk_optimizer_config optimizer;
    float loss_scale;
    struct lk_plan *student_plan, *teacher_plan;
    struct lk_pass *student[2], *teacher[2]; /* by view */
    struct lk_param_span *spans;
    size_t n_spans, n_state;
    float *params, *grads, *state, *stats, *teacher_params; /* device arenas */
    /* A device that can record a step runs one step as it comes, records the next and replays it from then on. */
    int batch; /* pictures a step */
    int eager; /* 1: every step runs as it comes; set by a test, and after a recording that failed */
    struct lk_recording *recording;
    struct lk_byol_settings { /* what is not among a step's values: other settings, another recording */
        struct lk_augment view[2];
        struct lk_optimizer_config optimizer;
        float loss_scale;
    } settings;
    int settled; /* a step has run as it comes with these settings */
};

/* What a checkpoint holds of it, in host memory. */
struct lk_byol_state {
    float *params, *stats, *optimizer, *teacher; /* owned */
    size_t n_params, n_stats, n_optimizer, n_teacher;
};

/* Weights are drawn from `seed`; the teacher begins as a copy. */
int lk_byol_open(struct lk_byol *out, struct lk_backend *device, const struct lk_net *net, int batch,
                 enum lk_precision precision, const struct lk_optimizer_config *optimizer, float loss_scale,
                 uint64_t seed);
void lk_byol_close(struct lk_byol *b); /* accepts a zeroed or half-built one */

/* One update from the loader's current batch. view: the two distributions; augmentation is keyed by (seed, epoch,
 * picture, view). The result is read later with ops->byol_stats(device, slot). */
int lk_byol_step(struct lk_byol *b, const struct lk_loader *batch, const struct lk_augment view[2], uint64_t seed,
                 uint32_t epoch, const struct lk_step_values *values, int slot);

/* Copies everything to or from the host. The state is allocated by save; load refuses other sizes (LK_EINVAL). */
int lk_byol_save(const struct lk_byol *b, struct lk_byol_state *out);
int lk_byol_load(struct lk_byol *b, const struct lk_byol_state *state);
int lk_byol_state_alloc(struct lk_byol_state *s, const struct lk_byol *b);
void lk_byol_state_free(struct lk_byol_state *s); /* accepts a zeroed one */

#endif
