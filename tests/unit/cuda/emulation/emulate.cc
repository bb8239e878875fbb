/* See emulate.h. */
#undef _FORTIFY_SOURCE /* it takes a jump to another stack for an error */
#include "emulate.h"

#include "stream.h"

#include <cstdio>
#include <cstring>
#include <memory>
#include <setjmp.h>
#include <ucontext.h>
#include <vector>

lk_emulated_index threadIdx, blockIdx, blockDim, gridDim;

namespace {

constexpr size_t STACK = 128 * 1024;

/* The fibers of a block, kept from launch to launch, as each runs kernel after kernel. A fiber's first turn is begun by
 * ucontext; places are changed by jumps, because ucontext makes a system call each time, except under AddressSanitizer,
 * which knows no jumps between stacks. */
struct fiber {
    ucontext_t context;
    jmp_buf place;
    std::unique_ptr<char[]> stack;
    bool begun, done;
};
std::vector<std::unique_ptr<fiber>> fibers;
const std::function<void()> *running;
size_t current;
std::vector<char> shared_memory;

#ifdef __SANITIZE_ADDRESS__
ucontext_t scheduler;
void leave(fiber &f) { swapcontext(&f.context, &scheduler); }
void resume(fiber &f) { swapcontext(&scheduler, &f.context); }
#else
jmp_buf scheduler;
void leave(fiber &f) {
    if (!_setjmp(f.place)) {
        _longjmp(scheduler, 1);
    }
}
void resume(fiber &f) {
    if (_setjmp(scheduler)) {
        return;
    }
    if (f.begun) {
        _longjmp(f.place, 1);
    }
    f.begun = true;
    setcontext(&f.context);
}
#endif

void enter() {
    for (;;) {
        (*running)();
        fibers[current]->done = true;
        leave(*fibers[current]);
    }
}

void add_fiber() {
    fibers.emplace_back(new fiber());
    fiber &f = *fibers.back();
    f.stack.reset(new char[STACK]);
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
        fibers[t]->done = false;
    }
    size_t ended = 0;
    for (size_t turn = blockIdx.x; !ended; turn++) {
        for (size_t i = 0; i < threads; i++) {
            current = in_turn(i, threads, turn);
            threadIdx = index_of(current, block);
            resume(*fibers[current]);
            ended += fibers[current]->done;
        }
        if (ended && ended != threads) {
            fprintf(stderr, "emulation: %zu of %zu threads ended while the others wait at a barrier\n", ended, threads);
            abort();
        }
    }
}

} // namespace

void lk_emulated_barrier() { leave(*fibers[current]); }

void *lk_emulated_shared() { return shared_memory.data(); }

namespace {

void run_grid(dim3 grid, dim3 block, size_t shared, bool barriers, const std::function<void()> &thread) {
    size_t threads = (size_t)block.x * block.y * block.z;
    while (fibers.size() < threads) {
        add_fiber();
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

} // namespace

void lk_emulate(dim3 grid, dim3 block, size_t shared, cudaStream_t stream, bool barriers,
                std::function<void()> thread) {
    size_t threads = (size_t)block.x * block.y * block.z;
    if (threads < 1 || threads > 1024 || grid.x < 1 || grid.y < 1 || grid.y > 65535 || grid.z != 1 ||
        shared > 48 * 1024) {
        fprintf(stderr, "emulation: a launch that a device refuses: grid %u x %u x %u, %zu threads, %zu bytes\n",
                grid.x, grid.y, grid.z, threads, shared);
        abort();
    }
    lk_emulated_issue(stream, [=] { run_grid(grid, block, shared, barriers, thread); });
}
