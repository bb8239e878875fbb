/* Lets programs see avx512_bf16 where a hypervisor hides a processor's instructions that work all the same, so that bf16
 * can be timed on such a machine with the instructions instead of their emulation:
 *   LD_PRELOAD=build/tests/lib/show_bf16.so tests/bench/run --bf16 ...
 * Linux lets a process have its CPUID instructions fault (arch_prctl, ARCH_SET_CPUID); here the fault's handler executes
 * them and adds the one flag. Ends the process at once where vdpbf16ps cannot be executed. For measurements only: oneDNN,
 * PyTorch and everything else in the process believe it. */
#include <cpuid.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define AVX512_BF16 (1u << 5) /* leaf 7, subleaf 1, EAX */

static sigjmp_buf missing;

static void no_instruction(int signal) {
    (void)signal;
    siglongjmp(missing, 1);
}

static long let_cpuid(unsigned long pass) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, pass); }

static void on_fault(int number, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)r[REG_RIP];
    unsigned leaf = (unsigned)r[REG_RAX], sub = (unsigned)r[REG_RCX], a, b, c, d;
    (void)info;
    if (code[0] != 0x0f || code[1] != 0xa2) { /* a real fault: it comes again, and ends the process */
        signal(number, SIG_DFL);
        return;
    }
    let_cpuid(1);
    __cpuid_count(leaf, sub, a, b, c, d);
    let_cpuid(0);
    if (leaf == 7 && sub == 0 && a < 1) {
        a = 1; /* there is a subleaf 1 */
    } else if (leaf == 7 && sub == 1) {
        a |= AVX512_BF16;
    }
    r[REG_RAX] = a, r[REG_RBX] = b, r[REG_RCX] = c, r[REG_RDX] = d;
    r[REG_RIP] += 2;
}

static void refuse(const char *why) {
    if (write(STDERR_FILENO, why, strlen(why)) < 0) {
        _exit(2);
    }
    _exit(1);
}

__attribute__((constructor)) static void begin(void) {
    struct sigaction attempt = {.sa_handler = no_instruction}, old, fault = {.sa_sigaction = on_fault};
    sigaction(SIGILL, &attempt, &old);
    if (sigsetjmp(missing, 1)) {
        refuse("show_bf16: this processor does not execute vdpbf16ps\n");
    }
    __asm__ volatile("vdpbf16ps %%zmm0, %%zmm0, %%zmm0" ::: "xmm0");
    sigaction(SIGILL, &old, NULL);
    fault.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &fault, NULL);
    if (let_cpuid(0)) {
        refuse("show_bf16: this system cannot make CPUID fault\n");
    }
}
