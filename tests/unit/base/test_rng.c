/* Are the random numbers the published generator's, and the same as the Python twin draws? */
#include <stdlib.h>

#include "base/rng.h"
#include "check.h"

/* Random123 1.14, tests/kat_vectors: the lines "philox4x32 10". */
static void philox_equals_random123(void) {
    static const struct {
        uint32_t counter[4];
        uint64_t key;
        uint32_t want[4];
    } vectors[] = {
        {{0, 0, 0, 0}, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         0xffffffffffffffff,
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         0x299f31d0a4093822,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        const uint32_t *c = vectors[i].counter;
        struct lk_philox r = lk_philox(vectors[i].key, c[0], c[1], c[2], c[3]);
        for (int j = 0; j < 4; j++)
            LK_CHECK_INT(r.v[j], vectors[i].want[j]);
    }
}

static void convention_places_index_stream_and_draw(void) {
    struct lk_philox a = lk_rng(7, 0x123456789ABCDEF0, LK_RNG_TEST, 0x01000005, 9);
    struct lk_philox b = lk_philox(7, 0x9ABCDEF0, 0x12345678, 5u << 24 | 5, 9); /* a stream's own 24 bits wrap */
    LK_CHECK(memcmp(&a, &b, sizeof a) == 0);
}

static void uniform_is_exact_and_below_one(void) {
    LK_CHECK(lk_uniform(0) == 0.0f);
    LK_CHECK(lk_uniform(0x80000000u) == 0.5f);
    LK_CHECK(lk_uniform(0xffffffffu) < 1.0f);
    LK_CHECK(lk_uniform(0xffffffffu) == 1.0f - 0x1p-24f);
}

/* From a Python program that follows the comment in rng.c. */
static void weights_equal_the_python_twin(void) {
    static const float normal[6] = {-0.15621233f, 0.736507177f, -0.907280385f,
                                    0.172213092f, 0.576717496f, 0.496103019f};
    static const float uniform[6] = {-0.0890783072f, -0.108368188f,  -0.159171075f,
                                     -0.0149272382f, -0.0928555429f, -0.193468451f};
    float x[7];
    x[6] = 123.0f;
    lk_rng_normal(x, 6, 0.5f, 42, 7);
    for (int i = 0; i < 6; i++)
        LK_CHECK_NEAR(x[i], normal[i], 1e-7);
    lk_rng_uniform(x, 6, 0.25f, 42, 7);
    for (int i = 0; i < 6; i++)
        LK_CHECK(x[i] == uniform[i]);
    LK_CHECK(x[6] == 123.0f); /* nothing past the end */
}

static void normal_numbers_have_their_moments(void) {
    enum { N = 200000 };
    float *x = malloc(N * sizeof *x);
    LK_REQUIRE(x != NULL);
    lk_rng_normal(x, N, 2.0f, 1, 0);
    double mean = 0, square = 0, fourth = 0;
    for (int i = 0; i < N; i++) {
        double t = (double)x[i] / 2.0;
        mean += t, square += t * t, fourth += t * t * t * t;
    }
    LK_CHECK_NEAR(mean / N, 0, 5 / sqrt(N));
    LK_CHECK_NEAR(square / N, 1, 5 * sqrt(2.0 / N));
    LK_CHECK_NEAR(fourth / N, 3, 5 * sqrt(96.0 / N));
    float first = x[0];
    lk_rng_normal(x, N, 2.0f, 1, 1);
    LK_CHECK(x[0] != first); /* another tensor, other numbers */
    free(x);
}

static void shuffle_equals_the_python_twin(void) {
    static const uint32_t want[10] = {9, 0, 7, 3, 6, 1, 4, 2, 8, 5};
    uint32_t order[10];
    lk_rng_shuffle(order, 10, 42, 3);
    for (int i = 0; i < 10; i++)
        LK_CHECK_INT(order[i], want[i]);
    lk_rng_shuffle(order, 1, 42, 3);
    LK_CHECK_INT(order[0], 0);
    lk_rng_shuffle(order, 0, 42, 3); /* nothing, and no crash */
}

static void shuffle_is_a_fair_permutation(void) {
    enum { N = 5, EPOCHS = 20000 };
    int at[N][N] = {{0}};
    for (uint32_t epoch = 0; epoch < EPOCHS; epoch++) {
        uint32_t order[N], seen = 0;
        lk_rng_shuffle(order, N, 1, epoch);
        for (int i = 0; i < N; i++) {
            seen |= 1u << order[i];
            at[i][order[i]]++;
        }
        LK_REQUIRE(seen == (1u << N) - 1);
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            LK_CHECK_NEAR(at[i][j], (double)EPOCHS / N, 5 * sqrt((double)EPOCHS / N));
}

static const struct lk_case cases[] = {
    LK_CASE(philox_equals_random123),           LK_CASE(convention_places_index_stream_and_draw),
    LK_CASE(uniform_is_exact_and_below_one),    LK_CASE(weights_equal_the_python_twin),
    LK_CASE(normal_numbers_have_their_moments), LK_CASE(shuffle_equals_the_python_twin),
    LK_CASE(shuffle_is_a_fair_permutation),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
