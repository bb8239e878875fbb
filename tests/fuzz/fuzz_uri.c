/* A request's target: path and query. What was decoded comes back when it is encoded and decoded again. */
#include "fuzz.h"

#include "base/err.h"
#include "server/router.h"
#include "server/routes.h"

static void check_round_trip(const struct lk_text *t) {
    struct lk_buf name = {0};
    struct lk_text again = {0};
    fuzz_check(lk_uri_encode_name(&name, t->data, t->size) == 0, "memory");
    fuzz_check(lk_uri_decode(&again, (const char *)name.data, name.size, 0, NULL) == 0,
               "an encoded name can be decoded");
    fuzz_check(again.size == t->size && memcmp(again.data, t->data, t->size) == 0, "to what it was");
    free(again.data);
    lk_buf_free(&name);
}

static void check_path(const char *path, size_t n) {
    static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "TRACE"};
    for (size_t m = 0; m < sizeof methods / sizeof *methods; m++) {
        struct lk_route_match match = {0};
        struct lk_arena arena = {0};
        int rc = lk_router_match(lk_routes, lk_routes_count, methods[m], path, n, &arena, &match);
        fuzz_check(rc != 0 || match.route != NULL, "a match has a route");
        fuzz_check(rc != LK_EUNSUPPORTED || match.allow[0] != 0, "another method is named");
        for (int i = 0; rc == 0 && i < LK_ROUTE_CAPTURES; i++)
            if (match.captures[i].data)
                check_round_trip(&match.captures[i]);
        lk_arena_close(&arena);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = fuzz_text(data, size);
    const char *question = memchr(text, '?', size);
    const size_t path = question ? (size_t)(question - text) : size;
    check_path(text, path);
    if (question) {
        struct lk_query q = {0};
        struct lk_arena arena = {0};
        if (lk_query_parse(&q, question + 1, size - path - 1, &arena) == 0)
            for (size_t i = 0; i < q.count; i++) {
                fuzz_check(lk_query_get(&q, q.names[i].data) == q.values[i].data, "an argument is found by its name");
                check_round_trip(&q.values[i]);
            }
        lk_arena_close(&arena);
    }
    free(text);
    return 0;
}
