/* Does the multipart parser give the same parts however the body is cut, and refuse what is none? */
#include <string.h>

#include "base/err.h"
#include "check.h"
#include "server/multipart.h"

/* What was seen, as text: "[name|file|type]content;" a part. */
static struct lk_buf seen;
static int stop_at; /* a callback fails at this part */
static int parts;

static int begin(void *arg, const struct lk_part *p) {
    (void)arg;
    if (stop_at && ++parts == stop_at)
        return LK_ELIMIT;
    return lk_buf_printf(&seen, "[%s|%s|%s]", p->name, p->file_name ? p->file_name : "-", p->type ? p->type : "-");
}
static int data(void *arg, const void *bytes, size_t n) {
    (void)arg;
    return lk_buf_append(&seen, bytes, n);
}
static int end(void *arg) {
    (void)arg;
    return lk_buf_append(&seen, ";", 1);
}
static const struct lk_multipart_events events = {begin, data, end, NULL};

/* Feeds in pieces of `piece` bytes after a first one of `first`; what was seen stays in `seen`. */
static int parse(const char *type, const char *body, size_t n, size_t first, size_t piece) {
    struct lk_multipart m;
    lk_buf_clear(&seen);
    parts = 0;
    int rc = lk_multipart_open(&m, type, &events);
    for (size_t at = 0, size = first; rc == 0 && at < n; at += size, size = piece) {
        if (at + size > n)
            size = n - at;
        if (size)
            rc = lk_multipart_feed(&m, body + at, size);
        else if (at == 0 && first == 0)
            continue;
    }
    if (rc == 0)
        rc = lk_multipart_finish(&m);
    lk_multipart_close(&m);
    if (lk_buf_append(&seen, "", 1))
        return LK_ENOMEM;
    seen.size--;
    return rc;
}

static const char type[] = "multipart/form-data; boundary=\"AaB03x\"";

/* A preamble, near misses of the boundary, binary bytes, an empty part, padding, an epilogue. */
static const char tricky[] =
    "preamble\r\n--AaB03\r\n--AaB03x\r\n"
    "Content-Disposition: form-data; name=\"a\"; filename=\"cat \\\"one%22.png\"\r\n"
    "Content-Type: image/png\r\n\r\n"
    "\r\n--AaB03\r\r\n\r\n--\r\n-AaB03x\0\xFF\r\r\n--AaB03y\r\n--AaB03x  \r\n"
    "content-disposition:form-data;name=b\r\n\r\n\r\n--AaB03x\r\n"
    "X: y\r\nContent-Disposition: form-data; filename=c/d.jpg; name=\"\"\r\n\r\nz\r\n--AaB03x--\r\n"
    "epilogue\r\n--AaB03x\r\n";
static const char tricky_seen[] = "[a|cat \"one\".png|image/png]\r\n--AaB03\r\r\n\r\n--\r\n-AaB03x\0\xFF\r\r\n--AaB03y;"
                                  "[b|-|-];[|c/d.jpg|-]z;";

static void every_cut_gives_the_same_parts(void) {
    size_t n = sizeof tricky - 1;
    for (size_t first = 1; first <= n; first++) {
        LK_CHECK_INT(parse(type, tricky, n, first, n), 0);
        LK_CHECK(seen.size == sizeof tricky_seen - 1 && memcmp(seen.data, tricky_seen, seen.size) == 0);
    }
    for (size_t piece = 1; piece <= 17; piece++) {
        LK_CHECK_INT(parse(type, tricky, n, piece, piece), 0);
        LK_CHECK(seen.size == sizeof tricky_seen - 1 && memcmp(seen.data, tricky_seen, seen.size) == 0);
    }
}

static void a_body_that_ends_early_is_refused_at_every_length(void) {
    size_t end_of_last = (size_t)(strstr(tricky + 260, "--AaB03x--") - tricky) + 10;
    for (size_t n = 0; n < end_of_last; n++)
        LK_CHECK_INT(parse(type, tricky, n, n ? n : 1, n ? n : 1), LK_EFORMAT);
    LK_CHECK_INT(parse(type, tricky, end_of_last, 5, 5), 0);
}

static void a_content_type_without_a_good_boundary_is_refused(void) {
    struct lk_multipart m;
    const char *const bad[] = {
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/mixed; boundary=a",
        "multipart/form-datax; boundary=a",
        "image/png",
        "multipart/form-data; boundary=01234567890123456789012345678901234567890123456789012345678901234567890"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        LK_CHECK_INT(lk_multipart_open(&m, bad[i], &events), LK_EINVAL);
    LK_CHECK_INT(lk_multipart_open(&m, "Multipart/Form-Data;charset=x; Boundary=abc", &events), 0);
    lk_multipart_close(&m);
}

static void what_is_no_multipart_is_refused(void) {
    const char *const bad[] = {"",
                               "no boundary at all",
                               "--AaB03x",
                               "--AaB03x\r\n\r\nno disposition\r\n--AaB03x--",
                               "--AaB03xjunk\r\n",
                               "--AaB03x-junk",
                               "--AaB03x\rjunk"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        LK_CHECK_INT(parse(type, bad[i], strlen(bad[i]), 3, 3), LK_EFORMAT);
}

static void headers_without_end_are_bounded(void) {
    struct lk_multipart m;
    LK_REQUIRE(lk_multipart_open(&m, type, &events) == 0);
    int rc = lk_multipart_feed(&m, "--AaB03x\r\nX: ", 13);
    for (int i = 0; i < 1000 && rc == 0; i++)
        rc = lk_multipart_feed(&m, "0123456789", 10);
    LK_CHECK_INT(rc, LK_EFORMAT);
    LK_CHECK(m.header.size <= LK_MULTIPART_HEADER_MAX);
    lk_multipart_close(&m);
}

static void a_callback_stops_the_parser(void) {
    stop_at = 2;
    LK_CHECK_INT(parse(type, tricky, sizeof tricky - 1, 9, 9), LK_ELIMIT);
    stop_at = 0;
}

static const struct lk_case cases[] = {
    LK_CASE(every_cut_gives_the_same_parts),
    LK_CASE(a_body_that_ends_early_is_refused_at_every_length),
    LK_CASE(a_content_type_without_a_good_boundary_is_refused),
    LK_CASE(what_is_no_multipart_is_refused),
    LK_CASE(headers_without_end_are_bounded),
    LK_CASE(a_callback_stops_the_parser),
};

int main(int argc, char **argv) {
    int rc = lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
    lk_buf_free(&seen);
    return rc;
}
