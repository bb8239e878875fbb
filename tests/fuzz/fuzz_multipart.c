/* A multipart body: fed in pieces it gives what it gives fed whole. The input's first line is the Content-Type, the
 * second byte after it says how large the pieces are. */
#include "fuzz.h"

#include "base/buf.h"
#include "server/multipart.h"

static int begin(void *arg, const struct lk_part *part) {
    struct lk_buf *out = arg;
    return lk_buf_printf(out, "<%s|%s|%s>", part->name, part->file_name ? part->file_name : "-",
                         part->type ? part->type : "-");
}

static int data_of(void *arg, const void *bytes, size_t n) { return lk_buf_append(arg, bytes, n); }

static int end_of(void *arg) { return lk_buf_append(arg, "</>", 3); }

/* Everything that was reported, and how it ended. */
static int parse(struct lk_buf *out, const char *type, const uint8_t *body, size_t size, size_t piece) {
    const struct lk_multipart_events events = {.begin = begin, .data = data_of, .end = end_of, .arg = out};
    struct lk_multipart m = {0};
    int rc = lk_multipart_open(&m, type, &events);
    for (size_t at = 0; rc == 0 && at < size; at += piece)
        rc = lk_multipart_feed(&m, body + at, size - at < piece ? size - at : piece);
    if (rc == 0)
        rc = lk_multipart_finish(&m);
    lk_multipart_close(&m);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *line = memchr(data, '\n', size);
    if (line == NULL || (size_t)(line - data) + 1 >= size)
        return 0;
    char *type = fuzz_text(data, (size_t)(line - data));
    const size_t piece = 1 + line[1] % 64;
    const uint8_t *body = line + 2;
    const size_t n = size - (size_t)(body - data);
    struct lk_buf whole = {0}, pieces = {0};
    int rc = parse(&whole, type, body, n, n ? n : 1), other = parse(&pieces, type, body, n, piece);
    fuzz_check(rc == other, "pieces end as the whole does");
    fuzz_check(rc != 0 ||
                   (whole.size == pieces.size && (whole.size == 0 || memcmp(whole.data, pieces.data, whole.size) == 0)),
               "pieces give what the whole gives");
    lk_buf_free(&whole);
    lk_buf_free(&pieces);
    free(type);
    return 0;
}
