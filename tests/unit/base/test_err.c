/* Does each thread keep its own last sentence, and does a log line stay one line? */
#include <pthread.h>
#include <regex.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "check.h"

static void the_code_comes_back_and_the_sentence_stays(void) {
    LK_CHECK_INT(lk_err(LK_ELIMIT, "%d pixels exceed %d\n", 7, 5), LK_ELIMIT);
    LK_CHECK_STR(lk_error(), "7 pixels exceed 5");
    LK_CHECK_INT(lk_err_prefix(LK_ELIMIT, "%s", "a.png"), LK_ELIMIT);
    LK_CHECK_STR(lk_error(), "a.png: 7 pixels exceed 5");
    LK_CHECK_INT(lk_err(LK_EIO, "again: %s", lk_error()), LK_EIO); /* its own text as an argument */
    LK_CHECK_STR(lk_error(), "again: a.png: 7 pixels exceed 5");
}

static void a_long_sentence_is_cut(void) {
    char text[3000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    lk_err(LK_EFAIL, "%s", text);
    LK_CHECK_INT(strlen(lk_error()), 1023);
    lk_err_prefix(LK_EFAIL, "file");
    LK_CHECK_INT(strlen(lk_error()), 1023);
    LK_CHECK(strncmp(lk_error(), "file: xxx", 9) == 0);
    lk_err_prefix(LK_EFAIL, "%s", text);
    LK_CHECK_INT(strlen(lk_error()), 1023);
}

static void *other_thread(void *arg) {
    *(int *)arg = strcmp(lk_error(), "") == 0;
    lk_err(LK_EIO, "of the other thread");
    return NULL;
}

static void threads_do_not_share_the_text(void) {
    pthread_t thread;
    int was_empty = 0;
    lk_err(LK_EFAIL, "of this thread");
    LK_REQUIRE(pthread_create(&thread, NULL, other_thread, &was_empty) == 0);
    pthread_join(thread, NULL);
    LK_CHECK(was_empty);
    LK_CHECK_STR(lk_error(), "of this thread");
}

static void every_status_has_a_name_of_its_own(void) {
    for (int a = 0; a >= LK_ECONFLICT; a--)
        for (int b = a - 1; b >= LK_ECONFLICT; b--)
            LK_CHECK(strcmp(lk_status_name(a), lk_status_name(b)) != 0);
    LK_CHECK_STR(lk_status_name(-999), "unknown status");
    LK_CHECK_STR(lk_status_name(LK_ELIMIT), "limit exceeded");
}

/* What f writes to standard error. */
static void capture(char *text, size_t size, void (*f)(void)) {
    int pipe_ends[2], before = dup(STDERR_FILENO);
    text[0] = '\0';
    LK_REQUIRE(pipe(pipe_ends) == 0);
    dup2(pipe_ends[1], STDERR_FILENO);
    f();
    dup2(before, STDERR_FILENO);
    close(before);
    close(pipe_ends[1]);
    size_t n = 0;
    for (ssize_t got; n + 1 < size && (got = read(pipe_ends[0], text + n, size - 1 - n)) > 0;)
        n += (size_t)got;
    text[n] = '\0';
    close(pipe_ends[0]);
}

static void log_some(void) {
    lk_log_info("client said \"%s\"", "a\nb\x1b[31m");
    lk_log_debug("not shown at this level");
    lk_log_set_level(LK_LOG_ERROR);
    lk_log_warn("not shown either");
    lk_log_error("shown\n");
    lk_log_set_level(LK_LOG_INFO);
}

static void a_log_line_is_one_line_with_level_and_time(void) {
    char text[1000];
    regex_t line;
    capture(text, sizeof text, log_some);
    LK_REQUIRE(regcomp(&line,
                       "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\\.[0-9]{3}Z info  client said \"a\\\\nb\\\\1b\\[31m\"\n"
                       "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\\.[0-9]{3}Z error shown\n$",
                       REG_EXTENDED | REG_NOSUB) == 0);
    if (!LK_CHECK(regexec(&line, text, 0, NULL, 0) == 0))
        printf("%s", text);
    regfree(&line);
}

static void log_a_book(void) {
    char text[9000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = i % 2 ? '\n' : 'x';
    text[sizeof text - 1] = '\0';
    lk_log_info("%s", text);
}

static void a_long_log_line_is_cut(void) {
    char text[9000];
    capture(text, sizeof text, log_a_book);
    size_t n = strlen(text);
    LK_REQUIRE(n > 100 && n <= 4096);
    LK_CHECK_STR(text + n - 4, "...\n");
    LK_CHECK(strchr(text, '\n') == text + n - 1);
}

static void log_as_json(void) {
    const struct lk_log_field fields[] = {
        {"id", "a b", 0, 0}, {"bare", "x-1.y", 0, 0}, {"ms", NULL, 2.5, 2}, {"n", NULL, 3, 0}};
    lk_log_fields(LK_LOG_INFO, "request", fields, 4);
    lk_log_set_json(1);
    lk_log_info("\"%s\"\n", "a\nb\\\xff\xc3\xbc");
    lk_log_fields(LK_LOG_WARN, "request", fields, 4);
    lk_log_set_json(0);
}

static void a_log_line_can_have_fields_and_be_json(void) {
    char text[1000];
    capture(text, sizeof text, log_as_json);
    LK_CHECK_HOLDS(text, "Z info  request id=\"a b\" bare=x-1.y ms=2.50 n=3\n{\"time\":\"2");
    LK_CHECK_HOLDS(text, "Z\",\"level\":\"info\",\"message\":\"\\\"a\\u000ab\\\\?\xc3\xbc\\\"\"}\n{\"time\"");
    LK_CHECK_HOLDS(
        text, "\"level\":\"warn\",\"message\":\"request\",\"id\":\"a b\",\"bare\":\"x-1.y\",\"ms\":2.50,\"n\":3}\n");
}

static void log_a_json_book(void) {
    lk_log_set_json(1);
    log_a_book();
    lk_log_set_json(0);
}

static void a_long_json_line_stays_json(void) {
    char text[9000];
    capture(text, sizeof text, log_a_json_book);
    size_t n = strlen(text);
    LK_REQUIRE(n > 100 && n <= 4096);
    LK_CHECK_STR(text + n - 6, "...\"}\n");
    LK_CHECK(strchr(text, '\n') == text + n - 1);
}

static void level_names(void) {
    LK_CHECK_INT(lk_log_level_from_name("debug"), LK_LOG_DEBUG);
    LK_CHECK_INT(lk_log_level_from_name("error"), LK_LOG_ERROR);
    LK_CHECK_INT(lk_log_level_from_name("loud"), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "loud");
}

static const struct lk_case cases[] = {
    LK_CASE(the_code_comes_back_and_the_sentence_stays),
    LK_CASE(a_long_sentence_is_cut),
    LK_CASE(threads_do_not_share_the_text),
    LK_CASE(every_status_has_a_name_of_its_own),
    LK_CASE(a_log_line_is_one_line_with_level_and_time),
    LK_CASE(a_long_log_line_is_cut),
    LK_CASE(a_log_line_can_have_fields_and_be_json),
    LK_CASE(a_long_json_line_stays_json),
    LK_CASE(level_names),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
