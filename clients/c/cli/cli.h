/* What the commands of `likeness` share. A program, not a library: it uses likeness.h like any other program would,
 * prints results to stdout and everything else to stderr. */
#ifndef LIKENESS_CLI_CLI_H
#define LIKENESS_CLI_CLI_H

#include "likeness.h"

#include <stddef.h>
#include <stdio.h>

#include "args.h"

enum exit_code {
    EXIT_DONE = 0,
    EXIT_SOME_FAILED = 1, /* also: all failed */
    EXIT_USAGE = 2,
    EXIT_NO_SERVER = 3
};

struct common { /* options of every command */
    const char *server, *key_file;
    double timeout;
    int retries, help;
};

struct command {
    const char *name;
    const char *usage;   /* what follows "likeness NAME" */
    const char *summary; /* one line */
    const char *details; /* paragraphs, or NULL */
    /* argv[0..] are the words after options. Returns an exit code. */
    int (*run)(const struct common *common, int n_words, char **words);
    struct option_table options;
};

extern const struct command command_add, command_embed, command_neighbors, command_model; /* one each of these */
extern const struct command command_ls, command_rm, command_get, command_image, command_export;

/* Opens a client by the common options; 0 or an exit code, after saying what is wrong. */
int cli_open(struct likeness **client, const struct common *common);

/* Says "likeness: SUBJECT: sentence [code, HTTP status]" (subject may be NULL), with advice when no server answers, and
 * returns the exit code. */
int cli_report(const char *subject);
/* The same for one picture among many. */
void cli_report_outcome(const char *subject, const struct likeness_outcome *outcome);
int cli_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A whole file in memory, or stdin for "-"; at most limit bytes (0: 1 GiB). 0, or 1 after saying why. */
struct file_bytes {
    unsigned char *data; /* owned */
    size_t size;
};
int cli_read_file(struct file_bytes *out, const char *path, size_t limit);

/* An output file that appears whole or not at all ("-": stdout). */
struct out_file {
    FILE *stream;
    char *temporary;
    const char *path; /* the caller's */
};
int out_open(struct out_file *out, const char *path);       /* 0, or 1 after saying why */
int out_write(void *out_file, const void *bytes, size_t n); /* a likeness_write; 1 on failure */
int out_finish(struct out_file *out, int keep);             /* closes; keep 0 removes what was written */

void print_json_string(FILE *to, const char *text);
char *json_object_of(const char *key, const char *value); /* {"key":"value"}, owned; NULL when memory runs out */

#endif
