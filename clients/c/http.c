/* Follows libcurl's easy interface as of 7.81 (curl.se/libcurl/c). */
#include "http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The largest answer that is kept in memory: 512 vectors of 2,048 numbers are about 15 MB of JSON. */
#define MAX_REPLY ((size_t)256 << 20)
#define CONNECT_TIMEOUT_MS 5000L
#define MAX_KEY 200

struct likeness__http {
    CURL *curl;
    char *server;        /* without a slash at the end */
    char *authorization; /* a header's value, or NULL */
    double timeout;
    char detail[CURL_ERROR_SIZE];
};

static pthread_once_t library_once = PTHREAD_ONCE_INIT;
static void library_open(void) { curl_global_init(CURL_GLOBAL_DEFAULT); }

/* A proxy of the environment is meant for the world outside, not for a server on this machine. */
static int is_loopback(const char *url) {
    const char *host = strstr(url, "://") + 3;
    static const char *const names[] = {"127.", "localhost", "[::1]"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strncmp(host, names[i], strlen(names[i])) == 0) {
            return 1;
        }
    }
    return 0;
}

/* libcurl forgives "http:/host", and we do not: what follows looks for "://". */
static int check_url(const char *server) {
    CURLU *url = curl_url();
    if (!url) {
        return likeness__no_memory();
    }
    const CURLUcode rc = curl_url_set(url, CURLUPART_URL, server, 0);
    char *scheme = NULL, *query = NULL;
    int good = rc == CURLUE_OK && strstr(server, "://") &&
               curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
               (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) &&
               curl_url_get(url, CURLUPART_QUERY, &query, 0) != CURLUE_OK;
    curl_free(scheme);
    curl_free(query);
    curl_url_cleanup(url);
    if (!good) {
        return likeness__fail(LIKENESS_EINVAL, "'%.200s' is no server's URL (one looks like %s)", server,
                              LIKENESS_DEFAULT_SERVER);
    }
    return 0;
}

/* The characters of RFC 6750's b64token; the length fits a header line of ours. */
static int check_key(const char *key) {
    static const char characters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=";
    const size_t n = strlen(key);
    if (n > MAX_KEY || strspn(key, characters) != n) {
        return likeness__fail(LIKENESS_EINVAL,
                              "the key is not one of at most %d of A-Z a-z 0-9 - . _ ~ + / =", MAX_KEY);
    }
    return 0;
}

static char *bearer(const char *key) {
    const size_t size = strlen(key) + sizeof "Bearer ";
    char *value = malloc(size);
    if (value) {
        snprintf(value, size, "Bearer %s", key);
    }
    return value;
}

int likeness__http_open(struct likeness__http **out, const char *server, const char *key, double timeout) {
    *out = NULL;
    pthread_once(&library_once, library_open);
    int rc = check_url(server);
    if (!rc && key) {
        rc = check_key(key);
    }
    if (rc) {
        return rc;
    }
    struct likeness__http *http = calloc(1, sizeof *http);
    if (!http || !(http->server = strdup(server)) || !(http->curl = curl_easy_init()) ||
        (key && *key && !(http->authorization = bearer(key)))) {
        likeness__http_close(http);
        return likeness__no_memory();
    }
    for (size_t n = strlen(http->server); n > 0 && http->server[n - 1] == '/'; n--) {
        http->server[n - 1] = '\0';
    }
    http->timeout = timeout;
    *out = http;
    return 0;
}

void likeness__http_close(struct likeness__http *http) {
    if (http) {
        curl_easy_cleanup(http->curl);
        free(http->server);
        free(http->authorization);
        free(http);
    }
}

const char *likeness__http_server(const struct likeness__http *http) { return http->server; }

void likeness__reply_free(struct likeness__reply *reply) { likeness__buf_free(&reply->body); }

/* --- Callbacks ---------------------------------------------------------------------------------------------------- */

struct exchange {
    CURL *curl;
    const struct likeness__request *request;
    struct likeness__reply *reply;
    int stopped, too_large, no_memory;
};

static size_t on_body(char *bytes, size_t one, size_t n, void *arg) {
    (void)one; /* always 1 */
    struct exchange *x = arg;
    long http = 0;
    curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &http);
    if (x->request->write && http >= 200 && http < 300) {
        x->stopped = x->request->write(x->request->arg, bytes, n) != 0;
        return x->stopped ? CURL_WRITEFUNC_ERROR : n;
    }
    x->too_large = x->reply->body.size + n > MAX_REPLY;
    x->no_memory = !x->too_large && likeness__buf_append(&x->reply->body, bytes, n) != 0;
    return x->too_large || x->no_memory ? CURL_WRITEFUNC_ERROR : n;
}

/* A part is read from the caller's memory, not copied into libcurl's. */
struct part_reader {
    const struct likeness__part *part;
    size_t at;
};

static size_t on_part_read(char *to, size_t one, size_t n, void *arg) {
    struct part_reader *reader = arg;
    const size_t left = reader->part->size - reader->at;
    n = one * n < left ? one * n : left;
    if (n > 0) {
        memcpy(to, (const char *)reader->part->bytes + reader->at, n);
    }
    reader->at += n;
    return n;
}

static int on_part_seek(void *arg, curl_off_t offset, int origin) {
    struct part_reader *reader = arg;
    if (origin != SEEK_SET || offset < 0 || (size_t)offset > reader->part->size) {
        return CURL_SEEKFUNC_CANTSEEK;
    }
    reader->at = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* --- One exchange ------------------------------------------------------------------------------------------------- */

static int build_mime(struct likeness__http *http, const struct likeness__request *request, curl_mime **mime,
                      struct part_reader **readers) {
    *mime = curl_mime_init(http->curl);
    *readers = calloc(request->n_parts, sizeof **readers);
    if (!*mime || !*readers) {
        return likeness__no_memory();
    }
    for (size_t i = 0; i < request->n_parts; i++) {
        const struct likeness__part *part = &request->parts[i];
        (*readers)[i].part = part;
        curl_mimepart *to = curl_mime_addpart(*mime);
        if (!to || curl_mime_name(to, part->name) != CURLE_OK ||
            (part->filename && curl_mime_filename(to, part->filename) != CURLE_OK) ||
            (part->type && curl_mime_type(to, part->type) != CURLE_OK) ||
            curl_mime_data_cb(to, (curl_off_t)part->size, on_part_read, on_part_seek, NULL, &(*readers)[i]) !=
                CURLE_OK) {
            return likeness__no_memory();
        }
    }
    return 0;
}

static int add_header(struct curl_slist **headers, const char *name, const char *value) {
    char line[256];
    snprintf(line, sizeof line, "%s: %s", name, value);
    struct curl_slist *grown = curl_slist_append(*headers, line);
    if (!grown) {
        return likeness__no_memory();
    }
    *headers = grown;
    return 0;
}

static void set_up(struct likeness__http *http, struct exchange *x, const char *url, struct curl_slist *headers,
                   curl_mime *mime) {
    CURL *curl = http->curl;
    const struct likeness__request *request = x->request;
    const long timeout_ms = (long)(http->timeout * 1000);
    curl_easy_reset(curl); /* options only: the connection stays open */
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "likeness-c/" LIKENESS_VERSION);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, http->detail);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS,
                     timeout_ms < CONNECT_TIMEOUT_MS ? timeout_ms : CONNECT_TIMEOUT_MS);
    if (request->write) { /* a download may take as long as bytes keep coming */
        curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, timeout_ms / 1000 > 0 ? timeout_ms / 1000 : 1L);
    } else {
        curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, timeout_ms);
    }
    if (is_loopback(http->server)) {
        curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    }
    if (mime) {
        curl_easy_setopt(curl, CURLOPT_MIMEPOST, mime);
    } else if (request->body) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_size);
    }
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
}

static int explain(struct likeness__http *http, const struct exchange *x, CURLcode code) {
    const char *detail = http->detail[0] ? http->detail : curl_easy_strerror(code);
    if (x->stopped) {
        return likeness__fail(LIKENESS_ESTOPPED, "stopped");
    }
    if (x->no_memory || code == CURLE_OUT_OF_MEMORY) {
        return likeness__no_memory();
    }
    if (x->too_large) {
        return likeness__fail(LIKENESS_EPROTOCOL, "the answer of %s is larger than %zu MiB", http->server,
                              MAX_REPLY >> 20);
    }
    switch (code) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return likeness__fail(LIKENESS_ECONNECT, "no server answers at %s (%s)", http->server, detail);
    case CURLE_OPERATION_TIMEDOUT: {
        double connected = 0;
        curl_easy_getinfo(http->curl, CURLINFO_CONNECT_TIME, &connected);
        if (connected <= 0) {
            return likeness__fail(LIKENESS_ECONNECT, "no server answers at %s (%s)", http->server, detail);
        }
        return likeness__fail(LIKENESS_ETIMEOUT, "%s did not answer within %g s", http->server, http->timeout);
    }
    default: return likeness__fail(LIKENESS_EPROTOCOL, "the exchange with %s failed: %s", http->server, detail);
    }
}

int likeness__http_send(struct likeness__http *http, const struct likeness__request *request,
                        struct likeness__reply *out) {
    memset(out, 0, sizeof *out);
    out->retry_after = -1;
    struct likeness__buf url = {0};
    struct curl_slist *headers = NULL;
    curl_mime *mime = NULL;
    struct part_reader *readers = NULL;
    struct exchange x = {http->curl, request, out, 0, 0, 0};
    int rc = 0;
    if ((rc = likeness__buf_puts(&url, http->server)) || (rc = likeness__buf_puts(&url, request->path)) ||
        (rc = add_header(&headers, "Accept", request->accept ? request->accept : "application/json")) ||
        (http->authorization && (rc = add_header(&headers, "Authorization", http->authorization))) ||
        (request->body_type && (rc = add_header(&headers, "Content-Type", request->body_type))) ||
        (request->n_parts && (rc = build_mime(http, request, &mime, &readers)))) {
        goto done;
    }
    http->detail[0] = '\0';
    set_up(http, &x, url.data, headers, mime);
    const CURLcode code = curl_easy_perform(http->curl);
    if (code != CURLE_OK) {
        rc = explain(http, &x, code);
        goto done;
    }
    long status = 0;
    curl_off_t seconds = 0;
    curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(http->curl, CURLINFO_RETRY_AFTER, &seconds); /* a number or a date: seconds from now either way */
    out->http = (int)status;
    out->retry_after = seconds > 0 ? (double)seconds : -1;
done:
    curl_easy_reset(http->curl); /* before what the options point at goes */
    curl_mime_free(mime);
    curl_slist_free_all(headers);
    free(readers);
    likeness__buf_free(&url);
    if (rc) {
        likeness__reply_free(out);
    }
    return rc;
}
