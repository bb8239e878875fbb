/* The JSON body of POST /neighbors: either a fault, or queries that are within the limits. */
#include "fuzz.h"

#include <math.h>

#include "server/neighbors_query.h"

enum { DIM = 4, MAX_K = 50, MAX_QUERIES = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct lk_neighbors_limits limits = {.dim = DIM,
                                               .generation = 3,
                                               .max_k = MAX_K,
                                               .max_queries = MAX_QUERIES,
                                               .max_json_values = 2000,
                                               .filter = {.bytes = 4096, .depth = 4, .conditions = 64}};
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
    lk_neighbors_queries_close(&asked);
    return 0;
}
