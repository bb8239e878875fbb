#include "commands.h"
#include "run.h"

int lk_cmd_pretrain(int argc, char **argv) { return lk_run_main(LK_PRETRAIN, argc, argv, NULL); }
