/* The commands of likeness-trainer. Each takes the words from its own name on (argv[0] is the command), prints results to
 * stdout and errors to stderr, and returns the exit status. */
#ifndef LK_TRAINER_COMMANDS_H
#define LK_TRAINER_COMMANDS_H

int lk_cmd_pretrain(int argc, char **argv);
int lk_cmd_retrain(int argc, char **argv);
int lk_cmd_knn(int argc, char **argv);
int lk_cmd_embed(int argc, char **argv);
int lk_cmd_inspect(int argc, char **argv);

#endif
