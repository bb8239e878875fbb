/* A build without libarchive. */
#include <string.h>

#include "base/err.h"
#include "items.h"

int lk_items_export(struct lk_items *out, const char *path, const char *label_field) {
    (void)label_field;
    memset(out, 0, sizeof *out);
    return lk_err(LK_EUNSUPPORTED, "%s: this build reads no exports: it was made without libarchive", path);
}
