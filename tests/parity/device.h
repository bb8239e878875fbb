/* The device that a parity test runs on: LK_TEST_DEVICE, "cpu" when that is not set. A GPU that is not there makes every
 * case a skipped one, and the test end with 77: never a passed one. */
#ifndef LK_TESTS_DEVICE_H
#define LK_TESTS_DEVICE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "check.h"
#include "model/backend.h"

/* 0, or the status to exit with. options may be NULL. */
static inline int test_device_open(struct lk_backend **out, const struct lk_backend_options *options,
                                   const struct lk_case *cases, size_t n) {
    const char *name = getenv("LK_TEST_DEVICE");
    name = name && *name ? name : "cpu";
    int rc = lk_device_open(out, name, options);
    if (rc == LK_EUNSUPPORTED && strncmp(name, "cpu", 3)) {
        for (size_t i = 0; i < n; i++) {
            printf("skip %s: %s\n", cases[i].name, lk_error());
        }
        return 77;
    }
    if (rc) {
        printf("%s\n", lk_error());
    }
    return rc ? 1 : 0;
}

#endif
