/* The closed list of what can be wrong with a request: a lower-case code and its HTTP status. docs/openapi.yaml holds
 * the same list, and a test compares the two. Any file of the server may use it; no HTTP library is needed for it.
 *
 * A fault is one such error with its sentence: what a route answers with, or what stands in the place of one picture
 * among many. */
#ifndef LK_SERVER_ERRORS_H
#define LK_SERVER_ERRORS_H

#include <stdarg.h>

#include "base/buf.h"

enum lk_api_error {
    LK_API_OK,
    LK_API_INVALID_ARGUMENT,
    LK_API_INVALID_ID,
    LK_API_INVALID_JSON,
    LK_API_INVALID_MULTIPART,
    LK_API_EMPTY_BODY,
    LK_API_ANSWER_TOO_LARGE,
    LK_API_UNAUTHORIZED,
    LK_API_FORBIDDEN,
    LK_API_CROSS_SITE,
    LK_API_NOT_FOUND,
    LK_API_ITEM_NOT_FOUND,
    LK_API_METHOD_NOT_ALLOWED,
    LK_API_REQUEST_TIMEOUT,
    LK_API_GENERATION_MISMATCH,
    LK_API_CONFLICT,
    LK_API_LENGTH_REQUIRED,
    LK_API_BODY_TOO_LARGE,
    LK_API_TOO_MANY_IMAGES,
    LK_API_UNSUPPORTED_MEDIA_TYPE,
    LK_API_UNSUPPORTED_IMAGE_FORMAT,
    LK_API_UNKNOWN_HOST,
    LK_API_UNDECODABLE_IMAGE,
    LK_API_INVALID_MODEL,
    LK_API_IMAGE_TOO_LARGE,
    LK_API_OVERLOADED,
    LK_API_INTERNAL_ERROR,
    LK_API_CATALOGUE_DAMAGED,
    LK_API_DRAINING,
    LK_API_NOT_READY,
    LK_API_ENGINE_UNAVAILABLE,
    LK_API_STORAGE_FAILED,
    LK_API_DEADLINE_EXCEEDED,
    LK_API_DISK_FULL,
    LK_API_ERRORS /* how many */
};

const char *lk_api_code(enum lk_api_error error);     /* "invalid_argument" */
unsigned lk_api_http_status(enum lk_api_error error); /* 400 */

struct lk_fault {
    enum lk_api_error error; /* LK_API_OK: no fault */
    char param[80];          /* "" is null in JSON */
    char message[512];
};

/* Fills *f (printf style; what is too long is cut) and returns LK_EFAIL, so that a failing branch is one line. */
int lk_fault_set(struct lk_fault *f, enum lk_api_error error, const char *param, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
int lk_fault_set_v(struct lk_fault *f, enum lk_api_error error, const char *param, const char *format,
                   va_list arguments) __attribute__((format(printf, 4, 0)));

/* The fault for a negative lk_status, with this thread's lk_error() as sentence. */
int lk_fault_from_status(struct lk_fault *f, int status, const char *param);

/* Appends {"code":...,"message":...,"param":...}; LK_ENOMEM. */
int lk_fault_json(struct lk_buf *out, const struct lk_fault *f);
/* Appends a whole answer: {"error":{...}} and a line end. */
int lk_fault_body(struct lk_buf *out, const struct lk_fault *f);

#endif
