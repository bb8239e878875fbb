/* One thread accepts and watches the clock (http_listen.c); libmicrohttpd's threads read and write (http_library.c). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/err.h"
#include "http_internal.h"

int lk_http_open(struct lk_http **out, const struct lk_http_options *options, const struct lk_http_app *app) {
    *out = NULL;
    struct lk_http *http = lk_calloc(1, sizeof *http);
    if (!http)
        return LK_ENOMEM;
    http->options = *options;
    http->app = *app;
    http->listen_fd = -1;
    http->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    lk_budget_init(&http->bodies, (uint64_t)options->body_memory);
    lk_budget_init(&http->answers, (uint64_t)options->answer_memory);
    pthread_mutex_init(&http->mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&http->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int rc;
    if (http->wake_fd < 0 || getrandom(&http->id_seed, sizeof http->id_seed, 0) != sizeof http->id_seed) {
        rc = lk_err(LK_EIO, "%s", strerror(errno));
        goto fail;
    }
    if ((rc = lk_http_listen(http)) || (rc = lk_http_library_start(http)))
        goto fail;
    if (pthread_create(&http->thread, NULL, lk_http_listen_and_watch, http)) {
        rc = lk_err(LK_EFAIL, "the listener's thread cannot be started");
        goto fail;
    }
    http->thread_runs = 1;
    *out = http;
    return 0;
fail:
    lk_http_close(http);
    return rc;
}

int lk_http_port(const struct lk_http *http) { return http->port; }

static void wake(struct lk_http *http) {
    uint64_t one = 1;
    (void)!write(http->wake_fd, &one, sizeof one);
}

/* With the mutex held: waits for a change, 20 ms at most. */
static void wait_a_little(struct lk_http *http) {
    int64_t until = lk_now_ns() + 20000000;
    struct timespec t = {.tv_sec = until / 1000000000, .tv_nsec = until % 1000000000};
    pthread_cond_timedwait(&http->changed, &http->mutex, &t);
}

int lk_http_drain(struct lk_http *http, double drain_seconds, int (*impatient)(void *arg), void *arg) {
    atomic_store(&http->drain_ns, lk_now_ns());
    atomic_store(&http->draining, 1);
    wake(http);
    int64_t end = lk_now_ns() + (int64_t)(drain_seconds * 1e9);
    pthread_mutex_lock(&http->mutex);
    while (http->n_connections > 0 && lk_now_ns() < end && !(impatient && impatient(arg)))
        wait_a_little(http);
    atomic_store(&http->cut, 1);
    int64_t patience = lk_now_ns() + 1000000000; /* for answers that are on their way */
    while (http->suspended > 0 || (http->n_connections > 0 && lk_now_ns() < patience))
        wait_a_little(http);
    int left = http->let_go;
    for (const struct lk_http_connection *c = http->connections; c; c = c->next)
        left += c->current != NULL;
    pthread_mutex_unlock(&http->mutex);
    return left;
}

void lk_http_close(struct lk_http *http) {
    if (!http)
        return;
    if (http->thread_runs) {
        atomic_store(&http->stopping, 1);
        wake(http);
        pthread_join(http->thread, NULL);
    }
    lk_http_library_stop(http);
    lk_http_requests_close(http);
    if (http->listen_fd >= 0)
        close(http->listen_fd);
    if (http->wake_fd >= 0)
        close(http->wake_fd);
    lk_budget_destroy(&http->bodies);
    lk_budget_destroy(&http->answers);
    pthread_cond_destroy(&http->changed);
    pthread_mutex_destroy(&http->mutex);
    free(http);
}
