/* A build without libcurl. */
#include <string.h>

#include "base/err.h"
#include "remote.h"

static int absent(void) {
    return lk_err(LK_EUNSUPPORTED, "this build speaks to no server: it was made without libcurl");
}

int lk_remote_is_url(const char *text) { return strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0; }

int lk_remote_open(struct lk_remote **out, const char *url, const struct lk_remote_options *options) {
    (void)url, (void)options;
    *out = NULL;
    return absent();
}

void lk_remote_close(struct lk_remote *r) { (void)r; }

const char *lk_remote_url(const struct lk_remote *r) {
    (void)r;
    return "";
}

int lk_remote_get(struct lk_remote *r, const char *target, struct lk_buf *out) {
    (void)r, (void)target, (void)out;
    return absent();
}

int lk_remote_fetch(struct lk_remote *r, const char *target, const char *path, char sha256[65]) {
    (void)r, (void)target, (void)path, (void)sha256;
    return absent();
}

int lk_remote_put(struct lk_remote *r, const char *target, const char *path, struct lk_buf *out) {
    (void)r, (void)target, (void)path, (void)out;
    return absent();
}
