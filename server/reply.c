/* Answers that need no HTTP library: errors in all their forms. */
#include <stdarg.h>

#include "base/err.h"
#include "http.h"

void lk_reply_error(struct lk_request *r, enum lk_api_error error, const char *param, const char *format, ...) {
    struct lk_fault f = {0};
    va_list arguments;
    va_start(arguments, format);
    lk_fault_set_v(&f, error, param, format, arguments);
    va_end(arguments);
    lk_reply_fault(r, &f);
}

void lk_reply_status(struct lk_request *r, int status, const char *param) {
    struct lk_fault f = {0};
    lk_fault_from_status(&f, status, param);
    lk_reply_fault(r, &f);
}
