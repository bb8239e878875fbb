/* Names of precisions, as options, files and answers spell them. */
#include <string.h>

#include "base/err.h"
#include "model/backend.h"

static const char *const names[] = {[LK_FP32] = "fp32", [LK_BF16] = "bf16", [LK_FP16] = "fp16"};

const char *lk_precision_name(enum lk_precision p) { return names[p]; }

int lk_precision_from_name(const char *name) {
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++) {
        if (!strcmp(name, names[i])) {
            return i;
        }
    }
    return lk_err(LK_EINVAL, "unknown precision '%s': fp32, bf16 or fp16", name);
}
