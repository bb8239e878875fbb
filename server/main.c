/* likeness-server: opens what the configuration names, serves until SIGTERM or SIGINT, finishes what was begun. SIGHUP
 * reads the keys and publishes the model file again. */
#include <malloc.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/err.h"
#include "base/log.h"
#include "base/spin.h"
#include "access.h"
#include "publish.h"
#include "routes.h"

#define LARGE (2 << 20) /* a segment of the index has more, and what a usual picture needs has less */

/* Lets what an index held go back to the system when a publish or a compaction closes it. glibc maps large blocks one by
 * one, but no longer than until the first of them is freed; from then on they lie in heaps that are given back only from
 * their ends. Setting one of these ends that for both. */
static void give_memory_back(void) {
#ifdef __GLIBC__
    (void)mallopt(M_MMAP_THRESHOLD, LARGE);
    (void)mallopt(M_TRIM_THRESHOLD, 2 * LARGE);
#endif
}

static int retry_after(void *context) {
    struct lk_server *server = context;
    return lk_collection_retry_after(server->collection, __atomic_load_n(&server->asking, __ATOMIC_RELAXED));
}

/* Descriptors for every connection that the configuration allows, if the system lets us have them. */
static void raise_descriptors(long long connections) {
    struct rlimit limit;
    rlim_t wanted = (rlim_t)connections + 256;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted) {
        limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
        setrlimit(RLIMIT_NOFILE, &limit);
        if (limit.rlim_cur < wanted)
            lk_log_warn("the system allows %llu descriptors, too few for %lld connections",
                        (unsigned long long)limit.rlim_cur, connections);
    }
}

/* A second signal ends the patience of the first. */
static int told_again(void *stop) {
    const struct timespec now = {0};
    return sigtimedwait(stop, NULL, &now) > 0;
}

/* Whether a stop was asked for that nobody waited for yet: the signals are blocked. */
static int told_to_stop(void) {
    sigset_t pending;
    return sigpending(&pending) == 0 && (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1);
}

/* A stop is asked for by SIGTERM or SIGINT; SIGHUP is served on the way. */
static void wait_for_stop(struct lk_server *server, const sigset_t *stop) {
    sigset_t wanted = *stop;
    int signal_number = 0;
    sigaddset(&wanted, SIGHUP);
    while (sigwait(&wanted, &signal_number) == 0 && signal_number == SIGHUP) {
        int64_t operation;
        if (server->auth && lk_auth_reload(server->auth))
            lk_log_error("the keys stay as they were: %s", lk_error());
        else if (server->auth)
            lk_log_info("%zu keys", lk_auth_count(server->auth));
        lk_log_info("told to reload the model");
        if (lk_publish_reload(server->collection->publisher, &operation))
            lk_log_warn("the model is not reloaded: %s", lk_error());
    }
}

static int serve(const struct lk_config *config, const sigset_t *stop) {
    struct lk_server server = {.config = config};
    struct lk_work work = {0};
    struct lk_metrics *metrics = NULL;
    struct lk_http *http = NULL;
    int rc = 0;
    if (config->keys)
        rc = lk_auth_open(&server.auth, config->keys);
    if (rc == 0)
        rc = lk_metrics_open(&metrics, lk_routes_count);
    if (rc == 0 && (rc = lk_config_work(config, &work)) == 0) {
        work.metrics = metrics;
        struct lk_collection_options collection = lk_config_collection(config, &work);
        collection.stop = told_to_stop;
        struct lk_http_options options = lk_config_http(config);
        struct lk_http_app app = {.routes = lk_routes,
                                  .n_routes = lk_routes_count,
                                  .context = &server,
                                  .work = &work,
                                  .retry_after = retry_after,
                                  .finished = lk_request_finished,
                                  .identify = lk_access_identify,
                                  .admit = lk_routes_admit};
        if ((rc = lk_collection_open(&server.collection, &collection, &work)) == 0 &&
            (rc = lk_prober_open(&server.prober, server.collection, config->ready_timeout_seconds)) == 0 &&
            (rc = lk_http_open(&http, &options, &app)) == 0) {
            lk_log_info("listening on http://%s:%d", config->address, lk_http_port(http));
            wait_for_stop(&server, stop);
            lk_log_info("stopping: finishing what was begun");
            int left = lk_http_drain(http, config->drain_seconds, told_again, (void *)(uintptr_t)stop);
            if (left)
                lk_log_warn("%d request%s let go", left, left == 1 ? " was" : "s were");
        }
    }
    if (rc == LK_ECANCELLED && told_to_stop()) {
        lk_log_info("stopped before it served; the next start goes on");
        rc = 0;
    }
    if (rc)
        lk_log_error("%s", lk_error());
    lk_http_close(http);
    lk_prober_close(server.prober);
    lk_collection_close(server.collection);
    lk_work_close(&work);
    lk_auth_close(server.auth);
    lk_metrics_close(metrics);
    return rc;
}

int main(int argc, char **argv) {
    lk_spin_limit(argv);
    give_memory_back();
    struct lk_config config;
    int rc = lk_config_parse(&config, argc, argv);
    if (rc < 0)
        fprintf(stderr, "likeness-server: %s\nTry likeness-server --help.\n", lk_error());
    if (rc)
        return rc < 0 ? 2 : 0;
    lk_log_set_level((enum lk_log_level)lk_log_level_from_name(config.log_level));
    lk_log_set_json(strcmp(config.log_format, "json") == 0);
    raise_descriptors(config.connections);
    signal(SIGPIPE, SIG_IGN);
    sigset_t stop; /* blocked before any thread is made, so that only sigwait takes them */
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    pthread_sigmask(SIG_BLOCK, &stop, NULL);
    sigset_t reload;
    sigemptyset(&reload);
    sigaddset(&reload, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &reload, NULL);
    rc = serve(&config, &stop);
    lk_config_close(&config);
    return rc ? 1 : 0;
}
