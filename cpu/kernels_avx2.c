/* The kernels for AVX2. Compiled with that option alone: see CMakeLists.txt. */
#define LK_BLOCK 8
#define LK_TABLE lk_cpu__kernels_avx2
#include "kernels_body.h"
