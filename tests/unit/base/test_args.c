/* Do the command line, its errors and its --help follow the one table? */
#include <unistd.h>

#include "base/args.h"
#include "base/err.h"
#include "check.h"

struct settings {
    int verbose, cache;
    long long epochs, limit;
    double rate;
    const char *out, *optimizer;
};

enum { N_ARGS = 8 };

static void make_table(struct lk_arg table[N_ARGS], struct settings *s) {
    *s = (struct settings){.cache = 1, .epochs = 100, .limit = 65536, .rate = 0.06, .optimizer = "sgd"};
    const struct lk_arg rows[N_ARGS] = {
        {.kind = LK_ARG_HEADING, .help = "Training"},
        {.kind = LK_ARG_INT,
         .name = "epochs",
         .value = &s->epochs,
         .help = "Passes over the data.",
         .minimum = 1,
         .maximum = 10000},
        {.kind = LK_ARG_REAL,
         .name = "learning-rate",
         .value = &s->rate,
         .help = "The rate at a batch of 256, that is scaled with the batch; a sentence long enough to be wrapped more "
                 "than once when it is printed in a column that ends at the hundredth character of the line.",
         .minimum = 0,
         .maximum = 10},
        {.kind = LK_ARG_CHOICE,
         .name = "optimizer",
         .value = &s->optimizer,
         .help = "How weights move.",
         .choices = "sgd|adam|lars"},
        {.kind = LK_ARG_SIZE, .name = "limit", .value = &s->limit, .help = "Memory.", .minimum = 1024, .maximum = 1e18},
        {.kind = LK_ARG_STRING, .name = "out", .value = &s->out, .placeholder = "FILE", .help = "Where to."},
        {.kind = LK_ARG_FLAG, .name = "verbose", .value = &s->verbose, .help = "Say more."},
        {.kind = LK_ARG_FLAG, .name = "cache", .value = &s->cache, .help = "Keep pixels."},
    };
    memcpy(table, rows, sizeof rows);
}

static int parse(struct settings *s, struct lk_arg table[N_ARGS], const char *const *line, const char **words,
                 size_t *n_words) {
    char *argv[17];
    static char kept[16][128]; /* strings that were set point into argv */
    int argc = 1;
    make_table(table, s);
    argv[0] = kept[0];
    for (; line[argc - 1] != NULL; argc++) {
        snprintf(kept[argc], sizeof kept[0], "%s", line[argc - 1]);
        argv[argc] = kept[argc];
    }
    argv[argc] = NULL;
    return lk_args_parse(table, N_ARGS, argc, argv, words, 2, n_words);
}

#define LINE(...) ((const char *const[]){__VA_ARGS__, NULL})

static void every_form_is_understood(void) {
    struct settings s;
    struct lk_arg table[N_ARGS];
    const char *words[2];
    size_t n = 9;
    LK_CHECK_INT(parse(&s, table,
                       LINE("photos", "--epochs", "7", "--learning-rate=1e-3", "--verbose", "--no-cache", "--optimizer",
                            "lars", "--limit=16M", "--out", "--odd", "--", "--epochs"),
                       words, &n),
                 0);
    LK_CHECK_INT(s.epochs, 7);
    LK_CHECK_NEAR(s.rate, 1e-3, 0);
    LK_CHECK_INT(s.verbose, 1);
    LK_CHECK_INT(s.cache, 0);
    LK_CHECK_STR(s.optimizer, "lars");
    LK_CHECK_INT(s.limit, 16LL << 20);
    LK_CHECK_STR(s.out, "--odd"); /* an option's value is the next word, whatever it looks like */
    LK_CHECK_INT(n, 2);
    LK_CHECK_STR(words[0], "photos");
    LK_CHECK_STR(words[1], "--epochs");
    LK_CHECK(table[1].was_set && table[2].was_set && table[7].was_set);
    LK_CHECK_INT(parse(&s, table, LINE("--epochs=3", "--epochs=4"), words, &n), 0); /* the last one counts */
    LK_CHECK_INT(s.epochs, 4);
    LK_CHECK(!table[2].was_set);
    LK_CHECK_INT(n, 0);
}

static void check_refused(const char *const *line, const char *part) {
    struct settings s;
    struct lk_arg table[N_ARGS];
    const char *words[2];
    size_t n;
    LK_CHECK_INT(parse(&s, table, line, words, &n), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), part);
    LK_CHECK_INT(s.epochs, 100); /* a refused value is not stored */
    LK_CHECK_NEAR(s.rate, 0.06, 0);
}

static void an_unknown_name_suggests_the_nearest(void) {
    check_refused(LINE("--epoch", "3"), "unknown option --epoch; did you mean --epochs?");
    check_refused(LINE("--learning_rate=3"), "did you mean --learning-rate?");
    check_refused(LINE("--no-cahce"), "did you mean --no-cache?");
    check_refused(LINE("--optimiser", "sgd"), "did you mean --optimizer?");
    check_refused(LINE("--xyzzy"), "unknown option --xyzzy; --help lists");
    check_refused(LINE("--no-epochs"), "unknown option --no-epochs");
    check_refused(LINE("-e", "3"), "unknown option -e");
    check_refused(LINE("--optimizer", "adamm"), "did you mean adam?");
    check_refused(LINE("--optimizer=zzzzzz"), "one of sgd, adam, lars, not \"zzzzzz\"");
}

static void wrong_values_are_refused(void) {
    check_refused(LINE("--epochs", "0"), "--epochs is 1 to 10000, not 0");
    check_refused(LINE("--epochs", "10001"), "1 to 10000");
    check_refused(LINE("--epochs", "3.5"), "whole number, not \"3.5\"");
    check_refused(LINE("--epochs", "99999999999999999999"), "whole number");
    check_refused(LINE("--epochs", ""), "whole number");
    check_refused(LINE("--epochs="), "whole number");
    check_refused(LINE("--epochs"), "--epochs needs a value");
    check_refused(LINE("--learning-rate", "nan"), "takes a number");
    check_refused(LINE("--learning-rate", "inf"), "takes a number");
    check_refused(LINE("--learning-rate", "1x"), "takes a number");
    check_refused(LINE("--learning-rate", "-1"), "0 to 10, not -1");
    check_refused(LINE("--limit", "12Q"), "number of bytes");
    check_refused(LINE("--limit", "9999999999G"), "too large");
    check_refused(LINE("--limit", "-1"), "number of bytes");
    check_refused(LINE("--limit", "1"), "at least");
    check_refused(LINE("--verbose=yes"), "takes no value");
    check_refused(LINE("a", "b", "c"), "\"c\" is one word too many");
}

static void help_is_asked_for_anywhere(void) {
    struct settings s;
    struct lk_arg table[N_ARGS];
    const char *words[2];
    size_t n;
    LK_CHECK_INT(parse(&s, table, LINE("--epochs", "7", "--wrong", "--help"), words, &n), 1);
    LK_CHECK_INT(s.epochs, 100); /* so that the defaults are printed */
    LK_CHECK_INT(parse(&s, table, LINE("-h"), words, &n), 1);
    LK_CHECK_INT(parse(&s, table, LINE("--", "--help"), words, &n), 0);
}

static void help_wraps_at_100_columns(void) {
    struct settings s;
    struct lk_arg table[N_ARGS];
    make_table(table, &s);
    FILE *f = tmpfile();
    LK_REQUIRE(f != NULL);
    fflush(stdout);
    int before = dup(STDOUT_FILENO);
    dup2(fileno(f), STDOUT_FILENO);
    lk_args_help(table, N_ARGS, "program FOLDER [options]",
                 "What the program does, told at a length that makes the line too long for a terminal of one hundred "
                 "columns, so that it has to be broken.");
    fflush(stdout);
    dup2(before, STDOUT_FILENO);
    close(before);
    rewind(f);
    char text[8000], line[1000];
    size_t longest = 0, used = 0;
    while (fgets(line, sizeof line, f) != NULL) {
        size_t n = strcspn(line, "\n");
        longest = n > longest ? n : longest;
        LK_CHECK(n == 0 || line[n - 1] != ' ');
        used += (size_t)snprintf(text + used, sizeof text - used, "%s", line);
    }
    fclose(f);
    LK_CHECK(longest <= 100);
    LK_CHECK(longest > 90); /* and the columns are used */
    LK_CHECK(strncmp(text, "Usage: program FOLDER [options]\n\nWhat the program", 48) == 0);
    LK_CHECK_HOLDS(text, "\nTraining:\n");
    LK_CHECK_HOLDS(text, "\n  --epochs N                  Passes over the data. (1 to 10000; default 100)\n");
    LK_CHECK_HOLDS(text, "\n  --optimizer sgd|adam|lars   How weights move. (default sgd)\n");
    LK_CHECK_HOLDS(text, "\n  --limit BYTES               Memory. (at least 1k; default 64k)\n");
    LK_CHECK_HOLDS(text, "\n  --out FILE                  Where to.\n");
    LK_CHECK_HOLDS(text, "\n  --verbose                   Say more.\n");
    LK_CHECK_HOLDS(text, "\n  --[no-]cache                Keep pixels. (default on)\n");
}

static const struct lk_case cases[] = {
    LK_CASE(every_form_is_understood),  LK_CASE(an_unknown_name_suggests_the_nearest),
    LK_CASE(wrong_values_are_refused),  LK_CASE(help_is_asked_for_anywhere),
    LK_CASE(help_wraps_at_100_columns),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
