/* Base64 (RFC 4648, standard alphabet) and data URIs (RFC 2397), for pictures inside JSON. Pure functions. */
#ifndef LK_SERVER_BASE64_H
#define LK_SERVER_BASE64_H

#include <stddef.h>

#include "base/buf.h"

/* Appends the decoded bytes. Padding may be missing; blanks and line ends are skipped; all else that is not of the
 * alphabet, a lone last character, and bits set beyond the last byte are LK_EINVAL. On failure `out` is as before. */
int lk_base64_decode(struct lk_buf *out, const char *text, size_t n);

/* The text is base64, or "data:[type][;parameter];base64,BASE64". LK_EINVAL with the reason. */
int lk_base64_picture(struct lk_buf *out, const char *text, size_t n);

#endif
