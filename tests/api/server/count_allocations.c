/* Preloaded into a server: counts the allocations that its own code makes (those of the libraries that it calls are
 * theirs), and writes the count, a long, to the file that COUNT_ALLOCATIONS names whenever SIGUSR1 comes. */
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t alignment, size_t n);

static uintptr_t begin, end; /* of the program */
static atomic_long count;
static const char *path;

static int find_program(struct dl_phdr_info *info, size_t size, void *arg) {
    (void)size, (void)arg;
    begin = info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const uintptr_t last = begin + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
        if (info->dlpi_phdr[i].p_type == PT_LOAD && last > end)
            end = last;
    }
    return 1; /* the first is the program */
}

static void tell(int number) { /* a signal's: nothing but system calls */
    (void)number;
    const long n = atomic_load(&count);
    const int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) : -1;
    if (fd >= 0) {
        (void)!write(fd, &n, sizeof n);
        close(fd);
    }
}

__attribute__((constructor)) static void start(void) {
    path = getenv("COUNT_ALLOCATIONS");
    dl_iterate_phdr(find_program, NULL);
    signal(SIGUSR1, tell);
}

static void note(const void *caller) {
    if ((uintptr_t)caller >= begin && (uintptr_t)caller < end)
        atomic_fetch_add(&count, 1);
}

void *malloc(size_t size) {
    note(__builtin_return_address(0));
    return __libc_malloc(size);
}
void *calloc(size_t nmemb, size_t size) {
    note(__builtin_return_address(0));
    return __libc_calloc(nmemb, size);
}
void *realloc(void *ptr, size_t size) {
    note(__builtin_return_address(0));
    return __libc_realloc(ptr, size);
}
void *aligned_alloc(size_t alignment, size_t size) {
    note(__builtin_return_address(0));
    return __libc_memalign(alignment, size);
}
