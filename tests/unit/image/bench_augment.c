/* Views a second on one core: bench_augment FILE.jpg [SIZE] [BLUR_P]. Not run by ctest. */
#include <time.h>

#include "image/augment.h"
#include "image/decode.h"
#include "pictures.h"

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv) {
    struct lk_buf file = {0};
    struct lk_image image;
    if (argc < 2 || lk_fs_read(&file, argv[1], 0) != 0 || lk_decode(&image, file.data, file.size, NULL) != 0) {
        printf("bench_augment FILE [SIZE] [BLUR_P]\n%s\n", lk_error());
        return 1;
    }
    struct lk_augment a = lk_augment_default(argc > 2 ? atoi(argv[2]) : 32);
    a.blur_p = argc > 3 ? strtof(argv[3], NULL) : 0;
    if (lk_augment_check(&a) != 0) {
        printf("%s\n", lk_error());
        return 1;
    }
    float *out = lk_calloc_aligned(3 * (size_t)a.size * (size_t)a.size, sizeof *out);
    float *scratch = lk_calloc_aligned(lk_augment_scratch(&a), sizeof *scratch);
    if (out != NULL && scratch != NULL) {
        uint64_t n = 0;
        double start = cpu_seconds(), took;
        do {
            for (int i = 0; i < 100; i++, n++)
                lk_augment_view(out, image.pixels, image.width, image.height, &a, 1, 0, n, 0, scratch);
            took = cpu_seconds() - start;
        } while (took < 1);
        printf("%d x %d to %d: %.0f views/s a core, %.1f us a view\n", image.width, image.height, a.size,
               (double)n / took, took / (double)n * 1e6);
    }
    free(out);
    free(scratch);
    lk_image_free(&image);
    lk_buf_free(&file);
    return 0;
}
