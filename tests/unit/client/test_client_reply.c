/* The server's answers into structs: good ones, and ones that no Likeness server gives. */
#include <stdlib.h>

#include "check.h"
#include "client/reply.h"

static void errors_give_code_and_sentence(void) {
    char code[64], message[256];
    const char *json = "{\"error\":{\"code\":\"item_not_found\",\"message\":\"no \\u00fc\",\"param\":null}}";
    LK_CHECK_INT(likeness__read_error(json, strlen(json), code, message), 0);
    LK_CHECK_STR(code, "item_not_found");
    LK_CHECK_STR(message, "no \xC3\xBC");
    static const char *const none[] = {
        "", "{", "[]", "{}", "{\"error\":\"x\"}", "{\"error\":{\"code\":1,\"message\":\"m\"}}"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        LK_CHECK_INT(likeness__read_error(none[i], strlen(none[i]), code, message), LIKENESS_EPROTOCOL);
        LK_CHECK_STR(code, "");
    }
    LK_CHECK_INT(likeness__read_error(NULL, 0, code, message), LIKENESS_EPROTOCOL);
}

static void statuses_become_what_a_caller_can_act_on(void) {
    static const int pairs[][2] = {{200, 0},
                                   {201, 0},
                                   {204, 0},
                                   {404, LIKENESS_ENOTFOUND},
                                   {413, LIKENESS_EPICTURE},
                                   {415, LIKENESS_EPICTURE},
                                   {422, LIKENESS_EPICTURE},
                                   {429, LIKENESS_EBUSY},
                                   {503, LIKENESS_EBUSY},
                                   {400, LIKENESS_EREFUSED},
                                   {500, LIKENESS_EREFUSED},
                                   {302, LIKENESS_EREFUSED}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        LK_CHECK_INT(likeness__status_of_http(pairs[i][0]), pairs[i][1]);
    }
}

static void vectors_come_by_their_index_and_errors_in_their_place(void) {
    const char *json = "{\"model\":\"m\",\"generation\":9007199254740993,\"dim\":2,\"embeddings\":["
                       "{\"index\":2,\"embedding\":[0.6,0.8]},{\"index\":0,\"embedding\":[1,0]},"
                       "{\"index\":1,\"error\":{\"code\":\"undecodable_image\",\"message\":\"bad\",\"param\":null}}]}";
    struct likeness_vectors v;
    LK_REQUIRE(likeness__read_vectors(json, strlen(json), 3, &v) == 0);
    LK_CHECK_STR(v.model, "m");
    LK_CHECK_INT(v.generation, 9007199254740993);
    LK_CHECK_INT(v.dim, 2);
    LK_CHECK(v.values[0] == 1.0f && v.values[1] == 0.0f);
    LK_CHECK(v.values[2] == 0.0f && v.values[3] == 0.0f);
    LK_CHECK(v.values[4] == 0.6f && v.values[5] == 0.8f);
    LK_CHECK_INT(v.outcomes[0].status, 0);
    LK_CHECK_INT(v.outcomes[1].status, LIKENESS_EPICTURE);
    LK_CHECK_STR(v.outcomes[1].message, "bad");
    likeness_vectors_free(&v);
    likeness_vectors_free(&v);
}

static void vectors_that_do_not_fit_are_refused_and_leave_nothing(void) {
    static const char *const bad[] = {
        "",
        "{\"model\":\"m\",\"generation\":1,\"dim\":0,\"embeddings\":[{\"index\":0,\"embedding\":[]}]}",
        "{\"model\":\"m\",\"generation\":1,\"dim\":99999999,\"embeddings\":[{\"index\":0,\"embedding\":[1]}]}",
        "{\"model\":\"m\",\"generation\":1,\"dim\":1,\"embeddings\":[]}",
        "{\"model\":\"m\",\"generation\":1,\"dim\":1,\"embeddings\":[{\"index\":1,\"embedding\":[1]}]}",
        "{\"model\":\"m\",\"generation\":1,\"dim\":1,\"embeddings\":[{\"index\":-1,\"embedding\":[1]}]}",
        "{\"model\":\"m\",\"generation\":1,\"dim\":1,\"embeddings\":[{\"index\":0.0,\"embedding\":[1]}]}",
        "{\"model\":\"m\",\"generation\":1,\"dim\":1,\"embeddings\":[{\"index\":0,\"embedding\":[1,2]}]}",
        "{\"model\":\"m\",\"generation\":1,\"dim\":1,\"embeddings\":[{\"index\":0,\"embedding\":[null]}]}",
        "{\"model\":\"m\",\"generation\":1,\"dim\":1,\"embeddings\":[{\"index\":0}]}",
        "{\"model\":\"m\",\"generation\":1,\"dim\":1,\"embeddings\":[7]}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct likeness_vectors v;
        LK_CHECK_INT(likeness__read_vectors(bad[i], strlen(bad[i]), 1, &v), LIKENESS_EPROTOCOL);
        LK_CHECK(v.values == NULL && v.outcomes == NULL && v.n == 0);
    }
    const char *twice = "{\"model\":\"m\",\"generation\":1,\"dim\":1,\"embeddings\":["
                        "{\"index\":0,\"embedding\":[1]},{\"index\":0,\"embedding\":[1]}]}";
    struct likeness_vectors v;
    LK_CHECK_INT(likeness__read_vectors(twice, strlen(twice), 2, &v), LIKENESS_EPROTOCOL);
}

static void neighbours_keep_order_scores_and_metadata(void) {
    const char *json =
        "{\"model\":\"m\",\"generation\":2,\"neighbors\":[{\"id\":\"a/b\",\"score\":1,\"metadata\":{\"k\":[1, 2]}},"
        "{\"id\":\"c\",\"score\":-0.25}]}";
    struct likeness_neighbors n;
    LK_REQUIRE(likeness__read_neighbors(json, strlen(json), &n) == 0);
    LK_CHECK_INT(n.n, 2);
    LK_CHECK_STR(n.items[0].id, "a/b");
    LK_CHECK_STR(n.items[0].metadata, "{\"k\":[1,2]}");
    LK_CHECK(n.items[1].metadata == NULL);
    LK_CHECK_NEAR(n.items[1].score, -0.25, 0);
    LK_CHECK_STR(n.json, json);
    likeness_neighbors_free(&n);
    static const char *const bad[] = {"{}", "{\"model\":\"m\",\"neighbors\":{}}",
                                      "{\"model\":\"m\",\"neighbors\":[{\"id\":\"a\"}]}",
                                      "{\"model\":\"m\",\"neighbors\":[{\"id\":\"a\",\"score\":1},{\"score\":1}]}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        LK_CHECK_INT(likeness__read_neighbors(bad[i], strlen(bad[i]), &n), LIKENESS_EPROTOCOL);
        LK_CHECK(n.items == NULL && n.json == NULL);
    }
}

static void a_page_has_its_cursor_only_when_more_follow(void) {
    const char *more =
        "{\"items\":[{\"id\":\"a\",\"metadata\":{},\"bytes\":7,\"width\":3,\"height\":4}],\"next\":\"a\"}";
    const char *last = "{\"items\":[],\"next\":null}";
    struct likeness_items items;
    LK_REQUIRE(likeness__read_items(more, strlen(more), &items) == 0);
    LK_CHECK_STR(items.next, "a");
    LK_CHECK_INT(items.n, 1);
    LK_CHECK_INT(items.items[0].bytes, 7);
    LK_CHECK_INT(items.items[0].width, 3);
    LK_CHECK_INT(items.items[0].height, 4);
    likeness_items_free(&items);
    LK_REQUIRE(likeness__read_items(last, strlen(last), &items) == 0);
    LK_CHECK(items.next == NULL && items.n == 0);
    likeness_items_free(&items);
    LK_CHECK_INT(likeness__read_items("{}", 2, &items), LIKENESS_EPROTOCOL);
}

static const char *const ids[] = {"a", "b", "c"};

static void results_are_told_apart_in_order(void) {
    const char *lines =
        "{\"id\":\"a\",\"status\":201}\n"
        "{\"id\":\"b\",\"status\":422,\"error\":{\"code\":\"undecodable_image\",\"message\":\"bad\",\"param\":null}}\n"
        "\n{\"id\":\"c\",\"status\":200}"; /* without a newline at the end */
    struct likeness_outcome outcomes[3];
    size_t answered;
    LK_CHECK_INT(likeness__read_results(lines, strlen(lines), 3, ids, outcomes, &answered), 0);
    LK_CHECK_INT(answered, 3);
    LK_CHECK_INT(outcomes[0].status, 0);
    LK_CHECK_INT(outcomes[0].created, 1);
    LK_CHECK_INT(outcomes[1].status, LIKENESS_EPICTURE);
    LK_CHECK_STR(outcomes[1].code, "undecodable_image");
    LK_CHECK_INT(outcomes[2].status, 0);
    LK_CHECK_INT(outcomes[2].created, 0);
}

static void a_stream_that_broke_says_what_is_stored_and_why_it_ended(void) {
    const char *lines =
        "{\"id\":\"a\",\"status\":201}\n"
        "{\"status\":400,\"error\":{\"code\":\"invalid_multipart\",\"message\":\"broke\",\"param\":null}}\n";
    struct likeness_outcome outcomes[3];
    size_t answered;
    LK_CHECK_INT(likeness__read_results(lines, strlen(lines), 3, ids, outcomes, &answered), LIKENESS_EREFUSED);
    LK_CHECK_INT(answered, 1);
    LK_CHECK_STR(likeness_error()->code, "invalid_multipart");
}

static void results_of_other_items_too_few_or_too_many_are_refused(void) {
    static const char *const bad[] = {
        "",
        "{\"id\":\"a\",\"status\":201}\n",
        "{\"id\":\"b\",\"status\":201}\n{\"id\":\"a\",\"status\":201}\n",
        "{\"id\":\"a\",\"status\":201}\n{\"id\":\"b\",\"status\":201}\n{\"id\":\"c\",\"status\":201}\n",
        "{\"id\":\"a\",\"status\":422}\n{\"id\":\"b\",\"status\":201}\n",
        "{\"id\":\"a\"}\n{\"id\":\"b\",\"status\":201}\n",
        "nonsense\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct likeness_outcome outcomes[2];
        size_t answered;
        LK_CHECK_INT(likeness__read_results(bad[i], strlen(bad[i]), 2, ids, outcomes, &answered), LIKENESS_EPROTOCOL);
    }
}

static void limits_of_the_model_are_read(void) {
    const char *json = "{\"model\":\"m\",\"generation\":4,\"dim\":512,\"items\":1000,\"limits\":{\"max_body_bytes\":5,"
                       "\"upload_images\":7,\"page_limit\":8,\"max_k\":9}}";
    struct likeness_model m;
    LK_REQUIRE(likeness__read_model(json, strlen(json), &m) == 0);
    LK_CHECK_STR(m.name, "m");
    LK_CHECK_INT(m.items, 1000);
    LK_CHECK_INT(m.max_body, 5);
    LK_CHECK_INT(m.max_upload, 7);
    LK_CHECK_INT(m.max_page, 8);
    LK_CHECK_INT(m.max_k, 9);
    likeness_model_free(&m);
    LK_CHECK_INT(likeness__read_model("{\"dim\":1}", 9, &m), LIKENESS_EPROTOCOL);
}

static const struct lk_case cases[] = {
    LK_CASE(errors_give_code_and_sentence),
    LK_CASE(statuses_become_what_a_caller_can_act_on),
    LK_CASE(vectors_come_by_their_index_and_errors_in_their_place),
    LK_CASE(vectors_that_do_not_fit_are_refused_and_leave_nothing),
    LK_CASE(neighbours_keep_order_scores_and_metadata),
    LK_CASE(a_page_has_its_cursor_only_when_more_follow),
    LK_CASE(results_are_told_apart_in_order),
    LK_CASE(a_stream_that_broke_says_what_is_stored_and_why_it_ended),
    LK_CASE(results_of_other_items_too_few_or_too_many_are_refused),
    LK_CASE(limits_of_the_model_are_read),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
