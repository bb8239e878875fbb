/* What the tests of this folder share: a temporary folder, and files written byte by byte. */
#ifndef TESTS_SAFETENSORS_FIXTURE_H
#define TESTS_SAFETENSORS_FIXTURE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char fixture_folder[64];
static char fixture_file[128]; /* the one file that a case works on */

static inline int fixture_open(void) {
    snprintf(fixture_folder, sizeof fixture_folder, "/tmp/lk-safetensors-XXXXXX");
    if (!mkdtemp(fixture_folder)) {
        perror(fixture_folder);
        return -1;
    }
    snprintf(fixture_file, sizeof fixture_file, "%s/file.safetensors", fixture_folder);
    return 0;
}

static inline void fixture_close(void) {
    unlink(fixture_file);
    rmdir(fixture_folder);
}

/* length (little-endian), the header's n bytes, then data_size bytes counting up from 0. */
static inline void fixture_write(uint64_t length, const char *header, size_t n, size_t data_size) {
    FILE *f = fopen(fixture_file, "wb");
    if (!f) {
        perror(fixture_file);
        exit(1);
    }
    for (int i = 0; i < 8; i++) {
        fputc((int)(length >> 8 * i & 255), f);
    }
    fwrite(header, 1, n, f);
    for (size_t i = 0; i < data_size; i++) {
        fputc((int)(i & 255), f);
    }
    fclose(f);
}

#endif
