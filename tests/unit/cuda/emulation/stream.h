/* The emulated device's streams: work is kept and runs when somebody waits for it, so that host code which does not wait
 * where it has to meets memory that has changed too early or not yet. A capture keeps work apart, with arguments as they
 * were at the call; a graph's launch issues it again. What CUDA refuses while a stream is captured is refused here. */
#ifndef LK_TESTS_EMULATED_STREAM_H
#define LK_TESTS_EMULATED_STREAM_H

#include <stddef.h>

#ifdef __cplusplus
#include <functional>
void lk_emulated_issue(void *stream, std::function<void()> work);
extern "C" {
#endif

/* Work by C code: run(arg), arg a copy of these bytes. */
void lk_emulated_issue_call(void *stream, void (*run)(const void *arg), const void *arg, size_t bytes);

/* For tests. */
size_t lk_emulated_waits(void);                     /* how often a call has had to wait for work */
size_t lk_emulated_launches(void);                  /* of graphs */
size_t lk_emulated_fused_runs(void);                /* of graphs that leave sums (graphs.c) */
void lk_emulated_refuse(const char *cuda_function); /* from now on it fails; NULL: none does */

#ifdef __cplusplus
}
#endif

#endif
