/* For args*.c alone. */
#ifndef LK_BASE_ARGS_INTERNAL_H
#define LK_BASE_ARGS_INTERNAL_H

#include "base/args.h"

enum { LK_ARGS__RANGE_TEXT = 96 };

/* "N to M", "at least N", "at most M"; 0 and "" when the option has no range. */
int lk_args__range(char text[LK_ARGS__RANGE_TEXT], const struct lk_arg *a);

/* Bytes as they would be typed: 65536 is "64k". */
void lk_args__size(char *text, size_t size, long long value);

/* Copies the i-th of "a|b|c" into word; 0 when there are fewer. */
int lk_args__choice(char *word, size_t size, const char *choices, size_t i);

#endif
