/* Command lines: a table of options gives parsing, defaults, ranges, errors and --help, so that they cannot differ.
 * Forms: --name value, --name=value, --flag, --no-flag. An unknown option is an error that suggests the nearest name. */
#ifndef LK_BASE_ARGS_H
#define LK_BASE_ARGS_H

#include <stddef.h>

enum lk_arg_kind {
    LK_ARG_FLAG,   /* int *: 0 or 1; --name and --no-name */
    LK_ARG_INT,    /* long long *, with minimum and maximum */
    LK_ARG_SIZE,   /* long long *: bytes; accepts suffixes k, M, G (1024) */
    LK_ARG_REAL,   /* double *, with minimum and maximum */
    LK_ARG_STRING, /* const char **: points into argv */
    LK_ARG_CHOICE, /* const char **: one of `choices` */
    LK_ARG_HEADING /* `help` is a heading in --help; nothing is parsed */
};

struct lk_arg {
    enum lk_arg_kind kind;
    const char *name;        /* without the dashes */
    void *value;             /* holds the default when parsing begins */
    const char *placeholder; /* "N", "FILE"; NULL: by kind */
    const char *help;        /* one sentence; the default and the range are appended to it */
    double minimum, maximum; /* INT, SIZE, REAL; both 0: no range */
    const char *choices;     /* CHOICE: "sgd|adam|lars" */
    int was_set;             /* out: 1 when the command line named it */
};

/* Parses argv[1..]. Words that are no options are collected into words[] (at most max_words, else an error).
 * Returns 0, LK_EINVAL with a sentence, or 1 when --help was asked for (print with lk_args_help). `--` ends options. */
int lk_args_parse(struct lk_arg *args, size_t n, int argc, char **argv, const char **words, size_t max_words,
                  size_t *n_words);

/* Prints "Usage: <usage>", the description and the table to stdout, at most 100 columns wide. */
void lk_args_help(const struct lk_arg *args, size_t n, const char *usage, const char *description);

#endif
