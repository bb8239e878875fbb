/* The kernels for AVX-512 (F, BW, DQ, VL). Compiled with that option alone: see CMakeLists.txt. */
#define LK_BLOCK 16
#define LK_TABLE lk_cpu__kernels_avx512
#include "kernels_body.h"
