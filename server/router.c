#include "router.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"

/* Matches one path with one pattern, piece by piece. 1: yes, 0: no, negative: error. */
static int match(const char *pattern, const char *path, const char *end, struct lk_arena *arena,
                 struct lk_text captures[LK_ROUTE_CAPTURES]) {
    size_t captured = 0;
    if (path == end || *path != '/')
        return 0;
    const char *p = pattern;
    for (;;) {
        p++, path++; /* both at a slash */
        const char *p_end = strchr(p, '/');
        if (!p_end)
            p_end = p + strlen(p);
        const char *piece_end = memchr(path, '/', (size_t)(end - path));
        if (!piece_end)
            piece_end = end;
        const size_t size = (size_t)(piece_end - path);
        int same = 1;
        if (*p != '{' && !memchr(path, '%', size)) { /* nothing to decode or to keep, as mostly */
            same = (size_t)(p_end - p) == size && memcmp(p, path, size) == 0;
        } else {
            struct lk_text piece;
            int rc = lk_uri_decode(&piece, path, size, 0, arena);
            if (rc)
                return rc;
            if (*p == '{' && piece.size > 0 && captured < LK_ROUTE_CAPTURES)
                captures[captured++] = piece;
            else
                same = (size_t)(p_end - p) == piece.size && memcmp(p, piece.data, piece.size) == 0;
        }
        if (!same)
            return 0;
        p = p_end, path = piece_end;
        if (!*p || path == end)
            return !*p && path == end;
    }
}

int lk_router_match(const struct lk_route *routes, size_t n, const char *method, const char *path, size_t path_size,
                    struct lk_arena *arena, struct lk_route_match *out) {
    *out = (struct lk_route_match){0};
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        int rc = match(routes[i].pattern, path, path + path_size, arena, out->captures);
        int get = strcmp(routes[i].method, "GET") == 0;
        if (rc == 1 && (strcmp(method, routes[i].method) == 0 || (get && strcmp(method, "HEAD") == 0))) {
            out->route = &routes[i];
            return 0;
        }
        if (rc == 1)
            used += (size_t)snprintf(out->allow + used, sizeof out->allow - used, "%s%s%s", used ? ", " : "",
                                     routes[i].method, get ? ", HEAD" : "");
        memset(out->captures, 0, sizeof out->captures);
        if (rc < 0)
            return rc;
    }
    return used ? lk_err(LK_EUNSUPPORTED, "%s is not a method of this path; it has %s", method, out->allow)
                : lk_err(LK_ENOTFOUND, "there is no such path");
}
