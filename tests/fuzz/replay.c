/* Runs a fuzz target over files and folders without a fuzzer: every input as it is, cut at some places, and with bytes
 * changed; the same changes every time. `replay [--changes N] PATH...` names each input before it runs. */
#include "base/err.h"
#include "base/fs.h"
#include "base/rng.h"
#include "fuzz.h"

static long changes = 100, inputs, runs;

static void run(const uint8_t *bytes, size_t n) {
    uint8_t *exact = malloc(n ? n : 1); /* its own block: the sanitizer sees the end */
    if (exact == NULL)
        abort();
    if (n)
        memcpy(exact, bytes, n);
    (void)LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    runs++;
}

static void run_changed(const struct lk_buf *input) {
    static const char special[] = "\0\xff\"\\{}[]%&=,:-0\n";
    uint8_t *copy = malloc(input->size);
    if (copy == NULL)
        abort();
    for (long c = 0; c < changes; c++) {
        struct lk_philox r = lk_rng(1, (uint64_t)c, LK_RNG_TEST, (uint32_t)input->size & 0xFFFFFF, 0);
        size_t n = c % 4 == 0 ? r.v[0] % input->size : input->size;
        memcpy(copy, input->data, input->size);
        for (uint32_t i = 0; i <= r.v[1] % 3 && n; i++) {
            struct lk_philox w = lk_rng(2, (uint64_t)c, LK_RNG_TEST, i, 0);
            copy[w.v[0] % n] = w.v[1] % 3 == 0 ? (uint8_t)special[w.v[2] % (sizeof special - 1)] : (uint8_t)w.v[2];
        }
        run(copy, n);
    }
    free(copy);
}

static int replay(const char *path) {
    struct lk_buf input = {0};
    int rc = lk_fs_read(&input, path, 0);
    if (rc == 0) {
        printf("%s\n", path);
        fflush(stdout);
        run(input.data, input.size);
        if (input.size)
            run_changed(&input);
        inputs++;
    }
    lk_buf_free(&input);
    return rc;
}

static int replay_all(const char *path) {
    struct lk_fs_list list = {0};
    if (!lk_fs_is_folder(path))
        return replay(path);
    int rc = lk_fs_walk(&list, path);
    for (size_t i = 0; rc == 0 && i < list.count; i++) {
        struct lk_buf inner = {0};
        if ((rc = lk_buf_printf(&inner, "%s/%s", path, list.paths[i])) == 0)
            rc = replay((const char *)inner.data);
        lk_buf_free(&inner);
    }
    lk_fs_list_free(&list);
    return rc;
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--changes") == 0 && i + 1 < argc) {
            changes = strtol(argv[++i], NULL, 10);
        } else if (replay_all(argv[i])) {
            fprintf(stderr, "%s\n", lk_error());
            return 1;
        }
    }
    printf("%ld inputs, %ld runs\n", inputs, runs);
    return inputs == 0; /* an empty corpus proves nothing */
}
