#include "stop.h"

#include <signal.h>
#include <string.h>

static volatile sig_atomic_t asked; /* a signal handler has nowhere else to write */

static void on_signal(int number) { asked = number; }

void lk_stop_install(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = (int)SA_RESETHAND; /* the second signal acts as usual */
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

int lk_stop_asked(void) { return (int)asked; }
