/* The command line of `likeness`: a table of options a command gives parsing, ranges, errors and --help at once.
 * Forms: --name value, --name=value, -n value, -nvalue; `--` ends options. An unknown option is an error that names the
 * nearest one. */
#ifndef LIKENESS_CLI_ARGS_H
#define LIKENESS_CLI_ARGS_H

#include <stddef.h>

enum option_kind {
    OPTION_FLAG, /* int *: set to 1 */
    OPTION_INT,  /* int *, minimum..maximum */
    OPTION_REAL, /* double *, minimum..maximum */
    OPTION_TEXT  /* const char **: points into argv */
};

struct option_entry {
    enum option_kind kind;
    char letter; /* 0: none */
    const char *name;
    void *value; /* holds the default when parsing begins */
    const char *placeholder;
    const char *help;
    double minimum, maximum;
};

struct option_table {
    const struct option_entry *options;
    size_t count;
};

/* Parses argv[1..]; what is no option is moved to the front of argv in its order, and its count returned. -1: a
 * sentence about what is wrong went to stderr. stop_at_word: the first word ends options and is left with the rest. */
int args_parse(const struct option_table *tables, size_t n_tables, int argc, char **argv, int stop_at_word);

void args_print(const struct option_table *table); /* the rows of --help, to stdout */

/* The nearest of names[n] to word by edit distance, or NULL when none is near. */
const char *args_nearest(const char *word, const char *const *names, size_t n);

#endif
