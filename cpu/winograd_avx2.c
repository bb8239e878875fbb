/* The Winograd kernels for AVX2 with FMA: 6 tiles by 16 channels in 12 of 16 registers. */
#define LK_BLOCK 8
#define LK_ROWS 6
#define LK_TABLE lk_cpu__winograd_avx2
#include "winograd_body.h"
