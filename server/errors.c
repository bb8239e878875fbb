#include "errors.h"

#include <stdio.h>

#include "base/err.h"
#include "json.h"

static const struct {
    const char *code;
    unsigned status;
} errors[LK_API_ERRORS] = {
    [LK_API_OK] = {"ok", 200},
    [LK_API_INVALID_ARGUMENT] = {"invalid_argument", 400},
    [LK_API_INVALID_ID] = {"invalid_id", 400},
    [LK_API_INVALID_JSON] = {"invalid_json", 400},
    [LK_API_INVALID_MULTIPART] = {"invalid_multipart", 400},
    [LK_API_EMPTY_BODY] = {"empty_body", 400},
    [LK_API_ANSWER_TOO_LARGE] = {"answer_too_large", 400},
    [LK_API_UNAUTHORIZED] = {"unauthorized", 401},
    [LK_API_FORBIDDEN] = {"forbidden", 403},
    [LK_API_CROSS_SITE] = {"cross_site", 403},
    [LK_API_NOT_FOUND] = {"not_found", 404},
    [LK_API_ITEM_NOT_FOUND] = {"item_not_found", 404},
    [LK_API_METHOD_NOT_ALLOWED] = {"method_not_allowed", 405},
    [LK_API_REQUEST_TIMEOUT] = {"request_timeout", 408},
    [LK_API_GENERATION_MISMATCH] = {"generation_mismatch", 409},
    [LK_API_CONFLICT] = {"conflict", 409},
    [LK_API_LENGTH_REQUIRED] = {"length_required", 411},
    [LK_API_BODY_TOO_LARGE] = {"body_too_large", 413},
    [LK_API_TOO_MANY_IMAGES] = {"too_many_images", 413},
    [LK_API_UNSUPPORTED_MEDIA_TYPE] = {"unsupported_media_type", 415},
    [LK_API_UNSUPPORTED_IMAGE_FORMAT] = {"unsupported_image_format", 415},
    [LK_API_UNKNOWN_HOST] = {"unknown_host", 421},
    [LK_API_UNDECODABLE_IMAGE] = {"undecodable_image", 422},
    [LK_API_INVALID_MODEL] = {"invalid_model", 422},
    [LK_API_IMAGE_TOO_LARGE] = {"image_too_large", 422},
    [LK_API_OVERLOADED] = {"overloaded", 429},
    [LK_API_INTERNAL_ERROR] = {"internal_error", 500},
    [LK_API_CATALOGUE_DAMAGED] = {"catalogue_damaged", 500},
    [LK_API_DRAINING] = {"draining", 503},
    [LK_API_NOT_READY] = {"not_ready", 503},
    [LK_API_ENGINE_UNAVAILABLE] = {"engine_unavailable", 503},
    [LK_API_STORAGE_FAILED] = {"storage_failed", 503},
    [LK_API_DEADLINE_EXCEEDED] = {"deadline_exceeded", 504},
    [LK_API_DISK_FULL] = {"disk_full", 507},
};

const char *lk_api_code(enum lk_api_error error) { return errors[error].code; }

unsigned lk_api_http_status(enum lk_api_error error) { return errors[error].status; }

int lk_fault_set_v(struct lk_fault *f, enum lk_api_error error, const char *param, const char *format,
                   va_list arguments) {
    f->error = error;
    snprintf(f->param, sizeof f->param, "%s", param ? param : "");
    vsnprintf(f->message, sizeof f->message, format, arguments);
    return LK_EFAIL;
}

int lk_fault_set(struct lk_fault *f, enum lk_api_error error, const char *param, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int rc = lk_fault_set_v(f, error, param, format, arguments);
    va_end(arguments);
    return rc;
}

int lk_fault_from_status(struct lk_fault *f, int status, const char *param) {
    enum lk_api_error error = LK_API_INTERNAL_ERROR;
    switch (status) {
    case LK_EINVAL: error = LK_API_INVALID_ARGUMENT; break;
    case LK_ENOTFOUND: error = LK_API_ITEM_NOT_FOUND; break;
    case LK_ELIMIT:
    case LK_EBUSY: error = LK_API_OVERLOADED; break;
    case LK_ENOSPACE: error = LK_API_DISK_FULL; break;
    case LK_EIO: error = LK_API_STORAGE_FAILED; break;
    case LK_EFORMAT: error = LK_API_CATALOGUE_DAMAGED; break;
    case LK_ECONFLICT: error = LK_API_GENERATION_MISMATCH; break;
    default: break;
    }
    const char *text = lk_error();
    return lk_fault_set(f, error, param, "%s", text[0] ? text : lk_status_name(status));
}

int lk_fault_json(struct lk_buf *out, const struct lk_fault *f) {
    int rc;
    if ((rc = lk_buf_printf(out, "{\"code\":\"%s\",\"message\":", lk_api_code(f->error))) ||
        (rc = lk_json_text(out, f->message)) || (rc = lk_json_raw(out, ",\"param\":")) ||
        (rc = f->param[0] ? lk_json_text(out, f->param) : lk_json_raw(out, "null")) || (rc = lk_json_raw(out, "}")))
        return rc;
    return 0;
}

int lk_fault_body(struct lk_buf *out, const struct lk_fault *f) {
    int rc;
    if ((rc = lk_json_raw(out, "{\"error\":")) || (rc = lk_fault_json(out, f)) || (rc = lk_json_raw(out, "}\n")))
        return rc;
    return 0;
}
