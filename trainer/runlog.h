/* The run folder's running record: metrics.jsonl, a JSON object a line. `kind` is "step" (every few steps), "epoch"
 * (epoch 0: random weights) or "final". A resumed run cuts the file where its checkpoint was taken, so that the lines of
 * a run that was killed and resumed are those of an uninterrupted one, times aside. */
#ifndef LK_TRAINER_RUNLOG_H
#define LK_TRAINER_RUNLOG_H

#include <stdint.h>
#include <stdio.h>

#include "evaluate.h"

struct lk_runlog {
    FILE *file;
    char *path;     /* owned */
    uint64_t bytes; /* written so far */
};

struct lk_step_record {
    uint64_t epoch, step; /* from 1 */
    float loss, lr, tau;
    double spread; /* deviation of the normalised projection x sqrt(d): 1 spread, 0 collapsed */
};

struct lk_epoch_record {
    uint64_t epoch;
    int trained; /* 0 for epoch 0: no loss, rate or time */
    double loss, spread;
    float lr, tau; /* of its last step */
    double images_per_second, seconds;
    const struct lk_evaluation *evaluation; /* NULL: none this epoch */
};

struct lk_final_record {
    double loss, images_per_second, wall_seconds, knn, nn1, knn_max; /* kNN negative: not evaluated */
    uint64_t epochs, steps, images;
    const char *protocol, *device;
    int collapsed;
};

/* keep: bytes of an existing file that stay (0: begin anew). */
int lk_runlog_open(struct lk_runlog *out, const char *folder, uint64_t keep);
void lk_runlog_close(struct lk_runlog *log); /* accepts a zeroed one */
int lk_runlog_flush(struct lk_runlog *log);

int lk_runlog_step(struct lk_runlog *log, const struct lk_step_record *r);
int lk_runlog_epoch(struct lk_runlog *log, const struct lk_epoch_record *r);
int lk_runlog_final(struct lk_runlog *log, const struct lk_final_record *r);

#endif
