/* The open device and the table of entries. Everything runs on one stream of one device, so calls follow each other in
 * the order in which they were made; only download(), output(), sync() and byol_stats() wait. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "cuda_internal.h"

enum {
    PICTURE_SLOTS = 4,    /* batches on their way to the device */
    OLDEST_CUDNN = 90800, /* device properties stand in for handles from here on */
    OLDEST_COMPUTE = 8    /* the first generation with bf16 tensor cores, and the first that we compile for */
};

int lk_cuda__error(cudaError_t e, const char *what) {
    if (e == cudaSuccess) {
        return LK_OK;
    }
    (void)cudaGetLastError(); /* else the next launch would report this one again */
    return lk_err(e == cudaErrorMemoryAllocation ? LK_ENOMEM : LK_EFAIL, "CUDA, %s: %s", what, cudaGetErrorString(e));
}

void lk_cuda__use(const struct lk_backend *b) { cudaSetDevice(b->ordinal); /* a failure shows in the call after it */ }

/* ---------------------------------------------------------------------------------- host data on its way */

int lk_cuda__staging(struct lk_backend *b, size_t bytes) {
    if (bytes <= b->staging_bytes) {
        return LK_OK;
    }
    int code = lk_cuda__error(cudaStreamSynchronize(b->stream), "staging memory"); /* the old one may be in use */
    if (code) {
        return code;
    }
    cudaFree(b->staging);
    b->staging = NULL;
    b->staging_bytes = 0;
    b->moved++;
    if (!(code = lk_cuda__error(cudaMalloc(&b->staging, bytes), "staging memory"))) {
        b->staging_bytes = bytes;
    }
    return code;
}

static int ring_open(struct lk_cuda_ring *ring, int n) {
    int code = LK_OK;
    for (ring->n = 0; !code && ring->n < n; ring->n++) {
        code = lk_cuda__error(cudaEventCreateWithFlags(&ring->slots[ring->n].sent, cudaEventDisableTiming), "event");
    }
    return code;
}

static void ring_close(struct lk_cuda_ring *ring) {
    for (int i = 0; i < ring->n; i++) {
        if (ring->slots[i].sent) {
            cudaEventDestroy(ring->slots[i].sent);
        }
        cudaFreeHost(ring->slots[i].host);
    }
}

int lk_cuda__slot(struct lk_cuda_ring *ring, size_t bytes, void **host) {
    struct lk_cuda_slot *slot = &ring->slots[ring->next];
    int code = lk_cuda__error(cudaEventSynchronize(slot->sent), "earlier copy to the device");
    if (code) {
        return code;
    }
    if (slot->bytes < bytes) {
        cudaFreeHost(slot->host);
        slot->host = NULL;
        slot->bytes = 0;
        if ((code = lk_cuda__error(cudaMallocHost(&slot->host, bytes), "pinned memory"))) {
            return code;
        }
        slot->bytes = bytes;
    }
    *host = slot->host;
    return LK_OK;
}

int lk_cuda__slot_send(struct lk_backend *b, struct lk_cuda_ring *ring, void *to, size_t bytes) {
    struct lk_cuda_slot *slot = &ring->slots[ring->next];
    int code = lk_cuda__error(cudaMemcpyAsync(to, slot->host, bytes, cudaMemcpyHostToDevice, b->stream),
                              "copy to the device");
    if (!code && !(code = lk_cuda__error(cudaEventRecord(slot->sent, b->stream), "copy to the device"))) {
        ring->next = (ring->next + 1) % ring->n;
    }
    return code;
}

/* ------------------------------------------------------------------------------------- opening and closing */

static void close_cuda(struct lk_backend *b) {
    if (!b) {
        return;
    }
    lk_cuda__use(b);
    if (b->stream) {
        cudaStreamSynchronize(b->stream);
    }
    lk_graph_device_close(b->graphs);
    for (int i = 0; i < LK_LOSS_RING; i++) {
        if (b->loss_ready[i]) {
            cudaEventDestroy(b->loss_ready[i]);
        }
    }
    ring_close(&b->pictures);
    ring_close(&b->values);
    cudaFree(b->losses);
    cudaFreeHost(b->losses_host);
    cudaFree(b->staging);
    cudaFree(b->spans);
    cudaFree(b->span_norms);
    free(b->spans_host);
    if (b->stream) {
        cudaStreamDestroy(b->stream);
    }
    (void)cudaGetLastError();
    free(b);
}

/* Why device `ordinal` cannot be used, in one sentence; LK_OK when it can. */
static int check_device(int ordinal, struct cudaDeviceProp *properties) {
    int count = 0, driver = 0, runtime = 0;
    cudaError_t e = cudaGetDeviceCount(&count);
    cudaDriverGetVersion(&driver); /* 0: there is no driver */
    cudaRuntimeGetVersion(&runtime);
    if (e != cudaSuccess) {
        (void)cudaGetLastError();
        if (!driver) {
            return lk_err(LK_EUNSUPPORTED, "device 'cuda:%d': this machine has no NVIDIA driver (libcuda.so.1)",
                          ordinal);
        }
        if (driver < runtime) {
            return lk_err(LK_EUNSUPPORTED,
                          "device 'cuda:%d': the NVIDIA driver offers CUDA %d.%d and this program needs %d.%d", ordinal,
                          driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
        }
        return lk_err(LK_EUNSUPPORTED, "device 'cuda:%d': %s", ordinal, cudaGetErrorString(e));
    }
    if (count == 0) {
        return lk_err(LK_EUNSUPPORTED, "device 'cuda:%d': this machine has no CUDA device", ordinal);
    }
    if (ordinal < 0 || ordinal >= count) {
        return lk_err(LK_EUNSUPPORTED, "device 'cuda:%d': this machine has CUDA devices 0 to %d only", ordinal,
                      count - 1);
    }
    if ((e = cudaGetDeviceProperties(properties, ordinal)) != cudaSuccess ||
        (e = cudaSetDevice(ordinal)) != cudaSuccess) {
        (void)cudaGetLastError();
        return lk_err(LK_EUNSUPPORTED, "device 'cuda:%d': %s", ordinal, cudaGetErrorString(e));
    }
    if (properties->major < OLDEST_COMPUTE) {
        return lk_err(LK_EUNSUPPORTED, "device 'cuda:%d': %s has compute capability %d.%d and 8.0 (Ampere) is needed",
                      ordinal, properties->name, properties->major, properties->minor);
    }
    if (lk_graph_version() < OLDEST_CUDNN) {
        return lk_err(LK_EUNSUPPORTED, "device 'cuda:%d': cuDNN %zu.%zu is installed and 9.8 or later is needed",
                      ordinal, lk_graph_version() / 10000, lk_graph_version() / 100 % 100);
    }
    return LK_OK;
}

/* ${LIKENESS_CACHE or $HOME/.cache/likeness}/cudnn; 0 when there is no such place. */
static int cache_folder(char *path, size_t size) {
    const char *cache = getenv("LIKENESS_CACHE"), *home = getenv("HOME");
    int n = -1;
    if (cache && *cache) {
        n = snprintf(path, size, "%s/cudnn", cache);
    } else if (home && *home) {
        n = snprintf(path, size, "%s/.cache/likeness/cudnn", home);
    }
    return n > 0 && (size_t)n < size;
}

static int prepare(struct lk_backend *b) {
    char folder[1024];
    size_t ring = 4 * LK_LOSS_RING * sizeof(float);
    int code;
    if ((code = lk_cuda__error(cudaStreamCreateWithFlags(&b->stream, cudaStreamNonBlocking), "stream")) ||
        (code = lk_cuda__error(cudaMalloc((void **)&b->losses, ring), "losses")) ||
        (code = lk_cuda__error(cudaMallocHost((void **)&b->losses_host, ring), "losses"))) {
        return code;
    }
    memset(b->losses_host, 0, ring);
    for (int i = 0; !code && i < LK_LOSS_RING; i++) {
        code = lk_cuda__error(cudaEventCreateWithFlags(&b->loss_ready[i], cudaEventDisableTiming), "event");
    }
    if (code || (code = ring_open(&b->pictures, PICTURE_SLOTS)) || (code = ring_open(&b->values, LK_CUDA_SLOTS))) {
        return code;
    }
    return lk_graph_device_open(&b->graphs, b->stream, cache_folder(folder, sizeof folder) ? folder : NULL);
}

static int open_cuda(struct lk_backend **out, int ordinal, const struct lk_backend_options *options) {
    struct cudaDeviceProp properties;
    struct lk_backend *b;
    int code;
    (void)options; /* threads are the CPU's */
    *out = NULL;
    if ((code = check_device(ordinal, &properties))) {
        return code;
    }
    if (!(b = lk_calloc(1, sizeof *b))) {
        return LK_ENOMEM;
    }
    b->ordinal = ordinal;
    if ((code = prepare(b))) {
        close_cuda(b);
        return lk_err_prefix(code, "device 'cuda:%d'", ordinal);
    }
    extern const struct lk_backend_ops lk_cuda_ops;
    b->base.ops = &lk_cuda_ops;
    snprintf(b->info.device, sizeof b->info.device, "%.95s", properties.name);
    snprintf(b->info.library, sizeof b->info.library, "cuDNN %zu.%zu", lk_graph_version() / 10000,
             lk_graph_version() / 100 % 100);
    b->info.threads = properties.multiProcessorCount;
    b->info.memory = properties.totalGlobalMem;
    b->info.best = LK_BF16;
    *out = b;
    return LK_OK;
}

static void info(const struct lk_backend *b, struct lk_backend_info *out) { *out = b->info; }

static int supports(const struct lk_backend *b, enum lk_precision precision) {
    (void)b;
    return precision == LK_FP32 || precision == LK_BF16 || precision == LK_FP16; /* fp16: plan() takes inference only */
}

/* -------------------------------------------------------------------------------------------------- memory */

static int alloc(struct lk_backend *b, size_t bytes, void **out) {
    int code;
    *out = NULL;
    bytes = bytes ? bytes : 1;
    lk_cuda__use(b);
    if ((code = lk_cuda__error(cudaMalloc(out, bytes), "memory")) ||
        (code = lk_cuda__error(cudaMemsetAsync(*out, 0, bytes, b->stream), "memory"))) {
        cudaFree(*out);
        *out = NULL;
    }
    return code;
}

static void free_memory(struct lk_backend *b, void *p) {
    lk_cuda__use(b);
    cudaFree(p); /* waits for the work that may use it */
}

/* Both wait: `from` and `to` are the caller's pageable memory, which may be gone after the return. */
static int upload(struct lk_backend *b, void *to, const void *from, size_t bytes) {
    int code;
    lk_cuda__use(b);
    (void)((code = lk_cuda__error(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, b->stream), "upload")) ||
           (code = lk_cuda__error(cudaStreamSynchronize(b->stream), "upload")));
    return code;
}

static int download(struct lk_backend *b, void *to, const void *from, size_t bytes) {
    int code;
    lk_cuda__use(b);
    (void)((code = lk_cuda__error(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, b->stream), "download")) ||
           (code = lk_cuda__error(cudaStreamSynchronize(b->stream), "download")));
    return code;
}

static int sync_cuda(struct lk_backend *b) {
    lk_cuda__use(b);
    return lk_cuda__error(cudaStreamSynchronize(b->stream), "device");
}

/* ---------------------------------------------------------------------------------------- loss and update */

static int byol_stats(struct lk_backend *b, int slot, struct lk_byol_stats *out) {
    if (slot < 0 || slot >= LK_LOSS_RING) {
        return lk_err(LK_EINVAL, "loss slot %d is not in 0..%d", slot, LK_LOSS_RING - 1);
    }
    lk_cuda__use(b);
    int code = lk_cuda__error(cudaEventSynchronize(b->loss_ready[slot]), "loss");
    const float *at = b->losses_host + 4 * (size_t)slot;
    *out = (struct lk_byol_stats){.loss = at[0], .projection_std = at[1], .finite = at[2] > 0};
    return code;
}

int lk_cuda__fetch_loss(struct lk_backend *b, int slot) {
    size_t at = 4 * (size_t)slot;
    int code = lk_cuda__error(
        cudaMemcpyAsync(b->losses_host + at, b->losses + at, 4 * sizeof(float), cudaMemcpyDeviceToHost, b->stream),
        "loss");
    return code ? code : lk_cuda__error(cudaEventRecord(b->loss_ready[slot], b->stream), "loss");
}

/* The device's copy of the spans, which are the same in every step of a run. */
static int keep_spans(struct lk_backend *b, const struct lk_param_span *spans, size_t n, size_t n_params) {
    size_t bytes = n * sizeof *spans;
    int code;
    if (n == b->n_spans && !memcmp(spans, b->spans_host, bytes)) {
        return LK_OK;
    }
    for (size_t i = 0; i < n; i++) {
        if (spans[i].offset > n_params || spans[i].count > n_params - spans[i].offset) {
            return lk_err(LK_EINVAL, "span %zu lies outside the arena", i);
        }
    }
    if ((code = lk_cuda__error(cudaStreamSynchronize(b->stream), "update"))) {
        return code;
    }
    cudaFree(b->spans);
    cudaFree(b->span_norms);
    free(b->spans_host);
    b->spans = NULL;
    b->span_norms = NULL;
    b->n_spans = 0;
    b->moved++;
    if (!(b->spans_host = lk_calloc(n, sizeof *spans))) {
        return LK_ENOMEM;
    }
    if ((code = lk_cuda__error(cudaMalloc((void **)&b->spans, bytes), "update")) ||
        (code = lk_cuda__error(cudaMalloc(&b->span_norms, lk_cuda_update_scratch(n)), "update")) ||
        (code = upload(b, b->spans, spans, bytes))) {
        return code;
    }
    memcpy(b->spans_host, spans, bytes);
    b->n_spans = n;
    return LK_OK;
}

static int update(struct lk_backend *b, const struct lk_optimizer_config *c, const struct lk_step_values *v,
                  const struct lk_param_span *spans, size_t n_spans, size_t n_params, float *params, float *grads,
                  float *state, float *teacher, size_t teacher_count) {
    const struct lk_step s = {.values = *v};
    struct lk_cuda_values on;
    int code;
    if (c->kind != LK_SGD && c->kind != LK_ADAM && c->kind != LK_LARS) {
        return lk_err(LK_EINVAL, "unknown optimiser %d", (int)c->kind);
    }
    if (n_spans < 1 || n_spans > 65535) {
        return lk_err(LK_EINVAL, "%zu spans to update", n_spans);
    }
    lk_cuda__use(b);
    if ((code = keep_spans(b, spans, n_spans, n_params)) || (code = lk_cuda__values(b, &s, c, 0, 0, &on))) {
        return code;
    }
    if (b->recording) {
        lk_cuda__record_optimizer(b, c);
    }
    return lk_cuda_update(b->stream, c->kind, on.step, b->spans, n_spans, n_params, params, grads, state, teacher,
                          teacher_count, b->span_norms);
}

const struct lk_backend_ops lk_cuda_ops = {.version = LK_BACKEND_VERSION,
                                           .name = "cuda",
                                           .open = open_cuda,
                                           .info = info,
                                           .supports = supports,
                                           .alloc = alloc,
                                           .free = free_memory,
                                           .upload = upload,
                                           .download = download,
                                           .sync = sync_cuda,
                                           .plan = lk_cuda__plan,
                                           .plan_free = lk_cuda__plan_free,
                                           .set_weights = lk_cuda__set_weights,
                                           .pass = lk_cuda__pass,
                                           .pass_free = lk_cuda__pass_free,
                                           .input_u8 = lk_cuda__input_u8,
                                           .input_f32 = lk_cuda__input_f32,
                                           .augment = lk_cuda__augment,
                                           .output = lk_cuda__output,
                                           .conv = lk_cuda__conv,
                                           .bn_stats = lk_cuda__bn_stats,
                                           .bn_finalize = lk_cuda__bn_finalize,
                                           .bn_apply = lk_cuda__bn_apply,
                                           .activate = lk_cuda__activate_node,
                                           .pool = lk_cuda__pool,
                                           .output_gradient = lk_cuda__output_gradient,
                                           .bn_backward_reduce = lk_cuda__bn_backward_reduce,
                                           .bn_backward_finalize = lk_cuda__bn_backward_finalize,
                                           .bn_backward_apply = lk_cuda__bn_backward_apply,
                                           .activate_backward = lk_cuda__activate_backward_node,
                                           .conv_backward_weights = lk_cuda__conv_backward_weights,
                                           .conv_backward_data = lk_cuda__conv_backward_data,
                                           .pool_backward = lk_cuda__pool_backward,
                                           .byol_loss = lk_cuda__byol_loss,
                                           .byol_stats = byol_stats,
                                           .update = update,
                                           .input_from = lk_cuda__input_from,
                                           .record_begin = lk_cuda__record_begin,
                                           .record_end = lk_cuda__record_end,
                                           .replay = lk_cuda__replay,
                                           .recording_free = lk_cuda__recording_free,
                                           .embed_begin = lk_cuda__embed_begin,
                                           .embed_end = lk_cuda__embed_end,
                                           .neighbors = lk_cuda__neighbors,
                                           .close = close_cuda};
