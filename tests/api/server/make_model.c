/* Writes a small model with random weights, for the tests of the server: resnet18, width 8, CIFAR stem, 32 pixels.
 *   make_model FILE [SEED [WIDTH [DEPTH [PIXELS]]]] */
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "model/model.h"

int main(int argc, char **argv) {
    if (argc < 2 || argc > 6) {
        fprintf(stderr, "usage: make_model FILE [SEED [WIDTH [DEPTH [PIXELS]]]]\n");
        return 2;
    }
    struct lk_arch arch = {.depth = argc > 4 ? (int)strtol(argv[4], NULL, 10) : 18,
                           .width = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 8,
                           .stem = LK_STEM_CIFAR,
                           .image_size = argc > 5 ? (int)strtol(argv[5], NULL, 10) : 32};
    const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f};
    struct lk_net net = {0};
    float *params = NULL, *stats = NULL;
    int rc = lk_net_build(&net, &arch, NULL);
    if (rc == 0) {
        params = lk_calloc(net.n_params, sizeof *params);
        stats = lk_calloc(net.n_stats, sizeof *stats);
        rc = params && stats ? 0 : LK_ENOMEM;
    }
    if (rc == 0) {
        lk_net_init(&net, argc > 2 ? strtoull(argv[2], NULL, 10) : 1, params, stats);
        rc = lk_model_save(argv[1], &arch, &net, params, stats, mean, std, "tiny", "random", LK_DTYPE_F32, NULL, NULL,
                           0);
    }
    if (rc)
        fprintf(stderr, "make_model: %s\n", lk_error());
    free(params);
    free(stats);
    lk_net_free(&net);
    return rc != 0;
}
