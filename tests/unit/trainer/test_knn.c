/* Is the nearest-neighbour search exact, and do the votes follow the protocol? Against plain sorting in double. */
#include "check.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/pool.h"
#include "base/rng.h"
#include "trainer/knn.h"
#include "trainer/quality.h"

static struct lk_pool *pool;

static float *unit_rows(size_t n, size_t dim, uint32_t tensor) {
    float *x = calloc(n * dim, sizeof *x);
    if (x == NULL)
        abort();
    lk_rng_normal(x, n * dim, 1, 5, tensor);
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t d = 0; d < dim; d++)
            sum += (double)x[i * dim + d] * (double)x[i * dim + d];
        for (size_t d = 0; d < dim; d++)
            x[i * dim + d] = (float)((double)x[i * dim + d] / sqrt(sum));
    }
    return x;
}

struct scored {
    double cosine;
    uint32_t index;
};

static int by_cosine(const void *a, const void *b) {
    const struct scored *x = a, *y = b;
    return x->cosine > y->cosine ? -1 : x->cosine < y->cosine ? 1 : x->index < y->index ? -1 : 1;
}

static void brute(struct scored *out, const float *q, const float *bank, size_t nb, size_t dim) {
    for (size_t i = 0; i < nb; i++) {
        out[i] = (struct scored){0, (uint32_t)i};
        for (size_t d = 0; d < dim; d++)
            out[i].cosine += (double)q[d] * (double)bank[i * dim + d];
    }
    qsort(out, nb, sizeof *out, by_cosine);
}

/* Sizes around the search's blocks of queries (256) and bank rows (4096). */
static void search_equals_sorting_everything(void) {
    static const size_t sizes[][4] = {{3, 7, 16, 7}, {300, 5000, 24, 10}, {1, 4097, 8, 200}, {257, 4096, 33, 1}};
    for (size_t t = 0; t < sizeof sizes / sizeof *sizes; t++) {
        size_t nq = sizes[t][0], nb = sizes[t][1], dim = sizes[t][2], k = sizes[t][3];
        float *q = unit_rows(nq, dim, 1), *bank = unit_rows(nb, dim, 2);
        struct lk_neighbor *found = calloc(nq * k, sizeof *found);
        struct scored *all = calloc(nb, sizeof *all);
        LK_REQUIRE(found != NULL && all != NULL);
        LK_CHECK_INT(lk_knn_search(found, q, nq, bank, nb, dim, k, NULL, pool), 0);
        double worst = 0;
        for (size_t i = 0; i < nq; i++) {
            brute(all, q + i * dim, bank, nb, dim);
            for (size_t j = 0; j < k; j++) {
                double diff = fabs((double)found[i * k + j].cosine - all[j].cosine);
                worst = diff > worst ? diff : worst;
                if (j > 0)
                    LK_CHECK(found[i * k + j - 1].cosine >= found[i * k + j].cosine);
            }
            LK_CHECK_INT(found[i * k].index, all[0].index);
        }
        LK_CHECK_NEAR(worst, 0, 2e-6);
        free(q), free(bank), free(found), free(all);
    }
}

static void equal_scores_come_in_the_order_of_the_bank(void) {
    float q[2] = {1, 0}, bank[8 * 2];
    struct lk_neighbor found[5];
    for (int i = 0; i < 8; i++)
        bank[2 * i] = 1, bank[2 * i + 1] = 0;
    LK_CHECK_INT(lk_knn_search(found, q, 1, bank, 8, 2, 5, NULL, pool), 0);
    for (uint32_t i = 0; i < 5; i++)
        LK_CHECK_INT(found[i].index, i);
}

static void a_query_never_finds_itself_when_leaving_one_out(void) {
    size_t n = 50, dim = 8, k = 49;
    float *x = unit_rows(n, dim, 3);
    uint32_t self[50];
    struct lk_neighbor *found = calloc(n * k, sizeof *found);
    LK_REQUIRE(found != NULL);
    for (uint32_t i = 0; i < n; i++)
        self[i] = i;
    LK_CHECK_INT(lk_knn_search(found, x, n, x, n, dim, k, self, pool), 0);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < k; j++)
            LK_CHECK(found[i * k + j].index != i);
    LK_CHECK_INT(lk_knn_search(found, x, n, x, n, dim, 50, self, pool), LK_EINVAL);
    free(x), free(found);
}

static void votes_are_weighted_by_exp_of_cosine_over_temperature(void) {
    /* class 0 has one near neighbour, class 1 two farther ones: exp(9) against 2 exp(8) at T = .1, and the other way
     * round when T = 10. */
    struct lk_neighbor found[3] = {{.9f, 0}, {.8f, 1}, {.8f, 2}};
    int label[3] = {0, 1, 1};
    double votes[2];
    LK_CHECK_INT(lk_knn_vote(found, 3, label, .1, votes, 2), 0);
    LK_CHECK_NEAR(votes[1] / votes[0], 2 * exp(-1), 1e-6);
    LK_CHECK_INT(lk_knn_vote(found, 3, label, 10, votes, 2), 1);
    LK_CHECK_INT(lk_knn_vote(found, 3, label, .001, votes, 2), 0);
}

/* Four classes around four axes with noise: the score must equal a direct count. */
static void scores_equal_a_direct_count(void) {
    enum { N = 400, Q = 100, DIM = 12, CLASSES = 4, K = 20 };
    float *bank = unit_rows(N, DIM, 4), *q = unit_rows(Q, DIM, 5);
    int bank_label[N], label[Q];
    struct scored all[N];
    for (int i = 0; i < N; i++)
        bank_label[i] = bank[i * DIM] > .1f ? 0 : bank[i * DIM + 1] > 0 ? 1 : bank[i * DIM + 2] > 0 ? 2 : 3;
    for (int i = 0; i < Q; i++)
        label[i] = q[i * DIM] > .1f ? 0 : q[i * DIM + 1] > 0 ? 1 : q[i * DIM + 2] > 0 ? 2 : 3;
    int right = 0, right1 = 0;
    for (int i = 0; i < Q; i++) {
        double votes[CLASSES] = {0};
        int best = 0;
        brute(all, q + i * DIM, bank, N, DIM);
        for (int j = 0; j < K; j++)
            votes[bank_label[all[j].index]] += exp(all[j].cosine / .1);
        for (int c = 1; c < CLASSES; c++)
            best = votes[c] > votes[best] ? c : best;
        right += best == label[i], right1 += bank_label[all[0].index] == label[i];
    }
    struct lk_knn_score s;
    LK_CHECK_INT(lk_knn_evaluate(&s, q, label, Q, bank, bank_label, N, DIM, CLASSES, K, .1, NULL, pool, NULL), 0);
    LK_CHECK_NEAR(s.knn, right, 1e-9);
    LK_CHECK_NEAR(s.nn1, right1, 1e-9);
    LK_CHECK(right > 40 && right < 100);
    free(bank), free(q);
}

static void k_is_cut_to_the_bank_and_the_protocol_says_so(void) {
    float x[4 * 2] = {1, 0, 1, 0, 0, 1, 0, 1};
    int label[4] = {0, 0, 1, 1};
    uint32_t self[4] = {0, 1, 2, 3};
    struct lk_knn_score s;
    char text[160];
    LK_CHECK_INT(lk_knn_evaluate(&s, x, label, 4, x, label, 4, 2, 2, 200, .1, self, pool, NULL), 0);
    LK_CHECK_INT(s.k, 3);
    LK_CHECK_NEAR(s.nn1, 100, 0);
    lk_knn_protocol(text, sizeof text, &s);
    LK_CHECK_HOLDS(text, "k=3 T=0.1 cosine, 4 training pictures against the other 3");
    LK_CHECK_INT(lk_knn_evaluate(&s, x, label, 4, x, label, 4, 2, 2, 2, .1, NULL, pool, NULL), 0);
    lk_knn_protocol(text, sizeof text, &s);
    LK_CHECK_HOLDS(text, "4 training pictures as bank, 4 test queries");
    LK_CHECK_INT(lk_knn_evaluate(&s, x, label, 0, x, label, 4, 2, 2, 2, .1, NULL, pool, NULL), LK_EINVAL);
}

static void label_free_measures_know_spread_from_collapse(void) {
    enum { N = 500, DIM = 64 };
    float *x = unit_rows(N, DIM, 6), same[3 * 2] = {1, 0, 1, 0, 1, 0}, across[2] = {-1, 0}, axis[2] = {1, 0};
    LK_CHECK_NEAR(lk_quality_spread(x, N, DIM), 1, .05);
    LK_CHECK_NEAR(lk_quality_spread(same, 3, 2), 0, 1e-9);
    LK_CHECK_NEAR(lk_quality_uniformity(same, 3, 2), 0, 1e-9);
    LK_CHECK_NEAR(lk_quality_uniformity(x, N, DIM), -4, .2); /* exp(-2 (2 - 2 cos)) with cos near 0 */
    LK_CHECK_NEAR(lk_quality_alignment(axis, across, 1, 2), 4, 1e-9);
    LK_CHECK_NEAR(lk_quality_alignment(x, x, N, DIM), 0, 1e-9);
    free(x);
}

static const struct lk_case cases[] = {
    LK_CASE(search_equals_sorting_everything),
    LK_CASE(equal_scores_come_in_the_order_of_the_bank),
    LK_CASE(a_query_never_finds_itself_when_leaving_one_out),
    LK_CASE(votes_are_weighted_by_exp_of_cosine_over_temperature),
    LK_CASE(scores_equal_a_direct_count),
    LK_CASE(k_is_cut_to_the_bank_and_the_protocol_says_so),
    LK_CASE(label_free_measures_know_spread_from_collapse),
};

int main(int argc, char **argv) {
    if (lk_pool_open(&pool, 3, 1) != 0)
        return 1;
    int rc = lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
    lk_pool_close(pool);
    return rc;
}
