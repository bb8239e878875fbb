#include "cores.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"

struct lk_cores {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int total, free;
    uint64_t next_ticket, serving; /* whose turn it is */
};

int lk_cores_open(struct lk_cores **out, int cores) {
    struct lk_cores *c = *out = lk_calloc(1, sizeof *c);
    if (!c)
        return LK_ENOMEM;
    pthread_mutex_init(&c->mutex, NULL);
    pthread_cond_init(&c->changed, NULL);
    c->total = c->free = cores > 0 ? cores : 1;
    return 0;
}

void lk_cores_close(struct lk_cores *cores) {
    if (!cores)
        return;
    pthread_cond_destroy(&cores->changed);
    pthread_mutex_destroy(&cores->mutex);
    free(cores);
}

void lk_cores_take(struct lk_cores *cores, int n) {
    if (!cores || n <= 0)
        return;
    pthread_mutex_lock(&cores->mutex);
    if (n > cores->total)
        n = cores->total;
    uint64_t ticket = cores->next_ticket++;
    while (ticket != cores->serving || cores->free < n)
        pthread_cond_wait(&cores->changed, &cores->mutex);
    cores->free -= n;
    cores->serving++;
    pthread_cond_broadcast(&cores->changed);
    pthread_mutex_unlock(&cores->mutex);
}

void lk_cores_give(struct lk_cores *cores, int n) {
    if (!cores || n <= 0)
        return;
    pthread_mutex_lock(&cores->mutex);
    cores->free += n > cores->total ? cores->total : n;
    pthread_cond_broadcast(&cores->changed);
    pthread_mutex_unlock(&cores->mutex);
}
