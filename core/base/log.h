/* Log lines on stderr: level, UTC time, message; one write(2) a line, so that threads never mix. */
#ifndef LK_BASE_LOG_H
#define LK_BASE_LOG_H

enum lk_log_level { LK_LOG_ERROR, LK_LOG_WARN, LK_LOG_INFO, LK_LOG_DEBUG };

void lk_log_set_level(enum lk_log_level level); /* default LK_LOG_INFO */
int lk_log_level_from_name(const char *name);   /* "error".."debug" -> level, or LK_EINVAL */
void lk_log(enum lk_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define lk_log_error(...) lk_log(LK_LOG_ERROR, __VA_ARGS__)
#define lk_log_warn(...) lk_log(LK_LOG_WARN, __VA_ARGS__)
#define lk_log_info(...) lk_log(LK_LOG_INFO, __VA_ARGS__)
#define lk_log_debug(...) lk_log(LK_LOG_DEBUG, __VA_ARGS__)

#endif
