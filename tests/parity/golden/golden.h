/* What the golden tests share: the device, the committed file, nets drawn as twin.py draws them, and the error measure. */
#ifndef LK_TESTS_GOLDEN_H
#define LK_TESTS_GOLDEN_H

#include "model/backend.h"
#include "model/safetensors.h"

/* Opens the device that LK_TEST_DEVICE names (default "cpu"); prints and returns NULL on failure. A GPU
 * that is not there ends the test with 77, skipped. */
struct lk_backend *golden_device(void);

/* Tensor "a" + "b" of the file as floats; prints and returns NULL when it is missing or has another count. Free it. */
float *golden_tensor(const struct lk_safetensors *st, const char *a, const char *b, size_t count);

/* A number from the file's metadata; NaN when it is missing. */
double golden_number(const struct lk_safetensors *st, const char *key);

/* A net, its parameters and statistics on the host. Every gamma is drawn as gamma[0] + uniform(gamma[1]), every beta as
 * beta[0] + normal(beta[1]), by the numbers of their tensors; gammas that end a residual branch are `last` times that:
 * twin.disturb(). */
struct golden_net {
    struct lk_net net;
    float *params, *stats;
};
int golden_net_open(struct golden_net *g, const struct lk_arch *arch, const struct lk_heads *heads, uint64_t seed,
                    const float gamma[2], const float beta[2], float last);
void golden_net_close(struct golden_net *g); /* accepts a zeroed or half-open one */

/* |a - b| / max(|b|, floor) over values 0, stride, 2 stride ... of a against b[0], b[1], b[2] ... */
double golden_error(const float *a, const float *b, size_t count, size_t stride, double floor);

#endif
