/* A build without Jansson. */
#include "base/err.h"
#include "document.h"

int lk_document_open(struct lk_document **out, const void *text, size_t n) {
    (void)text, (void)n;
    *out = NULL;
    return lk_err(LK_EUNSUPPORTED, "this build reads no JSON: it was made without Jansson");
}

void lk_document_close(struct lk_document *d) { (void)d; }

const char *lk_document_text(const struct lk_document *d, const char *in, const char *name) {
    (void)d, (void)in, (void)name;
    return NULL;
}

int lk_document_number(const struct lk_document *d, const char *in, const char *name, double *out) {
    (void)d, (void)in, (void)name, (void)out;
    return 0;
}

int lk_document_label(const struct lk_document *d, const char *in, const char *name, char **out) {
    (void)d, (void)in, (void)name;
    *out = NULL;
    return 0;
}
