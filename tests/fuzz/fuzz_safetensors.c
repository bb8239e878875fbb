/* A safetensors file, as tensors and as a model. The tensors that were taken lie inside of the file. */
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "model/model.h"

static void check_tensors(const struct lk_safetensors *st) {
    for (size_t i = 0; i < st->n_tensors; i++) {
        const struct lk_st_tensor *t = &st->tensors[i];
        fuzz_check(t->data >= st->map.data && t->bytes <= st->map.size &&
                       (size_t)(t->data - st->map.data) <= st->map.size - t->bytes,
                   "a tensor lies in the file");
        fuzz_check(lk_safetensors_find(st, t->name) == t, "and is found by its name");
        float *values = t->count <= 1 << 16 ? malloc((t->count + 1) * sizeof *values) : NULL;
        if (values)
            (void)lk_safetensors_to_float(t, values);
        free(values);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    struct lk_safetensors st = {0};
    struct lk_model model = {0};
    int fd = memfd_create("fuzz", 0);
    fuzz_check(fd >= 0 && write(fd, data, size) == (ssize_t)size, "a file in memory");
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (lk_safetensors_open(&st, path) == 0)
        check_tensors(&st);
    lk_safetensors_close(&st);
    (void)lk_model_load(&model, path, 0);
    lk_model_free(&model);
    (void)close(fd);
    return 0;
}
