/* The kernels for any processor: 8 channels a block, as oneDNN's SSE4.1 code wants it. Compiled with that option alone: see CMakeLists.txt. */
#define LK_BLOCK 8
#define LK_TABLE lk_cpu__kernels_generic
#include "kernels_body.h"
