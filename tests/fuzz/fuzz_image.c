/* Pictures: whatever the codec makes of the bytes, the header's size and the pixels' have to agree, and what was decoded
 * can be encoded and comes back the same. Built twice, for a corpus of PNG and one of JPEG files. */
#include "fuzz.h"

#include "base/buf.h"
#include "image/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct lk_decode_limits limits = {.max_pixels = 256 * 256},
                                  scaled = {.max_pixels = 256 * 256, .scaled_side = 8};
    struct lk_image_info info;
    struct lk_image image = {0}, again = {0};
    struct lk_buf png = {0};
    int header = lk_decode_info(&info, data, size);
    int rc = lk_decode(&image, data, size, &limits);
    fuzz_check(rc == 0 || image.pixels == NULL, "a failure leaves no pixels");
    fuzz_check(rc != 0 || header == 0, "what decodes has a header");
    if (rc == 0) {
        fuzz_check(image.width == info.width && image.height == info.height, "header and picture have one size");
        fuzz_check(lk_encode_png(&png, &image) == 0, "a picture can be encoded");
        fuzz_check(lk_decode(&again, png.data, png.size, &limits) == 0, "and decoded");
        fuzz_check(again.width == image.width && again.height == image.height &&
                       memcmp(again.pixels, image.pixels, 3 * (size_t)image.width * (size_t)image.height) == 0,
                   "and is the same");
    }
    lk_image_free(&again);
    lk_image_free(&image);
    lk_buf_free(&png);
    rc = lk_decode(&image, data, size, &scaled);
    fuzz_check(rc != 0 || (image.width <= info.width && image.height <= info.height), "scaled is not larger");
    lk_image_free(&image);
    return 0;
}
