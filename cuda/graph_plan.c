/* From a described graph to a plan that runs: asking the heuristics, compiling, timing on the device, remembering. */
#include "graph.h"

#include <cuda_runtime_api.h>
#include <cudnn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/sha256.h"
#include "graph_internal.h"

enum { MAX_CONFIGS = 64, MOST_CACHED_BYTES = 16 << 20 };

/* ------------------------------------------------------------------------------------------------ device */

size_t lk_graph_version(void) { return cudnnGetVersion(); }

int lk_graph_device_open(struct lk_graph_device **out, void *stream, const char *cache_folder) {
    struct lk_graph_device *d = lk_calloc(1, sizeof *d);
    struct cudaDeviceProp properties;
    int ordinal = 0, code;
    cudnnStatus_t s;
    *out = NULL;
    if (!d) {
        return LK_ENOMEM;
    }
    d->stream = stream;
    if (cache_folder && !(d->cache_folder = lk_strdup(cache_folder))) {
        code = LK_ENOMEM;
        goto fail;
    }
    if (cudaGetDevice(&ordinal) != cudaSuccess || cudaGetDeviceProperties(&properties, ordinal) != cudaSuccess) {
        code = lk_err(LK_EUNSUPPORTED, "no CUDA device: %s", cudaGetErrorString(cudaGetLastError()));
        goto fail;
    }
    snprintf(d->name, sizeof d->name, "%s, %d multiprocessors", properties.name, properties.multiProcessorCount);
    if ((s = cudnnCreate(&d->handle)) != CUDNN_STATUS_SUCCESS ||
        (s = cudnnSetStream(d->handle, d->stream)) != CUDNN_STATUS_SUCCESS) {
        code = lk_graph__failure((int)s, "cudnnCreate");
        goto fail;
    }
    if ((s = cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &d->description)) ||
        (s = cudnnBackendSetAttribute(d->description, CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, 1,
                                      &d->handle)) ||
        (s = cudnnBackendFinalize(d->description))) {
        code = lk_graph__failure((int)s, "device properties");
        goto fail;
    }
    *out = d;
    return LK_OK;
fail:
    lk_graph_device_close(d);
    return code;
}

int lk_graph_device_describe(struct lk_graph_device **out, const char *json, size_t bytes) {
    struct lk_graph_device *d = lk_calloc(1, sizeof *d);
    cudnnStatus_t s;
    *out = NULL;
    if (!d) {
        return LK_ENOMEM;
    }
    snprintf(d->name, sizeof d->name, "described");
    if ((s = cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &d->description)) ||
        (s = cudnnBackendSetAttribute(d->description, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                      (int64_t)bytes, json)) ||
        (s = cudnnBackendFinalize(d->description))) {
        int code = lk_graph__failure((int)s, "device description");
        lk_graph_device_close(d);
        return code;
    }
    *out = d;
    return LK_OK;
}

void lk_graph_device_close(struct lk_graph_device *d) {
    if (!d) {
        return;
    }
    if (d->handle) {
        cudnnDestroy(d->handle);
    }
    if (d->description) {
        cudnnBackendDestroyDescriptor(d->description);
    }
    free(d->cache_folder);
    free(d);
}

/* ------------------------------------------------------------------------------------- what cuDNN offers */

struct configs {
    cudnnBackendDescriptor_t list[MAX_CONFIGS];
    int n;
};

static void configs_free(struct configs *c) {
    while (c->n) {
        cudnnBackendDestroyDescriptor(c->list[--c->n]);
    }
}

/* 1 when the engine of a configuration carries one of the numerical notes that the policy forbids. */
static int forbidden(cudnnBackendDescriptor_t config, const struct lk_graph_policy *policy) {
    cudnnBackendDescriptor_t engine = NULL;
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t n = 0;
    int bad = 0;
    if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine)) {
        return 1;
    }
    if (cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine) ||
        cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                 CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &n, notes)) {
        bad = 1;
    }
    for (int64_t i = 0; !bad && i < n; i++) {
        bad = (policy->exact &&
               (notes[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE || notes[i] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS ||
                notes[i] == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION || notes[i] == CUDNN_NUMERICAL_NOTE_FFT ||
                notes[i] == CUDNN_NUMERICAL_NOTE_WINOGRAD)) ||
              (policy->deterministic && notes[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
    }
    cudnnBackendDestroyDescriptor(engine);
    return bad;
}

/* Appends what one heuristic mode offers and the policy allows. A mode that declines is no error. */
static void ask(cudnnBackendDescriptor_t graph, const struct lk_graph_device *device, cudnnBackendHeurMode_t mode,
                const struct lk_graph_policy *policy, struct configs *out) {
    cudnnBackendDescriptor_t heuristics = NULL, list[MAX_CONFIGS] = {NULL};
    int64_t found = 0;
    int made = 0;
    if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristics)) {
        return;
    }
    if (cudnnBackendSetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                 &graph) ||
        cudnnBackendSetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode) ||
        cudnnBackendSetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                 &device->description) ||
        cudnnBackendFinalize(heuristics)) {
        goto done;
    }
    for (; made < MAX_CONFIGS; made++) {
        if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &list[made])) {
            break;
        }
    }
    if (cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, made, &found,
                                 list)) {
        found = 0;
    }
    for (int i = 0; i < found && i < made && out->n < MAX_CONFIGS; i++) {
        if (!forbidden(list[i], policy)) {
            out->list[out->n++] = list[i];
            list[i] = NULL;
        }
    }
done:
    for (int i = 0; i < made; i++) {
        if (list[i]) {
            cudnnBackendDestroyDescriptor(list[i]);
        }
    }
    cudnnBackendDestroyDescriptor(heuristics);
}

/* Mode A's configurations, best first, then the fallbacks when these are few: they run on anything. */
static void ask_all(cudnnBackendDescriptor_t graph, const struct lk_graph_device *device,
                    const struct lk_graph_policy *policy, struct configs *out) {
    out->n = 0;
    ask(graph, device, CUDNN_HEUR_MODE_A, policy, out);
    if (out->n < 3) {
        ask(graph, device, CUDNN_HEUR_MODE_FALLBACK, policy, out);
    }
}

/* ------------------------------------------------------------------------------------------------- plans */

/* From a configuration, or from the text of an earlier plan where that is given. */
static cudnnStatus_t finalize_plan(cudnnBackendDescriptor_t *plan, const struct lk_graph_device *device,
                                   cudnnBackendDescriptor_t config, const struct lk_buf *text) {
    cudnnStatus_t s = cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, plan);
    if (s) {
        *plan = NULL;
        return s;
    }
    s = cudnnBackendSetAttribute(*plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                 &device->description);
    if (!s) {
        s = text ? cudnnBackendSetAttribute(*plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                            (int64_t)text->size, text->data)
                 : cudnnBackendSetAttribute(*plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
                                            CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &config);
    }
    if (s || (s = cudnnBackendFinalize(*plan))) {
        cudnnBackendDestroyDescriptor(*plan);
        *plan = NULL;
    }
    return s;
}

static void plan_destroy(struct lk_graph_plan *p) {
    if (p && p->plan) {
        cudnnBackendDestroyDescriptor(p->plan);
    }
    free(p);
}

static int plan_make(struct lk_graph_plan **out, const struct lk_graph *g, struct lk_graph_device *d, const char *key,
                     cudnnBackendDescriptor_t config, const struct lk_buf *text) {
    struct lk_graph_plan *p = lk_calloc(1, sizeof *p);
    int64_t n = 0;
    cudnnStatus_t s;
    *out = NULL;
    if (!p) {
        return LK_ENOMEM;
    }
    p->device = d;
    p->users = 1;
    p->n_tensors = g->n_tensors;
    memcpy(p->is_virtual, g->is_virtual, sizeof p->is_virtual);
    memcpy(p->tensor_bytes, g->tensor_bytes, sizeof p->tensor_bytes);
    memcpy(p->key, key, sizeof p->key);
    if ((s = finalize_plan(&p->plan, d, config, text)) ||
        (s = cudnnBackendGetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n,
                                      &p->workspace))) {
        plan_destroy(p);
        (void)lk_graph__failure((int)s, "execution plan");
        return LK_EUNSUPPORTED;
    }
    *out = p;
    return LK_OK;
}

void lk_graph_plan_free(struct lk_graph_plan *p) {
    if (!p || --p->users > 0) {
        return;
    }
    for (struct lk_graph_plan **at = &p->device->plans; *at; at = &(*at)->next) {
        if (*at == p) {
            *at = p->next;
            break;
        }
    }
    plan_destroy(p);
}

size_t lk_graph_workspace(const struct lk_graph_plan *p) { return (size_t)p->workspace; }

int lk_graph_run(const struct lk_graph_plan *p, void *const *pointers, void *workspace) {
    cudnnBackendDescriptor_t pack = NULL;
    int64_t uids[LK_GRAPH_TENSORS];
    void *data[LK_GRAPH_TENSORS];
    int64_t n = 0;
    cudnnStatus_t s;
    for (int i = 0; i < p->n_tensors; i++) {
        if (!p->is_virtual[i]) {
            uids[n] = i + 1;
            data[n++] = pointers[i];
        }
    }
    if ((s = cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack)) == CUDNN_STATUS_SUCCESS &&
        (s = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, uids)) ==
            CUDNN_STATUS_SUCCESS &&
        (s = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, data)) ==
            CUDNN_STATUS_SUCCESS &&
        (s = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace)) ==
            CUDNN_STATUS_SUCCESS &&
        (s = cudnnBackendFinalize(pack)) == CUDNN_STATUS_SUCCESS) {
        s = cudnnBackendExecute(p->device->handle, p->plan, pack);
    }
    if (pack) {
        cudnnBackendDestroyDescriptor(pack);
    }
    return s ? lk_err(LK_EFAIL, "cuDNN execution: %s", cudnnGetErrorString(s)) : LK_OK;
}

/* --------------------------------------------------------------------------------------- plans of earlier runs */

/* Names everything that a choice depends on. */
static void key_of(char key[65], const struct lk_graph *g, const struct lk_graph_device *d,
                   const struct lk_graph_policy *policy) {
    struct lk_sha256 hash;
    uint8_t digest[32];
    char head[384];
    int n = snprintf(head, sizeof head, "1|%zu|%s|%d%d|", cudnnGetVersion(), d->name, policy->exact,
                     policy->deterministic);
    lk_sha256_init(&hash);
    lk_sha256_update(&hash, head, (size_t)n);
    lk_sha256_update(&hash, g->text.data, g->text.size);
    lk_sha256_final(&hash, digest);
    lk_sha256_hex(digest, key);
}

int lk_graph__cache_path(const struct lk_graph_device *d, const char *key, const char *kind, char *path, size_t size) {
    return d->cache_folder && snprintf(path, size, "%s/%.40s.%s", d->cache_folder, key, kind) < (int)size;
}

static struct lk_graph_plan *plan_in_memory(struct lk_graph_device *d, const char *key) {
    for (struct lk_graph_plan *p = d->plans; p; p = p->next) {
        if (!strcmp(p->key, key)) {
            return p;
        }
    }
    return NULL;
}

static int plan_on_disk(struct lk_graph_plan **out, const struct lk_graph *g, struct lk_graph_device *d,
                        const char *key) {
    char path[1024];
    struct lk_buf text = {0};
    int found = lk_graph__cache_path(d, key, "plan", path, sizeof path) && lk_fs_exists(path) &&
                lk_fs_read(&text, path, MOST_CACHED_BYTES) == LK_OK && plan_make(out, g, d, key, NULL, &text) == LK_OK;
    lk_buf_free(&text);
    return found;
}

/* A plan as text, compiled code and all. */
static int plan_text(struct lk_buf *out, cudnnBackendDescriptor_t plan) {
    int64_t size = 0;
    if (cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0, &size,
                                 NULL) ||
        size < 1 || size > MOST_CACHED_BYTES || lk_buf_reserve(out, (size_t)size) ||
        cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, size, &size,
                                 out->data)) {
        return 0;
    }
    out->size = (size_t)size;
    return 1;
}

/* A cache: where it cannot be written the next start times again. */
static void remember(const struct lk_graph_plan *p) {
    char path[1024];
    struct lk_buf text = {0};
    if (lk_graph__cache_path(p->device, p->key, "plan", path, sizeof path) &&
        lk_fs_mkdir_parents(p->device->cache_folder) == LK_OK && plan_text(&text, p->plan)) {
        (void)lk_fs_write_atomic(path, text.data, text.size);
    }
    lk_buf_free(&text);
}

/* ------------------------------------------------------------------------------------------------ choosing */

/* Times up to policy->candidates configurations and keeps the fastest. */
static int choose(const struct lk_graph *g, struct lk_graph_device *d, const char *key,
                  const struct lk_graph_policy *policy, const struct configs *configs, struct lk_graph_plan **out) {
    struct lk_graph__bench b;
    int limit = policy->candidates ? policy->candidates : 8, timed = 0;
    int code = lk_graph__bench_open(&b, g->n_tensors, g->is_virtual, g->tensor_bytes, d->stream);
    float best_ms = 0;
    if (code) {
        return code;
    }
    for (int i = 0; i < configs->n && timed < limit; i++) {
        struct lk_graph_plan *p;
        float ms;
        if (plan_make(&p, g, d, key, configs->list[i], NULL) != LK_OK) {
            continue;
        }
        ms = lk_graph__bench_workspace(&b, lk_graph_workspace(p))
                 ? lk_graph__time(&(struct lk_graph__timed){.plan = p, .pointers = b.tensors, .workspace = b.workspace})
                 : -1;
        timed++;
        if (ms >= 0 && (!*out || ms < best_ms)) {
            plan_destroy(*out);
            *out = p;
            best_ms = ms;
        } else {
            plan_destroy(p);
        }
    }
    lk_graph__bench_close(&b);
    if (!*out) {
        (void)lk_err(LK_EUNSUPPORTED, "cuDNN has no engine that runs %s (%d offered)", g->name, configs->n);
        return LK_EUNSUPPORTED;
    }
    return LK_OK;
}

int lk_graph_build(struct lk_graph *g, struct lk_graph_device *device, const struct lk_graph_policy *policy,
                   struct lk_graph_plan **out) {
    cudnnBackendDescriptor_t graph;
    char key[65];
    int code;
    *out = NULL;
    if (!device->handle) {
        return lk_err(LK_EUNSUPPORTED, "graph %s: a described device runs nothing", g->name);
    }
    if ((code = lk_graph__finish(g, &graph))) {
        return code;
    }
    key_of(key, g, device, policy);
    if ((*out = plan_in_memory(device, key))) {
        (*out)->users++;
        return LK_OK;
    }
    if (!plan_on_disk(out, g, device, key)) {
        struct configs configs;
        ask_all(graph, device, policy, &configs);
        code = choose(g, device, key, policy, &configs, out);
        configs_free(&configs);
        if (code) {
            return code;
        }
        remember(*out);
    }
    (*out)->next = device->plans;
    device->plans = *out;
    return LK_OK;
}

int lk_graph_check(struct lk_graph *g, struct lk_graph_device *device, const struct lk_graph_policy *policy, int tries,
                   struct lk_graph_support *out) {
    cudnnBackendDescriptor_t graph, plan = NULL;
    struct configs configs;
    char detail[512];
    int code;
    memset(out, 0, sizeof *out);
    if ((code = lk_graph__finish(g, &graph))) {
        return code;
    }
    ask_all(graph, device, policy, &configs);
    out->configurations = configs.n;
    for (int i = 0; i < configs.n && i < tries; i++) {
        if (finalize_plan(&plan, device, configs.list[i], NULL) == CUDNN_STATUS_SUCCESS) {
            struct lk_buf text = {0};
            out->precompiled++;
            int kept = plan_text(&text, plan);
            cudnnBackendDestroyDescriptor(plan);
            if (kept && finalize_plan(&plan, device, NULL, &text) == CUDNN_STATUS_SUCCESS) {
                out->restored++;
                cudnnBackendDestroyDescriptor(plan);
            }
            lk_buf_free(&text);
            continue;
        }
        detail[0] = 0;
        cudnnGetLastErrorString(detail, sizeof detail);
        if (strstr(detail, "cuLibraryLoadData")) { /* code generation ended, only the module cannot be loaded */
            out->generated++;
        } else {
            snprintf(out->why, sizeof out->why, "%.255s", detail);
        }
    }
    configs_free(&configs);
    return LK_OK;
}
