/* The JSON body of POST /neighbors: either a fault, or queries that are within the limits; and the same when the names of
 * vectors are spelled so that Jansson reads all of it. */
#include "fuzz.h"

#include <math.h>

#include "server/neighbors_query.h"

enum { DIM = 4, MAX_K = 50, MAX_QUERIES = 8 };

static const struct lk_neighbors_limits limits = {.dim = DIM,
                                                  .generation = 3,
                                                  .max_k = MAX_K,
                                                  .max_queries = MAX_QUERIES,
                                                  .max_json_values = 2000,
                                                  .filter = {.bytes = 4096, .depth = 4, .conditions = 64}};

static void check_spelled(const struct lk_neighbors_queries *asked, const struct lk_fault *f, const uint8_t *data,
                          size_t size) {
    struct lk_buf text = {0};
    struct lk_neighbors_queries other = {0};
    struct lk_fault fault = {0};
    int rc = 0;
    for (size_t i = 0; i < size && rc == 0;) {
        const int is_name = size - i >= 8 && memcmp(data + i, "\"vector\"", 8) == 0;
        rc = is_name ? lk_buf_append(&text, "\"vect\\u006fr\"", 13) : lk_buf_append(&text, data + i, 1);
        i += is_name ? 8 : 1;
    }
    fuzz_check(rc == 0, "memory");
    rc = lk_neighbors_parse(&other, text.data, text.size, &limits, &fault);
    fuzz_check(fault.error == f->error && other.count == asked->count, "the same fault, or as many queries");
    for (size_t i = 0; rc == 0 && i < other.count; i++) {
        const float *a = asked->queries[i].vector, *b = other.queries[i].vector;
        fuzz_check(!a == !b && (!a || memcmp(a, b, DIM * sizeof *a) == 0), "the same vector, bit for bit");
    }
    lk_neighbors_queries_close(&other);
    lk_buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct lk_neighbors_queries asked = {0};
    struct lk_fault f = {0};
    int rc = lk_neighbors_parse(&asked, data, size, &limits, &f);
    fuzz_check((rc == 0) == (f.error == LK_API_OK), "a refusal has a fault, and only a refusal");
    if (rc == 0) {
        fuzz_check(asked.count >= 1 && asked.count <= MAX_QUERIES, "as many queries as are allowed");
        for (size_t i = 0; i < asked.count; i++) {
            const struct lk_neighbors_query *q = &asked.queries[i];
            fuzz_check((q->id != NULL) + (q->vector != NULL) + (q->picture != LK_NO_PICTURE) == 1, "one of three");
            fuzz_check(q->k >= 1 && q->k <= MAX_K && q->min_score >= -2 && q->min_score <= 1, "options in range");
            fuzz_check(q->picture == LK_NO_PICTURE || q->picture < asked.pictures.count, "a picture that is there");
            double sum = 0;
            for (int j = 0; q->vector && j < DIM; j++)
                sum += (double)q->vector[j] * (double)q->vector[j];
            fuzz_check(!q->vector || fabs(sum - 1) < 1e-4, "a unit vector");
            if (q->filter)
                (void)lk_filter_match(q->filter, "{\"a\":{\"b\":[1,\"x\",null]}}");
        }
    }
    check_spelled(&asked, &f, data, size);
    lk_neighbors_queries_close(&asked);
    return 0;
}
