/* Writing tar: POSIX ustar headers, and a pax record where a name is longer than ustar's 100 bytes (IEEE Std 1003.1,
 * pax). Appends to a buffer; no files are touched. */
#ifndef LK_SERVER_TAR_H
#define LK_SERVER_TAR_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Header (512 bytes, or 1,536 and more with a pax record) of a regular file, mode 0644. LK_EINVAL for a size above
 * ustar's 8 GiB - 1. */
int lk_tar_header(struct lk_buf *out, const char *name, uint64_t size, int64_t unix_seconds);
/* Zeros that fill the last block of a file of `size` bytes. */
int lk_tar_padding(struct lk_buf *out, uint64_t size);
/* The two zero blocks at the end. */
int lk_tar_end(struct lk_buf *out);

#endif
