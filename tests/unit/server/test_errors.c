/* Do the server's tables and docs/openapi.json agree: error codes with their statuses, routes both ways, limits? */
#include <stdlib.h>
#include <string.h>

#include "base/args.h"
#include "base/err.h"
#include "base/fs.h"
#include "check.h"
#include "server/routes.h"

static json_t *document(void) {
    const char *folder = getenv("LK_SOURCE_DIR");
    char path[4096];
    snprintf(path, sizeof path, "%s/docs/openapi.json", folder ? folder : "../../..");
    struct lk_buf text = {0};
    struct lk_fault f = {0};
    json_t *doc = NULL;
    if (lk_fs_read(&text, path, 0) || lk_json_parse(&doc, text.data, text.size, 1000000, NULL, &f))
        printf("%s: %s %s\n", path, lk_error(), f.message);
    lk_buf_free(&text);
    return doc;
}

static const json_t *walk(const json_t *v, const char *a, const char *b, const char *c) {
    v = json_object_get(v, a);
    v = b ? json_object_get(v, b) : v;
    return c ? json_object_get(v, c) : v;
}

static void error_codes_are_those_of_the_document(void) {
    json_t *doc = document();
    LK_REQUIRE(doc != NULL);
    const json_t *schema = walk(doc, "components", "schemas", "ErrorCode");
    const json_t *list = json_object_get(schema, "enum");
    const char *text = json_string_value(json_object_get(schema, "description"));
    LK_CHECK_INT(json_array_size(list), LK_API_ERRORS - 1);
    for (int e = 1; e < LK_API_ERRORS; e++) {
        const char *code = lk_api_code((enum lk_api_error)e);
        size_t i = 0;
        while (i < json_array_size(list) && strcmp(json_string_value(json_array_get(list, i)), code) != 0)
            i++;
        if (i == json_array_size(list))
            LK_CHECK_STR(code, "a code of the document");
        for (const char *c = code; *c; c++)
            LK_CHECK((*c >= 'a' && *c <= 'z') || *c == '_');
        /* "- 404: `not_found` ..., `item_not_found`": the line that names the code begins with its status */
        char quoted[64];
        snprintf(quoted, sizeof quoted, "`%s`", code);
        const char *line = text ? strstr(text, quoted) : NULL;
        LK_REQUIRE(line != NULL);
        while (line > text && line[-1] != '\n')
            line--;
        LK_CHECK_INT(strtoul(line + 2, NULL, 10), lk_api_http_status((enum lk_api_error)e));
    }
    json_decref(doc);
}

static void lower(char *to, size_t size, const char *from) {
    size_t n = 0;
    for (; *from && n + 1 < size; from++)
        to[n++] = (char)(*from >= 'A' && *from <= 'Z' ? *from + 32 : *from);
    to[n] = 0;
}

static void routes_are_those_of_the_document(void) {
    json_t *doc = document();
    LK_REQUIRE(doc != NULL);
    const json_t *paths = json_object_get(doc, "paths");
    size_t documented = 0;
    for (size_t i = 0; i < lk_routes_count; i++) {
        char method[16];
        lower(method, sizeof method, lk_routes[i].method);
        if (!walk(paths, lk_routes[i].pattern, method, NULL))
            LK_CHECK_STR(lk_routes[i].pattern, "a path of the document, with this method");
    }
    const char *path, *method;
    json_t *operations, *operation;
    json_object_foreach((json_t *)(uintptr_t)paths, path, operations) {
        json_object_foreach(operations, method, operation)
            documented += strcmp(method, "parameters") != 0;
    }
    LK_CHECK_INT(documented, lk_routes_count);
    json_decref(doc);
}

static void roles_are_those_of_the_document(void) {
    json_t *doc = document();
    LK_REQUIRE(doc != NULL);
    for (size_t i = 0; i < lk_routes_count; i++) {
        char method[16];
        lower(method, sizeof method, lk_routes[i].method);
        const json_t *operation = walk(json_object_get(doc, "paths"), lk_routes[i].pattern, method, NULL);
        const char *role = json_string_value(json_object_get(operation, "x-role"));
        LK_CHECK_STR(role ? role : lk_routes[i].pattern, lk_role_name(lk_routes[i].role));
        LK_CHECK((json_object_get(operation, "security") != NULL) == (lk_routes[i].role == LK_ROLE_NONE));
    }
    json_decref(doc);
}

static void every_route_documents_the_errors_it_can_give(void) {
    json_t *doc = document();
    LK_REQUIRE(doc != NULL);
    for (size_t i = 0; i < lk_routes_count; i++) {
        char method[16];
        lower(method, sizeof method, lk_routes[i].method);
        const json_t *answers = walk(json_object_get(doc, "paths"), lk_routes[i].pattern, method, "responses");
        const char *const with_body[] = {"400", "408", "411", "413", "503", "415", "429"};
        const size_t pictures_alone = 2; /* the last of these: a model's body has one form, and no queue */
        size_t n = sizeof with_body / sizeof *with_body;
        if (strcmp(lk_routes[i].pattern, "/model") == 0)
            n -= pictures_alone;
        if (lk_routes[i].body != LK_BODY_NONE)
            for (size_t k = 0; k < n; k++)
                if (!json_object_get(answers, with_body[k]))
                    LK_CHECK_STR(lk_routes[i].pattern, with_body[k]);
        LK_CHECK(json_object_get(answers, "200") || json_object_get(answers, "201") ||
                 json_object_get(answers, "202") || json_object_get(answers, "204"));
    }
    json_decref(doc);
}

static void faults_become_json(void) {
    struct lk_fault f = {0};
    LK_CHECK_INT(lk_fault_set(&f, LK_API_INVALID_ARGUMENT, "k", "k \"%d\" is wrong", 7), LK_EFAIL);
    struct lk_buf b = {0};
    LK_CHECK_INT(lk_fault_body(&b, &f) || lk_buf_append(&b, "", 1), 0);
    LK_CHECK_STR((const char *)b.data,
                 "{\"error\":{\"code\":\"invalid_argument\",\"message\":\"k \\\"7\\\" is wrong\",\"param\":\"k\"}}\n");
    lk_buf_free(&b);
    LK_CHECK(lk_fault_from_status(&f, lk_err(LK_ENOSPACE, "full"), NULL) < 0);
    LK_CHECK_INT(f.error, LK_API_DISK_FULL);
    LK_CHECK_STR(f.message, "full");
}

static const struct lk_case cases[] = {
    LK_CASE(error_codes_are_those_of_the_document),
    LK_CASE(routes_are_those_of_the_document),
    LK_CASE(roles_are_those_of_the_document),
    LK_CASE(every_route_documents_the_errors_it_can_give),
    LK_CASE(faults_become_json),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
