#include "access.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "routes.h"

/* --- other people's web pages ----------------------------------------------------------------------------------------- */

/* The host within "host", "host:port", "[v6]:port"; without brackets; empty when malformed. */
static const char *host_part(const char *host, size_t *n) {
    const int bracketed = *host == '[';
    host += bracketed;
    *n = strcspn(host, bracketed ? "]" : ":");
    if (bracketed && (!host[*n] || (host[*n + 1] && host[*n + 1] != ':')))
        *n = 0;
    return host;
}

static int is_in_list(const char *host, size_t n, const char *list) {
    for (const char *word = list; word && *word;) {
        size_t length = strcspn(word, ",");
        if ((length == 1 && *word == '*') || (length == n && strncasecmp(word, host, n) == 0))
            return 1;
        word += length + (word[length] == ',');
    }
    return 0;
}

int lk_access_host_is_ours(const char *header, const char *allowed) {
    size_t n;
    const char *host = host_part(header, &n);
    char text[INET6_ADDRSTRLEN + 1];
    unsigned char address[sizeof(struct in6_addr)];
    if (n == 0)
        return 0;
    if (n < sizeof text) {
        memcpy(text, host, n);
        text[n] = 0;
        if (inet_pton(*header == '[' ? AF_INET6 : AF_INET, text, address) == 1 || strcasecmp(text, "localhost") == 0)
            return 1;
    }
    return is_in_list(host, n, allowed);
}

int lk_access_same_origin(const char *origin, const char *host) {
    const char *scheme_end = strstr(origin, "://");
    return scheme_end && host && strcasecmp(scheme_end + 3, host) == 0;
}

/* A browser says in Origin whose page asks; it cannot be told to lie. A page whose name was pointed at our address
 * (DNS rebinding) has the same origin, but its name in Host. */
static int check_site(struct lk_request *r, const struct lk_server *server, struct lk_fault *f) {
    const char *host = lk_request_header(r, "Host"), *origin = lk_request_header(r, "Origin");
    int asks = strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0;
    if (!server->auth && host && !lk_access_host_is_ours(host, server->config->allowed_host))
        return lk_fault_set(f, LK_API_UNKNOWN_HOST, "Host",
                            "without keys, this server answers to its address, to localhost and to --allowed-host");
    if (origin && !asks && !lk_access_same_origin(origin, host))
        return lk_fault_set(f, LK_API_CROSS_SITE, "Origin", "a web page of another origin asks");
    return 0;
}

/* --- keys ------------------------------------------------------------------------------------------------------------ */

static int unauthorized(struct lk_request *r, struct lk_fault *f, const char *challenge, const char *sentence) {
    lk_reply_header(r, "WWW-Authenticate", challenge);
    return lk_fault_set(f, LK_API_UNAUTHORIZED, "Authorization", "%s", sentence);
}

static int check_key(struct lk_request *r, const struct lk_server *server, struct lk_fault *f) {
    enum lk_role wanted = r->route->role;
    if (server->config->open_metrics && r->route->handle == lk_route_metrics)
        wanted = LK_ROLE_NONE;
    if (!server->auth || wanted == LK_ROLE_NONE)
        return 0;
    const char *header = lk_request_header(r, "Authorization");
    if (!header)
        return unauthorized(r, f, "Bearer realm=\"likeness\"", "this needs a key: Authorization: Bearer KEY");
    if (strncasecmp(header, "Bearer", 6) != 0 || (header[6] != ' ' && header[6] != '\t'))
        return unauthorized(r, f, "Bearer realm=\"likeness\", error=\"invalid_request\"",
                            "the key has to be given as Authorization: Bearer KEY");
    const char *key = header + 6 + strspn(header + 6, " \t");
    size_t n = strlen(key);
    while (n > 0 && (key[n - 1] == ' ' || key[n - 1] == '\t'))
        n--;
    enum lk_role role = lk_auth_find(server->auth, key, n, r->key);
    if (role >= wanted)
        return 0;
    if (role == LK_ROLE_NONE)
        return unauthorized(r, f, "Bearer realm=\"likeness\", error=\"invalid_token\"", "this key is not known here");
    lk_reply_header(r, "WWW-Authenticate",
                    wanted == LK_ROLE_WRITE
                        ? "Bearer realm=\"likeness\", error=\"insufficient_scope\", scope=\"write\""
                        : "Bearer realm=\"likeness\", error=\"insufficient_scope\", scope=\"admin\"");
    return lk_fault_set(f, LK_API_FORBIDDEN, "Authorization",
                        "this needs a key with the role %s; \"%s\" has the role %s", lk_role_name(wanted), r->key,
                        lk_role_name(role));
}

/* --- deadlines -------------------------------------------------------------------------------------------------------- */

static int read_timeout(struct lk_request *r, struct lk_fault *f) {
    static const char name[] = "X-Request-Timeout-Ms";
    const char *text = lk_request_header(r, name);
    if (!text)
        return 0;
    int64_t ms = 0;
    size_t n = 0;
    for (; isdigit((unsigned char)text[n]) && n < 10; n++)
        ms = 10 * ms + (text[n] - '0');
    if (n == 0 || text[n] || ms == 0)
        return lk_fault_set(f, LK_API_INVALID_ARGUMENT, name, "%s has to be a whole number of milliseconds above 0",
                            name);
    r->timeout_ns = ms * 1000000;
    return 0;
}

int lk_access_identify(struct lk_request *r, struct lk_fault *f) {
    const struct lk_server *server = lk_request_server(r);
    int rc;
    (void)((rc = check_site(r, server, f)) || (rc = check_key(r, server, f)) || (rc = read_timeout(r, f)));
    return rc;
}
