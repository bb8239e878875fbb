/* SHA-256 (FIPS 180-4): names of images, spaces and data sets. */
#ifndef LK_BASE_SHA256_H
#define LK_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct lk_sha256 {
    uint32_t state[8];
    uint64_t length;
    uint8_t block[64];
};

void lk_sha256_init(struct lk_sha256 *s);
void lk_sha256_update(struct lk_sha256 *s, const void *bytes, size_t n);
void lk_sha256_final(struct lk_sha256 *s, uint8_t digest[32]);
void lk_sha256_hex(const uint8_t digest[32], char hex[65]); /* lower case, NUL-terminated */

#endif
