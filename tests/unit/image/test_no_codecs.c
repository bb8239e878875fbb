/* Does a build without codecs say so instead of decoding? */
#include "base/buf.h"
#include "base/err.h"
#include "check.h"
#include "image/decode.h"

static void pictures_are_unsupported(void) {
    struct lk_image image;
    struct lk_image_info info;
    struct lk_buf out = {0};
    LK_CHECK_INT(lk_decode(&image, "\x89PNG\r\n\x1a\n", 8, NULL), LK_EUNSUPPORTED);
    LK_CHECK_HOLDS(lk_error(), "no PNG codec");
    LK_CHECK_INT(lk_decode(&image, "\xFF\xD8\xFF\xE0", 4, NULL), LK_EUNSUPPORTED);
    LK_CHECK_INT(lk_decode_info(&info, "\xFF\xD8\xFF\xE0", 4), LK_EUNSUPPORTED);
    LK_CHECK_INT(lk_decode(&image, "text", 4, NULL), LK_EFORMAT);
    uint8_t pixel[3] = {0};
    LK_CHECK_INT(lk_encode_png(&out, &(struct lk_image){pixel, 1, 1}), LK_EUNSUPPORTED);
}

static const struct lk_case cases[] = {LK_CASE(pictures_are_unsupported)};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
