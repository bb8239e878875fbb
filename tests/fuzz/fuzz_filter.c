/* A filter, a line's end, and the metadata of an item, which may be anything. Metadata that is valid gives the same answer
 * however it is written, and a filter's negation gives the other one. */
#include "fuzz.h"

#include "server/filter.h"

static const struct lk_filter_limits limits = {.bytes = 1 << 16, .depth = 6, .conditions = 64};

static int matches(json_t *json, const char *metadata) {
    struct lk_filter *filter = NULL;
    struct lk_fault f = {0};
    fuzz_check(lk_filter_open(&filter, json, &limits, "filter", &f) == 0, "a filter that was taken is taken again");
    int match = lk_filter_match(filter, metadata);
    lk_filter_close(filter);
    return match;
}

static void check_valid(json_t *filter, const char *metadata, int got) {
    json_t *object = json_loads(metadata, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(object)) {
        char *compact = json_dumps(object, JSON_COMPACT),
             *escaped = json_dumps(object, JSON_ENSURE_ASCII | JSON_INDENT(1));
        fuzz_check(compact && escaped, "memory");
        fuzz_check(matches(filter, compact) == got && matches(filter, escaped) == got, "however it is written");
        free(compact);
        free(escaped);
    }
    json_decref(object);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *line = memchr(data, '\n', size);
    size_t n = line ? (size_t)(line - data) : size;
    char *text = fuzz_text(data, n);
    char *metadata = line ? fuzz_text(line + 1, size - n - 1) : fuzz_text((const uint8_t *)"{}", 2);
    struct lk_filter *filter = NULL;
    struct lk_fault f = {0};
    int rc = lk_filter_open_text(&filter, text, n, &limits, "filter", &f);
    fuzz_check((rc == 0) == (filter != NULL) && (rc == 0) == (f.error == LK_API_OK), "a filter or a fault");
    if (rc == 0) {
        int got = lk_filter_match(filter, metadata);
        json_t *json = json_loadb(text, n, 0, NULL), *not = json_pack("{s:[O]}", "must_not", json);
        struct lk_filter *negated = NULL;
        if (json_object_size(json) > 0 && lk_filter_open(&negated, not, &limits, "filter", &f) == 0) {
            fuzz_check(lk_filter_match(negated, metadata) == !got, "a negation is the other");
            lk_filter_close(negated);
        }
        check_valid(json, metadata, got);
        json_decref(not );
        json_decref(json);
        lk_filter_close(filter);
    }
    free(text);
    free(metadata);
    return 0;
}
