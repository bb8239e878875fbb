/* The one file that names the backends of this build. Binaries link it (target lk_devices); rooms never do. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/backend.h"

#ifdef LK_HAVE_CPU
extern const struct lk_backend_ops lk_cpu_ops;
#endif
#ifdef LK_HAVE_CUDA
extern const struct lk_backend_ops lk_cuda_ops;
#endif

/* In order of preference for "auto". */
static const struct lk_backend_ops *const backends[] = {
#ifdef LK_HAVE_CUDA
    &lk_cuda_ops,
#endif
#ifdef LK_HAVE_CPU
    &lk_cpu_ops,
#endif
    NULL};

static int open_auto(struct lk_backend **out, const struct lk_backend_options *options) {
    int rc = lk_err(LK_EUNSUPPORTED, "this build has no device at all: neither CUDA nor CPU");
    for (size_t i = 0; backends[i]; i++) {
        if ((rc = backends[i]->open(out, 0, options)) == 0) {
            return 0;
        }
    }
    return rc;
}

int lk_device_open(struct lk_backend **out, const char *name, const struct lk_backend_options *options) {
    static const struct lk_backend_options defaults = {0};
    *out = NULL;
    if (!options) {
        options = &defaults;
    }
    if (!strcmp(name, "auto")) {
        return open_auto(out, options);
    }
    size_t n = strcspn(name, ":");
    long ordinal = 0;
    if (name[n] == ':') {
        char *end;
        ordinal = strtol(name + n + 1, &end, 10);
        if (end == name + n + 1 || *end || ordinal < 0 || ordinal > 1023) {
            return lk_err(LK_EINVAL, "device '%s': the number after the colon is not in 0..1023", name);
        }
    }
    for (size_t i = 0; backends[i]; i++) {
        if (strlen(backends[i]->name) == n && !strncmp(backends[i]->name, name, n)) {
            return backends[i]->open(out, (int)ordinal, options);
        }
    }
    if ((n == 3 && !strncmp(name, "cpu", n)) || (n == 4 && !strncmp(name, "cuda", n))) {
        return lk_err(LK_EUNSUPPORTED, "device '%s': this build has no %.*s backend", name, (int)n, name);
    }
    return lk_err(LK_EINVAL, "unknown device '%s': auto, cpu, cuda or cuda:N", name);
}
