/* Timing on the device: one plan against others, and a fused graph against a plain one with our own kernels behind it. */
#include <cuda_runtime_api.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "graph_internal.h"

static int launch(const struct lk_graph__timed *t) {
    int code = lk_graph_run(t->plan, t->pointers, t->workspace);
    return code || !t->rest ? code : t->rest(t->arg, t->pointers);
}

float lk_graph__time(const struct lk_graph__timed *t) {
    cudaStream_t stream = t->plan->device->stream;
    cudaEvent_t begin = NULL, end = NULL;
    float best = -1, ms;
    if (cudaEventCreate(&begin) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess && launch(t) == LK_OK &&
        cudaStreamSynchronize(stream) == cudaSuccess) {
        for (int i = 0; i < 5; i++) {
            if (cudaEventRecord(begin, stream) != cudaSuccess || launch(t) != LK_OK ||
                cudaEventRecord(end, stream) != cudaSuccess || cudaEventSynchronize(end) != cudaSuccess ||
                cudaEventElapsedTime(&ms, begin, end) != cudaSuccess) {
                best = -1;
                break;
            }
            best = best < 0 || ms < best ? ms : best;
        }
    }
    if (begin) {
        cudaEventDestroy(begin);
    }
    if (end) {
        cudaEventDestroy(end);
    }
    (void)cudaGetLastError(); /* of a candidate that failed; a broken device shows in whatever comes next */
    return best;
}

void lk_graph__bench_close(struct lk_graph__bench *b) {
    for (int i = 0; i < LK_GRAPH_TENSORS; i++) {
        cudaFree(b->tensors[i]);
    }
    cudaFree(b->workspace);
}

int lk_graph__bench_open(struct lk_graph__bench *b, int n, const int *is_virtual, const size_t *bytes,
                         cudaStream_t stream) {
    memset(b, 0, sizeof *b);
    for (int i = 0; i < n; i++) {
        if (!is_virtual[i] && (cudaMalloc(&b->tensors[i], bytes[i]) != cudaSuccess ||
                               cudaMemsetAsync(b->tensors[i], 0, bytes[i], stream) != cudaSuccess)) {
            (void)cudaGetLastError();
            lk_graph__bench_close(b);
            return lk_err(LK_ENOMEM, "no device memory to time a graph");
        }
    }
    return LK_OK;
}

int lk_graph__bench_workspace(struct lk_graph__bench *b, size_t bytes) {
    if (bytes <= b->workspace_size) {
        return 1;
    }
    cudaFree(b->workspace);
    b->workspace = NULL;
    b->workspace_size = 0;
    if (cudaMalloc(&b->workspace, bytes) != cudaSuccess) {
        (void)cudaGetLastError();
        return 0;
    }
    b->workspace_size = bytes;
    return 1;
}

/* -1: nobody has timed it. */
static int remembered(const char *path) {
    struct lk_buf text = {0};
    int found = lk_fs_exists(path) && lk_fs_read(&text, path, 16) == LK_OK && text.size > 0;
    int answer = !found ? -1 : text.data[0] == '1' ? 1 : text.data[0] == '0' ? 0 : -1;
    lk_buf_free(&text);
    return answer;
}

int lk_graph_faster(const struct lk_graph_plan *fused, const struct lk_graph_plan *plain,
                    int (*rest)(void *arg, void *const *tensors), void *arg) {
    const struct lk_graph_plan *plans[2] = {fused, plain};
    cudaStream_t stream = fused->device->stream;
    char path[1024];
    int kept = lk_graph__cache_path(fused->device, fused->key, "faster", path, sizeof path),
        answer = kept ? remembered(path) : -1;
    struct lk_graph__bench b[2];
    float ms[2] = {-1, -1};
    if (answer >= 0) {
        return answer;
    }
    for (int i = 0; i < 2; i++) {
        if (lk_graph__bench_open(&b[i], plans[i]->n_tensors, plans[i]->is_virtual, plans[i]->tensor_bytes, stream)) {
            if (i) {
                lk_graph__bench_close(&b[0]);
            }
            return 0;
        }
    }
    for (int turn = 0; turn < 6; turn++) {
        int i = turn % 2;
        if (lk_graph__bench_workspace(&b[i], lk_graph_workspace(plans[i]))) {
            float t = lk_graph__time(
                &(struct lk_graph__timed){plans[i], b[i].tensors, b[i].workspace, i ? rest : NULL, arg});
            ms[i] = t >= 0 && (ms[i] < 0 || t < ms[i]) ? t : ms[i];
        }
    }
    lk_graph__bench_close(&b[0]);
    lk_graph__bench_close(&b[1]);
    answer = ms[0] >= 0 && ms[1] >= 0 && ms[0] < ms[1];
    if (kept && ms[0] >= 0 && ms[1] >= 0 && lk_fs_mkdir_parents(fused->device->cache_folder) == LK_OK) {
        (void)lk_fs_write_atomic(path, answer ? "1\n" : "0\n", 2);
    }
    return answer;
}
