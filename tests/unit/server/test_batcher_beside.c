/* Does the batcher keep two batches on their way where the device computes beside the host, in order, through errors and at
 * the end, and only where the second is full? */
#include <stdatomic.h>
#include <time.h>

#include "check.h"
#include "fake_backend.h"
#include "server/batcher.h"
#include "server/work.h"

enum { SIDE = 32, DIM = 64, PICTURE = SIDE * SIDE * 3, FULL = 8 };

struct ask {
    struct lk_batch_entry entry;
    uint8_t pixels[PICTURE];
    float vector[DIM];
    atomic_int done;
    int status, order;
    char error[128];
};

static struct ask a[64];
static atomic_int done_count;
static struct lk_engine *engine;
static struct lk_batcher *batcher;

static void on_done(struct lk_batch_entry *entry, int status, const char *error) {
    struct ask *ask = entry->arg;
    ask->status = status;
    snprintf(ask->error, sizeof ask->error, "%s", error ? error : "");
    ask->order = atomic_fetch_add(&done_count, 1);
    atomic_store(&ask->done, 1);
}

static int set_up(int delay_us) {
    struct lk_batcher_options o = {.max_batch = FULL, .max_delay_us = delay_us};
    memset(a, 0, sizeof a);
    for (int i = 0; i < 64; i++) {
        a[i].pixels[0] = (uint8_t)i;
        a[i].entry = (struct lk_batch_entry){
            .pixels = a[i].pixels, .vector = a[i].vector, .done = on_done, .arg = &a[i]};
    }
    atomic_store(&done_count, 0);
    fake.beside = 1;
    engine = fake_engine(FULL);
    return engine && lk_batcher_open(&batcher, engine, &o) == 0;
}

static void tear_down(void) {
    lk_batcher_close(batcher);
    lk_engine_close(engine);
    LK_CHECK_INT(fake.on_their_way, 0);
    LK_CHECK_INT(fake.disorder, 0);
}

static void submit(int first, int n) {
    for (int i = first; i < first + n; i++)
        LK_CHECK_INT(lk_batcher_submit(batcher, &a[i].entry), 0);
}

static void wait_for(int first, int n) {
    struct timespec t = {.tv_nsec = 1000000};
    for (int i = first; i < first + n; i++)
        for (int tries = 0; !atomic_load(&a[i].done) && tries < 20000; tries++)
            nanosleep(&t, NULL);
}

static int on_their_way(void) {
    pthread_mutex_lock(&fake.mutex);
    int n = fake.on_their_way;
    pthread_mutex_unlock(&fake.mutex);
    return n;
}

static void wait_until_on_their_way(int n) {
    struct timespec t = {.tv_nsec = 1000000};
    for (int tries = 0; on_their_way() != n && tries < 20000; tries++)
        nanosleep(&t, NULL);
    LK_CHECK_INT(on_their_way(), n);
}

static void let(int ends) {
    pthread_mutex_lock(&fake.mutex);
    fake.let += ends;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.mutex);
}

static void check_vector(int i) {
    LK_CHECK_INT(a[i].status, 0);
    LK_CHECK_NEAR(a[i].vector[0], cos(i), 1e-5);
    LK_CHECK_NEAR(a[i].vector[1], sin(i), 1e-5);
}

/* Entry 0 computes alone and held, so that what comes next waits; then it ends. */
static void begin_two_full_ones(void) {
    fake_hold(1);
    submit(0, 1);
    fake_wait_until_computing();
    submit(1, 2 * FULL);
    let(1);
    wait_until_on_their_way(2);
}

static void two_full_batches_are_on_their_way_and_end_in_order(void) {
    LK_REQUIRE(set_up(0));
    begin_two_full_ones();
    LK_CHECK_INT(fake.sizes[1], FULL);
    LK_CHECK_INT(fake.sizes[2], FULL);
    LK_CHECK_INT(atomic_load(&done_count), 1);
    submit(1 + 2 * FULL, 3 * FULL); /* of which none begins before one has ended */
    let(1);
    wait_for(1, FULL);
    wait_until_on_their_way(2);
    LK_CHECK_INT(atomic_load(&a[1 + FULL].done), 0);
    fake_hold(0);
    wait_for(0, 1 + 5 * FULL);
    for (int i = 0; i < 1 + 5 * FULL; i++) {
        check_vector(i);
        LK_CHECK_INT(a[i].order, i);
    }
    LK_CHECK_INT(fake.most, 2);
    LK_CHECK_INT(fake.batches, 6);
    struct lk_batcher_stats stats;
    lk_batcher_stats(batcher, &stats);
    LK_CHECK_INT(stats.entries, 1 + 5 * FULL);
    LK_CHECK_INT(stats.batches, 6);
    tear_down();
}

static void one_that_is_not_full_waits_for_the_end_of_the_other(void) {
    LK_REQUIRE(set_up(0));
    fake_hold(1);
    submit(0, 1);
    fake_wait_until_computing();
    submit(1, FULL + 3);
    let(1);
    wait_for(0, 1);
    fake_wait_until_computing();
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    LK_CHECK_INT(on_their_way(), 1);
    submit(1 + FULL + 3, 2);
    fake_hold(0);
    wait_for(0, 1 + FULL + 5);
    LK_CHECK_INT(fake.sizes[2], 5);
    LK_CHECK_INT(fake.most, 1);
    tear_down();
}

/* A batch has taken 400 ms, so 200 are waited for another to fill. */
static void one_that_fills_while_a_full_one_computes_begins_behind_it(void) {
    LK_REQUIRE(set_up(100000));
    fake_hold(1);
    submit(0, 1);
    fake_wait_until_computing();
    nanosleep(&(struct timespec){.tv_nsec = 400000000}, NULL);
    let(1);
    wait_for(0, 1);
    submit(1, FULL);
    wait_until_on_their_way(1);
    submit(1 + FULL, FULL - 1);
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    LK_CHECK_INT(on_their_way(), 1);
    submit(2 * FULL, 1);
    wait_until_on_their_way(2);
    LK_CHECK_INT(fake.sizes[1], FULL);
    LK_CHECK_INT(fake.sizes[2], FULL);
    fake_hold(0);
    wait_for(0, 1 + 2 * FULL);
    for (int i = 0; i < 1 + 2 * FULL; i++)
        check_vector(i);
    tear_down();
}

static void the_loss_of_one_batch_is_its_own(void) {
    LK_REQUIRE(set_up(0));
    begin_two_full_ones();
    pthread_mutex_lock(&fake.mutex);
    fake.end_fails = 1;
    pthread_mutex_unlock(&fake.mutex);
    submit(1 + 2 * FULL, 1); /* too late to be refused */
    fake_hold(0);
    wait_for(0, 2 + 2 * FULL);
    for (int i = 1; i <= FULL; i++) {
        LK_CHECK_INT(a[i].status, LK_EFAIL);
        LK_CHECK_HOLDS(a[i].error, "lost a batch");
        check_vector(i + FULL);
    }
    LK_CHECK_INT(a[1 + 2 * FULL].status, LK_EFAIL); /* out of service */
    LK_CHECK_HOLDS(a[1 + 2 * FULL].error, "lost a batch");
    LK_CHECK_INT(fake.batches, 3);
    LK_CHECK_INT(lk_batcher_submit(batcher, &a[40].entry), LK_EFAIL);
    tear_down();
}

static void a_batch_that_cannot_begin_leaves_the_one_before_it_alone(void) {
    LK_REQUIRE(set_up(0));
    fake_hold(1);
    submit(0, 1);
    fake_wait_until_computing();
    submit(1, 3 * FULL);
    let(1);
    wait_until_on_their_way(2);
    pthread_mutex_lock(&fake.mutex);
    fake.begin_fails = 1;
    pthread_mutex_unlock(&fake.mutex);
    fake_hold(0);
    wait_for(0, 1 + 3 * FULL);
    for (int i = 1; i <= FULL; i++) {
        check_vector(i);
        check_vector(i + FULL);
        LK_CHECK_INT(a[i + 2 * FULL].status, LK_EFAIL);
        LK_CHECK_HOLDS(a[i + 2 * FULL].error, "takes no batch");
    }
    LK_CHECK_INT(lk_batcher_submit(batcher, &a[40].entry), LK_EFAIL);
    LK_CHECK_INT(fake.batches, 3);
    tear_down();
}

static void *close_batcher(void *arg) {
    (void)arg;
    lk_batcher_close(batcher);
    return NULL;
}

static void closing_ends_both_and_computes_what_waits(void) {
    pthread_t thread;
    LK_REQUIRE(set_up(100000));
    fake_hold(1);
    submit(0, 1);
    fake_wait_until_computing();
    submit(1, 2 * FULL + 3);
    let(1);
    wait_until_on_their_way(2);
    LK_REQUIRE(pthread_create(&thread, NULL, close_batcher, NULL) == 0);
    while (lk_batcher_reserve(batcher, 1, 0) == 0) /* until it closes */
        lk_batcher_give_back(batcher, 1, 0);
    fake_hold(0);
    pthread_join(thread, NULL);
    for (int i = 0; i < 1 + 2 * FULL + 3; i++) {
        LK_CHECK_INT(atomic_load(&a[i].done), 1);
        check_vector(i);
    }
    LK_CHECK_INT(fake.on_their_way, 0);
    LK_CHECK_INT(fake.disorder, 0);
    lk_engine_close(engine);
}

static void the_late_are_dropped_while_another_batch_computes(void) {
    LK_REQUIRE(set_up(0));
    fake_hold(1);
    submit(0, 1);
    fake_wait_until_computing();
    for (int i = 1; i <= 4 * FULL; i++) /* two of the second batch, and all of the third */
        if (i == FULL + 2 || i == FULL + 5 || (i > 2 * FULL + 2 && i <= 3 * FULL))
            a[i].entry.deadline_ns = lk_now_ns() - 1;
    submit(1, 3 * FULL);
    let(1);
    wait_until_on_their_way(2);
    LK_CHECK_INT(fake.sizes[1], FULL);
    LK_CHECK_INT(fake.sizes[2], FULL); /* others have taken their places */
    for (int i = 1; i <= 3 * FULL; i++)
        LK_CHECK_INT(atomic_load(&a[i].done), a[i].entry.deadline_ns != 0 && i <= 2 * FULL + 2);
    fake_hold(0);
    wait_for(0, 1 + 3 * FULL);
    for (int i = 1; i <= 3 * FULL; i++) {
        LK_CHECK_INT(a[i].status, a[i].entry.deadline_ns ? LK_ECANCELLED : 0);
        if (!a[i].entry.deadline_ns)
            check_vector(i);
    }
    struct lk_batcher_stats stats;
    lk_batcher_stats(batcher, &stats);
    LK_CHECK_INT(stats.dropped_late, 2 + FULL - 2);
    LK_CHECK_INT(fake.batches, 3); /* of nothing none is made */
    submit(40, 1);
    wait_for(40, 1);
    check_vector(40);
    tear_down();
}

static const struct lk_case cases[] = {
    LK_CASE(two_full_batches_are_on_their_way_and_end_in_order),
    LK_CASE(one_that_is_not_full_waits_for_the_end_of_the_other),
    LK_CASE(one_that_fills_while_a_full_one_computes_begins_behind_it),
    LK_CASE(the_loss_of_one_batch_is_its_own),
    LK_CASE(a_batch_that_cannot_begin_leaves_the_one_before_it_alone),
    LK_CASE(closing_ends_both_and_computes_what_waits),
    LK_CASE(the_late_are_dropped_while_another_batch_computes),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
