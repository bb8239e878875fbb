/* What the server counts and how long things took, in memory that is made once: C11 atomics, no lock, no allocation a
 * request. Any thread. Written out in Prometheus' text format, version 0.0.4 (prometheus.io/docs/instrumenting/
 * exposition_formats); a reader sees each number whole, and a histogram's count is the sum of its buckets.
 *
 * lk_metrics_count...() and lk_metrics_stage() accept NULL: nobody counts then. */
#ifndef LK_SERVER_METRICS_H
#define LK_SERVER_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Of one picture (decode, queue, inference), one query (search) or one write, and what it waited for within. */
enum lk_stage { LK_STAGE_DECODE, LK_STAGE_QUEUE, LK_STAGE_INFERENCE, LK_STAGE_SEARCH, LK_STAGE_WRITE, LK_STAGES };

const char *lk_stage_name(enum lk_stage stage); /* "decode" */

struct lk_stages { /* of one request, all its pictures together; changed atomically */
    int64_t ns[LK_STAGES];
};

enum lk_count {
    LK_COUNT_DROPPED_LATE, /* pictures that were not computed: their deadline passed */
    LK_COUNT_DROPPED_GONE, /* their client had left */
    LK_COUNT_REFUSED,      /* pictures for which the queue had no place */
    LK_COUNT_REQUEST_BYTES,
    LK_COUNT_RESPONSE_BYTES,
    LK_COUNTS
};

struct lk_metrics;

/* n_routes: requests are counted by route, a number below it, and by status; n_routes itself stands for no route. */
int lk_metrics_open(struct lk_metrics **out, size_t n_routes);
void lk_metrics_close(struct lk_metrics *m); /* NULL is fine */

void lk_metrics_count(struct lk_metrics *m, enum lk_count what, uint64_t n);
void lk_metrics_count_batch(struct lk_metrics *m, int pictures);
void lk_metrics_count_request(struct lk_metrics *m, size_t route, unsigned status, int64_t ns);
/* stages may be NULL. */
void lk_metrics_stage(struct lk_metrics *m, enum lk_stage stage, int64_t ns, struct lk_stages *stages);

/* The labels of a route, as `method="GET",route="/items"`; written into text. */
typedef void lk_metrics_labels(size_t route, char *text, size_t size);
/* Appends everything counted. LK_ENOMEM. */
int lk_metrics_write(struct lk_buf *out, struct lk_metrics *m, lk_metrics_labels *labels);

/* Appends one family of one number: # HELP, # TYPE ("gauge", "counter") and `name{labels} value`; labels may be NULL. */
int lk_metrics_write_one(struct lk_buf *out, const char *name, const char *type, const char *help, const char *labels,
                         double value);
/* Appends the process's own numbers, by their customary names: process_resident_memory_bytes, process_open_fds, ... */
int lk_metrics_write_process(struct lk_buf *out);

#endif
