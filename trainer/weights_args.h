/* The options that `knn` and `embed` share. */
#ifndef LK_TRAINER_WEIGHTS_ARGS_H
#define LK_TRAINER_WEIGHTS_ARGS_H

#include "base/args.h"
#include "source.h"
#include "weights.h"

struct lk_weights_request {
    const char *model, *data, *label_field, *key_file, *device, *precision;
    long long batch, threads, image_size, memory_bytes;
    double max_bad;
};

enum { LK_WEIGHTS_ARGS = 11 };

struct lk_weights_request lk_weights_request_default(int batch);

/* Parses argv by the shared options and the command's own, shared ones last; with --help prints the usage and returns 1.
 * LK_EINVAL, also when --model or --data is missing. own: at most 16. */
int lk_weights_parse(struct lk_weights_request *r, const struct lk_arg *own, size_t n_own, int argc, char **argv,
                     const char *usage, const char *description);

struct lk_weights_options lk_weights_request_options(const struct lk_weights_request *r);
struct lk_source_options lk_weights_request_source(const struct lk_weights_request *r);

#endif
