/* The timing mode of the parity binary: test_backend --bench [all|inference|step] [seconds] [fp32|bf16]. */
#ifndef LK_TESTS_BENCH_H
#define LK_TESTS_BENCH_H

#include "model/backend.h"

int bench_run(struct lk_backend *b, int argc, char **argv); /* exit status */

#endif
