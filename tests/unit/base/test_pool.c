/* Does every index and every job run exactly once, from any thread, and does a wait cost no time of the processor? */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/pool.h"
#include "check.h"

enum { N = 5000 };

struct counts {
    atomic_int at[N];
    struct lk_pool *pool;
};

static void count_one(void *arg, size_t i) { atomic_fetch_add(&((struct counts *)arg)->at[i], 1); }

static int all_are(const struct counts *c, int want) {
    for (int i = 0; i < N; i++)
        if (atomic_load(&c->at[i]) != want)
            return 0;
    return 1;
}

static void a_loop_runs_each_index_once(void) {
    for (int threads = 1; threads <= 8; threads++) {
        struct lk_pool *pool;
        struct counts *c = calloc(1, sizeof *c);
        LK_REQUIRE(c != NULL && lk_pool_open(&pool, threads, 0) == 0);
        LK_CHECK_INT(lk_pool_threads(pool), threads);
        for (int round = 1; round <= 20; round++) {
            lk_pool_for(pool, N, count_one, c);
            LK_REQUIRE(all_are(c, round));
        }
        lk_pool_for(pool, 0, count_one, NULL);
        lk_pool_for(pool, 1, count_one, c);
        LK_CHECK_INT(c->at[0], 21);
        lk_pool_close(pool);
        free(c);
    }
}

static void write_index(void *arg, size_t i) { ((int *)arg)[i] = (int)i; }

static void what_a_loop_wrote_is_visible(void) {
    struct lk_pool *pool;
    int *values = calloc(N, sizeof *values);
    LK_REQUIRE(values != NULL && lk_pool_open(&pool, 4, 0) == 0);
    lk_pool_for(pool, N, write_index, values);
    long long sum = 0;
    for (int i = 0; i < N; i++)
        sum += values[i]; /* a race here, if the pool has one, is for ThreadSanitizer to find */
    LK_CHECK_INT(sum, (long long)N * (N - 1) / 2);
    lk_pool_close(pool);
    free(values);
}

static void finish_late(void *arg, size_t i) {
    usleep(i == 0 ? 0 : 2000);
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void a_loop_waits_for_its_slowest_index(void) {
    struct lk_pool *pool;
    LK_REQUIRE(lk_pool_open(&pool, 4, 0) == 0);
    for (int round = 0; round < 20; round++) {
        atomic_int done = 0;
        lk_pool_for(pool, 4, finish_late, &done);
        LK_CHECK_INT(atomic_load(&done), 4);
    }
    lk_pool_close(pool);
}

static void inner_loop(void *arg, size_t i) {
    struct counts *c = arg;
    (void)i;
    lk_pool_for(c->pool, N, count_one, c);
}

static void loop_in_a_job(void *arg) { inner_loop(arg, 0); }

static void *loop_in_a_thread(void *arg) {
    for (int i = 0; i < 10; i++)
        inner_loop(arg, 0);
    return NULL;
}

static void loops_nest_and_may_run_side_by_side(void) {
    struct counts *c = calloc(1, sizeof *c);
    pthread_t threads[3];
    LK_REQUIRE(c != NULL && lk_pool_open(&c->pool, 3, 10) == 0);
    lk_pool_for(c->pool, 8, inner_loop, c);
    LK_CHECK(all_are(c, 8));
    for (int i = 0; i < 3; i++)
        LK_REQUIRE(pthread_create(&threads[i], NULL, loop_in_a_thread, c) == 0);
    for (int i = 0; i < 5; i++)
        LK_CHECK_INT(lk_pool_submit(c->pool, loop_in_a_job, c), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    lk_pool_close(c->pool); /* waits for the five jobs */
    LK_CHECK(all_are(c, 8 + 30 + 5));
    free(c);
}

static atomic_int jobs_done;

static void count_job(void *arg) {
    (void)arg;
    atomic_fetch_add(&jobs_done, 1);
}

struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t opened;
    int open, entered;
};

static void wait_at_gate(void *arg) {
    struct gate *g = arg;
    pthread_mutex_lock(&g->mutex);
    g->entered = 1;
    pthread_cond_broadcast(&g->opened);
    while (!g->open)
        pthread_cond_wait(&g->opened, &g->mutex);
    pthread_mutex_unlock(&g->mutex);
}

static void open_gate(struct gate *g) {
    pthread_mutex_lock(&g->mutex);
    g->open = 1;
    pthread_cond_broadcast(&g->opened);
    pthread_mutex_unlock(&g->mutex);
}

static void wait_until_entered(struct gate *g) {
    pthread_mutex_lock(&g->mutex);
    while (!g->entered)
        pthread_cond_wait(&g->opened, &g->mutex);
    pthread_mutex_unlock(&g->mutex);
}

static void a_full_queue_is_busy_and_close_runs_what_waits(void) {
    struct lk_pool *pool;
    struct gate g = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0};
    atomic_store(&jobs_done, 0);
    LK_REQUIRE(lk_pool_open(&pool, 1, 5) == 0);
    LK_CHECK_INT(lk_pool_submit(pool, wait_at_gate, &g), 0);
    wait_until_entered(&g);
    for (int i = 0; i < 5; i++)
        LK_CHECK_INT(lk_pool_submit(pool, count_job, NULL), 0);
    LK_CHECK_INT(lk_pool_submit(pool, count_job, NULL), LK_EBUSY);
    LK_CHECK_HOLDS(lk_error(), "full");
    LK_CHECK_INT(atomic_load(&jobs_done), 0);
    open_gate(&g);
    lk_pool_close(pool);
    LK_CHECK_INT(atomic_load(&jobs_done), 5);
}

struct late {
    struct lk_pool *pool;
    struct gate gate;
    int rc;
};

static void submit_late(void *arg) {
    struct late *l = arg;
    wait_at_gate(&l->gate);
    do { /* the closing thread gets its turn in the end */
        l->rc = lk_pool_submit(l->pool, count_job, NULL);
        sched_yield();
    } while (l->rc == 0 || l->rc == LK_EBUSY);
}

static void a_closing_pool_takes_no_jobs(void) {
    struct late l = {.gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0}};
    LK_REQUIRE(lk_pool_open(&l.pool, 1, 3) == 0);
    LK_CHECK_INT(lk_pool_submit(l.pool, submit_late, &l), 0);
    open_gate(&l.gate);
    lk_pool_close(l.pool);
    LK_CHECK_INT(l.rc, LK_ECANCELLED);
}

static void *submit_many(void *arg) {
    for (int i = 0; i < 1000; i++)
        while (lk_pool_submit(arg, count_job, NULL) == LK_EBUSY)
            sched_yield();
    return NULL;
}

static void jobs_of_many_threads_run_once(void) {
    struct lk_pool *pool;
    pthread_t threads[4];
    atomic_store(&jobs_done, 0);
    LK_REQUIRE(lk_pool_open(&pool, 2, 7) == 0);
    for (int i = 0; i < 4; i++)
        LK_REQUIRE(pthread_create(&threads[i], NULL, submit_many, pool) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    lk_pool_close(pool);
    LK_CHECK_INT(atomic_load(&jobs_done), 4000);
}

static double seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void idle_threads_do_not_spin(void) {
    struct lk_pool *pool;
    LK_REQUIRE(lk_pool_open(&pool, 4, 1) == 0);
    double before = seconds(CLOCK_PROCESS_CPUTIME_ID);
    usleep(300000);
    LK_CHECK(seconds(CLOCK_PROCESS_CPUTIME_ID) - before < 0.05);
    lk_pool_close(pool);
}

static void wrong_settings_are_refused(void) {
    struct lk_pool *pool;
    LK_CHECK_INT(lk_pool_open(&pool, -1, 1), LK_EINVAL);
    LK_CHECK(pool == NULL);
    LK_CHECK_INT(lk_pool_open(&pool, 1000000, 1), LK_EINVAL);
    LK_REQUIRE(lk_pool_open(&pool, 0, 0) == 0);
    LK_CHECK_INT(lk_pool_threads(pool), lk_cpu_count());
    LK_CHECK_INT(lk_pool_submit(pool, count_job, NULL), LK_EBUSY); /* a queue of none */
    lk_pool_close(pool);
    lk_pool_close(NULL);
}

static void the_affinity_mask_is_respected(void) {
    cpu_set_t all, one;
    int n = lk_cpu_count();
    LK_CHECK(n >= 1 && n <= sysconf(_SC_NPROCESSORS_CONF));
    LK_REQUIRE(sched_getaffinity(0, sizeof all, &all) == 0);
    for (size_t i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &all)) {
            CPU_ZERO(&one);
            CPU_SET(i, &one);
            break;
        }
    LK_REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
    LK_CHECK_INT(lk_cpu_count(), 1);
    sched_setaffinity(0, sizeof all, &all);
    LK_CHECK_INT(lk_cpu_count(), n);
}

static const struct lk_case cases[] = {
    LK_CASE(a_loop_runs_each_index_once),
    LK_CASE(what_a_loop_wrote_is_visible),
    LK_CASE(a_loop_waits_for_its_slowest_index),
    LK_CASE(loops_nest_and_may_run_side_by_side),
    LK_CASE(a_full_queue_is_busy_and_close_runs_what_waits),
    LK_CASE(a_closing_pool_takes_no_jobs),
    LK_CASE(jobs_of_many_threads_run_once),
    LK_CASE(idle_threads_do_not_spin),
    LK_CASE(wrong_settings_are_refused),
    LK_CASE(the_affinity_mask_is_respected),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
