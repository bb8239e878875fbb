#include "evaluate.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "quality.h"

enum { QUALITY_PICTURES = 512, DEFAULT_QUERIES = 10000 };

/* `count` row numbers spread evenly over n. */
static uint32_t *spread_rows(size_t count, size_t n) {
    uint32_t *rows = lk_calloc(count, sizeof *rows);
    for (size_t i = 0; rows != NULL && i < count; i++)
        rows[i] = (uint32_t)(i * n / count);
    return rows;
}

/* The training pictures that have a class, with their vectors. */
struct bank {
    size_t n;
    uint32_t *row; /* owned [n]: numbers in the set; NULL: all of it */
    int *label;    /* [n]; owned when row is there */
    float *vector; /* owned [n][dim] */
};

static void bank_free(struct bank *b) {
    if (b->row != NULL)
        free(b->label);
    free(b->row);
    free(b->vector);
}

static int bank_open(struct bank *b, struct lk_embedder *e, const struct lk_dataset *train,
                     const struct lk_evaluate_options *o) {
    b->n = train->n_labelled, b->label = train->label;
    if (b->n < train->n) {
        b->row = lk_calloc(b->n, sizeof *b->row);
        b->label = b->row != NULL ? lk_calloc(b->n, sizeof *b->label) : NULL;
        if (b->label == NULL)
            return LK_ENOMEM;
        for (size_t i = 0, to = 0; i < train->n; i++)
            if (train->label[i] >= 0)
                b->row[to] = (uint32_t)i, b->label[to++] = train->label[i];
    }
    b->vector = lk_calloc(b->n * e->dim, sizeof *b->vector);
    return b->vector == NULL ? LK_ENOMEM : lk_embedder_dataset(e, b->vector, train, b->row, b->n, o->stop);
}

/* Every picture of the bank (or a spread of them) asks all the others. */
static int leave_one_out(struct lk_evaluation *out, const struct lk_embedder *e, const struct bank *bank,
                         size_t n_classes, const struct lk_evaluate_options *o) {
    size_t limit = o->query_limit > 0 ? o->query_limit : DEFAULT_QUERIES, n = bank->n < limit ? bank->n : limit;
    uint32_t *self = spread_rows(n, bank->n);
    float *query = lk_calloc(n * e->dim, sizeof *query);
    int *label = lk_calloc(n, sizeof *label);
    int rc = self == NULL || query == NULL || label == NULL ? LK_ENOMEM : 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        memcpy(query + i * e->dim, bank->vector + self[i] * e->dim, e->dim * sizeof *query);
        label[i] = bank->label[self[i]];
    }
    if (rc == 0)
        rc = lk_knn_evaluate(&out->score, query, label, n, bank->vector, bank->label, bank->n, e->dim, n_classes, o->k,
                             o->temperature, self, e->pool);
    free(self);
    free(query);
    free(label);
    return rc;
}

static int test_against_train(struct lk_evaluation *out, struct lk_embedder *e, const struct bank *bank,
                              const struct lk_dataset *test, const struct lk_evaluate_options *o) {
    float *query = lk_calloc(test->n * e->dim, sizeof *query);
    int rc = query == NULL ? LK_ENOMEM : lk_embedder_dataset(e, query, test, NULL, test->n, o->stop);
    if (rc == 0)
        rc = lk_knn_evaluate(&out->score, query, test->label, test->n, bank->vector, bank->label, bank->n, e->dim,
                             test->n_classes, o->k, o->temperature, NULL, e->pool);
    out->embedded += test->n;
    free(query);
    return rc;
}

static int label_free(struct lk_evaluation *out, struct lk_embedder *e, const struct lk_dataset *train,
                      const float *bank, const struct lk_evaluate_options *o) {
    size_t n = train->n < QUALITY_PICTURES ? train->n : QUALITY_PICTURES;
    uint32_t *rows = spread_rows(n, train->n);
    float *a = lk_calloc(n * e->dim, sizeof *a), *b = lk_calloc(n * e->dim, sizeof *b);
    int rc = rows == NULL || a == NULL || b == NULL ? LK_ENOMEM : 0;
    for (size_t i = 0; i < n && rc == 0 && bank != NULL; i++)
        memcpy(a + i * e->dim, bank + rows[i] * e->dim, e->dim * sizeof *a);
    if (rc == 0 && bank == NULL)
        rc = lk_embedder_dataset(e, a, train, rows, n, o->stop);
    if (rc == 0) {
        out->uniformity = lk_quality_uniformity(a, n, e->dim);
        out->spread = lk_quality_spread(a, n, e->dim);
    }
    if (rc == 0 && o->view != NULL) {
        if ((rc = lk_embedder_views(e, a, train, o->base, rows, n, &o->view[0], 0, 0, 0)) == 0 &&
            (rc = lk_embedder_views(e, b, train, o->base, rows, n, &o->view[1], 0, 0, 1)) == 0) {
            out->alignment = lk_quality_alignment(a, b, n, e->dim);
            out->has_alignment = 1;
        }
    }
    free(rows);
    free(a);
    free(b);
    return rc;
}

int lk_evaluate(struct lk_evaluation *out, struct lk_embedder *e, const struct lk_dataset *train,
                const struct lk_dataset *test, const struct lk_evaluate_options *o) {
    memset(out, 0, sizeof *out);
    struct bank bank = {0};
    int rc = 0, with_test = test != NULL && test->n_classes > 0;
    if (train->n_labelled > 1) {
        rc = bank_open(&bank, e, train, o);
        out->embedded += bank.n;
        if (rc == 0)
            rc = with_test ? test_against_train(out, e, &bank, test, o)
                           : leave_one_out(out, e, &bank, train->n_classes, o);
        out->has_knn = rc == 0;
    }
    if (rc == 0)
        rc = label_free(out, e, train, bank.row == NULL ? bank.vector : NULL, o);
    bank_free(&bank);
    return rc;
}
