/* Method and path to route. The path is split at its slashes first and each piece is percent-decoded afterwards, so an
 * id may hold an encoded slash. Pure functions over a table. */
#ifndef LK_SERVER_ROUTER_H
#define LK_SERVER_ROUTER_H

#include <stddef.h>

#include "auth.h"
#include "uri.h"

#define LK_ROUTE_CAPTURES 2

enum lk_route_body {
    LK_BODY_NONE,  /* a body is read and ignored */
    LK_BODY_WHOLE, /* collected, at most max_body_bytes */
    LK_BODY_STREAM /* handed to `chunk` as it arrives */
};

struct lk_request; /* http.h */

struct lk_route {
    const char *method;  /* "GET" answers HEAD too */
    const char *pattern; /* "/items/{id}/image" */
    enum lk_role role;   /* the least that a key has to have, where the server has keys */
    enum lk_route_body body;
    int on_connection_thread; /* 1: does not wait or compute; 0: runs on the work pool */
    void (*handle)(struct lk_request *request);
    /* LK_BODY_STREAM: the next bytes, on the connection thread; may lk_request_pause(), must not wait. */
    void (*chunk)(struct lk_request *request, const void *bytes, size_t n);
};

struct lk_route_match {
    const struct lk_route *route;
    struct lk_text captures[LK_ROUTE_CAPTURES]; /* the arena's; in the order of the pattern */
    char allow[64];                             /* methods of the path, when the method did not match */
};

/* LK_ENOTFOUND: no such path. LK_EUNSUPPORTED: not this method, `allow` is filled. LK_EINVAL: a bad escape. LK_ENOMEM.
 * `path` is the target up to '?', as received. */
int lk_router_match(const struct lk_route *routes, size_t n, const char *method, const char *path, size_t path_size,
                    struct lk_arena *arena, struct lk_route_match *out);

#endif
