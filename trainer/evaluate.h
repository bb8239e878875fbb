/* One evaluation of a backbone: both kNN protocols where there are labels, and alignment, uniformity and spread always. */
#ifndef LK_TRAINER_EVALUATE_H
#define LK_TRAINER_EVALUATE_H

#include "embedder.h"
#include "knn.h"

struct lk_evaluation {
    int has_knn, has_alignment;
    struct lk_knn_score score;
    double alignment, uniformity, spread;
    size_t embedded; /* pictures that went through the network */
};

struct lk_evaluate_options {
    size_t k;
    double temperature;
    size_t query_limit; /* leave one out: at most this many queries (0: 10,000) */
    int (*stop)(void);  /* may be NULL */
    /* two views for the alignment; NULL: none */
    const struct lk_augment *view;
    const uint8_t *base; /* where the training pictures lie for ops->augment: see lk_embedder_views */
};

/* test may be NULL or without labels. Training pictures without a label vote for nothing and ask nothing. LK_ECANCELLED when
 * stopped. */
int lk_evaluate(struct lk_evaluation *out, struct lk_embedder *e, const struct lk_dataset *train,
                const struct lk_dataset *test, const struct lk_evaluate_options *options);

#endif
