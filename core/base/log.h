/* Log lines on stderr: level, UTC time, message; one write(2) a line, so that threads never mix. As text, or as one JSON
 * object a line: {"time","level","message",...}. */
#ifndef LK_BASE_LOG_H
#define LK_BASE_LOG_H

#include <stddef.h>

enum lk_log_level { LK_LOG_ERROR, LK_LOG_WARN, LK_LOG_INFO, LK_LOG_DEBUG };

void lk_log_set_level(enum lk_log_level level); /* default LK_LOG_INFO */
int lk_log_level_from_name(const char *name);   /* "error".."debug" -> level, or LK_EINVAL */
void lk_log(enum lk_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

void lk_log_set_json(int on); /* default 0 */

struct lk_log_field { /* of a line with parts that machines read */
    const char *name;
    const char *text; /* NULL: the number */
    double number;
    int decimals; /* written of the number */
};
/* message name=value name="value" ...; in JSON each is a member. */
void lk_log_fields(enum lk_log_level level, const char *message, const struct lk_log_field *fields, size_t n);

#define lk_log_error(...) lk_log(LK_LOG_ERROR, __VA_ARGS__)
#define lk_log_warn(...) lk_log(LK_LOG_WARN, __VA_ARGS__)
#define lk_log_info(...) lk_log(LK_LOG_INFO, __VA_ARGS__)
#define lk_log_debug(...) lk_log(LK_LOG_DEBUG, __VA_ARGS__)

#endif
