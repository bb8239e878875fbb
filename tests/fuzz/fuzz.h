/* What every fuzz target includes. A target is one file with LLVMFuzzerTestOneInput, which feeds bytes to one parser and
 * calls abort() when an answer contradicts itself; crashes, reads out of bounds, leaks and hangs are the sanitizers' to
 * find. It is linked to libFuzzer with LK_FUZZ=ON, and to replay.c in every build. */
#ifndef LK_TESTS_FUZZ_H
#define LK_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void fuzz_check(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "does not hold: %s\n", what);
        abort();
    }
}

/* The input as NUL-terminated text of exactly its size, so that a read past the end is found. free() it. */
static inline char *fuzz_text(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    fuzz_check(text != NULL, "memory");
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    return text;
}

#endif
