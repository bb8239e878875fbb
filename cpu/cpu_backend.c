/* The CPU as a device: oneDNN (dnnl.c) for convolutions and linear layers, our own vector kernels (kernels.h) for
 * everything between them. One OpenMP team serves both: a thread pool of ours would fight with oneDNN's
 * threads for the cores. Any thread may call, one at a time.
 *
 * Same inputs and the same number of threads give the same bits. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/buf.h"
#include "base/err.h"
#include "base/pool.h"
#include "cpu.h"

extern const struct lk_backend_ops lk_cpu_ops;

static void close_cpu(struct lk_backend *b) {
    if (!b) {
        return;
    }
    lk_dnnl__close(&b->dnnl);
    free(b->chunks);
    free(b->chunk_sums);
    free(b);
}

/* All the cores this process may use, or fewer when OMP_NUM_THREADS says so. */
static int default_threads(void) {
    const char *text = getenv("OMP_NUM_THREADS");
    long limit = text ? strtol(text, NULL, 10) : 0;
    int cores = lk_cpu_count();
    return limit > 0 && limit < cores ? (int)limit : cores;
}

static int open_cpu(struct lk_backend **out, int ordinal, const struct lk_backend_options *options) {
    *out = NULL;
    if (ordinal != 0) {
        return lk_err(LK_EINVAL, "there is only one CPU device, not number %d", ordinal);
    }
    int threads = options && options->threads ? options->threads : default_threads();
    if (threads < 1 || threads > 1024) {
        return lk_err(LK_EINVAL, "%d threads are not in 1..1024", threads);
    }
    struct lk_backend *b = lk_calloc(1, sizeof *b);
    if (!b) {
        return LK_ENOMEM;
    }
    b->base.ops = &lk_cpu_ops;
    b->isa = lk_dnnl__isa();
    b->kernels = &lk_cpu__kernels_generic;
#if defined(__x86_64__)
    if (b->isa != LK_ISA_GENERIC) {
        b->kernels = b->isa == LK_ISA_AVX512 ? &lk_cpu__kernels_avx512 : &lk_cpu__kernels_avx2;
        b->winograd = b->isa == LK_ISA_AVX512         ? &lk_cpu__winograd_avx512
                      : __builtin_cpu_supports("fma") ? &lk_cpu__winograd_avx2
                                                      : NULL;
    }
#endif
    int rc = lk_dnnl__open(&b->dnnl, threads);
    if (rc) {
        close_cpu(b);
        return rc;
    }
    /* By AVX-512 alone bf16 is slower than fp32 in tiles (winograd.h), even where there are instructions for it. */
    b->best = lk_dnnl__amx(&b->dnnl, LK_NCHW16C) ? LK_BF16 : LK_FP32;
    *out = b;
    return 0;
}

/* "Intel(R) Xeon(R) ..." as the processor spells itself. */
static void brand(char text[49]) {
    strcpy(text, "CPU");
#if defined(__x86_64__)
    unsigned r[12];
    for (unsigned i = 0; i < 3; i++) {
        if (!__get_cpuid(0x80000002u + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2], &r[4 * i + 3])) {
            return;
        }
    }
    char raw[49] = {0};
    memcpy(raw, r, 48);
    size_t skip = strspn(raw, " "), n = strlen(raw);
    while (n > skip && raw[n - 1] == ' ') {
        n--;
    }
    memcpy(text, raw + skip, n - skip);
    text[n - skip] = 0;
#endif
}

static int supports(const struct lk_backend *b, enum lk_precision precision) {
    return precision == LK_FP32 || (precision == LK_BF16 && b->isa == LK_ISA_AVX512); /* emulated without avx512_bf16 */
}

static void info(const struct lk_backend *b, struct lk_backend_info *out) {
    static const char *const isas[] = {"SSE", "AVX2", "AVX-512"};
    char name[49];
    memset(out, 0, sizeof *out);
    brand(name);
    snprintf(out->device, sizeof out->device, "%s, %s, %d thread%s", name, isas[b->isa], b->dnnl.threads,
             b->dnnl.threads == 1 ? "" : "s");
    lk_dnnl__version(out->library, sizeof out->library);
    out->threads = b->dnnl.threads;
    out->best = b->best;
}

static int alloc(struct lk_backend *b, size_t bytes, void **out) {
    (void)b;
    *out = lk_cpu__tensor(bytes ? bytes : 1);
    return *out ? 0 : LK_ENOMEM;
}

static void free_memory(struct lk_backend *b, void *p) {
    (void)b;
    free(p);
}

static int copy(struct lk_backend *b, void *to, const void *from, size_t bytes) {
    (void)b;
    memcpy(to, from, bytes);
    return 0;
}

static int sync_cpu(struct lk_backend *b) {
    (void)b;
    return 0; /* every entry returns when it is done */
}

const struct lk_backend_ops lk_cpu_ops = {.version = LK_BACKEND_VERSION,
                                          .name = "cpu",
                                          .open = open_cpu,
                                          .info = info,
                                          .supports = supports,
                                          .alloc = alloc,
                                          .free = free_memory,
                                          .upload = copy,
                                          .download = copy,
                                          .sync = sync_cpu,
                                          .plan = lk_cpu__plan,
                                          .plan_free = lk_cpu__plan_free,
                                          .set_weights = lk_cpu__set_weights,
                                          .pass = lk_cpu__pass,
                                          .pass_free = lk_cpu__pass_free,
                                          .input_u8 = lk_cpu__input_u8,
                                          .input_f32 = lk_cpu__input_f32,
                                          .augment = lk_cpu__augment,
                                          .input_from = lk_cpu__input_from,
                                          .output = lk_cpu__output,
                                          .conv = lk_cpu__conv,
                                          .bn_stats = lk_cpu__bn_stats,
                                          .bn_finalize = lk_cpu__bn_finalize,
                                          .bn_apply = lk_cpu__bn_apply,
                                          .activate = lk_cpu__activate,
                                          .pool = lk_cpu__pool,
                                          .output_gradient = lk_cpu__output_gradient,
                                          .bn_backward_reduce = lk_cpu__bn_backward_reduce,
                                          .bn_backward_finalize = lk_cpu__bn_backward_finalize,
                                          .bn_backward_apply = lk_cpu__bn_backward_apply,
                                          .activate_backward = lk_cpu__activate_backward,
                                          .conv_backward_weights = lk_cpu__conv_backward_weights,
                                          .conv_backward_data = lk_cpu__conv_backward_data,
                                          .pool_backward = lk_cpu__pool_backward,
                                          .byol_loss = lk_cpu__byol_loss,
                                          .byol_stats = lk_cpu__byol_stats,
                                          .update = lk_cpu__update,
                                          .close = close_cpu};
