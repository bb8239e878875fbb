/* The Winograd kernels for AVX-512: 14 tiles by 32 channels in 28 of 32 registers. */
#define LK_BLOCK 16
#define LK_ROWS 14
#define LK_TABLE lk_cpu__winograd_avx512
#include "winograd_body.h"
