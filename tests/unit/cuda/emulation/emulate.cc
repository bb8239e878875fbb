/* See emulate.h. */
#include "emulate.h"

#include <cstdio>
#include <cstring>
#include <memory>
#include <ucontext.h>
#include <vector>

lk_emulated_index threadIdx, blockIdx, blockDim, gridDim;

namespace {

constexpr size_t STACK = 128 * 1024;

/* The fibers of a block, kept from launch to launch. */
struct fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    bool done;
};
std::vector<fiber> fibers;
ucontext_t scheduler;
const std::function<void()> *running;
size_t current;
std::vector<char> shared_memory;

void enter() {
    (*running)();
    fibers[current].done = true;
    swapcontext(&fibers[current].context, &scheduler);
}

lk_emulated_index index_of(size_t thread, dim3 block) {
    return {(unsigned)(thread % block.x), (unsigned)(thread / block.x % block.y),
            (unsigned)(thread / block.x / block.y)};
}

/* Runs every thread to its next barrier, and again, until all have ended. A thread that ends while others wait is what
 * CUDA leaves undefined: it is refused. */
void run_block(dim3 block, size_t threads) {
    for (size_t t = 0; t < threads; t++) {
        fibers[t].done = false;
        getcontext(&fibers[t].context);
        fibers[t].context.uc_stack.ss_sp = fibers[t].stack.get();
        fibers[t].context.uc_stack.ss_size = STACK;
        fibers[t].context.uc_link = nullptr;
        makecontext(&fibers[t].context, enter, 0);
    }
    for (size_t ended = 0; !ended;) {
        for (size_t t = 0; t < threads; t++) {
            current = t;
            threadIdx = index_of(t, block);
            swapcontext(&scheduler, &fibers[t].context);
            ended += fibers[t].done;
        }
        if (ended && ended != threads) {
            fprintf(stderr, "emulation: %zu of %zu threads ended while the others wait at a barrier\n", ended, threads);
            abort();
        }
    }
}

} // namespace

void lk_emulated_barrier() { swapcontext(&fibers[current].context, &scheduler); }

void *lk_emulated_shared() { return shared_memory.data(); }

void lk_emulate(dim3 grid, dim3 block, size_t shared, cudaStream_t stream, bool barriers,
                const std::function<void()> &thread) {
    size_t threads = (size_t)block.x * block.y * block.z;
    (void)stream;
    if (threads < 1 || threads > 1024 || grid.x < 1 || grid.y < 1 || grid.y > 65535 || grid.z != 1 ||
        shared > 48 * 1024) {
        fprintf(stderr, "emulation: a launch that a device refuses: grid %u x %u x %u, %zu threads, %zu bytes\n",
                grid.x, grid.y, grid.z, threads, shared);
        abort();
    }
    while (fibers.size() < threads) {
        fibers.emplace_back();
        fibers.back().stack.reset(new char[STACK]);
    }
    shared_memory.assign(shared, (char)0xFF);
    gridDim = {grid.x, grid.y, grid.z};
    blockDim = {block.x, block.y, block.z};
    running = &thread;
    for (unsigned y = 0; y < grid.y; y++) {
        for (unsigned x = 0; x < grid.x; x++) {
            blockIdx = {x, y, 0};
            if (barriers) {
                run_block(block, threads);
                continue;
            }
            for (size_t t = 0; t < threads; t++) {
                threadIdx = index_of(t, block);
                thread();
            }
        }
    }
}
