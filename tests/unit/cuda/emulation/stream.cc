/* (Parameters are named as in NVIDIA's header.) See stream.h. Memory too, because giving it back waits for work. New memory
 * is filled with NaN, so that reading what nobody wrote shows, and is malloc's, so that AddressSanitizer sees its ends. */
#include "stream.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <cuda_runtime_api.h>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace {

using work = std::function<void()>;

struct stream {
    std::deque<work> queue;
    uint64_t ran = 0;
    bool captures = false, broken = false;
    std::vector<work> captured;
};
struct event {
    stream *on = nullptr; /* recorded here */
    uint64_t at = 0;      /* passed when as much has run */
};
struct graph {
    std::vector<work> nodes;
};

std::set<stream *> streams;
std::map<const char *, size_t> pinned; /* first byte, size */
std::string refused;
size_t waits, launches;

stream *of(cudaStream_t s) { return reinterpret_cast<stream *>(s); }
event *of(cudaEvent_t e) { return reinterpret_cast<event *>(e); }

void run_to(stream *s, uint64_t at) {
    waits += s->ran < at && !s->queue.empty();
    while (s->ran < at && !s->queue.empty()) {
        work next = std::move(s->queue.front());
        s->queue.pop_front();
        next();
        s->ran++;
    }
}

void run_all() {
    for (stream *s : streams) {
        run_to(s, UINT64_MAX);
    }
}

/* A call that no capture may contain: it breaks those that are going on. */
cudaError_t outside(const char *function) {
    if (refused == function) {
        return cudaErrorNotSupported;
    }
    for (stream *s : streams) {
        if (s->captures) {
            s->broken = true;
            return cudaErrorStreamCaptureUnsupported;
        }
    }
    return cudaSuccess;
}

void issue(stream *s, work w) {
    if (s->captures) {
        s->captured.push_back(std::move(w));
    } else {
        s->queue.push_back(std::move(w));
    }
}

bool is_pinned(const void *p, size_t count) {
    const char *at = static_cast<const char *>(p);
    auto after = pinned.upper_bound(at);
    if (after == pinned.begin()) {
        return false;
    }
    --after;
    return at + count <= after->first + after->second;
}

cudaError_t take(const char *function, void **p, size_t bytes) {
    cudaError_t e = refused == function ? cudaErrorMemoryAllocation : outside(function);
    if (e != cudaSuccess) {
        return e;
    }
    *p = malloc(bytes ? bytes : 1);
    if (!*p) {
        return cudaErrorMemoryAllocation;
    }
    memset(*p, 0xFF, bytes);
    return cudaSuccess;
}

cudaError_t give(const char *function, void *p) {
    cudaError_t e = p ? outside(function) : cudaSuccess;
    if (e == cudaSuccess && p) {
        run_all();
        pinned.erase(static_cast<const char *>(p));
        free(p);
    }
    return e;
}

} // namespace

void lk_emulated_issue(void *s, work w) { issue(static_cast<stream *>(s), std::move(w)); }

void lk_emulated_issue_call(void *s, void (*run)(const void *), const void *arg, size_t bytes) {
    std::vector<char> copy(static_cast<const char *>(arg), static_cast<const char *>(arg) + bytes);
    issue(static_cast<stream *>(s), [=] { run(copy.data()); });
}

size_t lk_emulated_waits(void) { return waits; }
size_t lk_emulated_launches(void) { return launches; }
void lk_emulated_refuse(const char *cuda_function) { refused = cuda_function ? cuda_function : ""; }

/* --- memory */
cudaError_t cudaMalloc(void **devPtr, size_t size) { return take("cudaMalloc", devPtr, size); }
cudaError_t cudaMallocHost(void **ptr, size_t size) {
    cudaError_t e = take("cudaMallocHost", ptr, size);
    if (e == cudaSuccess) {
        pinned[static_cast<const char *>(*ptr)] = size;
    }
    return e;
}
cudaError_t cudaFree(void *devPtr) { return give("cudaFree", devPtr); }
cudaError_t cudaFreeHost(void *ptr) { return give("cudaFreeHost", ptr); }

/* Pageable memory is read before the call returns, and written before it returns. */
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t count, enum cudaMemcpyKind kind, cudaStream_t s) {
    bool host = (kind == cudaMemcpyHostToDevice && !is_pinned(src, count)) ||
                (kind == cudaMemcpyDeviceToHost && !is_pinned(dst, count));
    cudaError_t e = host ? outside("cudaMemcpyAsync") : cudaSuccess;
    if (e != cudaSuccess) {
        return e;
    }
    if (host && kind == cudaMemcpyHostToDevice) {
        std::vector<char> copy(static_cast<const char *>(src), static_cast<const char *>(src) + count);
        issue(of(s), [=] { memcpy(dst, copy.data(), copy.size()); });
        return cudaSuccess;
    }
    issue(of(s), [=] { memcpy(dst, src, count); });
    if (host) {
        run_to(of(s), UINT64_MAX);
    }
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *devPtr, int value, size_t count, cudaStream_t s) {
    issue(of(s), [=] { memset(devPtr, value, count); });
    return cudaSuccess;
}

/* --- streams and events */
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *pStream, unsigned flags) {
    (void)flags;
    stream *s = new stream;
    streams.insert(s);
    *pStream = reinterpret_cast<cudaStream_t>(s);
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
    run_to(of(s), UINT64_MAX);
    streams.erase(of(s));
    delete of(s);
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    cudaError_t e = outside("cudaStreamSynchronize");
    if (e == cudaSuccess) {
        run_to(of(s), UINT64_MAX);
    }
    return e;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags) {
    (void)flags;
    *e = reinterpret_cast<cudaEvent_t>(new event);
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t e) {
    delete of(e);
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    if (of(s)->captures) { /* lawful, but such an event orders captured work alone: nobody here means that */
        return outside("cudaEventRecord");
    }
    of(e)->on = of(s);
    of(e)->at = of(s)->ran + of(s)->queue.size();
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    cudaError_t refusal = outside("cudaEventSynchronize");
    if (refusal == cudaSuccess && of(e)->on) {
        run_to(of(e)->on, of(e)->at);
    }
    return refusal;
}

/* --- graphs */
cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode) {
    (void)mode;
    cudaError_t e = outside("cudaStreamBeginCapture");
    if (e == cudaSuccess) {
        of(s)->captures = true;
        of(s)->broken = false;
        of(s)->captured.clear();
    }
    return e;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *pGraph) {
    *pGraph = nullptr;
    if (!of(s)->captures) {
        return cudaErrorIllegalState;
    }
    of(s)->captures = false;
    if (of(s)->broken) {
        return cudaErrorStreamCaptureInvalidated;
    }
    *pGraph = reinterpret_cast<cudaGraph_t>(new graph{std::move(of(s)->captured)});
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *pGraphExec, cudaGraph_t g, unsigned long long flags) {
    (void)flags;
    cudaError_t e = outside("cudaGraphInstantiate");
    if (e == cudaSuccess) {
        *pGraphExec = reinterpret_cast<cudaGraphExec_t>(new graph(*reinterpret_cast<graph *>(g)));
    }
    return e;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t graphExec, cudaStream_t s) {
    (void)graphExec, (void)s;
    return outside("cudaGraphUpload");
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graphExec, cudaStream_t s) {
    cudaError_t e = outside("cudaGraphLaunch"); /* a child graph: nobody here means that */
    if (e == cudaSuccess) {
        launches++;
        for (const work &w : reinterpret_cast<graph *>(graphExec)->nodes) {
            issue(of(s), w);
        }
    }
    return e;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graphExec) {
    delete reinterpret_cast<graph *>(graphExec);
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t g) {
    delete reinterpret_cast<graph *>(g);
    return cudaSuccess;
}
