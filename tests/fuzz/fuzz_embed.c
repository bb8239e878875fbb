/* The JSON body of POST /embed, and metadata: either a fault, or pictures within the limit; metadata that was taken is
 * taken again, unchanged. */
#include "fuzz.h"

#include "base/buf.h"
#include "server/pictures.h"

enum { MAX_PICTURES = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct lk_config config = {.max_json_values = 2000, .max_metadata_bytes = 1 << 16};
    struct lk_server server = {.config = &config};
    struct lk_pictures pictures = {0};
    struct lk_buf body = {0}, once = {0}, twice = {0};
    struct lk_fault f = {0};
    fuzz_check(lk_buf_append(&body, data, size) == 0, "memory");
    int rc = lk_pictures_json(&pictures, &body, 2000, MAX_PICTURES, &f);
    fuzz_check((rc == 0) == (f.error == LK_API_OK), "a refusal has a fault, and only a refusal");
    fuzz_check(rc != 0 || (pictures.count >= 1 && pictures.count <= MAX_PICTURES), "as many pictures as are allowed");
    lk_pictures_free(&pictures);

    char *text = fuzz_text(data, size);
    if (lk_check_metadata(&server, text, size, &once, &f) == 0) {
        rc = lk_check_metadata(&server, (const char *)once.data, once.size - 1, &twice, &f);
        fuzz_check(rc == 0 && once.size == twice.size && memcmp(once.data, twice.data, once.size) == 0,
                   "metadata that was taken is taken again, unchanged");
    }
    free(text);
    lk_buf_free(&once);
    lk_buf_free(&twice);
    return 0;
}
