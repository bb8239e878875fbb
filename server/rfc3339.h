/* Times as text: RFC 3339, section 5.6 ("2024-01-31T12:00:00.5+01:00"). Pure functions. */
#ifndef LK_SERVER_RFC3339_H
#define LK_SERVER_RFC3339_H

#include <stddef.h>
#include <stdint.h>

struct lk_instant {
    int64_t seconds;     /* since 1970, without leap seconds */
    int32_t nanoseconds; /* 0..999999999; what is finer is cut */
};

/* 1: the n bytes are a time, written to *out. 'T' and 'Z' may be small letters or, for 'T', a blank. A date alone is its
 * first moment in UTC. 0: they are none; *out is as it was. */
int lk_rfc3339_parse(struct lk_instant *out, const char *text, size_t n);
int lk_instant_compare(const struct lk_instant *a, const struct lk_instant *b); /* -1, 0, 1 */

#endif
