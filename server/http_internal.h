/* Inside the HTTP layer, for http*.c alone: http.c opens and stops, http_listen.c accepts and watches the clock,
 * http_read.c reads a request up to its handler, http_answer.c takes the answer, and http_library.c is the one file that
 * knows libmicrohttpd. A request's state is made by on_target() and freed by lk_http_request_free(). */
#ifndef LK_SERVER_HTTP_INTERNAL_H
#define LK_SERVER_HTTP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "http.h"

#define LK_HTTP_ANSWER_HEADERS 8
#define LK_HTTP_DISCARD_MAX (64u << 20) /* of a refused body: read, so that the client reads our answer */

struct MHD_Daemon;
struct MHD_Connection;

enum lk_http_phase { LK_HTTP_WAITING, LK_HTTP_READING_BODY, LK_HTTP_BUSY, LK_HTTP_ANSWERING };

struct lk_http_connection { /* one TCP connection; fields are guarded by http->mutex */
    struct lk_http_connection *next, *previous;
    int fd;
    enum lk_http_phase phase;
    int requests, expired, nudged;
    int64_t deadline_ns, since_ns;
    struct lk_request_private *current;
};

struct lk_http {
    struct lk_http_options options;
    struct lk_http_app app;
    struct MHD_Daemon *daemon;
    int listen_fd, wake_fd, port;
    pthread_t thread;
    int thread_runs;
    struct lk_budget bodies, answers;
    uint64_t id_seed;
    atomic_uint_fast64_t id_next;
    atomic_int draining, cut, stopping;
    atomic_int_fast64_t drain_ns; /* since when */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct lk_http_connection *connections; /* list */
    int n_connections;                      /* accepted and not yet closed */
    int suspended;                          /* requests that somebody works on */
    struct lk_request_private *spare;       /* list, of requests that are over */
    int n_spare;
    int let_go; /* requests that ended without what they asked for, since we stop */
    uint64_t accepted, expired[LK_HTTP_DEADLINES];
};

struct lk_request_private {
    struct lk_request r;
    struct lk_http *http;
    struct MHD_Connection *connection;
    struct lk_http_connection *conn;
    struct lk_request_private *next_spare;
    struct lk_arena arena;
    struct lk_buf room; /* empty: of an earlier answer */
    char *target;       /* as received; the arena's */
    char method[16];
    int begun, completed, on_pool, answered, queued;
    int refused;             /* answered that the server stops, after the end of its patience */
    atomic_int paused, gone; /* gone: it was seen that the client closed its side */
    int discard;
    uint64_t length, received, reserved; /* bytes of the body: announced, or 0; come; taken from the budget */
    struct lk_fault fault;
    int64_t start_ns, headers_ns; /* its first line; its headers */
    /* the answer */
    unsigned status;
    const char *type;
    struct lk_buf bytes;
    uint64_t held; /* bytes taken from the budget of answers */
    const void *fixed;
    size_t fixed_size;
    struct {
        const char *name;
        char value[128];
    } headers[LK_HTTP_ANSWER_HEADERS];
    int n_headers;
    int (*fill)(struct lk_request *r, struct lk_buf *out, int *end);
    size_t fill_offset, sent;
    int fill_end, fill_failed;
};

/* --- http_library.c ------------------------------------------------------------------------------------------------- */

int lk_http_library_start(struct lk_http *http);
void lk_http_library_stop(struct lk_http *http); /* closes every connection */
/* 0, or negative: the library refused the connection and closed it. */
int lk_http_library_add(struct lk_http *http, int fd, const struct sockaddr *address, socklen_t size);
/* How many headers of that name the request has. */
int lk_http_count_header(struct lk_request_private *p, const char *name);
/* Takes a request off its connection thread, on that thread, before somebody else gets it. */
void lk_http_suspend(struct lk_request_private *p);
/* Lets the connection thread go on with it. It may be gone when this returns. */
void lk_http_resume(struct lk_request_private *p);

/* --- http_read.c ---------------------------------------------------------------------------------------------------- */

/* What the connection thread does next: read on or wait, give the answer to the library, or cut the connection. */
enum lk_http_step { LK_HTTP_GO_ON, LK_HTTP_ANSWER, LK_HTTP_CUT };

/* NULL: memory ran out. */
struct lk_request_private *lk_http_request_new(struct lk_http *http, struct lk_http_connection *c, const char *target);
/* What its connection does now, and within how many seconds (0: no limit). */
void lk_http_set_phase(struct lk_request_private *p, enum lk_http_phase phase, double seconds);
enum lk_http_step lk_http_headers(struct lk_request_private *p, const char *method); /* they are complete */
enum lk_http_step lk_http_body(struct lk_request_private *p, const char *bytes, size_t *n);
enum lk_http_step lk_http_complete(struct lk_request_private *p); /* called again after it was answered */
/* Its answer was sent (`sent`), or the client left. Here ends what a request owns; its memory may serve the next one. */
void lk_http_request_free(struct lk_request_private *p, int sent);
void lk_http_requests_close(struct lk_http *http); /* frees the memory of those that are over */

/* --- http_answer.c -------------------------------------------------------------------------------------------------- */

/* Work-pool job over a struct lk_request_private: the next piece of a streamed answer. */
void lk_http_fill_job(void *arg);
/* For when libmicrohttpd cannot answer any more (it answers only before or after a body): straight to the socket. */
void lk_http_answer_raw(int fd, const struct lk_fault *f);

/* --- http_listen.c -------------------------------------------------------------------------------------------------- */

int lk_http_listen(struct lk_http *http);  /* binds */
void *lk_http_listen_and_watch(void *arg); /* the thread: accepts, closes what is past its deadline */

#endif
