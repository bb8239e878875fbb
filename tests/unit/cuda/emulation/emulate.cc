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

void prepare(fiber &f) {
    f.done = false;
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.get();
    f.context.uc_stack.ss_size = STACK;
    f.context.uc_link = nullptr;
    makecontext(&f.context, enter, 0);
}

lk_emulated_index index_of(size_t thread, dim3 block) {
    return {(unsigned)(thread % block.x), (unsigned)(thread / block.x % block.y),
            (unsigned)(thread / block.x / block.y)};
}

/* Threads go forwards and backwards by turns, so that a barrier that is missing shows in the results. */
size_t in_turn(size_t i, size_t threads, size_t turn) { return turn % 2 ? threads - 1 - i : i; }

/* Runs every thread to its next barrier, and again, until all have ended. A thread that ends while others wait is what
 * CUDA leaves undefined: it is refused. */
void run_block(dim3 block, size_t threads) {
    for (size_t t = 0; t < threads; t++) {
        prepare(fibers[t]);
    }
    size_t ended = 0;
    for (size_t turn = blockIdx.x; !ended; turn++) {
        for (size_t i = 0; i < threads; i++) {
            current = in_turn(i, threads, turn);
            threadIdx = index_of(current, block);
            swapcontext(&scheduler, &fibers[current].context);
            ended += fibers[current].done;
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
            for (size_t i = 0; i < threads; i++) {
                threadIdx = index_of(in_turn(i, threads, x), block);
                thread();
            }
        }
    }
}
