/* Do the stages that a block of GPU threads runs give the CPU's views, bit for bit? The block is played by a loop over
 * its threads between barriers. */
#include <stdlib.h>

#include "check.h"
#include "cuda/augment_block.h"
#include "image/augment.h"

enum { THREADS = 7 }; /* any number must do */

static void play_block(float *out, float *planes, const uint8_t *pixels, int width, int height,
                       const struct lk_augment *a, uint64_t seed, uint32_t epoch, uint64_t image, int view) {
    int n = a->size * a->size;
    struct lk_block b;
    lk_block_draw(&b, a, width, height, seed, epoch, image, view);
    for (int t = 0; t < THREADS; t++) {
        lk_block_crop(planes, &b.view, a->size, pixels, width, t, THREADS);
    }
    for (int i = 0; i < 4; i++) {
        for (int t = 0; t < THREADS && b.view.op[i] == LK_JITTER_CONTRAST; t++) {
            b.luma += lk_block_luma(planes, n, t, THREADS);
        }
        for (int t = 0; t < THREADS; t++) {
            lk_block_jitter(planes, n, &b, b.view.op[i], t, THREADS);
        }
    }
    for (int t = 0; t < THREADS && b.view.grey; t++) {
        lk_block_grey(planes, n, t, THREADS);
    }
    for (int c = 0; c < 3 && b.view.blur_radius > 0; c++) {
        for (int t = 0; t < THREADS; t++) {
            lk_block_blur(planes + 3 * n, planes + c * n, 0, a->size, &b, t, THREADS);
        }
        for (int t = 0; t < THREADS; t++) {
            lk_block_blur(planes + c * n, planes + 3 * n, 1, a->size, &b, t, THREADS);
        }
    }
    for (int i = 0; i < n; i++) {
        struct lk_rgb p = lk_block_finish(planes, n, i, &b, a);
        out[i] = p.r;
        out[n + i] = p.g;
        out[2 * n + i] = p.b;
    }
}

/* Views of `images` random pictures whose block and CPU results differ in any bit. */
static int different_views(const struct lk_augment *a, int width, int height, int images) {
    size_t n = (size_t)a->size * (size_t)a->size, source = (size_t)width * (size_t)height * 3;
    float *cpu = malloc(3 * n * sizeof *cpu), *block = malloc(3 * n * sizeof *block);
    float *planes = malloc(4 * n * sizeof *planes), *scratch = malloc(lk_augment_scratch(a) * sizeof *scratch);
    uint8_t *pixels = malloc(source);
    int different = 0;
    if (cpu && block && planes && scratch && pixels) {
        for (int image = 0; image < images; image++) {
            for (size_t i = 0; i < source; i++) {
                pixels[i] = (uint8_t)(lk_rng(9, i, LK_RNG_TEST, (uint32_t)image, 0).v[0] >> 24);
            }
            for (int view = 0; view < 2; view++) {
                lk_augment_view(cpu, pixels, width, height, a, 42, 3, (uint64_t)image, view, scratch);
                play_block(block, planes, pixels, width, height, a, 42, 3, (uint64_t)image, view);
                different += memcmp(cpu, block, 3 * n * sizeof *cpu) != 0;
            }
        }
    } else {
        different = -1;
    }
    free(cpu), free(block), free(planes), free(scratch), free(pixels);
    return different;
}

static void small_pictures_enlarged(void) {
    struct lk_augment a = lk_augment_default(32);
    LK_CHECK_INT(different_views(&a, 32, 32, 200), 0);
}

static void large_pictures_shrunk(void) {
    struct lk_augment a = lk_augment_default(24);
    LK_CHECK_INT(different_views(&a, 301, 199, 12), 0);
}

static void blurred_and_solarized(void) {
    struct lk_augment a = lk_augment_default(40);
    a.blur_p = 1, a.solarize_p = 0.5f, a.grey_p = 0.5f;
    LK_CHECK_INT(different_views(&a, 48, 32, 60), 0);
}

static void the_smallest_size(void) {
    struct lk_augment a = lk_augment_default(2);
    a.blur_p = 1;
    LK_CHECK_INT(different_views(&a, 5, 3, 60), 0);
}

static const struct lk_case cases[] = {LK_CASE(small_pictures_enlarged), LK_CASE(large_pictures_shrunk),
                                       LK_CASE(blurred_and_solarized), LK_CASE(the_smallest_size)};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
