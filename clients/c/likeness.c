/* The routes of docs/openapi.yaml as functions: builds requests, tries again when the server is busy, and gives the
 * answers to reply.c. */
#include "http.h"
#include "reply.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct likeness {
    struct likeness__http *http;
    struct likeness_options options;
};

const char *likeness_version(void) { return LIKENESS_VERSION; }

void likeness_options_init(struct likeness_options *options) {
    memset(options, 0, sizeof *options);
    options->timeout = 120;
    options->retries = 5;
    options->max_wait = 60;
}

int likeness_open(struct likeness **out, const struct likeness_options *options) {
    *out = NULL;
    struct likeness_options defaults;
    likeness_options_init(&defaults);
    if (!options) {
        options = &defaults;
    }
    if (!(options->timeout > 0 && options->timeout <= 1e6) || options->retries < 0 || !(options->max_wait >= 0)) {
        return likeness__fail(LIKENESS_EINVAL, "timeout must be above 0, retries and max_wait not below 0");
    }
    const char *server = options->server ? options->server : getenv("LIKENESS_SERVER");
    struct likeness *client = calloc(1, sizeof *client);
    if (!client) {
        return likeness__no_memory();
    }
    const int rc = likeness__http_open(&client->http, server && *server ? server : LIKENESS_DEFAULT_SERVER,
                                       options->key ? options->key : getenv("LIKENESS_KEY"), options->timeout);
    if (rc) {
        free(client);
        return rc;
    }
    client->options = *options;
    client->options.server = client->options.key = NULL; /* the copies are http's */
    *out = client;
    return 0;
}

void likeness_close(struct likeness *client) {
    if (client) {
        likeness__http_close(client->http);
        free(client);
    }
}

const char *likeness_server(const struct likeness *client) { return likeness__http_server(client->http); }

/* --- One request with its retries --------------------------------------------------------------------------------- */

static void wait_seconds(double seconds) {
    struct timespec left = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {}
}

static int explain_refusal(struct likeness *client, const struct likeness__reply *reply) {
    char code[64], message[256];
    const int status = likeness__status_of_http(reply->http);
    if (likeness__read_error(reply->body.data, reply->body.size, code, message) == 0) {
        return likeness__fail_http(status, reply->http, code, "%s", message);
    }
    return likeness__fail_http(reply->http < 400 ? LIKENESS_EPROTOCOL : status, reply->http, "",
                               "%s answered with HTTP status %d and no reason", likeness_server(client), reply->http);
}

/* Sends until the answer is other than 429 or 503. A Retry-After is obeyed; without one the wait doubles from half a
 * second. 0 only for a 2xx, whose body is then the caller's to free. */
static int exchange(struct likeness *client, const struct likeness__request *request, struct likeness__reply *reply) {
    double pause = 0.5;
    for (int attempt = 0;; attempt++) {
        int rc = likeness__http_send(client->http, request, reply);
        if (rc || likeness__status_of_http(reply->http) == 0) {
            return rc;
        }
        rc = explain_refusal(client, reply);
        const double wait = reply->retry_after >= 0 ? reply->retry_after : pause;
        likeness__reply_free(reply);
        if (rc != LIKENESS_EBUSY || attempt >= client->options.retries || wait > client->options.max_wait) {
            return rc;
        }
        if (client->options.on_wait) {
            client->options.on_wait(client->options.arg, wait, reply->http);
        }
        wait_seconds(wait);
        pause *= 2;
    }
}

static int get(struct likeness *client, const char *path, struct likeness__reply *reply) {
    const struct likeness__request request = {.method = "GET", .path = path};
    return exchange(client, &request, reply);
}

/* before + the encoded id + after, e.g. "/items/", "a/b", "/image". */
static int path_of_id(struct likeness__buf *path, const char *before, const char *id, const char *after) {
    int rc;
    (void)((rc = likeness__check_id(id)) || (rc = likeness__buf_puts(path, before)) ||
           (rc = likeness__buf_encode(path, id)) || (rc = likeness__buf_puts(path, after)));
    return rc;
}

static int check_k(int k) { return k >= 1 ? 0 : likeness__fail(LIKENESS_EINVAL, "k must be 1 or more, not %d", k); }

/* --- Routes ------------------------------------------------------------------------------------------------------- */

int likeness_model(struct likeness *client, struct likeness_model *out) {
    memset(out, 0, sizeof *out);
    struct likeness__reply reply;
    int rc = get(client, "/model", &reply);
    if (!rc) {
        rc = likeness__read_model(reply.body.data, reply.body.size, out);
        likeness__reply_free(&reply);
    }
    return rc;
}

int likeness_embed(struct likeness *client, const struct likeness_picture *pictures, size_t n,
                   struct likeness_vectors *out) {
    memset(out, 0, sizeof *out);
    if (n == 0) {
        return likeness__fail(LIKENESS_EINVAL, "there is no picture to embed");
    }
    struct likeness__part *parts = calloc(n, sizeof *parts);
    if (!parts) {
        return likeness__no_memory();
    }
    for (size_t i = 0; i < n; i++) {
        parts[i] = (struct likeness__part){"image", "picture", "application/octet-stream", pictures[i].bytes,
                                           pictures[i].size};
    }
    const struct likeness__request request = {.method = "POST", .path = "/embed", .parts = parts, .n_parts = n};
    struct likeness__reply reply;
    int rc = exchange(client, &request, &reply);
    if (!rc) {
        rc = likeness__read_vectors(reply.body.data, reply.body.size, n, out);
        likeness__reply_free(&reply);
    }
    free(parts);
    return rc;
}

int likeness_check_metadata(const char *metadata) { return likeness__check_object(metadata); }

int likeness_put(struct likeness *client, const char *id, const struct likeness_picture *picture, const char *metadata,
                 int *created) {
    struct likeness__buf path = {0};
    struct likeness__reply reply;
    int rc;
    if (!(rc = path_of_id(&path, "/items/", id, "")) && metadata) {
        (void)((rc = likeness__check_object(metadata)) || (rc = likeness__buf_puts(&path, "?metadata=")) ||
               (rc = likeness__buf_encode(&path, metadata)));
    }
    if (!rc) {
        const struct likeness__request request = {.method = "PUT",
                                                  .path = path.data,
                                                  .body = picture->bytes ? picture->bytes : "",
                                                  .body_size = picture->size,
                                                  .body_type = "application/octet-stream"};
        rc = exchange(client, &request, &reply);
    }
    if (!rc) {
        if (created) {
            *created = reply.http == 201;
        }
        likeness__reply_free(&reply);
    }
    likeness__buf_free(&path);
    return rc;
}

int likeness_id_fits_many(const char *id) { return !strpbrk(id, "\"\\%"); }

static int check_many(const char *const *ids, const char *const *metadata, size_t n) {
    int rc = n > 0 ? 0 : likeness__fail(LIKENESS_EINVAL, "there is no picture to add");
    for (size_t i = 0; i < n && !rc; i++) {
        rc = likeness__check_id(ids[i]);
        if (!rc && !likeness_id_fits_many(ids[i])) {
            rc = likeness__fail(LIKENESS_EINVAL, "the id '%.80s' must be added by itself", ids[i]);
        }
        if (!rc && metadata && metadata[i]) {
            rc = likeness__check_object(metadata[i]);
        }
    }
    return rc;
}

/* What the server did not answer for carries the failure of the whole. */
static void fail_the_rest(struct likeness_outcome *outcomes, size_t from, size_t n) {
    const struct likeness_error *error = likeness_error();
    for (size_t i = from; i < n; i++) {
        memset(&outcomes[i], 0, sizeof outcomes[i]);
        outcomes[i].status = error->status;
        memcpy(outcomes[i].code, error->code, sizeof outcomes[i].code);
        snprintf(outcomes[i].message, sizeof outcomes[i].message, "%.255s", error->message);
    }
}

/* At most 2n parts, and how many they are. */
static size_t fill_parts(struct likeness__part *parts, const char *const *ids, const struct likeness_picture *pictures,
                         const char *const *metadata, size_t n) {
    size_t n_parts = 0;
    for (size_t i = 0; i < n; i++) {
        if (metadata && metadata[i]) { /* for the picture that follows */
            parts[n_parts++] = (struct likeness__part){"metadata", NULL, "application/json", metadata[i],
                                                       strlen(metadata[i])};
        }
        parts[n_parts++] = (struct likeness__part){"image", ids[i], "application/octet-stream", pictures[i].bytes,
                                                   pictures[i].size};
    }
    return n_parts;
}

int likeness_put_many(struct likeness *client, const char *const *ids, const struct likeness_picture *pictures,
                      const char *const *metadata, size_t n, struct likeness_outcome *outcomes) {
    size_t n_parts = 0, answered = 0;
    struct likeness__reply reply = {0};
    struct likeness__part *parts = NULL;
    int rc = check_many(ids, metadata, n);
    if (!rc && (parts = calloc(2 * n, sizeof *parts))) {
        n_parts = fill_parts(parts, ids, pictures, metadata, n);
    } else if (!rc) {
        rc = likeness__no_memory();
    }
    if (!rc) {
        const struct likeness__request request = {.method = "POST",
                                                  .path = "/items",
                                                  .accept = "application/x-ndjson, application/json",
                                                  .parts = parts,
                                                  .n_parts = n_parts};
        rc = exchange(client, &request, &reply);
    }
    if (!rc) {
        rc = likeness__read_results(reply.body.data, reply.body.size, n, ids, outcomes, &answered);
        likeness__reply_free(&reply);
    }
    fail_the_rest(outcomes, answered, n);
    free(parts);
    return rc;
}

/* Appends "&filter=..." when there is one. */
static int add_filter(struct likeness__buf *path, const char *filter) {
    int rc = 0;
    if (filter) {
        (void)((rc = likeness__buf_puts(path, "&filter=")) || (rc = likeness__buf_encode(path, filter)));
    }
    return rc;
}

int likeness_neighbors(struct likeness *client, const struct likeness_picture *picture, int k, const char *filter,
                       struct likeness_neighbors *out) {
    memset(out, 0, sizeof *out);
    char start[64];
    snprintf(start, sizeof start, "/neighbors?k=%d", k);
    struct likeness__buf path = {0};
    struct likeness__reply reply;
    int rc;
    if (!((rc = check_k(k)) || (rc = likeness__buf_puts(&path, start)) || (rc = add_filter(&path, filter)))) {
        const struct likeness__request request = {.method = "POST",
                                                  .path = path.data,
                                                  .body = picture->bytes ? picture->bytes : "",
                                                  .body_size = picture->size,
                                                  .body_type = "application/octet-stream"};
        if (!(rc = exchange(client, &request, &reply))) {
            rc = likeness__read_neighbors(reply.body.data, reply.body.size, out);
            likeness__reply_free(&reply);
        }
    }
    likeness__buf_free(&path);
    return rc;
}

int likeness_neighbors_of(struct likeness *client, const char *id, int k, const char *filter,
                          struct likeness_neighbors *out) {
    memset(out, 0, sizeof *out);
    char after[32];
    snprintf(after, sizeof after, "&k=%d", k);
    struct likeness__buf path = {0};
    struct likeness__reply reply;
    int rc;
    if (!((rc = check_k(k)) || (rc = path_of_id(&path, "/neighbors?id=", id, after)) ||
          (rc = add_filter(&path, filter)) || (rc = get(client, path.data, &reply)))) {
        rc = likeness__read_neighbors(reply.body.data, reply.body.size, out);
        likeness__reply_free(&reply);
    }
    likeness__buf_free(&path);
    return rc;
}

int likeness_list(struct likeness *client, const char *after, int limit, const char *filter,
                  struct likeness_items *out) {
    memset(out, 0, sizeof *out);
    char limited[32] = "";
    if (limit > 0) {
        snprintf(limited, sizeof limited, "&limit=%d", limit);
    }
    struct likeness__buf path = {0};
    struct likeness__reply reply;
    int rc;
    (void)((rc = likeness__buf_puts(&path, "/items")) || (rc = likeness__buf_puts(&path, limited)));
    if (!rc && after) {
        (void)((rc = likeness__buf_puts(&path, "&after=")) || (rc = likeness__buf_encode(&path, after)));
    }
    if (!rc) {
        rc = add_filter(&path, filter);
    }
    char *first = rc ? NULL : strchr(path.data, '&');
    if (first) {
        *first = '?';
    }
    if (!rc && !(rc = get(client, path.data, &reply))) {
        rc = likeness__read_items(reply.body.data, reply.body.size, out);
        likeness__reply_free(&reply);
    }
    likeness__buf_free(&path);
    return rc;
}

int likeness_get(struct likeness *client, const char *id, char **json) {
    *json = NULL;
    struct likeness__buf path = {0};
    struct likeness__reply reply;
    int rc;
    if (!((rc = path_of_id(&path, "/items/", id, "")) || (rc = get(client, path.data, &reply)))) {
        *json = likeness__buf_take(&reply.body);
        if (!*json) {
            rc = likeness__fail(LIKENESS_EPROTOCOL, "the answer of %s is empty", likeness_server(client));
        }
    }
    likeness__buf_free(&path);
    return rc;
}

int likeness_delete(struct likeness *client, const char *id) {
    struct likeness__buf path = {0};
    struct likeness__reply reply;
    int rc = path_of_id(&path, "/items/", id, "");
    if (!rc) {
        const struct likeness__request request = {.method = "DELETE", .path = path.data};
        if (!(rc = exchange(client, &request, &reply))) {
            likeness__reply_free(&reply);
        }
    }
    likeness__buf_free(&path);
    return rc;
}

static int download(struct likeness *client, const char *path, const char *accept, likeness_write *write, void *arg) {
    const struct likeness__request request = {
        .method = "GET", .path = path, .accept = accept, .write = write, .arg = arg};
    struct likeness__reply reply;
    const int rc = exchange(client, &request, &reply);
    if (!rc) {
        likeness__reply_free(&reply);
    }
    return rc;
}

int likeness_image(struct likeness *client, const char *id, likeness_write *write, void *arg) {
    struct likeness__buf path = {0};
    int rc = path_of_id(&path, "/items/", id, "/image");
    if (!rc) {
        rc = download(client, path.data, "image/*", write, arg);
    }
    likeness__buf_free(&path);
    return rc;
}

/* A tar ends with 1,024 zero bytes; one that does not was cut off by a fault that HTTP could not tell. */
struct tar_check {
    likeness_write *write;
    void *arg;
    uint64_t size, zeros; /* bytes so far; how many of the last ones are zero */
};

static int on_tar(void *arg, const void *bytes, size_t n) {
    struct tar_check *check = arg;
    const unsigned char *data = bytes;
    size_t zeros = 0;
    while (zeros < n && data[n - 1 - zeros] == 0) {
        zeros++;
    }
    check->zeros = zeros == n ? check->zeros + n : zeros;
    check->size += n;
    return check->write(check->arg, bytes, n);
}

int likeness_export(struct likeness *client, likeness_write *write, void *arg) {
    struct tar_check check = {.write = write, .arg = arg};
    const int rc = download(client, "/export", "application/x-tar", on_tar, &check);
    if (!rc && (check.zeros < 1024 || check.size % 512 != 0)) {
        return likeness__fail(LIKENESS_EPROTOCOL, "the archive from %s is incomplete (it was cut off after %llu bytes)",
                              likeness_server(client), (unsigned long long)check.size);
    }
    return rc;
}
