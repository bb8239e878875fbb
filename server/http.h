/* HTTP. A request is read on a connection thread (epoll, a pool of at least two), suspended, handled on the work pool,
 * and resumed when its answer is there, so that no connection thread ever waits. Routes see this header and nothing of
 * the library, which http_library.c alone knows.
 *
 * A request lives until its answer was sent. The answer is given exactly once, from any thread, by one of the
 * lk_reply_...() functions; the request must not be touched after that call. */
#ifndef LK_SERVER_HTTP_H
#define LK_SERVER_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "errors.h"
#include "metrics.h"
#include "router.h"
#include "work.h"

struct lk_http;

struct lk_http_options {
    const char *address;                      /* numeric IPv4 or IPv6 */
    int port;                                 /* 0: any free one */
    int threads;                              /* connection threads, >= 2 */
    int connections, connections_per_address; /* 0: no limit an address */
    int64_t max_body;                         /* bytes of a body that is collected */
    int64_t body_memory;                      /* bytes of all such bodies together */
    int64_t answer_memory;                    /* bytes of all answers together, and what they are made of */
    double header_timeout, body_timeout, upload_timeout, answer_timeout, idle_timeout, request_timeout; /* seconds */
};

/* One request that is over. */
struct lk_http_record {
    const char *target; /* as received */
    unsigned status;    /* 0: none was sent, the client had left */
    uint64_t received, sent;
    int64_t ns;
    int client_left; /* before the end of its answer */
};

struct lk_http_app {
    const struct lk_route *routes;
    size_t n_routes;
    void *context; /* request->context */
    struct lk_work *work;
    /* Asked on the connection thread when the headers of any request are there and its route is known: may this client ask
     * for it? Negative refuses with the fault. NULL: everybody may. */
    int (*identify)(struct lk_request *r, struct lk_fault *f);
    /* Asked on the connection thread when the headers of a request with a body are there, before any of the body is read:
     * negative refuses it with the fault. NULL: everything is let in. */
    int (*admit)(struct lk_request *r, struct lk_fault *f);
    int (*retry_after)(void *context); /* seconds, for 429 and 503; may be NULL */
    void (*finished)(struct lk_request *r, const struct lk_http_record *record); /* may be NULL */
};

struct lk_request {
    void *context; /* the app's */
    const struct lk_route *route;
    const char *method; /* as received: "HEAD" too */
    struct lk_text captures[LK_ROUTE_CAPTURES];
    struct lk_query query;
    struct lk_buf body; /* LK_BODY_WHOLE */
    char id[129];
    struct lk_stages stages;
    char key[LK_AUTH_NAME]; /* the name of the key it came with; "" */
    int64_t timeout_ns;     /* the client's wish, from its headers on; 0: none */
    int64_t deadline_ns;    /* CLOCK_MONOTONIC: when an answer is of no use any more */
    struct lk_arena *arena; /* for what lasts as long as the request; one thread at a time */
    /* the route's own state, freed after the answer was sent or when the client left */
    void *state;
    void (*state_free)(void *state);
    /* what the app holds for the request; let go after that, when let_go is set */
    void *held;
    int admitted;
    void (*let_go)(struct lk_request *r);
    struct lk_request_private *http; /* http_internal.h */
};

/* Binds, listens and serves until lk_http_close. LK_EINVAL: address; LK_EBUSY: the port is taken. */
int lk_http_open(struct lk_http **out, const struct lk_http_options *options, const struct lk_http_app *app);
int lk_http_port(const struct lk_http *http);
int lk_request_draining(const struct lk_request *r);

/* Stops accepting, answers what was received (connections are told to close), waits for that at most drain_seconds, then
 * lets go of requests that still wait (503), and stops. Returns how many did not get what they asked for. impatient (may be
 * NULL) is asked now and then, and ends the waiting by returning 1. */
int lk_http_drain(struct lk_http *http, double drain_seconds, int (*impatient)(void *arg), void *arg);
void lk_http_close(struct lk_http *http); /* after lk_http_drain; NULL is fine */

/* Which deadline closed a connection. */
enum lk_http_deadline { LK_HTTP_HEADERS_LATE, LK_HTTP_BODY_LATE, LK_HTTP_IDLE, LK_HTTP_ANSWER_LATE, LK_HTTP_DEADLINES };
const char *lk_http_deadline_name(enum lk_http_deadline deadline); /* "headers" */

struct lk_http_stats {
    int connections;
    uint64_t accepted, body_bytes, answer_bytes; /* since the start; in memory now */
    uint64_t expired[LK_HTTP_DEADLINES];
};
void lk_request_http_stats(struct lk_request *r, struct lk_http_stats *out);

/* NULL when the request has no such header. Valid as long as the request. */
const char *lk_request_header(struct lk_request *r, const char *name);
/* 1 when the client closed its side; poll(2), any thread, before the answer. */
int lk_request_gone(struct lk_request *r);

/* For LK_BODY_STREAM. pause, from chunk() only: no more bytes until lk_request_continue(), from any thread. refuse, from
 * chunk() only: the rest of the body is read and dropped, and the answer is this fault; handle() is not called. */
void lk_request_pause(struct lk_request *r);
void lk_request_continue(struct lk_request *r);
void lk_request_refuse(struct lk_request *r, const struct lk_fault *f);

/* The answer and what it is made of take at least so many bytes from here on, until it was sent; small ones are free. Routes
 * whose answers can be large ask while they write. LK_ELIMIT, LK_EBUSY: see lk_request_hold_fault(). */
int lk_request_hold(struct lk_request *r, uint64_t bytes);
int lk_request_hold_fault(struct lk_fault *f, int status);

/* Sets a header of the answer; value is copied. Before the reply. At most 8. */
void lk_reply_header(struct lk_request *r, const char *name, const char *value);

/* An empty buffer to write an answer into, with the room that an earlier one needed. */
struct lk_buf lk_reply_buffer(struct lk_request *r);
/* The answer. Buffers are taken over (and zeroed); `type` is constant. */
void lk_reply(struct lk_request *r, unsigned status, const char *type, struct lk_buf *body);
void lk_reply_static(struct lk_request *r, unsigned status, const char *type, const void *bytes, size_t n);
void lk_reply_fault(struct lk_request *r, const struct lk_fault *f);
void lk_reply_error(struct lk_request *r, enum lk_api_error error, const char *param, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The fault for a negative lk_status with lk_error() as sentence. */
void lk_reply_status(struct lk_request *r, int status, const char *param);

/* An answer in pieces: `fill` is called on the work pool until it sets *end; it appends to out (at least one byte unless
 * it ends). A negative return cuts the connection, so that the client sees an incomplete answer. */
void lk_reply_stream(struct lk_request *r, unsigned status, const char *type,
                     int (*fill)(struct lk_request *r, struct lk_buf *out, int *end));

#endif
