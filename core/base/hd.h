/* LK_HD marks a function that gcc and nvcc both compile, so that the CPU and the GPU run the same arithmetic.
 * Such a body stays in the subset that C11 and C++17 share: no restrict, no VLA, no implicit void* conversion. */
#ifndef LK_BASE_HD_H
#define LK_BASE_HD_H

#ifdef __CUDACC__
#define LK_HD static __host__ __device__ inline
#else
#define LK_HD static inline
#endif

#endif
