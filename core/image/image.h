/* An 8-bit RGB picture in memory: HWC, rows without padding, sRGB values as stored. */
#ifndef LK_IMAGE_IMAGE_H
#define LK_IMAGE_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"

struct lk_image {
    uint8_t *pixels; /* [height][width][3], owned, or the arena's */
    int width, height;
    struct lk_arena *arena; /* NULL: none */
};

int lk_image_alloc(struct lk_image *image, int width, int height); /* LK_ENOMEM; 1..65535 a side */
void lk_image_free(struct lk_image *image);                        /* accepts a zeroed one */

#endif
