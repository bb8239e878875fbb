/* How fast is a CUDA device at what the product does? One JSON object a line:
 *
 *     bench_cuda step BATCH PRECISION [STEPS]      whole BYOL steps as the trainer issues them, ResNet-18, CIFAR stem
 *     bench_cuda embed BATCH PRECISION [CALLS]     pictures in host memory to unit vectors there: rate with two batches on
 *                                                  their way, latency of one alone
 *     bench_cuda kernels [ROWS] [CHANNELS]         our own element-wise kernels beside a copy of the same bytes
 *
 * Exits with 77 where there is no device. */
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/rng.h"
#include "cuda/bodies.h"
#include "cuda/kernels.h"
#include "trainer/byol.h"

enum { SIDE = 32, PICTURE = 3 * SIDE * SIDE, PICTURES = 50000, WARM_UP = 20, LAG = 8 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *x, size_t n) {
    qsort(x, n, sizeof *x, by_size);
    return x[n / 2];
}

static int upload_noise(struct lk_backend *b, uint8_t **on) {
    size_t bytes = (size_t)PICTURES * PICTURE;
    uint8_t *host = lk_calloc(bytes, 1);
    int rc = host ? 0 : LK_ENOMEM;
    for (size_t i = 0; !rc && i < bytes; i += 16) {
        struct lk_philox r = lk_rng(1, i / 16, LK_RNG_TEST, 0, 0);
        memcpy(host + i, r.v, 16);
    }
    (void)(rc || (rc = lk_ops(b)->alloc(b, bytes, (void **)on)) || (rc = lk_ops(b)->upload(b, *on, host, bytes)));
    free(host);
    return rc;
}

static int loader_open(struct lk_loader *l, size_t batch) {
    memset(l, 0, sizeof *l);
    l->batch = batch;
    l->pixels = lk_calloc(batch, sizeof *l->pixels);
    l->width = lk_calloc(batch, sizeof *l->width);
    l->height = lk_calloc(batch, sizeof *l->height);
    l->id = lk_calloc(batch, sizeof *l->id);
    return l->pixels && l->width && l->height && l->id ? 0 : LK_ENOMEM;
}

static void loader_fill(struct lk_loader *l, const uint8_t *on, uint32_t step) {
    for (size_t i = 0; i < l->batch; i++) {
        uint64_t id = lk_rng(2, i, LK_RNG_TEST, step, 0).v[0] % PICTURES;
        l->pixels[i] = on + id * PICTURE;
        l->width[i] = l->height[i] = SIDE;
        l->id[i] = id;
    }
}

/* Steps in flight are read LAG later, as the trainer does; the device is never waited for in between. */
static int time_steps(struct lk_byol *byol, struct lk_loader *l, const uint8_t *on, int steps, double *seconds,
                      double *host, float *loss) {
    const struct lk_augment view[2] = {lk_augment_default(SIDE), lk_augment_default(SIDE)};
    double issuing = 0, began = 0;
    struct lk_byol_stats stats = {0};
    int rc = 0;
    for (int i = 0; !rc && i < WARM_UP + steps; i++) {
        struct lk_step_values v = {.lr = 0.03f, .tau = 0.99f, .step = (uint64_t)i + 1};
        if (i == WARM_UP) {
            rc = byol->ops->sync(byol->device);
            began = now();
            issuing = 0;
        }
        loader_fill(l, on, (uint32_t)i);
        double start = now();
        rc = rc ? rc : lk_byol_step(byol, l, view, 1, (uint32_t)i / 97, &v, i % LK_LOSS_RING);
        issuing += now() - start;
        if (!rc && i >= LAG) {
            rc = byol->ops->byol_stats(byol->device, (i - LAG) % LK_LOSS_RING, &stats);
        }
        if (!rc && i >= LAG && !stats.finite) {
            rc = lk_err(LK_EFAIL, "the loss is not finite at step %d", i - LAG);
        }
    }
    rc = rc ? rc : byol->ops->sync(byol->device);
    *seconds = (now() - began) / steps;
    *host = issuing / steps;
    *loss = stats.loss;
    return rc;
}

static int bench_step(struct lk_backend *b, int batch, enum lk_precision precision, int steps) {
    struct lk_arch arch = {18, 64, LK_STEM_CIFAR, SIDE};
    struct lk_heads heads = {1024, 1024, 256, 1, 1};
    struct lk_optimizer_config sgd = {.kind = LK_SGD, .momentum = 0.9f, .weight_decay = 5e-4f};
    struct lk_net net = {0};
    struct lk_byol byol = {0};
    struct lk_loader loader = {0};
    uint8_t *on = NULL;
    double prepared = now(), seconds, host;
    float loss;
    int rc;
    if ((rc = upload_noise(b, &on)) || (rc = loader_open(&loader, (size_t)batch)) ||
        (rc = lk_net_build(&net, &arch, &heads)) ||
        (rc = lk_byol_open(&byol, b, &net, batch, precision, &sgd, 0.25f, 0))) {
        goto done;
    }
    prepared = now() - prepared;
    if (!(rc = time_steps(&byol, &loader, on, steps, &seconds, &host, &loss))) {
        printf(
            "{\"kind\": \"step\", \"batch\": %d, \"precision\": \"%s\", \"images_per_second\": %.1f, \"step_ms\": %.4f, "
            "\"host_us\": %.1f, \"steps_timed\": %d, \"prepare_s\": %.2f, \"loss\": %.5f}\n",
            batch, lk_precision_name(precision), batch / seconds, 1e3 * seconds, 1e6 * host, steps, prepared,
            (double)loss);
    }
done:
    lk_byol_close(&byol);
    lk_net_free(&net);
    lk_ops(b)->free(b, on);
    free(loader.pixels), free(loader.width), free(loader.height), free(loader.id);
    return rc;
}

static int bench_embed(struct lk_backend *b, int batch, enum lk_precision precision, int calls) {
    static const float mean[3] = {.485f, .456f, .406f}, std[3] = {.229f, .224f, .225f};
    const struct lk_backend_ops *ops = lk_ops(b);
    struct lk_arch arch = {18, 64, LK_STEM_CIFAR, SIDE};
    struct lk_net net = {0};
    struct lk_plan *plan = NULL;
    struct lk_pass *pass = NULL;
    float *params = NULL, *stats = NULL, *d_params = NULL, *d_stats = NULL;
    uint8_t *pixels = lk_calloc((size_t)batch, PICTURE);
    float *out = lk_calloc((size_t)batch * 512, sizeof *out);
    double *seconds = lk_calloc((size_t)calls, sizeof *seconds), prepared = now();
    int rc = pixels && out && seconds ? lk_net_build(&net, &arch, NULL) : LK_ENOMEM;
    if (rc) {
        goto done;
    }
    params = lk_calloc(net.n_params, sizeof *params);
    stats = lk_calloc(net.n_stats, sizeof *stats);
    if (!params || !stats) {
        rc = LK_ENOMEM;
        goto done;
    }
    lk_net_init(&net, 0, params, stats);
    if ((rc = ops->alloc(b, net.n_params * sizeof(float), (void **)&d_params)) ||
        (rc = ops->alloc(b, net.n_stats * sizeof(float), (void **)&d_stats)) ||
        (rc = ops->upload(b, d_params, params, net.n_params * sizeof(float))) ||
        (rc = ops->upload(b, d_stats, stats, net.n_stats * sizeof(float))) ||
        (rc = ops->plan(b, &net, net.n_nodes, batch, precision, LK_INFERENCE, NULL, &plan)) ||
        (rc = ops->set_weights(plan, d_params, d_stats)) || (rc = ops->pass(plan, &pass))) {
        goto done;
    }
    prepared = now() - prepared;
    for (int i = -WARM_UP; !rc && i < calls; i++) { /* one at a time */
        double start = now();
        (void)((rc = ops->embed_begin(pass, pixels, batch, mean, std, NULL)) || (rc = ops->embed_end(pass, out)));
        if (i >= 0) {
            seconds[i] = now() - start;
        }
    }
    double began = now();
    for (int i = 0; !rc && i <= calls; i++) { /* and with two on their way */
        (void)((i < calls && (rc = ops->embed_begin(pass, pixels, batch, mean, std, NULL))) ||
               (i > 0 && (rc = ops->embed_end(pass, out))));
    }
    double rate = (double)batch * calls / (now() - began);
    if (!rc) {
        double middle = median(seconds, (size_t)calls);
        printf(
            "{\"kind\": \"embed\", \"batch\": %d, \"precision\": \"%s\", \"images_per_second\": %.1f, \"latency_ms\": "
            "%.4f, \"best_ms\": %.4f, \"prepare_s\": %.2f}\n",
            batch, lk_precision_name(precision), rate, 1e3 * middle, 1e3 * seconds[0], prepared);
    }
done:
    ops->pass_free(pass);
    ops->plan_free(plan);
    ops->free(b, d_params);
    ops->free(b, d_stats);
    lk_net_free(&net);
    free(params), free(stats), free(pixels), free(out), free(seconds);
    return rc;
}

/* --- Kernels: bytes moved over time, and as a share of what a copy of as many bytes reaches. */
enum kernel { COPY, STATS, APPLY, APPLY_ADD, REDUCE, DAPPLY, KERNELS };
static const char *const kernel_names[] = {
    "copy", "norm stats", "norm apply+relu", "norm apply+add+relu", "norm backward reduce", "norm backward apply"};
static const int tensors_moved[] = {2, 1, 2, 3, 4, 3};

struct arena {
    void *x, *y, *z, *g, *scratch;
    double *sums;
    float *vectors;
};

static int launch(enum kernel k, cudaStream_t s, const struct lk_rows *r, const struct arena *a) {
    size_t bytes = r->rows * (size_t)r->channels * 2;
    switch (k) {
    case COPY: return cudaMemcpyAsync(a->z, a->y, bytes, cudaMemcpyDeviceToDevice, s) ? LK_EFAIL : 0;
    case STATS: return lk_cuda_norm_stats(s, r, a->y, a->sums, a->scratch);
    case APPLY: return lk_cuda_norm_apply(s, r, a->z, a->y, a->vectors, a->vectors, NULL, 1);
    case APPLY_ADD: return lk_cuda_norm_apply(s, r, a->z, a->y, a->vectors, a->vectors, a->x, 1);
    case REDUCE:
        return lk_cuda_norm_backward_reduce(s, r, a->g, a->g, NULL, a->z, a->y, a->vectors, a->sums, a->scratch);
    default: return lk_cuda_norm_backward_apply(s, r, a->z, a->g, a->y, a->vectors);
    }
}

static int bench_kernels(size_t rows, int channels) {
    struct lk_rows r = {LK_E_BF16, rows, channels};
    size_t bytes = rows * (size_t)channels * 2, vectors = LK_SAVED_COUNT * (size_t)channels * sizeof(float);
    struct arena a = {NULL};
    cudaStream_t s = NULL;
    cudaEvent_t begin, end;
    double copy = 0;
    int rc = 0;
    if (cudaStreamCreate(&s) || cudaEventCreate(&begin) || cudaEventCreate(&end) || cudaMalloc(&a.x, bytes) ||
        cudaMalloc(&a.y, bytes) || cudaMalloc(&a.z, bytes) || cudaMalloc(&a.g, bytes) ||
        cudaMalloc(&a.scratch, lk_cuda_norm_scratch(&r)) ||
        cudaMalloc((void **)&a.sums, 2 * (size_t)channels * sizeof(double)) ||
        cudaMalloc((void **)&a.vectors, vectors) || cudaMemset(a.x, 0, bytes) || cudaMemset(a.y, 0, bytes) ||
        cudaMemset(a.z, 0, bytes) || cudaMemset(a.g, 0, bytes) || cudaMemset(a.vectors, 0, vectors)) {
        return lk_err(LK_EFAIL, "%s", cudaGetErrorString(cudaGetLastError()));
    }
    for (int k = COPY; !rc && k < KERNELS; k++) {
        float ms, best = 1e9f;
        for (int i = 0; !rc && i < 30; i++) {
            if (cudaEventRecord(begin, s) || (rc = launch((enum kernel)k, s, &r, &a)) || cudaEventRecord(end, s) ||
                cudaEventSynchronize(end) || cudaEventElapsedTime(&ms, begin, end)) {
                rc = rc ? rc : lk_err(LK_EFAIL, "%s", cudaGetErrorString(cudaGetLastError()));
                break;
            }
            best = ms < best ? ms : best;
        }
        double rate = (double)tensors_moved[k] * (double)bytes / (double)best / 1e6;
        copy = k == COPY ? rate : copy;
        if (!rc) {
            printf(
                "{\"kind\": \"kernel\", \"name\": \"%s\", \"rows\": %zu, \"channels\": %d, \"us\": %.2f, \"GB_per_s\": "
                "%.1f, \"of_copy\": %.3f}\n",
                kernel_names[k], rows, channels, 1e3 * (double)best, rate, rate / copy);
        }
    }
    cudaFree(a.x), cudaFree(a.y), cudaFree(a.z), cudaFree(a.g);
    cudaFree(a.scratch), cudaFree(a.sums), cudaFree(a.vectors);
    return rc;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    struct lk_backend *b = NULL;
    int rc = lk_device_open(&b, "cuda", NULL), status;
    if (rc) {
        fprintf(stderr, "%s\n", lk_error());
        return rc == LK_EUNSUPPORTED ? 77 : 1;
    }
    int precision = argc > 3 ? lk_precision_from_name(argv[3]) : LK_BF16;
    long number = argc > 2 ? atol(argv[2]) : 0, times = argc > 4 ? atol(argv[4]) : 200;
    if (!strcmp(what, "step") && number > 0 && precision >= 0 && times > 0) {
        rc = bench_step(b, (int)number, (enum lk_precision)precision, (int)times);
    } else if (!strcmp(what, "embed") && number > 0 && precision >= 0 && times > 0) {
        rc = bench_embed(b, (int)number, (enum lk_precision)precision, (int)times);
    } else if (!strcmp(what, "kernels")) {
        rc = bench_kernels(number > 0 ? (size_t)number : 512 * 1024, argc > 3 ? atoi(argv[3]) : 64);
    } else {
        fprintf(stderr, "Usage: bench_cuda step|embed BATCH PRECISION [TIMES] | kernels [ROWS] [CHANNELS]\n");
        rc = LK_EINVAL;
    }
    if (rc && rc != LK_EINVAL) {
        fprintf(stderr, "%s\n", lk_error());
    }
    status = rc ? 1 : 0;
    lk_ops(b)->close(b);
    return status;
}
