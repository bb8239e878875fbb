/* Do buffers and allocations keep their content and refuse what cannot be? */
#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "check.h"

static void content_survives_growth(void) {
    struct lk_buf b = {0};
    for (int i = 0; i < 10000; i++) {
        uint8_t two[2] = {(uint8_t)i, (uint8_t)(i >> 8)};
        LK_REQUIRE(lk_buf_append(&b, two, 2) == 0);
    }
    LK_CHECK_INT(b.size, 20000);
    LK_CHECK(b.capacity >= b.size);
    for (int i = 0; i < 10000; i++)
        LK_REQUIRE(b.data[2 * i] == (uint8_t)i && b.data[2 * i + 1] == (uint8_t)(i >> 8));
    uint8_t *kept = b.data;
    lk_buf_clear(&b);
    LK_CHECK_INT(b.size, 0);
    LK_CHECK(b.data == kept);
    LK_CHECK_INT(lk_buf_append(&b, NULL, 0), 0);
    lk_buf_free(&b);
    LK_CHECK(b.data == NULL && b.capacity == 0);
    lk_buf_free(&b);
}

static void printf_appends_and_ends_with_a_nul(void) {
    struct lk_buf b = {0};
    LK_REQUIRE(lk_buf_printf(&b, "%s=%d", "a", 1) == 0 && lk_buf_printf(&b, "; %s=%05.1f", "b", 2.5) == 0);
    LK_CHECK_INT(b.size, 12);
    LK_CHECK_STR((const char *)b.data, "a=1; b=002.5");
    lk_buf_free(&b);
}

static void impossible_sizes_are_refused_and_the_content_stays(void) {
    struct lk_buf b = {0};
    LK_REQUIRE(lk_buf_append(&b, "kept", 4) == 0);
    LK_CHECK_INT(lk_buf_append(&b, "x", SIZE_MAX - 1), LK_ENOMEM);
    LK_CHECK(b.size == 4 && memcmp(b.data, "kept", 4) == 0);
    LK_CHECK(lk_calloc_aligned(SIZE_MAX / 2, 4) == NULL);
    LK_CHECK(strlen(lk_error()) > 0);
    lk_buf_free(&b);
}

static void aligned_memory_is_zeroed_and_aligned(void) {
    for (size_t n = 0; n < 300; n += 17) {
        unsigned char *p = lk_calloc_aligned(n, 3);
        LK_REQUIRE(p != NULL);
        LK_CHECK_INT((uintptr_t)p % 64, 0);
        for (size_t i = 0; i < n * 3; i++)
            LK_REQUIRE(p[i] == 0);
        free(p);
    }
    void *nothing = lk_calloc(0, 8);
    LK_CHECK(nothing != NULL); /* NULL means failure only */
    free(nothing);
    char *copy = lk_strdup("text");
    LK_CHECK_STR(copy, "text");
    free(copy);
}

static const struct lk_case cases[] = {
    LK_CASE(content_survives_growth),
    LK_CASE(printf_appends_and_ends_with_a_nul),
    LK_CASE(impossible_sizes_are_refused_and_the_content_stays),
    LK_CASE(aligned_memory_is_zeroed_and_aligned),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
