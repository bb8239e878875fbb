#include "budget.h"

void lk_budget_init(struct lk_budget *b, uint64_t limit) {
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->changed, NULL);
    b->limit = limit;
    b->used = 0;
}

void lk_budget_destroy(struct lk_budget *b) {
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->mutex);
}

int lk_budget_try(struct lk_budget *b, uint64_t bytes) {
    pthread_mutex_lock(&b->mutex);
    int taken = bytes <= b->limit && b->used <= b->limit - bytes;
    if (taken)
        b->used += bytes;
    pthread_mutex_unlock(&b->mutex);
    return taken;
}

void lk_budget_wait(struct lk_budget *b, uint64_t bytes) {
    pthread_mutex_lock(&b->mutex);
    while (b->used != 0 && (bytes > b->limit || b->used > b->limit - bytes))
        pthread_cond_wait(&b->changed, &b->mutex);
    b->used += bytes;
    pthread_mutex_unlock(&b->mutex);
}

void lk_budget_give(struct lk_budget *b, uint64_t bytes) {
    pthread_mutex_lock(&b->mutex);
    b->used -= bytes;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mutex);
}

uint64_t lk_budget_used(struct lk_budget *b) {
    pthread_mutex_lock(&b->mutex);
    uint64_t used = b->used;
    pthread_mutex_unlock(&b->mutex);
    return used;
}
