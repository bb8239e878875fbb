#include "commands.h"
#include "run.h"

int lk_cmd_retrain(int argc, char **argv) { return lk_run_main(LK_RETRAIN, argc, argv, lk_run_publish); }
