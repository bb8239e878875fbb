/* Does an arena give zeroed memory that does not overlap, take it back at once, and serve again from what it kept? */
#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>

#include "base/err.h"
#include "check.h"

static void pieces_are_zeroed_aligned_and_apart(void) {
    struct lk_arena a = {0};
    for (int round = 0; round < 3; round++) {
        unsigned char *pieces[300];
        size_t sizes[300];
        for (size_t i = 0; i < 300; i++) {
            const size_t n = sizes[i] = i * i % 997 + (i == 100 ? 50000 : i == 200 ? LK_ARENA_PIECE : 0);
            pieces[i] = lk_arena_take(&a, n, 1);
            LK_REQUIRE(pieces[i] != NULL);
            LK_CHECK_INT((uintptr_t)pieces[i] % 16, 0);
            for (size_t k = 0; k < n; k++)
                LK_REQUIRE(pieces[i][k] == 0);
            memset(pieces[i], (int)i % 255 + 1, n);
        }
        for (size_t i = 0; i < 300; i++)
            for (size_t k = 0; k < sizes[i]; k++)
                LK_REQUIRE(pieces[i][k] == i % 255 + 1);
        lk_arena_reset(&a, 1 << 20);
    }
    lk_arena_close(&a);
    LK_CHECK(a.first == NULL && a.current == NULL && a.large == NULL);
}

static void what_was_kept_is_used_again_and_no_more_is_kept_than_asked_for(void) {
    struct lk_arena a = {0};
    LK_CHECK(lk_arena_take(&a, 100, 1) != NULL && lk_arena_take(&a, 100000, 1) != NULL);
    const struct lk_arena_block *first = a.first;
    lk_arena_reset(&a, 20000);
    LK_CHECK(a.current == NULL && a.large == NULL);
    LK_CHECK(lk_arena_take(&a, 100, 1) != NULL);
    if (LK_ARENA_KEEPS)
        LK_CHECK(a.first == first && a.current == first);
    LK_CHECK(lk_arena_take(&a, 20001, 1) != NULL);
    lk_arena_reset(&a, 0);
    LK_CHECK(a.first == NULL);
}

/* However its requests alternate, an arena comes to the blocks that they need. */
static void a_block_that_fits_is_found_behind_those_that_do_not(void) {
    struct lk_arena a = {0};
    LK_CHECK(lk_arena_take(&a, 6000, 1) && lk_arena_take(&a, 6000, 1));
    const void *large = lk_arena_take(&a, 100000, 1);
    lk_arena_reset(&a, 1 << 20);
    LK_CHECK(lk_arena_take(&a, 6000, 1) != NULL);
    const void *again = lk_arena_take(&a, 100000, 1); /* the second block is too small for it */
    if (LK_ARENA_KEEPS)
        LK_CHECK(again == large);
    lk_arena_close(&a);
}

static void a_large_piece_is_given_back_when_it_is_dropped_and_never_kept(void) {
    struct lk_arena a = {0};
    void *small = lk_arena_take(&a, 10, 1), *one = lk_arena_take(&a, LK_ARENA_PIECE + 1, 1),
         *other = lk_arena_take(&a, LK_ARENA_PIECE, 4);
    LK_CHECK(small && one && other && a.large);
    lk_arena_drop(&a, one);
    lk_arena_drop(&a, NULL);
    memset(other, 1, (size_t)LK_ARENA_PIECE * 4);
    lk_arena_drop(&a, other);
    lk_arena_drop(&a, small);
    LK_CHECK(a.large == NULL);
    LK_CHECK(lk_arena_take(&a, LK_ARENA_PIECE + 1, 1) != NULL);
    lk_arena_reset(&a, SIZE_MAX);
    LK_CHECK(a.large == NULL);
    lk_arena_close(&a);
}

static void texts_are_copied_and_too_much_is_no_memory(void) {
    struct lk_arena a = {0};
    const char *text = lk_arena_strdup(&a, "photos/a.png");
    LK_CHECK_STR(text, "photos/a.png");
    LK_CHECK(lk_arena_take(&a, SIZE_MAX / 2, 4) == NULL);
    LK_CHECK(lk_arena_take(&a, SIZE_MAX - 10, 1) == NULL);
    LK_CHECK_HOLDS(lk_error(), "out of memory");
    lk_arena_close(&a);
    void *alone = lk_arena_take(NULL, 3, 5);
    LK_CHECK(alone != NULL);
    lk_arena_drop(NULL, alone);
}

static const struct lk_case cases[] = {
    LK_CASE(pieces_are_zeroed_aligned_and_apart),
    LK_CASE(what_was_kept_is_used_again_and_no_more_is_kept_than_asked_for),
    LK_CASE(a_block_that_fits_is_found_behind_those_that_do_not),
    LK_CASE(a_large_piece_is_given_back_when_it_is_dropped_and_never_kept),
    LK_CASE(texts_are_copied_and_too_much_is_no_memory),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
