/* Readiness: a canary picture goes through the real queue and has to come back as a vector in time. One thread of its
 * own, because it waits; everyone who asks while a canary is on its way gets that canary's result. Knows no HTTP. */
#ifndef LK_SERVER_PROBER_H
#define LK_SERVER_PROBER_H

#include "collection.h"

struct lk_prober;

struct lk_probe { /* owned by the caller, untouched by it until done() */
    /* once, on the prober's thread. reason: NULL when ready, else a sentence */
    void (*done)(struct lk_probe *probe, double milliseconds, const char *reason);
    void *arg;
    struct lk_probe *next;
};

/* Each canary goes through the generation that serves then. Closed before the collection. */
int lk_prober_open(struct lk_prober **out, struct lk_collection *collection, double timeout_seconds);
void lk_prober_ask(struct lk_prober *prober, struct lk_probe *asked);
/* Answers who waits, then stops. NULL is fine. */
void lk_prober_close(struct lk_prober *prober);

#endif
