/* Stopping politely: the first SIGINT or SIGTERM asks for it, a second one ends the process as usual. */
#ifndef LK_TRAINER_STOP_H
#define LK_TRAINER_STOP_H

void lk_stop_install(void); /* for the whole process; call once, from a command */
int lk_stop_asked(void);    /* the signal's number, or 0 */

#endif
