/* How much memory there is. Any thread. */
#ifndef LK_BASE_MEMORY_H
#define LK_BASE_MEMORY_H

#include <stdint.h>

/* Bytes that this process may use: the machine's memory, or what its control groups allow when that is less. */
uint64_t lk_memory_total(void);

#endif
