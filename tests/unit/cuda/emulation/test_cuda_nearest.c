/* Does the device find the neighbours that the host finds, and does an evaluation that stays in its memory give the host's
 * figures? Compiled with LK_ON_DEVICE for a real one, whose memory cannot be refused at will. */
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/pool.h"
#include "base/rng.h"
#include "parity/device.h"
#include "trainer/evaluate.h"

#ifndef LK_ON_DEVICE
#include "stream.h"
#endif

static struct lk_pool *pool;
static struct lk_backend *device;
static const struct lk_backend_ops *ops;

/* Drawn; or of a few values each, so that sums are exact in any order and many are equal. */
static float *rows(size_t n, size_t dim, uint32_t tensor, int coarse) {
    float *x = calloc(n * dim, sizeof *x);
    if (x == NULL)
        abort();
    lk_rng_normal(x, n * dim, 1, 11, tensor);
    for (size_t i = 0; i < n * dim && coarse; i++)
        x[i] = x[i] > .8f ? .5f : x[i] < -.8f ? -.5f : 0;
    return x;
}

static float *on_device(const float *host, size_t n) {
    void *p = NULL;
    if (ops->alloc(device, n * sizeof *host, &p) || ops->upload(device, p, host, n * sizeof *host))
        abort();
    return p;
}

static int by_rank(const void *a, const void *b) {
    const struct lk_neighbor *x = a, *y = b;
    return x->cosine != y->cosine ? (x->cosine > y->cosine ? -1 : 1) : x->index < y->index ? -1 : 1;
}

/* Sizes around tiles of 64 queries by 128 rows, 4,096 rows, 4,096 queries, chunks of 1,024 scores and runs of columns. */
static void neighbours_are_those_of_sorting_everything_to_the_last_bit(void) {
    static const size_t sizes[][4] = {{3, 7, 5, 7},      {65, 129, 40, 10},    {1, 2000, 64, 1025},
                                      {130, 300, 16, 1}, {20, 8200, 24, 200},  {4100, 130, 8, 2},
                                      {64, 128, 33, 3},  {9, 4097, 512, 4097}, {66, 1030, 17, 5}};
    for (size_t t = 0; t < sizeof sizes / sizeof *sizes; t++) {
        size_t nq = sizes[t][0], nb = sizes[t][1], dim = sizes[t][2], k = sizes[t][3], wrong = 0;
        float *q = rows(nq, dim, 1, 0), *bank = rows(nb, dim, 2, 0), *dq = on_device(q, nq * dim);
        float *db = on_device(bank, nb * dim);
        struct lk_neighbor *found = calloc(nq * k, sizeof *found), *all = calloc(nb, sizeof *all);
        LK_REQUIRE(found != NULL && all != NULL);
        LK_CHECK_INT(ops->neighbors(device, found, dq, nq, db, nb, dim, k, NULL), 0);
        for (size_t i = 0; i < nq; i++) {
            for (size_t j = 0; j < nb; j++)
                all[j] = (struct lk_neighbor){lk_dot(q + i * dim, bank + j * dim, dim), (uint32_t)j};
            qsort(all, nb, sizeof *all, by_rank);
            wrong += memcmp(found + i * k, all, k * sizeof *all) != 0;
        }
        LK_CHECK_INT(wrong, 0);
        ops->free(device, dq), ops->free(device, db);
        free(q), free(bank), free(found), free(all);
    }
}

static void equal_scores_come_as_on_the_host(void) {
    enum { NQ = 70, NB = 4500, DIM = 20, K = 300 };
    float *q = rows(NQ, DIM, 3, 1), *bank = rows(NB, DIM, 4, 1), *dq = on_device(q, NQ * DIM);
    float *db = on_device(bank, NB * DIM);
    static struct lk_neighbor want[NQ * K], got[NQ * K];
    size_t ties = 0;
    LK_CHECK_INT(lk_knn_search(want, q, NQ, bank, NB, DIM, K, NULL, pool), 0);
    LK_CHECK_INT(ops->neighbors(device, got, dq, NQ, db, NB, DIM, K, NULL), 0);
    LK_CHECK(memcmp(want, got, sizeof want) == 0);
    for (size_t i = 1; i < NQ * K; i++)
        ties += want[i].cosine == want[i - 1].cosine;
    LK_CHECK(ties > NQ * K / 2);
    ops->free(device, dq), ops->free(device, db);
    free(q), free(bank);
}

/* A query that is a row of the bank is given by its number. */
static void leaving_one_out_equals_the_host(void) {
    enum { NQ = 90, NB = 4200, DIM = 16, K = 40, MANY = 4150 };
    float *bank = rows(NB, DIM, 5, 1), *db = on_device(bank, NB * DIM), *q = calloc(NQ * DIM, sizeof *q);
    static struct lk_neighbor want[NQ * K], got[NQ * K], all[3 * 5];
    static struct lk_neighbor want_many[2 * MANY], got_many[2 * MANY];
    uint32_t self[NQ];
    LK_REQUIRE(q != NULL);
    for (uint32_t i = 0; i < NQ; i++) {
        self[i] = i == NQ - 1 ? NB - 1 : i * 46;
        memcpy(q + i * DIM, bank + self[i] * DIM, DIM * sizeof *q);
    }
    LK_CHECK_INT(lk_knn_search(want, q, NQ, bank, NB, DIM, K, self, pool), 0);
    LK_CHECK_INT(ops->neighbors(device, got, NULL, NQ, db, NB, DIM, K, self), 0);
    LK_CHECK(memcmp(want, got, sizeof want) == 0);
    LK_CHECK_INT(lk_knn_search(want_many, q, 2, bank, NB, DIM, MANY, self, pool), 0); /* more than a tile has */
    LK_CHECK_INT(ops->neighbors(device, got_many, NULL, 2, db, NB, DIM, MANY, self), 0);
    LK_CHECK(memcmp(want_many, got_many, sizeof want_many) == 0);
    LK_CHECK_INT(ops->neighbors(device, all, NULL, 3, db, 6, DIM, 5, (const uint32_t[]){0, 5, 2}), 0);
    for (size_t i = 0, sum = 0; i < 3; i++, sum = 0) { /* all the others */
        for (size_t j = 0; j < 5; j++)
            sum += all[i * 5 + j].index;
        LK_CHECK_INT(sum, 15 - (i == 0 ? 0 : i == 1 ? 5 : 2));
    }
    ops->free(device, db);
    free(bank), free(q);
}

static void what_cannot_be_found_is_refused(void) {
    float *bank = rows(6, 4, 6, 0), *db = on_device(bank, 6 * 4);
    static struct lk_neighbor out[64];
    const uint32_t self[2] = {1, 6};
    LK_CHECK_INT(ops->neighbors(device, out, db, 6, db, 6, 4, 7, NULL), LK_EINVAL);
    LK_CHECK_INT(ops->neighbors(device, out, db, 1, db, 6, 4, 6, self), LK_EINVAL);
    LK_CHECK_INT(ops->neighbors(device, out, db, 6, db, 6, 4, 0, NULL), LK_EINVAL);
    LK_CHECK_INT(ops->neighbors(device, out, NULL, 2, db, 6, 4, 2, self), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "row 6");
    LK_CHECK_INT(ops->neighbors(device, out, NULL, 2, db, 6, 4, 2, NULL), LK_EINVAL);
    LK_CHECK_INT(ops->neighbors(device, out, db, 0, db, 6, 4, 2, NULL), 0);
    ops->free(device, db);
    free(bank);
}

/* --- A whole evaluation, with the device's search and with the host's over the same network. */

enum { SIDE = 8, BATCH = 4, TRAIN = 22, TEST = 9, CLASSES = 3 };

struct set {
    uint8_t pixels[TRAIN * SIDE * SIDE * 3];
    size_t offset[TRAIN];
    int width[TRAIN], height[TRAIN], label[TRAIN];
    struct lk_dataset d;
};

static void draw_set(struct set *s, size_t n, uint32_t state) {
    memset(s, 0, sizeof *s);
    for (size_t i = 0; i < n; i++) {
        s->offset[i] = i * SIDE * SIDE * 3, s->width[i] = s->height[i] = SIDE;
        s->label[i] = (int)(i * 7 % 5 % CLASSES);
    }
    for (size_t i = 0; i < n * SIDE * SIDE * 3; i++) /* pictures of a class are alike */
        s->pixels[i] = (uint8_t)(((state = state * 1664525u + 1013904223u) >> 25) +
                                 (uint32_t)s->label[i / (SIDE * SIDE * 3)] * (40 + i % 3 * 9));
    s->d = (struct lk_dataset){.n = n,
                               .pixels = s->pixels,
                               .offset = s->offset,
                               .width = s->width,
                               .height = s->height,
                               .label = s->label,
                               .n_labelled = n,
                               .n_classes = CLASSES};
}

struct bed {
    struct lk_net net;
    void *params, *stats;
    struct lk_embedder e;
};

static int open_bed(struct bed *b) {
    static const struct lk_arch arch = {18, 8, LK_STEM_CIFAR, SIDE};
    static const float mean[3] = {.5f, .5f, .5f}, std[3] = {.25f, .25f, .25f};
    int rc;
    memset(b, 0, sizeof *b);
    if ((rc = lk_net_build(&b->net, &arch, NULL)))
        return rc;
    float *params = lk_calloc(b->net.n_params, sizeof *params), *stats = lk_calloc(b->net.n_stats, sizeof *stats);
    if (params == NULL || stats == NULL)
        abort();
    lk_net_init(&b->net, 1, params, stats);
    (void)((rc = ops->alloc(device, b->net.n_params * sizeof *params, &b->params)) ||
           (rc = ops->alloc(device, b->net.n_stats * sizeof *stats, &b->stats)) ||
           (rc = ops->upload(device, b->params, params, b->net.n_params * sizeof *params)) ||
           (rc = ops->upload(device, b->stats, stats, b->net.n_stats * sizeof *stats)) ||
           (rc = lk_embedder_open(&b->e, device, &b->net, BATCH, LK_FP32, SIDE, mean, std, pool)) ||
           (rc = lk_embedder_weights(&b->e, b->params, b->stats)));
    free(params), free(stats);
    return rc;
}

static void close_bed(struct bed *b) {
    lk_embedder_close(&b->e);
    ops->free(device, b->params);
    ops->free(device, b->stats);
    lk_net_free(&b->net);
}

/* The same table without the search: who asks it searches on the host. */
static int evaluate_by_host(struct lk_evaluation *out, struct bed *b, const struct lk_dataset *train,
                            const struct lk_dataset *test, const struct lk_evaluate_options *o) {
    struct lk_backend_base *base = (struct lk_backend_base *)device;
    struct lk_backend_ops without = *base->ops;
    const struct lk_backend_ops *kept = base->ops;
    without.neighbors = NULL;
    base->ops = &without;
    int rc = lk_evaluate(out, &b->e, train, test, o);
    base->ops = kept;
    return rc;
}

static void check_same(struct bed *b, const struct lk_dataset *train, const struct lk_dataset *test) {
    const struct lk_evaluate_options o = {.k = 5, .temperature = .1};
    struct lk_evaluation host, own;
    LK_REQUIRE(evaluate_by_host(&host, b, train, test, &o) == 0);
    LK_REQUIRE(lk_evaluate(&own, &b->e, train, test, &o) == 0);
    LK_CHECK(own.has_knn && host.score.knn > 20 && host.score.knn <= 100);
    LK_CHECK(host.spread > 0 && host.spread < 1.1);
    LK_CHECK_INT(own.embedded, host.embedded);
    LK_CHECK_NEAR(own.score.knn, host.score.knn, 0);
    LK_CHECK_NEAR(own.score.nn1, host.score.nn1, 0);
    LK_CHECK_INT(own.score.queries, host.score.queries);
    LK_CHECK_INT(own.score.bank, host.score.bank);
    LK_CHECK_NEAR(own.uniformity, host.uniformity, 0);
    LK_CHECK_NEAR(own.spread, host.spread, 0);
}

static void an_evaluation_on_the_device_equals_the_hosts(void) {
    static struct set train, test;
    struct bed b;
    draw_set(&train, TRAIN, 1);
    draw_set(&test, TEST, 2);
    LK_REQUIRE(open_bed(&b) == 0);
    check_same(&b, &train.d, &test.d);
    check_same(&b, &train.d, NULL); /* leaving one out */
    for (size_t i = 0; i < 4; i++)
        train.label[3 * i] = -1, train.d.n_labelled--; /* pictures without a class are no part of the bank */
    check_same(&b, &train.d, &test.d);
    check_same(&b, &train.d, NULL);
    close_bed(&b);
}

#ifndef LK_ON_DEVICE
static void where_the_device_has_no_memory_left_the_host_searches(void) {
    static struct set train, test;
    const struct lk_evaluate_options o = {.k = 5, .temperature = .1};
    struct lk_evaluation host, own;
    struct bed b;
    draw_set(&train, TRAIN, 1);
    draw_set(&test, TEST, 2);
    LK_REQUIRE(open_bed(&b) == 0);
    LK_REQUIRE(evaluate_by_host(&host, &b, &train.d, &test.d, &o) ==
               0); /* and from now on the embedder needs no more */
    lk_emulated_refuse("cudaMalloc");
    LK_CHECK_INT(lk_evaluate(&own, &b.e, &train.d, &test.d, &o), 0);
    lk_emulated_refuse(NULL);
    LK_CHECK_INT(own.embedded, host.embedded);
    LK_CHECK_NEAR(own.score.knn, host.score.knn, 0);
    LK_CHECK_NEAR(own.uniformity, host.uniformity, 0);
    close_bed(&b);
}
#endif

int main(int argc, char **argv) {
    static const struct lk_case cases[] = {
        LK_CASE(neighbours_are_those_of_sorting_everything_to_the_last_bit),
        LK_CASE(equal_scores_come_as_on_the_host),
        LK_CASE(leaving_one_out_equals_the_host),
        LK_CASE(what_cannot_be_found_is_refused),
        LK_CASE(an_evaluation_on_the_device_equals_the_hosts),
#ifndef LK_ON_DEVICE
        LK_CASE(where_the_device_has_no_memory_left_the_host_searches),
#endif
    };
    setenv("LK_TEST_DEVICE", "cuda:0", 1);
    int rc = lk_pool_open(&pool, 2, 1) ? 1 : test_device_open(&device, NULL, cases, sizeof cases / sizeof *cases);
    if (rc == 0) {
        ops = lk_ops(device);
        rc = lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
        ops->close(device);
    }
    lk_pool_close(pool);
    return rc;
}
