/* (Parameters are named as in NVIDIA's header.) The calls of the CUDA runtime that the room makes, on the host: one device, a stream that is always ready. New memory is
 * filled with NaN, so that reading what nobody wrote shows, and is malloc's, so that AddressSanitizer sees its ends. */
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

static int stream_dummy, event_dummy;

static cudaError_t take(void **p, size_t bytes) {
    *p = malloc(bytes ? bytes : 1);
    if (!*p) {
        return cudaErrorMemoryAllocation;
    }
    memset(*p, 0xFF, bytes);
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **devPtr, size_t size) { return take(devPtr, size); }
cudaError_t cudaMallocHost(void **ptr, size_t size) { return take(ptr, size); }
cudaError_t cudaFree(void *devPtr) {
    free(devPtr);
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *ptr) {
    free(ptr);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t count, enum cudaMemcpyKind kind, cudaStream_t stream) {
    (void)kind, (void)stream;
    memcpy(dst, src, count);
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *devPtr, int value, size_t count, cudaStream_t stream) {
    (void)stream;
    memset(devPtr, value, count);
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    (void)flags;
    *stream = (cudaStream_t)(void *)&stream_dummy;
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    (void)stream;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    (void)stream;
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    (void)flags;
    *event = (cudaEvent_t)(void *)&event_dummy;
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    (void)event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    (void)event, (void)stream;
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    (void)event;
    return cudaSuccess;
}
cudaError_t cudaGetLastError(void) { return cudaSuccess; }
const char *cudaGetErrorString(cudaError_t e) { return e == cudaErrorMemoryAllocation ? "out of memory" : "no error"; }
cudaError_t cudaGetDeviceCount(int *count) {
    *count = 1;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }
cudaError_t cudaDriverGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
    (void)device;
    memset(p, 0, sizeof *p);
    strcpy(p->name, "emulated device");
    p->major = 9;
    p->multiProcessorCount = 132;
    p->totalGlobalMem = (size_t)1 << 30;
    return cudaSuccess;
}
