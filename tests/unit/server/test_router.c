/* Does each method and path reach its route, and is everything else told what is wrong? */
#include <string.h>

#include "base/err.h"
#include "check.h"
#include "server/routes.h"

static struct lk_arena arena; /* of the last match */

static int match(const char *method, const char *path, struct lk_route_match *m) {
    lk_arena_reset(&arena, 0);
    return lk_router_match(lk_routes, lk_routes_count, method, path, strlen(path), &arena, m);
}

static void check_route(const char *method, const char *path, const char *pattern, const char *capture) {
    struct lk_route_match m;
    if (!LK_CHECK_INT(match(method, path, &m), 0))
        return;
    LK_CHECK_STR(m.route->pattern, pattern);
    if (capture) {
        LK_CHECK_STR(m.captures[0].data, capture);
        LK_CHECK_INT(m.captures[0].size, strlen(capture));
    }
}

static void paths_reach_their_routes(void) {
    check_route("POST", "/embed", "/embed", NULL);
    check_route("GET", "/", "/", NULL);
    check_route("HEAD", "/", "/", NULL);
    check_route("GET", "/items", "/items", NULL);
    check_route("PUT", "/items/cat.png", "/items/{id}", "cat.png");
    check_route("GET", "/items/cat.png/image", "/items/{id}/image", "cat.png");
    check_route("GET", "/%69tems/x", "/items/{id}", "x");
    check_route("GET", "/web/app.js", "/web/{file}", "app.js");
}

static void the_path_is_split_before_it_is_decoded(void) {
    check_route("GET", "/items/a%2Fb", "/items/{id}", "a/b");
    check_route("GET", "/items/a%2Fb%2Fimage", "/items/{id}", "a/b/image");
    check_route("GET", "/items/a%2Fb/image", "/items/{id}/image", "a/b");
    check_route("GET", "/items/%252F", "/items/{id}", "%2F");
    check_route("GET", "/items/..", "/items/{id}", "..");
    struct lk_route_match m;
    LK_CHECK_INT(match("GET", "/items%2Fx", &m), LK_ENOTFOUND);
    LK_REQUIRE(match("GET", "/items/a%00b", &m) == 0);
    LK_CHECK_INT(m.captures[0].size, 3); /* for the check of ids to refuse */
}

static void other_paths_are_not_found(void) {
    const char *const paths[] = {"",        "/embed/",       "/Embed",     "/embed/x",         "//",
                                 "/items/", "/items//image", "/items/a/b", "/items/a/image/x", "*",
                                 "embed",   "/web",          "/web/a/b",   "http://x/embed"};
    struct lk_route_match m;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        LK_CHECK_INT(match("GET", paths[i], &m), LK_ENOTFOUND);
}

static void other_methods_are_told_which_there_are(void) {
    struct lk_route_match m;
    LK_CHECK_INT(match("GET", "/embed", &m), LK_EUNSUPPORTED);
    LK_CHECK_STR(m.allow, "POST");
    LK_CHECK_INT(match("POST", "/items/x", &m), LK_EUNSUPPORTED);
    LK_CHECK_STR(m.allow, "PUT, GET, HEAD, PATCH, DELETE");
    LK_CHECK_INT(match("BREW", "/neighbors", &m), LK_EUNSUPPORTED);
    LK_CHECK_STR(m.allow, "POST, GET, HEAD");
    LK_CHECK_INT(match("get", "/livez", &m), LK_EUNSUPPORTED);
}

static void bad_escapes_are_refused(void) {
    struct lk_route_match m;
    LK_CHECK_INT(match("GET", "/items/%zz", &m), LK_EINVAL);
    LK_CHECK_INT(match("GET", "/items/%", &m), LK_EINVAL);
}

static const struct lk_case cases[] = {
    LK_CASE(paths_reach_their_routes),  LK_CASE(the_path_is_split_before_it_is_decoded),
    LK_CASE(other_paths_are_not_found), LK_CASE(other_methods_are_told_which_there_are),
    LK_CASE(bad_escapes_are_refused),
};

int main(int argc, char **argv) {
    const int rc = lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
    lk_arena_close(&arena);
    return rc;
}
