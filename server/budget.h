/* A number of bytes that may be in use at once: request bodies in memory, pixels being decoded. Any thread. */
#ifndef LK_SERVER_BUDGET_H
#define LK_SERVER_BUDGET_H

#include <pthread.h>
#include <stdint.h>

struct lk_budget {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t limit, used;
};

void lk_budget_init(struct lk_budget *b, uint64_t limit);
void lk_budget_destroy(struct lk_budget *b);

int lk_budget_try(struct lk_budget *b, uint64_t bytes);   /* 1: taken; 0: it would pass the limit */
void lk_budget_wait(struct lk_budget *b, uint64_t bytes); /* waits; more than the limit is let in when alone */
void lk_budget_give(struct lk_budget *b, uint64_t bytes);
uint64_t lk_budget_used(struct lk_budget *b);

#endif
