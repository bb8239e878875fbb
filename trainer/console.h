/* What a person sees: on a terminal one line that is rewritten in place, elsewhere plain lines. Results go to stdout,
 * the rewritten line to stderr. Warnings and errors go through base/log.h after lk_console_clear. */
#ifndef LK_TRAINER_CONSOLE_H
#define LK_TRAINER_CONSOLE_H

#include <stdint.h>

struct lk_console {
    int terminal;       /* stderr is one */
    int drawn;          /* a progress line stands on the screen */
    double last, every; /* seconds between progress lines: .2 on a terminal, 60 elsewhere */
};

void lk_console_init(struct lk_console *c);
double lk_console_now(void); /* seconds, monotonic */

/* A line on stdout. */
void lk_console_line(struct lk_console *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* 1 when it is time for the next progress line. */
int lk_console_due(const struct lk_console *c);
/* The progress line. */
void lk_console_progress(struct lk_console *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Of a transfer, with the console as arg: "12.3 MB". */
void lk_console_bytes(void *console, uint64_t bytes);
void lk_console_clear(struct lk_console *c);

/* Says on stderr what lk_error() holds about the command line of `command`, and returns the exit status for it: 2. */
int lk_wrong_usage(const char *command);

/* "38 s", "12 min", "3 h 05 min", "2 d 4 h". */
void lk_console_duration(char text[32], double seconds);

#endif
