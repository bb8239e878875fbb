/* The tar of a server's export, as the trainer reads it: every picture lies in the file, ids are in order and none is there
 * twice. */
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "trainer/items.h"

/* Contents begin at blocks of 512 bytes. */
static int is_in(const uint8_t *data, size_t size, const struct lk_buf *picture) {
    for (size_t at = 0; at < size && picture->size <= size - at; at += 512)
        if (picture->size == 0 || memcmp(data + at, picture->data, picture->size) == 0)
            return 1;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    struct lk_items items = {0};
    struct lk_buf picture = {0};
    int fd = memfd_create("fuzz", 0);
    fuzz_check(fd >= 0 && write(fd, data, size) == (ssize_t)size, "a file in memory");
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int rc = lk_items_export(&items, path, "label");
    fuzz_check(rc == 0 || lk_error()[0] != 0, "a refusal says why");
    for (size_t i = 0; rc == 0 && i < items.n; i++) {
        fuzz_check(i == 0 || strcmp(items.name[i - 1], items.name[i]) < 0, "ids in order, none twice");
        fuzz_check(items.read(&items, i, &picture) == 0, "a picture that was found can be read");
        fuzz_check(is_in(data, size, &picture), "and lies in the file, where a tar has its contents");
    }
    lk_buf_free(&picture);
    lk_items_close(&items);
    (void)close(fd);
    return 0;
}
