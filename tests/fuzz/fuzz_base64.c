/* Base64 and data URIs: a refusal leaves the buffer as it was, and what was decoded is never longer than the text. */
#include "fuzz.h"

#include "server/base64.h"

typedef int decoder(struct lk_buf *out, const char *text, size_t n);

static void check(decoder *decode, const char *text, size_t n) {
    struct lk_buf out = {0};
    fuzz_check(lk_buf_append(&out, "before", 6) == 0, "memory");
    int rc = decode(&out, text, n);
    fuzz_check(rc == 0 || out.size == 6, "a refusal adds nothing");
    fuzz_check(memcmp(out.data, "before", 6) == 0 && out.size - 6 <= n / 4 * 3 + 3, "no more than there is");
    lk_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = fuzz_text(data, size);
    check(lk_base64_decode, text, size);
    check(lk_base64_picture, text, size);
    free(text);
    return 0;
}
