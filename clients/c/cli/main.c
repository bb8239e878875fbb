/* likeness: the command line of a Likeness server. Finds the command, parses its options, runs it. */
#include "cli.h"

#include <signal.h>
#include <string.h>

static const struct command *const commands[] = {
    &command_add,   &command_neighbors, &command_embed,  &command_ls,    &command_get,
    &command_image, &command_rm,        &command_export, &command_model,
};
#define N_COMMANDS (sizeof commands / sizeof commands[0])

static struct common common = {.timeout = 120, .retries = 5};

static const struct option_entry common_options[] = {
    {OPTION_TEXT, 0, "server", &common.server, "URL",
     "the server (default: $LIKENESS_SERVER, else " LIKENESS_DEFAULT_SERVER ")", 0, 0},
    {OPTION_TEXT, 0, "key-file", &common.key_file, "FILE",
     "holds the key that the server asks for (default: $LIKENESS_KEY)", 0, 0},
    {OPTION_REAL, 0, "timeout", &common.timeout, "SECONDS", "how long an answer may take (default 120)", 0.001, 86400},
    {OPTION_INT, 0, "retries", &common.retries, "N", "tries again when the server is busy (default 5)", 0, 1000},
    {OPTION_FLAG, 'h', "help", &common.help, NULL, "this text", 0, 0},
};
static const struct option_table common_table = {common_options, sizeof common_options / sizeof *common_options};

static int wants_version;
static const struct option_entry top_options[] = {
    {OPTION_FLAG, 0, "version", &wants_version, NULL, "print the version", 0, 0},
};
static const struct option_table top_table = {top_options, 1};

static void print_help(void) {
    puts("Usage: likeness [options] COMMAND ...\n\n"
         "Adds pictures to a Likeness server and finds those that look alike.\n\nCommands:");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        printf("  %-12s %s\n", commands[i]->name, commands[i]->summary);
    }
    puts("\nOptions of every command:");
    args_print(&common_table);
    args_print(&top_table);
    puts("\n\"likeness COMMAND --help\" tells more.\n\n"
         "Exit status: 0 all done; 1 something failed (the rest is done); 2 wrong usage; 3 no server answers.");
}

static void print_command_help(const struct command *command) {
    printf("Usage: likeness %s %s\n\n%s.\n", command->name, command->usage, command->summary);
    if (command->details) {
        printf("\n%s\n", command->details);
    }
    puts("\nOptions:");
    args_print(&command->options);
    args_print(&common_table);
}

static const struct command *find_command(const char *name) {
    const char *names[N_COMMANDS];
    for (size_t i = 0; i < N_COMMANDS; i++) {
        names[i] = commands[i]->name;
        if (strcmp(name, names[i]) == 0) {
            return commands[i];
        }
    }
    const char *near = args_nearest(name, names, N_COMMANDS);
    if (near) {
        cli_usage("there is no command '%s' (did you mean %s?)", name, near);
    } else {
        cli_usage("there is no command '%s'; see likeness --help", name);
    }
    return NULL;
}

static int run(int argc, char **argv) {
    const struct option_table top[] = {top_table, common_table};
    int words = args_parse(top, 2, argc, argv, 1);
    if (words < 0) {
        return EXIT_USAGE;
    }
    if (wants_version) {
        printf("likeness %s\n", likeness_version());
        return EXIT_DONE;
    }
    if (words == 0) {
        if (common.help) {
            print_help();
            return EXIT_DONE;
        }
        return cli_usage("which command? See likeness --help");
    }
    const struct command *command = find_command(argv[0]);
    if (!command) {
        return EXIT_USAGE;
    }
    const struct option_table tables[] = {command->options, common_table};
    words = args_parse(tables, 2, words, argv, 0); /* argv[0] is the command, as a program's name would be */
    if (words < 0) {
        return EXIT_USAGE;
    }
    if (common.help) {
        print_command_help(command);
        return EXIT_DONE;
    }
    return command->run(&common, words, argv);
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN); /* "likeness ls | head": a failed write is an ordinary error */
    int code = run(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        code = code ? code : EXIT_SOME_FAILED;
    }
    return code;
}
