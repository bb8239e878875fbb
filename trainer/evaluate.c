#include "evaluate.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "quality.h"

enum { QUALITY_PICTURES = 512, DEFAULT_QUERIES = 10000 };

/* `count` row numbers spread evenly over n. */
static uint32_t *spread_rows(size_t count, size_t n) {
    uint32_t *rows = lk_calloc(count, sizeof *rows);
    for (size_t i = 0; rows != NULL && i < count; i++)
        rows[i] = (uint32_t)(i * n / count);
    return rows;
}

/* Vectors of n pictures, in the memory of the device that will search them or (NULL) the host's. */
static int vectors_open(float **out, struct lk_embedder *e, struct lk_backend *device, size_t n) {
    void *p = NULL;
    if (device != NULL) {
        int rc = lk_ops(device)->alloc(device, n * e->dim * sizeof(float), &p);
        *out = p;
        return rc;
    }
    *out = lk_calloc(n * e->dim, sizeof(float));
    return *out == NULL ? LK_ENOMEM : 0;
}

static void vectors_close(float *v, struct lk_backend *device) {
    if (device != NULL)
        lk_ops(device)->free(device, v);
    else
        free(v);
}

static int vectors_fill(float *v, struct lk_embedder *e, struct lk_backend *device, const struct lk_dataset *d,
                        const uint32_t *which, size_t n, int (*stop)(void)) {
    return device != NULL ? lk_embedder_dataset_kept(e, v, d, which, n, stop)
                          : lk_embedder_dataset(e, v, d, which, n, stop);
}

/* The training pictures that have a class, with their vectors. */
struct bank {
    struct lk_backend *device; /* which has the vectors and searches them; NULL: the host does */
    size_t n;
    uint32_t *row; /* owned [n]: numbers in the set; NULL: all of it */
    int *label;    /* [n]; owned when row is there */
    float *vector; /* owned [n][dim] */
};

static void bank_close(struct bank *b) {
    if (b->row != NULL)
        free(b->label);
    free(b->row);
    vectors_close(b->vector, b->device);
    memset(b, 0, sizeof *b);
}

static int bank_open(struct bank *b, struct lk_embedder *e, struct lk_backend *device, const struct lk_dataset *train,
                     const struct lk_evaluate_options *o) {
    int rc;
    b->device = device, b->n = train->n_labelled, b->label = train->label;
    if (b->n < train->n) {
        b->row = lk_calloc(b->n, sizeof *b->row);
        b->label = b->row != NULL ? lk_calloc(b->n, sizeof *b->label) : NULL;
        if (b->label == NULL)
            return LK_ENOMEM;
        for (size_t i = 0, to = 0; i < train->n; i++)
            if (train->label[i] >= 0)
                b->row[to] = (uint32_t)i, b->label[to++] = train->label[i];
    }
    if ((rc = vectors_open(&b->vector, e, device, b->n)))
        return rc;
    return vectors_fill(b->vector, e, device, train, b->row, b->n, o->stop);
}

/* out[n][dim] on the host: rows of the bank. */
static int bank_rows(float *out, const struct bank *b, size_t dim, const uint32_t *rows, size_t n) {
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        const float *from = b->vector + rows[i] * dim;
        if (b->device != NULL)
            rc = lk_ops(b->device)->download(b->device, out + i * dim, from, dim * sizeof *out);
        else
            memcpy(out + i * dim, from, dim * sizeof *out);
    }
    return rc;
}

/* Every picture of the bank (or a spread of them) asks all the others. */
static int leave_one_out(struct lk_evaluation *out, const struct lk_embedder *e, const struct bank *bank,
                         size_t n_classes, const struct lk_evaluate_options *o) {
    size_t limit = o->query_limit > 0 ? o->query_limit : DEFAULT_QUERIES, n = bank->n < limit ? bank->n : limit;
    uint32_t *self = spread_rows(n, bank->n);
    float *query = bank->device == NULL ? lk_calloc(n * e->dim, sizeof *query) : NULL; /* a device takes its rows */
    int *label = lk_calloc(n, sizeof *label);
    int rc = self == NULL || (query == NULL && bank->device == NULL) || label == NULL ? LK_ENOMEM : 0;
    for (size_t i = 0; i < n && rc == 0; i++)
        label[i] = bank->label[self[i]];
    if (rc == 0 && query != NULL)
        rc = bank_rows(query, bank, e->dim, self, n);
    if (rc == 0)
        rc = lk_knn_evaluate(&out->score, query, label, n, bank->vector, bank->label, bank->n, e->dim, n_classes, o->k,
                             o->temperature, self, e->pool, bank->device);
    free(self);
    free(query);
    free(label);
    return rc;
}

static int test_against_train(struct lk_evaluation *out, struct lk_embedder *e, const struct bank *bank,
                              const struct lk_dataset *test, const struct lk_evaluate_options *o) {
    float *query = NULL;
    int rc = vectors_open(&query, e, bank->device, test->n);
    if (rc == 0)
        rc = vectors_fill(query, e, bank->device, test, NULL, test->n, o->stop);
    if (rc == 0)
        rc = lk_knn_evaluate(&out->score, query, test->label, test->n, bank->vector, bank->label, bank->n, e->dim,
                             test->n_classes, o->k, o->temperature, NULL, e->pool, bank->device);
    out->embedded += test->n;
    vectors_close(query, bank->device);
    return rc;
}

/* The kNN part; test is NULL or has labels. The bank stays for who needs its vectors. */
static int with_labels(struct lk_evaluation *out, struct bank *bank, struct lk_embedder *e, struct lk_backend *device,
                       const struct lk_dataset *train, const struct lk_dataset *test,
                       const struct lk_evaluate_options *o) {
    int rc = bank_open(bank, e, device, train, o);
    out->embedded += bank->n;
    if (rc == 0)
        rc = test != NULL ? test_against_train(out, e, bank, test, o)
                          : leave_one_out(out, e, bank, train->n_classes, o);
    out->has_knn = rc == 0;
    return rc;
}

static int label_free(struct lk_evaluation *out, struct lk_embedder *e, const struct lk_dataset *train,
                      const struct bank *bank, const struct lk_evaluate_options *o) {
    size_t n = train->n < QUALITY_PICTURES ? train->n : QUALITY_PICTURES;
    uint32_t *rows = spread_rows(n, train->n);
    float *a = lk_calloc(n * e->dim, sizeof *a), *b = lk_calloc(n * e->dim, sizeof *b);
    int rc = rows == NULL || a == NULL || b == NULL ? LK_ENOMEM : 0;
    if (rc == 0) /* the bank has them, where it is of all pictures */
        rc = bank->vector != NULL && bank->row == NULL ? bank_rows(a, bank, e->dim, rows, n)
                                                       : lk_embedder_dataset(e, a, train, rows, n, o->stop);
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
    const struct lk_backend_ops *ops = lk_ops(e->device);
    struct lk_backend *device = ops->neighbors != NULL && ops->embed_begin != NULL ? e->device : NULL;
    struct bank bank = {0};
    int rc = 0;
    if (test != NULL && test->n_classes == 0)
        test = NULL;
    if (train->n_labelled > 1 && (rc = with_labels(out, &bank, e, device, train, test, o)) == LK_ENOMEM &&
        device != NULL) {
        lk_log_warn("the host searches for neighbours: %s", lk_error());
        bank_close(&bank);
        out->embedded = 0;
        rc = with_labels(out, &bank, e, NULL, train, test, o);
    }
    if (rc == 0)
        rc = label_free(out, e, train, &bank, o);
    bank_close(&bank);
    return rc;
}
