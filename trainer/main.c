/* likeness-trainer: dispatch of its commands. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/spin.h"
#include "commands.h"

static const struct {
    const char *name, *does;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"pretrain", "learn from unlabelled pictures with BYOL, write weights", lk_cmd_pretrain},
    {"retrain", "learn on from a server's pictures and weights, publish the new ones", lk_cmd_retrain},
    {"knn", "evaluate weights by nearest neighbours on labelled pictures", lk_cmd_knn},
    {"embed", "pictures to vectors: .npy and a list of names", lk_cmd_embed},
    {"inspect", "what is in a weights file or a checkpoint", lk_cmd_inspect},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void usage(FILE *to) {
    fprintf(to, "Usage: likeness-trainer COMMAND [options]\n\n");
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].does);
    fprintf(to, "\nlikeness-trainer COMMAND --help lists a command's options; --version prints the version.\n");
}

int main(int argc, char **argv) {
    lk_spin_limit(argv);
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        usage(stdout);
        return EXIT_SUCCESS;
    }
    if (strcmp(name, "--version") == 0) {
        printf("likeness-trainer %s\n", LK_VERSION);
        return EXIT_SUCCESS;
    }
    for (int i = 0; i < N_COMMANDS; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    if (name[0] != '\0')
        fprintf(stderr, "likeness-trainer: no command '%s'\n\n", name);
    usage(stderr);
    return 2;
}
