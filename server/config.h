/* The server's settings: one table gives parsing, defaults, ranges, --help, --print-config and what GET /model shows, so
 * that no limit exists that a user cannot see and change. */
#ifndef LK_SERVER_CONFIG_H
#define LK_SERVER_CONFIG_H

#include "base/args.h"
#include "collection.h"
#include "config_file.h"
#include "filter.h"
#include "http.h"

struct lk_config {
    /* what is served, and where */
    const char *model, *catalogue, *snapshot_folder, *listen;
    const char *keys, *allowed_host;
    int open_metrics, insecure_public;
    /* the engine and the cores */
    const char *device, *precision;
    int scaled_jpeg;
    double publish_share;
    long long image_size, max_batch, max_delay_us, threads, engine_threads, pool_threads, http_threads;
    /* the index */
    const char *index;
    long long hnsw_m, hnsw_ef_construction, hnsw_ef_search, hnsw_unlinked, hnsw_threads;
    /* limits */
    long long max_body_bytes, body_memory_bytes, answer_memory_bytes, decode_memory_bytes, max_pixels, max_images,
        max_json_values;
    long long max_filter_bytes, max_filter_depth, max_filter_conditions;
    long long max_metadata_bytes, max_model_bytes, max_k, page_limit, queue, uploads, upload_images, connections,
        connections_per_address;
    double header_timeout_seconds, body_timeout_seconds, upload_timeout_seconds, answer_timeout_seconds,
        idle_timeout_seconds;
    double request_timeout_seconds, ready_timeout_seconds, drain_seconds;
    /* the log */
    const char *log_level, *log_format;
    int log_requests;
    /* settings in a file */
    const char *config;
    int print_config;
    struct lk_config_words file; /* what it said: strings point here */
    /* made from the above by lk_config_parse */
    char address[64];
    int port;
    int cores, engine_cores;
};

/* 0, 1 (--help or --print-config has been printed), or LK_EINVAL with a sentence. The strings point into
 * argv and *c; after 0 lk_config_close frees what was read. */
int lk_config_parse(struct lk_config *c, int argc, char **argv);

void lk_config_close(struct lk_config *c);

/* Every option in the order of the table, with its value now; is_limit: it stands under "Limits". */
void lk_config_visit(const struct lk_config *c, void (*visit)(void *arg, const struct lk_arg *option, int is_limit),
                     void *arg);

struct lk_collection_options lk_config_collection(const struct lk_config *c, struct lk_work *work);
struct lk_http_options lk_config_http(const struct lk_config *c);
struct lk_filter_limits lk_config_filter(const struct lk_config *c);
int lk_config_work(const struct lk_config *c, struct lk_work *work); /* opens it */

#endif
