/* How far a long command is, on stderr: one line that is drawn over on a terminal, a plain line now and then elsewhere. */
#ifndef LIKENESS_CLI_PROGRESS_H
#define LIKENESS_CLI_PROGRESS_H

#include <stddef.h>

struct progress {
    size_t total, done;
    double began, shown; /* seconds of the monotonic clock */
    int is_terminal, is_drawn;
};

void progress_begin(struct progress *p, size_t total);
void progress_step(struct progress *p, size_t n); /* n more are done */
void progress_clear(struct progress *p);          /* before other lines go to stderr */
double progress_seconds(const struct progress *p);

#endif
