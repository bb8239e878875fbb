/* Inside the client library: one HTTP exchange. The only file that includes curl/curl.h is http.c. */
#ifndef LIKENESS_HTTP_H
#define LIKENESS_HTTP_H

#include "text.h"

struct likeness__http; /* a connection that is kept open; one thread at a time */

/* server: "http://host:port[/prefix]", copied; LIKENESS_EINVAL when it is no such URL. key: sent with every request, copied;
 * NULL or "": none; LIKENESS_EINVAL when it cannot stand in a header. */
int likeness__http_open(struct likeness__http **out, const char *server, const char *key, double timeout);
void likeness__http_close(struct likeness__http *http); /* NULL is fine */
const char *likeness__http_server(const struct likeness__http *http);

struct likeness__part { /* of a multipart/form-data body; all the caller's, read during the call */
    const char *name;
    const char *filename; /* NULL: a plain field */
    const char *type;     /* NULL: by file name */
    const void *bytes;
    size_t size;
};

struct likeness__request {
    const char *method;
    const char *path;   /* with its query, percent-encoded; begins with '/' */
    const char *accept; /* NULL: "application/json" */
    const void *body;   /* NULL: none */
    size_t body_size;
    const char *body_type;
    const struct likeness__part *parts; /* instead of body */
    size_t n_parts;
    likeness_write *write; /* NULL, or takes the body of a 2xx answer piece by piece */
    void *arg;
};

struct likeness__reply {
    int http;
    double retry_after;        /* seconds; negative when the server named none */
    struct likeness__buf body; /* owned; empty when it went to write */
};

/* One attempt. 0 whenever an answer came, whatever its status; LIKENESS_ECONNECT, LIKENESS_ETIMEOUT, LIKENESS_ESTOPPED
 * (write said so), LIKENESS_EPROTOCOL (cut off, or no HTTP), LIKENESS_ENOMEM. Zeroes *out first. */
int likeness__http_send(struct likeness__http *http, const struct likeness__request *request,
                        struct likeness__reply *out);
void likeness__reply_free(struct likeness__reply *reply);

#endif
