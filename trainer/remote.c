/* Follows libcurl's easy interface as of 7.81 (curl.se/libcurl/c). */
#include "remote.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/sha256.h"
#include "document.h"

#define CONNECT_SECONDS 10L
#define STALL_SECONDS 120L /* without a byte in either direction; a server may be busy before its first */
enum { MAX_ANSWER = 16 << 20, MAX_KEY = 4096 };

struct lk_remote {
    CURL *curl;
    char *url;           /* without a slash at the end */
    char *authorization; /* a header line, or NULL */
    struct lk_remote_options options;
    char detail[CURL_ERROR_SIZE];
};

static pthread_once_t library_once = PTHREAD_ONCE_INIT;
static void library_open(void) { curl_global_init(CURL_GLOBAL_DEFAULT); }

int lk_remote_is_url(const char *text) { return strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0; }

static int is_loopback(const char *url) {
    static const char *const names[] = {"127.", "localhost", "[::1]"};
    const char *host = strstr(url, "://") + 3;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(host, names[i], strlen(names[i])) == 0)
            return 1;
    return 0;
}

/* --- opening --------------------------------------------------------------------------------------------------------- */

static int check_url(const char *url) {
    CURLU *parts = curl_url();
    char *query = NULL;
    int good = parts != NULL && lk_remote_is_url(url) && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
               curl_url_get(parts, CURLUPART_QUERY, &query, 0) != CURLUE_OK;
    curl_free(query);
    curl_url_cleanup(parts);
    return good ? 0 : lk_err(LK_EINVAL, "'%.200s' is no server's URL (one looks like http://127.0.0.1:8080)", url);
}

static int read_key(struct lk_remote *r, const char *path) {
    struct lk_buf file = {0}, line = {0};
    int rc = lk_fs_read(&file, path, MAX_KEY);
    if (rc == 0 && (rc = lk_buf_append(&file, "", 1)) == 0) {
        char *key = (char *)file.data;
        key += strspn(key, " \t\r\n");
        key[strcspn(key, " \t\r\n")] = '\0';
        for (const char *c = key; *c != '\0' && rc == 0; c++)
            if (*c < 0x21 || *c > 0x7E)
                rc = lk_err(LK_EINVAL, "%s: no key: it has to be printable ASCII", path);
        if (rc == 0 && key[0] == '\0')
            rc = lk_err(LK_EINVAL, "%s holds no key", path);
        if (rc == 0)
            rc = lk_buf_printf(&line, "Authorization: Bearer %s", key);
    }
    lk_buf_free(&file);
    if (rc != 0)
        lk_buf_free(&line);
    r->authorization = (char *)line.data;
    return rc;
}

int lk_remote_open(struct lk_remote **out, const char *url, const struct lk_remote_options *options) {
    *out = NULL;
    pthread_once(&library_once, library_open);
    int rc = check_url(url);
    if (rc != 0)
        return rc;
    struct lk_remote *r = lk_calloc(1, sizeof *r);
    if (r == NULL)
        return LK_ENOMEM;
    if (options != NULL)
        r->options = *options;
    struct lk_buf base = {0};
    size_t n = strlen(url);
    while (n > 0 && url[n - 1] == '/')
        n--;
    rc = lk_buf_printf(&base, "%.*s", (int)n, url);
    r->url = (char *)base.data;
    if (rc != 0 || (r->curl = curl_easy_init()) == NULL)
        rc = lk_err(LK_ENOMEM, "no memory to speak to %s", url);
    else if (r->options.key_file != NULL)
        rc = read_key(r, r->options.key_file);
    if (rc != 0) {
        lk_remote_close(r);
        return rc;
    }
    *out = r;
    return 0;
}

void lk_remote_close(struct lk_remote *r) {
    if (r == NULL)
        return;
    curl_easy_cleanup(r->curl);
    free(r->url);
    free(r->authorization);
    free(r);
}

const char *lk_remote_url(const struct lk_remote *r) { return r->url; }

/* --- one exchange ---------------------------------------------------------------------------------------------------- */

struct exchange {
    struct lk_remote *r;
    const char *method, *target;
    struct lk_buf *answer;       /* bytes that are kept in memory: of a refusal, or of all */
    struct lk_fs_writer *to;     /* a file for the bytes of a 2xx, or NULL */
    struct lk_sha256 *sha;       /* beside it */
    const struct lk_fs_map *put; /* the body, or NULL */
    size_t sent;
    char etag[80];
    int rc; /* of a callback that gave up, with its sentence */
};

static size_t on_header(char *line, size_t one, size_t n, void *arg) {
    static const char name[] = "etag:";
    struct exchange *x = arg;
    n *= one;
    if (n > sizeof name && strncasecmp(line, name, sizeof name - 1) == 0)
        snprintf(x->etag, sizeof x->etag, "%.*s", (int)(n - (sizeof name - 1)), line + (sizeof name - 1));
    return n;
}

static size_t on_body(char *bytes, size_t one, size_t n, void *arg) {
    struct exchange *x = arg;
    long status = 0;
    n *= one;
    curl_easy_getinfo(x->r->curl, CURLINFO_RESPONSE_CODE, &status);
    if (x->to != NULL && status >= 200 && status < 300) {
        lk_sha256_update(x->sha, bytes, n);
        x->rc = lk_fs_writer_append(x->to, bytes, n);
    } else if (x->answer->size + n > MAX_ANSWER) {
        x->rc = lk_err(LK_EIO, "%s%s: an answer of more than %d bytes", x->r->url, x->target, MAX_ANSWER);
    } else {
        x->rc = lk_buf_append(x->answer, bytes, n);
    }
    return x->rc == 0 ? n : (n == 0 ? 1 : 0); /* anything but n ends the transfer */
}

static size_t on_send(char *to, size_t one, size_t n, void *arg) {
    struct exchange *x = arg;
    size_t left = x->put->size - x->sent, take = one * n < left ? one * n : left;
    if (take > 0)
        memcpy(to, x->put->data + x->sent, take);
    x->sent += take;
    return take;
}

static int on_seek(void *arg, curl_off_t offset, int origin) {
    struct exchange *x = arg;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > x->put->size)
        return CURL_SEEKFUNC_CANTSEEK;
    x->sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

static int on_progress(void *arg, curl_off_t all_down, curl_off_t down, curl_off_t all_up, curl_off_t up) {
    struct exchange *x = arg;
    (void)all_down, (void)all_up;
    if (x->r->options.progress != NULL)
        x->r->options.progress(x->r->options.arg, (uint64_t)(x->put != NULL ? up : down));
    if (x->r->options.stop == NULL || !x->r->options.stop())
        return 0;
    x->rc = lk_err(LK_ECANCELLED, "stopped");
    return 1;
}

/* What a status other than 2xx means, with the server's own sentence. */
static int refusal(const struct exchange *x, long status) {
    struct lk_document *d = NULL;
    const char *said = NULL, *hint = "";
    if (x->answer->size > 0 && lk_document_open(&d, x->answer->data, x->answer->size) == 0)
        said = lk_document_text(d, "error", "message");
    if (status == 401)
        hint = x->r->authorization != NULL ? "; the key of --key-file is not accepted"
                                           : "; give a key by --key-file FILE";
    else if (status == 403)
        hint = "; the key of --key-file lacks the role for this";
    int code = status == 409 || status == 429 || status == 503 ? LK_EBUSY
               : status == 404                                 ? LK_ENOTFOUND
               : status >= 500                                 ? LK_EIO
                                                               : LK_EINVAL;
    char text[600];
    snprintf(text, sizeof text, "%s", said != NULL ? said : "no reason given");
    lk_document_close(d);
    return lk_err(code, "%s %s%s: status %ld: %s%s", x->method, x->r->url, x->target, status, text, hint);
}

static int exchange(struct exchange *x) {
    struct lk_remote *r = x->r;
    CURL *c = r->curl;
    struct lk_buf url = {0};
    struct curl_slist *headers = NULL, *more;
    long status = 0;
    int rc = lk_buf_printf(&url, "%s%s", r->url, x->target);
    if (rc != 0)
        return rc;
    static const char *const fixed[] = {"Expect:", "Content-Type: application/octet-stream"};
    for (size_t i = 0; i < 3; i++) {
        const char *line = i < 2 ? fixed[i] : r->authorization;
        if (line == NULL || (i == 1 && x->put == NULL))
            continue;
        if ((more = curl_slist_append(headers, line)) == NULL) {
            rc = lk_err(LK_ENOMEM, "no memory to speak to %s", r->url);
            goto done;
        }
        headers = more;
    }
    curl_easy_reset(c);
    r->detail[0] = '\0';
    curl_easy_setopt(c, CURLOPT_URL, (const char *)url.data);
    if (is_loopback(r->url))
        curl_easy_setopt(c, CURLOPT_NOPROXY, "*"); /* a proxy is for the world outside */
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, r->detail);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, STALL_SECONDS);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "likeness-trainer/" LK_VERSION);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, x);
    if (x->put != NULL) {
        curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)x->put->size);
        curl_easy_setopt(c, CURLOPT_READFUNCTION, on_send);
        curl_easy_setopt(c, CURLOPT_READDATA, x);
        curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(c, CURLOPT_SEEKDATA, x);
    }
    CURLcode code = curl_easy_perform(c);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    if (x->rc != 0)
        rc = x->rc;
    else if (status >= 300) /* also when the server hung up on the rest of a body that it refused */
        rc = refusal(x, status);
    else if (code != CURLE_OK)
        rc = lk_err(LK_EIO, "%s %s%s: %s", x->method, r->url, x->target,
                    r->detail[0] != '\0' ? r->detail : curl_easy_strerror(code));
    else if (status < 200)
        rc = lk_err(LK_EIO, "%s %s%s: status %ld", x->method, r->url, x->target, status);
done:
    curl_slist_free_all(headers);
    lk_buf_free(&url);
    return rc;
}

/* --- the three kinds ------------------------------------------------------------------------------------------------- */

int lk_remote_get(struct lk_remote *r, const char *target, struct lk_buf *out) {
    struct exchange x = {.r = r, .method = "GET", .target = target, .answer = out};
    lk_buf_clear(out);
    return exchange(&x);
}

/* An ETag that is 64 hex digits in quotes is the hash of what should have come. */
static int check_etag(const struct exchange *x, const char *sha256) {
    const char *open = strchr(x->etag, '"');
    if (open == NULL || strspn(open + 1, "0123456789abcdef") != 64 || open[65] != '"' ||
        strncmp(open + 1, sha256, 64) == 0)
        return 0;
    return lk_err(LK_EIO, "%s%s: what came has the hash %s, and should have %.64s", x->r->url, x->target, sha256,
                  open + 1);
}

int lk_remote_fetch(struct lk_remote *r, const char *target, const char *path, char sha256[65]) {
    struct lk_fs_writer file = {0};
    struct lk_buf answer = {0};
    struct lk_sha256 sha;
    uint8_t digest[32];
    char hex[65];
    struct exchange x = {.r = r, .method = "GET", .target = target, .answer = &answer, .to = &file, .sha = &sha};
    lk_sha256_init(&sha);
    int rc = lk_fs_writer_begin(&file, path);
    if (rc == 0 && (rc = exchange(&x)) == 0) {
        lk_sha256_final(&sha, digest);
        lk_sha256_hex(digest, hex);
        if ((rc = check_etag(&x, hex)) == 0)
            rc = lk_fs_writer_commit(&file);
    }
    if (rc != 0)
        lk_fs_writer_abort(&file);
    else if (sha256 != NULL)
        memcpy(sha256, hex, sizeof hex);
    lk_buf_free(&answer);
    return rc;
}

int lk_remote_put(struct lk_remote *r, const char *target, const char *path, struct lk_buf *out) {
    struct lk_fs_map map;
    lk_buf_clear(out);
    int rc = lk_fs_map(&map, path);
    if (rc != 0)
        return rc;
    struct exchange x = {.r = r, .method = "PUT", .target = target, .answer = out, .put = &map};
    rc = exchange(&x);
    lk_fs_unmap(&map);
    return rc;
}
