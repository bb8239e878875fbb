#include "tar.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"

#define BLOCK 512
#define NAME_MAX_USTAR 100

static int block(struct lk_buf *out, const char *name, uint64_t size, int64_t time, char type) {
    char h[BLOCK] = {0};
    memcpy(h, name, strnlen(name, NAME_MAX_USTAR));
    snprintf(h + 100, 8, "%07o", 0644U);
    snprintf(h + 108, 8, "%07o", 0U); /* owner */
    snprintf(h + 116, 8, "%07o", 0U); /* group */
    snprintf(h + 124, 12, "%011llo", (unsigned long long)size);
    snprintf(h + 136, 12, "%011llo", (unsigned long long)time & 077777777777ULL);
    h[156] = type;
    memcpy(h + 257, "ustar", 6);
    h[263] = h[264] = '0';
    memset(h + 148, ' ', 8); /* the checksum counts itself as blanks */
    unsigned sum = 0;
    for (size_t i = 0; i < BLOCK; i++)
        sum += (unsigned char)h[i];
    snprintf(h + 148, 8, "%06o", sum);
    h[155] = ' ';
    return lk_buf_append(out, h, BLOCK);
}

/* "LENGTH path=NAME\n", where LENGTH counts the whole line, itself included. */
static size_t pax_length(const char *name) {
    size_t rest = strlen(" path=\n") + strlen(name);
    size_t length = rest + 1;
    for (;;) {
        size_t digits = (size_t)snprintf(NULL, 0, "%zu", length);
        if (rest + digits == length)
            return length;
        length = rest + digits;
    }
}

int lk_tar_header(struct lk_buf *out, const char *name, uint64_t size, int64_t unix_seconds) {
    if (size > 077777777777ULL)
        return lk_err(LK_EINVAL, "a file of %llu bytes does not fit a tar", (unsigned long long)size);
    int64_t time = unix_seconds < 0 ? 0 : unix_seconds;
    if (strlen(name) > NAME_MAX_USTAR) {
        size_t length = pax_length(name);
        int rc;
        if ((rc = block(out, "pax", length, time, 'x')) || (rc = lk_buf_printf(out, "%zu path=%s\n", length, name)) ||
            (rc = lk_tar_padding(out, length)))
            return rc;
    }
    return block(out, name, size, time, '0');
}

int lk_tar_padding(struct lk_buf *out, uint64_t size) {
    static const char zeros[BLOCK];
    size_t rest = (size_t)(size % BLOCK);
    return rest ? lk_buf_append(out, zeros, BLOCK - rest) : 0;
}

int lk_tar_end(struct lk_buf *out) {
    static const char zeros[2 * BLOCK];
    return lk_buf_append(out, zeros, sizeof zeros);
}
