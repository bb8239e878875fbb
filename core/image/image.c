/* The picture's memory and its orientation. */
#include "image/image.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "image/image_internal.h"

int lk_image_alloc(struct lk_image *image, int width, int height) {
    *image = (struct lk_image){0};
    return lk_image__alloc(image, width, height);
}

int lk_image__alloc(struct lk_image *image, int width, int height) {
    if (width < 1 || height < 1 || width > LK_IMAGE__MAX_SIDE || height > LK_IMAGE__MAX_SIDE)
        return lk_err(LK_EINVAL, "a picture of %d x %d pixels; sides are 1 to %d", width, height, LK_IMAGE__MAX_SIDE);
    /* not zeroed: every decoder and resizer writes all of it, and pages are touched once */
    const size_t bytes = (size_t)width * (size_t)height * 3;
    uint8_t *pixels = image->arena ? lk_arena_take(image->arena, bytes, 1) : malloc(bytes);
    if (pixels == NULL)
        return lk_err(LK_ENOMEM, "out of memory for a picture of %d x %d pixels", width, height);
    *image = (struct lk_image){pixels, width, height, image->arena};
    return 0;
}

void lk_image_free(struct lk_image *image) {
    lk_arena_drop(image->arena, image->pixels);
    *image = (struct lk_image){0};
}

static void swap_pixels(uint8_t *a, uint8_t *b) {
    uint8_t t[3];
    memcpy(t, a, 3);
    memcpy(a, b, 3);
    memcpy(b, t, 3);
}

static void mirror_rows(struct lk_image *image) {
    for (int y = 0; y < image->height; y++) {
        uint8_t *row = image->pixels + (size_t)y * (size_t)image->width * 3;
        for (int a = 0, b = image->width - 1; a < b; a++, b--)
            swap_pixels(row + 3 * a, row + 3 * b);
    }
}

static void turn_half(struct lk_image *image) {
    uint8_t *a = image->pixels, *b = a + ((size_t)image->width * (size_t)image->height - 1) * 3;
    for (; a < b; a += 3, b -= 3)
        swap_pixels(a, b);
}

static int transpose(struct lk_image *image) {
    struct lk_image out = {.arena = image->arena};
    if (lk_image__alloc(&out, image->height, image->width) != 0 || out.pixels == NULL)
        return LK_ENOMEM;
    enum { BLOCK = 32 }; /* so that the columns read stay in the cache */
    for (int y0 = 0; y0 < image->height; y0 += BLOCK)
        for (int x0 = 0; x0 < image->width; x0 += BLOCK)
            for (int x = x0; x < x0 + BLOCK && x < image->width; x++)
                for (int y = y0; y < y0 + BLOCK && y < image->height; y++)
                    memcpy(out.pixels + ((size_t)x * (size_t)out.width + (size_t)y) * 3,
                           image->pixels + ((size_t)y * (size_t)image->width + (size_t)x) * 3, 3);
    lk_image_free(image);
    *image = out;
    return 0;
}

/* Orientation names where the stored row 0 and column 0 lie in the upright picture (EXIF 2.32, tag 0x0112). */
int lk_image__orient(struct lk_image *image, int orientation) {
    if (orientation >= 5 && orientation <= 8) {
        int rc = transpose(image); /* 5 is the transpose itself */
        if (rc != 0)
            return rc;
    }
    switch (orientation) {
    case 2: /* mirrored left to right */
    case 6: /* to be turned a quarter clockwise */ mirror_rows(image); break;
    case 3:
    case 7: /* mirrored along the other diagonal */ turn_half(image); break;
    case 4: /* mirrored top to bottom */
    case 8: /* to be turned a quarter counter-clockwise */
        turn_half(image);
        mirror_rows(image);
        break;
    default: break;
    }
    return 0;
}
