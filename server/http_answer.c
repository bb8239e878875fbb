/* The answer of a request: taken from its handler on any thread, in whole or in pieces. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "http_internal.h"

enum {
    FREE_ANSWER = 16 << 10, /* bytes that nobody counts, so that usual answers take no lock */
    ONE_OF = 4              /* a single answer may take this part of the memory of all */
};

static void answered(struct lk_request_private *p) {
    p->answered = 1;
    if (p->on_pool)
        lk_http_resume(p);
}

void lk_reply_header(struct lk_request *r, const char *name, const char *value) {
    struct lk_request_private *p = r->http;
    if (p->n_headers == LK_HTTP_ANSWER_HEADERS)
        return;
    p->headers[p->n_headers].name = name;
    snprintf(p->headers[p->n_headers++].value, sizeof p->headers[0].value, "%s", value);
}

int lk_request_hold(struct lk_request *r, uint64_t bytes) {
    struct lk_request_private *p = r->http;
    const uint64_t limit = (uint64_t)p->http->options.answer_memory;
    if (bytes <= p->held || bytes <= FREE_ANSWER)
        return 0;
    if (bytes > limit / ONE_OF)
        return lk_err(
            LK_ELIMIT,
            "the answer would take more than %llu bytes, 1/%d of what all answers may: ask for less at a time",
            (unsigned long long)(limit / ONE_OF), ONE_OF);
    if (!lk_budget_try(&p->http->answers, bytes - p->held))
        return lk_err(LK_EBUSY, "the answers in memory reach their limit of %llu bytes", (unsigned long long)limit);
    p->held = bytes;
    return 0;
}

int lk_request_hold_fault(struct lk_fault *f, int status) {
    return status == LK_ELIMIT ? lk_fault_set(f, LK_API_ANSWER_TOO_LARGE, NULL, "%s", lk_error())
                               : lk_fault_from_status(f, status, NULL);
}

struct lk_buf lk_reply_buffer(struct lk_request *r) {
    struct lk_buf room = r->http->room;
    r->http->room = (struct lk_buf){0};
    return room;
}

void lk_reply(struct lk_request *r, unsigned status, const char *type, struct lk_buf *body) {
    struct lk_request_private *p = r->http;
    p->status = status;
    p->type = type;
    if (body) {
        p->bytes = *body;
        *body = (struct lk_buf){0};
    }
    answered(p);
}

void lk_reply_static(struct lk_request *r, unsigned status, const char *type, const void *bytes, size_t n) {
    struct lk_request_private *p = r->http;
    p->status = status;
    p->type = type;
    p->fixed = bytes;
    p->fixed_size = n;
    answered(p);
}

void lk_reply_stream(struct lk_request *r, unsigned status, const char *type,
                     int (*fill)(struct lk_request *r, struct lk_buf *out, int *end)) {
    struct lk_request_private *p = r->http;
    p->status = status;
    p->type = type;
    p->fill = fill;
    answered(p);
}

static int retry_after(struct lk_http *http) {
    return http->app.retry_after ? http->app.retry_after(http->app.context) : 1;
}

void lk_reply_fault(struct lk_request *r, const struct lk_fault *f) {
    struct lk_request_private *p = r->http;
    struct lk_buf body = {0};
    if (lk_fault_body(&body, f))
        lk_buf_clear(&body);
    unsigned status = lk_api_http_status(f->error);
    p->refused = f->error == LK_API_DRAINING && atomic_load(&p->http->cut);
    if (status >= 500 && !lk_request_gone(r)) /* who left does not need an answer, nor the log a line */
        lk_log_warn("id=%s %s: %s", r->id, lk_api_code(f->error), f->message);
    if (status == 429 || status == 503) {
        char seconds[16];
        snprintf(seconds, sizeof seconds, "%d", retry_after(p->http));
        lk_reply_header(r, "Retry-After", seconds);
    }
    lk_reply(r, status, "application/json", &body);
}

void lk_http_fill_job(void *arg) {
    struct lk_request_private *p = arg;
    lk_buf_clear(&p->bytes);
    p->fill_offset = 0;
    if (atomic_load(&p->http->cut))
        p->fill_failed = 1;
    else if (p->fill(&p->r, &p->bytes, &p->fill_end)) {
        lk_log_error("id=%s the answer is cut short: %s", p->r.id, lk_error());
        p->fill_failed = 1;
    }
    lk_http_resume(p);
}

void lk_http_answer_raw(int fd, const struct lk_fault *f) {
    struct lk_buf body = {0}, all = {0};
    if (lk_fault_body(&body, f) == 0 &&
        lk_buf_printf(&all,
                      "HTTP/1.1 %u %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                      "Connection: close\r\n\r\n",
                      lk_api_http_status(f->error), lk_api_code(f->error), body.size) == 0 &&
        lk_buf_append(&all, body.data, body.size) == 0)
        (void)!send(fd, all.data, all.size, MSG_DONTWAIT | MSG_NOSIGNAL);
    lk_buf_free(&body);
    lk_buf_free(&all);
}
