/* Checkpoints: everything that decides the rest of a run, so that a resumed run's losses equal the uninterrupted run's
 * bit for bit. The file is a safetensors file (docs/formats.md): flat float32 tensors `student`, `statistics`,
 * `optimizer`, `teacher`, and metadata: progress, and every setting as `config.<name>`. Written atomically. Random
 * numbers need no state: they are drawn from (seed, epoch, picture, view). */
#ifndef LK_TRAINER_CHECKPOINT_H
#define LK_TRAINER_CHECKPOINT_H

#include <stdint.h>

#include "byol.h"
#include "config.h"
#include "model/safetensors.h"

#define LK_CHECKPOINT_FORMAT "likeness-checkpoint-1"

/* Where a run stands. Sums are of the epoch under way. */
struct lk_progress {
    uint64_t step;          /* updates done in all */
    uint64_t epoch;         /* whole epochs done, their evaluation included */
    uint64_t step_in_epoch; /* of epoch + 1 */
    double loss_sum, spread_sum, epoch_seconds, total_seconds;
    double knn, nn1; /* of the last evaluation; negative: none yet */
    double best_knn; /* negative: none yet */
    /* Of the weights that the run began with; negative: not evaluated. Alignment and uniformity are kept positive and
     * negative as they are: they are there when first_alignment is not negative. */
    double first_knn, first_nn1, first_alignment, first_uniformity;
    double last_loss, last_speed; /* of the last whole epoch */
    uint64_t best_epoch;
    uint64_t collapsed_epochs; /* epochs in a row with collapsed projections, up to now */
    uint64_t collapse_seen;    /* 1: the run was reported as collapsed at some time */
    uint64_t metrics_bytes;    /* length of metrics.jsonl at this point */
    int image_size;
    char data_hash[65];
};

/* command: as the run was first started, for the records. LK_ENOSPACE, LK_EIO, LK_ENOMEM; the old file stays on
 * failure. */
int lk_checkpoint_write(const char *path, const char *command, const struct lk_train_config *config,
                        const struct lk_progress *progress, const struct lk_byol_state *state);

struct lk_checkpoint {
    struct lk_safetensors file;
    struct lk_progress progress;
};

/* LK_ENOTFOUND; LK_EFORMAT when it is no checkpoint, or damaged. */
int lk_checkpoint_open(struct lk_checkpoint *out, const char *path);
void lk_checkpoint_close(struct lk_checkpoint *c); /* accepts a zeroed one */

/* 1 when an open safetensors file says that it is a checkpoint. */
int lk_checkpoint_is(const struct lk_safetensors *file);

/* The command that the run was first started with; borrowed. */
const char *lk_checkpoint_command(const struct lk_checkpoint *c);

/* Takes over the run's settings: see lk_config_adopt. */
int lk_checkpoint_adopt(const struct lk_checkpoint *c, struct lk_train_config *config);

/* Copies the tensors into an allocated state; LK_EFORMAT when a size differs. */
int lk_checkpoint_state(const struct lk_checkpoint *c, struct lk_byol_state *state);

#endif
