#include "config.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/pool.h"

static const struct lk_config defaults = {
    .model = NULL,
    .catalogue = "likeness.db",
    .listen = "127.0.0.1:8080",
    .device = "auto",
    .precision = "auto",
    .max_batch = 32,
    .max_delay_us = 500,
    .publish_share = 0.5,
    .http_threads = 2,
    .index = "flat",
    .hnsw_m = 32,
    .hnsw_ef_construction = 80,
    .hnsw_ef_search = 64,
    .hnsw_unlinked = 4096,
    .hnsw_threads = 1,
    .max_body_bytes = 32 << 20,
    .body_memory_bytes = 512 << 20,
    .answer_memory_bytes = 256 << 20,
    .decode_memory_bytes = 512 << 20,
    .max_pixels = 50000000,
    .max_images = 128,
    .max_json_values = 1000000,
    .max_metadata_bytes = 64 << 10,
    .max_model_bytes = 1LL << 30,
    .max_filter_bytes = 16 << 10,
    .max_filter_depth = 8,
    .max_filter_conditions = 256,
    .max_k = 1000,
    .page_limit = 1000,
    .queue = 1024,
    .uploads = 4,
    .upload_images = 1000000,
    .connections = 4096,
    .header_timeout_seconds = 10,
    .body_timeout_seconds = 30,
    .upload_timeout_seconds = 3600,
    .answer_timeout_seconds = 60,
    .idle_timeout_seconds = 60,
    .request_timeout_seconds = 30,
    .ready_timeout_seconds = 5,
    .drain_seconds = 30,
    .log_level = "info",
    .log_format = "text",
    .log_requests = 1,
};

#define OPTIONS 72

/* The table over one configuration; returns how many entries it has. */
static size_t make_table(struct lk_config *c, struct lk_arg table[OPTIONS]) {
    const struct lk_arg options[] = {
        {LK_ARG_HEADING, NULL, NULL, NULL, "What is served, and where", 0, 0, NULL, 0},
        {LK_ARG_STRING, "model", &c->model, "FILE", "The weights: a .safetensors file of the trainer or of torchvision",
         0, 0, NULL, 0},
        {LK_ARG_STRING, "catalogue", &c->catalogue, "FILE", "The SQLite file of items; made when it is not there", 0, 0,
         NULL, 0},
        {LK_ARG_STRING, "snapshot-folder", &c->snapshot_folder, "FOLDER",
         "Where POST /snapshots leaves them; default: beside the catalogue, its name with .snapshots", 0, 0, NULL, 0},
        {LK_ARG_STRING, "listen", &c->listen, "ADDRESS:PORT", "Where to listen; port 0 takes a free one", 0, 0, NULL,
         0},
        {LK_ARG_STRING, "keys", &c->keys, "FILE",
         "Who may ask what: a key a line, as role, name and key; read again at SIGHUP. Without it everybody may", 0, 0,
         NULL, 0},
        {LK_ARG_STRING, "allowed-host", &c->allowed_host, "NAMES",
         "Without keys: names, separated by commas, under which browsers may reach the server; *: any", 0, 0, NULL, 0},
        {LK_ARG_FLAG, "open-metrics", &c->open_metrics, NULL, "GET /metrics needs no key", 0, 0, NULL, 0},
        {LK_ARG_FLAG, "insecure-public", &c->insecure_public, NULL,
         "Listen on an address that others can reach, although nobody has to identify himself", 0, 0, NULL, 0},
        {LK_ARG_HEADING, NULL, NULL, NULL, "The engine, and the cores", 0, 0, NULL, 0},
        {LK_ARG_STRING, "device", &c->device, "NAME", "auto, cpu, cuda or cuda:N", 0, 0, NULL, 0},
        {LK_ARG_CHOICE, "precision", &c->precision, NULL,
         "auto: what the catalogue was made with, else the device's fastest that keeps the accuracy", 0, 0,
         "auto|fp32|bf16|fp16", 0},
        {LK_ARG_INT, "image-size", &c->image_size, "N", "Side of the network's input; 0: the model's", 0, 4096, NULL,
         0},
        {LK_ARG_INT, "max-batch", &c->max_batch, "N", "Pictures computed together", 1, 512, NULL, 0},
        {LK_ARG_INT, "max-delay-us", &c->max_delay_us, "N",
         "How long the first picture of a batch waits for company, in microseconds", 0, 100000, NULL, 0},
        {LK_ARG_FLAG, "scaled-jpeg", &c->scaled_jpeg, NULL,
         "Decode large JPEGs at 1/2, 1/4 or 1/8, never below twice the network's side: faster, but a pixel may differ by "
         "17/255, so all of a catalogue one way",
         0, 0, NULL, 0},
        {LK_ARG_INT, "threads", &c->threads, "N", "Cores used in all; 0: those of the machine", 0, 4096, NULL, 0},
        {LK_ARG_INT, "engine-threads", &c->engine_threads, "N", "Of these, the engine's on a CPU; 0: a fitting share",
         0, 4096, NULL, 0},
        {LK_ARG_INT, "pool-threads", &c->pool_threads, "N",
         "Threads that decode, search and write answers; 0: the rest", 0, 4096, NULL, 0},
        {LK_ARG_REAL, "publish-share", &c->publish_share, "X",
         "Share of the time that embedding again for a published model may take beside live requests", 0.01, 1, NULL,
         0},
        {LK_ARG_INT, "http-threads", &c->http_threads, "N", "Threads that read and write connections", 2, 64, NULL, 0},
        {LK_ARG_HEADING, NULL, NULL, NULL, "The index", 0, 0, NULL, 0},
        {LK_ARG_CHOICE, "index", &c->index, NULL,
         "flat: exact; hnsw: nearly so, in a small part of the time, for hundreds of thousands of items", 0, 0,
         "flat|hnsw", 0},
        {LK_ARG_INT, "hnsw-m", &c->hnsw_m, "N", "Links of an item in the graph", 2, 512, NULL, 0},
        {LK_ARG_INT, "hnsw-ef-construction", &c->hnsw_ef_construction, "N", "Candidates looked at to find them", 1,
         10000, NULL, 0},
        {LK_ARG_INT, "hnsw-ef-search", &c->hnsw_ef_search, "N",
         "Candidates that a search keeps: more find more, and take longer; never fewer than the neighbours asked for",
         1, 10000, NULL, 0},
        {LK_ARG_INT, "hnsw-unlinked", &c->hnsw_unlinked, "N",
         "New items searched exactly until so many, and an eighth of the graph, are linked together", 1, 1e8, NULL, 0},
        {LK_ARG_INT, "hnsw-threads", &c->hnsw_threads, "N", "Threads that link items, behind all others", 1, 4096, NULL,
         0},
        {LK_ARG_HEADING, NULL, NULL, NULL, "Limits", 0, 0, NULL, 0},
        {LK_ARG_SIZE, "max-body-bytes", &c->max_body_bytes, NULL, "A request's body, and each picture of an upload",
         1024, 1 << 29, NULL, 0},
        {LK_ARG_SIZE, "body-memory-bytes", &c->body_memory_bytes, NULL, "All bodies in memory together", 1024, 1e15,
         NULL, 0},
        {LK_ARG_SIZE, "answer-memory-bytes", &c->answer_memory_bytes, NULL,
         "All answers in memory together; a single one may take a quarter", 1 << 16, 1e15, NULL, 0},
        {LK_ARG_SIZE, "decode-memory-bytes", &c->decode_memory_bytes, NULL, "Pixels being decoded, all together", 1024,
         1e15, NULL, 0},
        {LK_ARG_INT, "max-pixels", &c->max_pixels, "N", "Width x height of a picture", 1, 4e9, NULL, 0},
        {LK_ARG_INT, "max-images", &c->max_images, "N", "Pictures or queries of one request", 1, 65536, NULL, 0},
        {LK_ARG_INT, "max-json-values", &c->max_json_values, "N", "Values in one JSON text", 16, 1e9, NULL, 0},
        {LK_ARG_SIZE, "max-metadata-bytes", &c->max_metadata_bytes, NULL, "An item's metadata, as JSON text", 2,
         1 << 24, NULL, 0},
        {LK_ARG_SIZE, "max-model-bytes", &c->max_model_bytes, NULL, "A model that is published", 1024, 1e12, NULL, 0},
        {LK_ARG_SIZE, "max-filter-bytes", &c->max_filter_bytes, NULL, "A filter, as JSON text", 16, 1 << 24, NULL, 0},
        {LK_ARG_INT, "max-filter-depth", &c->max_filter_depth, "N", "Filters inside of filters", 1, 64, NULL, 0},
        {LK_ARG_INT, "max-filter-conditions", &c->max_filter_conditions, "N",
         "Conditions of a filter, and values in their lists", 1, 65536, NULL, 0},
        {LK_ARG_INT, "max-k", &c->max_k, "N", "Neighbours of one query", 1, 1e6, NULL, 0},
        {LK_ARG_INT, "page-limit", &c->page_limit, "N", "Items of one page of GET /items", 1, 1e5, NULL, 0},
        {LK_ARG_INT, "queue", &c->queue, "N", "Pictures that may wait for the engine; more are answered with 429", 1,
         1e6, NULL, 0},
        {LK_ARG_INT, "uploads", &c->uploads, "N", "POST /items at a time", 1, 1024, NULL, 0},
        {LK_ARG_INT, "upload-images", &c->upload_images, "N", "Pictures of one POST /items", 1, 1e9, NULL, 0},
        {LK_ARG_INT, "connections", &c->connections, "N", "Open connections; more wait to be accepted", 1, 1e6, NULL,
         0},
        {LK_ARG_INT, "connections-per-address", &c->connections_per_address, "N",
         "Open connections of one address; 0: no limit", 0, 1e6, NULL, 0},
        {LK_ARG_REAL, "header-timeout-seconds", &c->header_timeout_seconds, "S",
         "Until a request's headers are complete", 0.05, 86400, NULL, 0},
        {LK_ARG_REAL, "body-timeout-seconds", &c->body_timeout_seconds, "S", "Until a request's body is complete", 0.05,
         86400, NULL, 0},
        {LK_ARG_REAL, "upload-timeout-seconds", &c->upload_timeout_seconds, "S", "The same for POST /items", 0.05, 1e6,
         NULL, 0},
        {LK_ARG_REAL, "answer-timeout-seconds", &c->answer_timeout_seconds, "S",
         "Until an answer, or the next 64k of a long one, is taken by its client", 0.05, 86400, NULL, 0},
        {LK_ARG_REAL, "idle-timeout-seconds", &c->idle_timeout_seconds, "S", "Until an idle connection is closed", 0.05,
         86400, NULL, 0},
        {LK_ARG_REAL, "request-timeout-seconds", &c->request_timeout_seconds, "S",
         "Until a picture must have reached the engine", 0.001, 86400, NULL, 0},
        {LK_ARG_REAL, "ready-timeout-seconds", &c->ready_timeout_seconds, "S",
         "Until the canary of /readyz must be back", 0.001, 3600, NULL, 0},
        {LK_ARG_REAL, "drain-seconds", &c->drain_seconds, "S", "How long a stop waits for requests", 0, 86400, NULL, 0},
        {LK_ARG_HEADING, NULL, NULL, NULL, "The log", 0, 0, NULL, 0},
        {LK_ARG_CHOICE, "log-level", &c->log_level, NULL, "What is written to the standard error", 0, 0,
         "error|warn|info|debug", 0},
        {LK_ARG_CHOICE, "log-format", &c->log_format, NULL, "A line of text, or of JSON", 0, 0, "text|json", 0},
        {LK_ARG_FLAG, "log-requests", &c->log_requests, NULL, "A line a request", 0, 0, NULL, 0},
        {LK_ARG_HEADING, NULL, NULL, NULL, "Settings in a file", 0, 0, NULL, 0},
        {LK_ARG_STRING, "config", &c->config, "FILE",
         "A JSON object with the names of these options, {\"max-k\": 100}; flags win over it", 0, 0, NULL, 0},
        {LK_ARG_FLAG, "print-config", &c->print_config, NULL, "Print every setting, as --config reads it, and stop", 0,
         0, NULL, 0},
    };
    _Static_assert(sizeof options <= OPTIONS * sizeof(struct lk_arg), "OPTIONS is too small");
    memcpy(table, options, sizeof options);
    return sizeof options / sizeof *options;
}

void lk_config_visit(const struct lk_config *c, void (*visit)(void *arg, const struct lk_arg *option, int is_limit),
                     void *arg) {
    struct lk_config copy = *c;
    struct lk_arg table[OPTIONS];
    size_t n = make_table(&copy, table);
    int limits = 0;
    for (size_t i = 0; i < n; i++) {
        if (table[i].kind == LK_ARG_HEADING)
            limits = strcmp(table[i].help, "Limits") == 0;
        else if (strcmp(table[i].name, "print-config") != 0 && strcmp(table[i].name, "config") != 0)
            visit(arg, &table[i], limits);
    }
}

#define NOT_IN_A_FILE " config print-config "

static int print(struct lk_config *c) {
    struct lk_arg table[OPTIONS];
    struct lk_buf out = {0};
    int rc = lk_config_json(&out, table, make_table(c, table), NOT_IN_A_FILE);
    if (rc == 0)
        fwrite(out.data, 1, out.size, stdout);
    lk_buf_free(&out);
    return rc;
}

/* "127.0.0.1:8080", "[::1]:8080", "localhost:8080". Only loopback, unless told otherwise. */
static int parse_listen(struct lk_config *c) {
    const char *text = c->listen, *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    char *end = NULL;
    long port = colon ? strtol(colon + 1, &end, 10) : -1;
    if (port < 0 || port > 65535 || !colon[1] || *end)
        return lk_err(LK_EINVAL, "--listen \"%s\" is not ADDRESS:PORT", text);
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
        text++;
        n -= 2;
    }
    if (n == strlen("localhost") && memcmp(text, "localhost", n) == 0) {
        text = "127.0.0.1";
        n = strlen(text);
    }
    if (n == 0 || n >= sizeof c->address)
        return lk_err(LK_EINVAL, "--listen \"%s\" is not ADDRESS:PORT", c->listen);
    memcpy(c->address, text, n);
    c->address[n] = 0;
    c->port = (int)port;
    struct in_addr v4;
    struct in6_addr v6;
    int loopback;
    if (inet_pton(AF_INET, c->address, &v4) == 1)
        loopback = ntohl(v4.s_addr) >> 24 == 127;
    else if (inet_pton(AF_INET6, c->address, &v6) == 1)
        loopback = IN6_IS_ADDR_LOOPBACK(&v6);
    else
        return lk_err(LK_EINVAL, "--listen \"%s\" names no numeric address", c->listen);
    if (!loopback && !c->keys && !c->insecure_public)
        return lk_err(LK_EINVAL,
                      "%s can be reached by others, and nobody would have to identify himself: give --keys, listen on "
                      "127.0.0.1, or say --insecure-public",
                      c->address);
    return 0;
}

/* Engine and pool share the cores. On a CPU the engine needs nearly all of them: decoding is some hundredths of the work.
 * Below four cores it takes all, and the two take turns (cores.h). On another device the pool has the cores. */
static void share_cores(struct lk_config *c) {
    c->cores = c->threads ? (int)c->threads : lk_cpu_count();
    int elsewhere = strncmp(c->device, "cuda", 4) == 0;
    int pool = elsewhere ? (c->cores > 1 ? c->cores - 1 : 1) : (c->cores + 7) / 8;
    int engine = c->cores < 4 ? c->cores : c->cores - pool;
    if (c->engine_threads)
        engine = c->engine_threads > c->cores ? c->cores : (int)c->engine_threads;
    if (c->pool_threads == 0)
        c->pool_threads = elsewhere || engine >= c->cores ? pool : c->cores - engine;
    if (c->pool_threads > c->cores)
        c->pool_threads = c->cores;
    c->engine_threads = engine;
    c->engine_cores = elsewhere ? 0 : engine;
}

/* The file first, so that flags win. */
static int parse(struct lk_config *c, struct lk_arg *table, size_t n, int argc, char **argv) {
    size_t words;
    int rc = lk_args_parse(table, n, argc, argv, NULL, 0, &words);
    if (rc || !c->config)
        return rc;
    if ((rc = lk_config_words_read(&c->file, c->config, table, n)))
        return rc;
    if (lk_args_parse(table, n, (int)c->file.count, c->file.words, NULL, 0, &words)) {
        char sentence[512];
        snprintf(sentence, sizeof sentence, "%s", lk_error());
        return lk_err(LK_EINVAL, "%s: %s", c->config, sentence);
    }
    return lk_args_parse(table, n, argc, argv, NULL, 0, &words);
}

static int check(const struct lk_config *c) {
    if (!c->model)
        return lk_err(LK_EINVAL, "--model is missing: which weights shall be served?");
    if (c->decode_memory_bytes < 3 * c->max_pixels)
        return lk_err(LK_EINVAL, "--decode-memory-bytes %lld does not hold one picture of --max-pixels %lld",
                      c->decode_memory_bytes, c->max_pixels);
    if (c->queue < c->max_images)
        return lk_err(LK_EINVAL, "--queue %lld does not hold one request of --max-images %lld", c->queue,
                      c->max_images);
    if (c->body_memory_bytes < c->max_body_bytes)
        return lk_err(LK_EINVAL, "--body-memory-bytes %lld does not hold one body of --max-body-bytes %lld",
                      c->body_memory_bytes, c->max_body_bytes);
    return 0;
}

int lk_config_parse(struct lk_config *c, int argc, char **argv) {
    *c = defaults;
    struct lk_arg table[OPTIONS];
    size_t n = make_table(c, table);
    int rc = parse(c, table, n, argc, argv);
    if (rc == 1) {
        struct lk_config fresh = defaults; /* so that the defaults shown are the defaults */
        make_table(&fresh, table);
        lk_args_help(
            table, n, "likeness-server --model FILE [options]",
            "Serves a catalogue of pictures: embeds them with a model of likeness-trainer and answers which are "
            "nearest to which, over REST. The API is described at /openapi.json, and a page to try it at /.");
    }
    if (rc == 0 && (rc = parse_listen(c)) == 0 && c->print_config)
        rc = print(c) ? LK_ENOMEM : 1;
    if (rc == 0) {
        share_cores(c);
        rc = check(c);
    }
    if (rc)
        lk_config_close(c);
    return rc;
}

void lk_config_close(struct lk_config *c) { lk_config_words_free(&c->file); }

int lk_config_work(const struct lk_config *c, struct lk_work *work) {
    size_t jobs = ((size_t)c->connections + 64) * (size_t)(c->pool_threads + 1);
    int rc = lk_work_open(work, c->cores, c->engine_cores, (int)c->pool_threads, jobs, (uint64_t)c->decode_memory_bytes,
                          (uint64_t)c->max_pixels);
    work->scaled_jpeg = c->scaled_jpeg;
    return rc;
}

struct lk_collection_options lk_config_collection(const struct lk_config *c, struct lk_work *work) {
    return (struct lk_collection_options){
        .model_path = c->model,
        .catalogue_path = c->catalogue,
        .max_metadata = (size_t)c->max_metadata_bytes,
        .publish_share = c->publish_share,
        .index = {.kind = strcmp(c->index, "hnsw") == 0 ? LK_INDEX_HNSW : LK_INDEX_FLAT,
                  .m = (int)c->hnsw_m,
                  .ef_construction = (int)c->hnsw_ef_construction,
                  .ef_search = (int)c->hnsw_ef_search,
                  .threads = (int)c->hnsw_threads,
                  .unlinked = (size_t)c->hnsw_unlinked},
        .engine = {.device = c->device,
                   .precision = c->precision,
                   .max_batch = (int)c->max_batch,
                   .threads = (int)c->engine_threads,
                   .image_size = (int)c->image_size},
        .batcher = {.metrics = work->metrics,
                    .max_batch = (int)c->max_batch,
                    .max_delay_us = (int)c->max_delay_us,
                    .queue = (int)c->queue,
                    .cores = work->cores,
                    .engine_cores = work->engine_cores},
    };
}

struct lk_http_options lk_config_http(const struct lk_config *c) {
    return (struct lk_http_options){
        .address = c->address,
        .port = c->port,
        .threads = (int)c->http_threads,
        .connections = (int)c->connections,
        .connections_per_address = (int)c->connections_per_address,
        .max_body = c->max_body_bytes,
        .body_memory = c->body_memory_bytes,
        .answer_memory = c->answer_memory_bytes,
        .header_timeout = c->header_timeout_seconds,
        .body_timeout = c->body_timeout_seconds,
        .upload_timeout = c->upload_timeout_seconds,
        .answer_timeout = c->answer_timeout_seconds,
        .idle_timeout = c->idle_timeout_seconds,
        .request_timeout = c->request_timeout_seconds,
    };
}

struct lk_filter_limits lk_config_filter(const struct lk_config *c) {
    return (struct lk_filter_limits){.bytes = (size_t)c->max_filter_bytes,
                                     .depth = (size_t)c->max_filter_depth,
                                     .conditions = (size_t)c->max_filter_conditions};
}
