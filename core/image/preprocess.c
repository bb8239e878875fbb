/* torchvision's Resize(side) and CenterCrop(size), in its integer arithmetic (transforms/functional.py). */
#include "image/preprocess.h"

#include <string.h>

#include "base/err.h"
#include "image/image_internal.h"

/* Half of an odd difference goes to the even neighbour, as Python's round() has it. */
static int half(int difference) {
    int h = difference / 2;
    return difference % 2 != 0 && h % 2 != 0 ? h + 1 : h;
}

int lk_preprocess(uint8_t *out, const struct lk_image *in, int resize, int size) {
    if (size < 1 || resize < size || resize > LK_IMAGE__MAX_SIDE)
        return lk_err(LK_EINVAL, "a centre square of %d from a picture whose short side is %d", size, resize);
    if (in->width < 1 || in->height < 1)
        return lk_err(LK_EINVAL, "an empty picture");
    if (in->width == size && in->height == size) {
        memcpy(out, in->pixels, (size_t)size * (size_t)size * 3);
        return 0;
    }
    /* the long side is cut to whole pixels, so it fits: 65535 * 65535 / 1 overflows an int, and the window does not
     * need more of it than its middle, but positions along it must be ints */
    const int wide = in->width >= in->height;
    const int64_t short_side = wide ? in->height : in->width, long_side = wide ? in->width : in->height;
    const int64_t resized = (int64_t)resize * long_side / short_side;
    if (resized > INT32_MAX)
        return lk_err(LK_ELIMIT, "a picture of %d x %d pixels is too thin to be resized to %d", in->width, in->height,
                      resize);
    struct lk_window v = {.full_w = wide ? (int)resized : resize, .full_h = wide ? resize : (int)resized};
    v.w = v.h = size;
    v.x0 = half(v.full_w - size);
    v.y0 = half(v.full_h - size);
    return lk_image__resample(out, in, &v);
}

int lk_preprocess_resize_side(int size) { return size < 64 ? size : (size * 8 + 3) / 7; }
