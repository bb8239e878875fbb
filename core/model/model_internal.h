/* What loading and saving a model file share. Nobody outside core/model includes it. */
#ifndef LK_MODEL_MODEL_INTERNAL_H
#define LK_MODEL_MODEL_INTERNAL_H

#include "model/model.h"

/* What the fingerprint is taken over. resize and image size are in it because they change every vector. */
struct lk_model__identity {
    const struct lk_arch *arch;
    const struct lk_net *net; /* the backbone's nodes are read */
    const float *params, *stats;
    const float *mean, *std; /* [3] */
    int resize;
};

/* SHA-256 over a line of text (architecture, stem, width, image size, resize, mean, std, preprocessing version) and,
 * in order of name, every tensor as name, NUL, number of dimensions, dimensions, and float32 little-endian. */
int lk_model__fingerprint(const struct lk_model__identity *id, uint8_t digest[32]);

/* "0.485,0.456,0.406" with as many digits as a float needs to come back. */
void lk_model__print3(const float v[3], char text[64]);

#endif
