/* Does the batcher give everyone his own vector, in batches, fairly, in time, and within its limits? */
#include <stdatomic.h>
#include <time.h>

#include "check.h"
#include "fake_backend.h"
#include "server/batcher.h"
#include "server/work.h"

#define SIDE 32
#define DIM 64
#define PICTURE (SIDE * SIDE * 3)

struct ask {
    struct lk_batch_entry entry;
    uint8_t pixels[PICTURE];
    float vector[DIM];
    atomic_int done, gone;
    int status, order;
    char error[128];
};

static atomic_int done_count;

static void on_done(struct lk_batch_entry *entry, int status, const char *error) {
    struct ask *a = entry->arg;
    a->status = status;
    snprintf(a->error, sizeof a->error, "%s", error ? error : "");
    a->order = atomic_fetch_add(&done_count, 1);
    atomic_store(&a->done, 1);
}
static int is_gone(struct lk_batch_entry *entry) { return atomic_load(&((struct ask *)entry->arg)->gone); }

static struct ask *asks(int n) {
    struct ask *a = lk_calloc((size_t)n, sizeof *a);
    for (int i = 0; a && i < n; i++) {
        a[i].pixels[0] = (uint8_t)i;
        a[i].entry = (struct lk_batch_entry){
            .pixels = a[i].pixels, .vector = a[i].vector, .gone = is_gone, .done = on_done, .arg = &a[i]};
    }
    atomic_store(&done_count, 0);
    return a;
}

static void wait_for(struct ask *a, int n) {
    struct timespec t = {.tv_nsec = 1000000};
    for (int i = 0; i < n; i++)
        for (int tries = 0; !atomic_load(&a[i].done) && tries < 20000; tries++)
            nanosleep(&t, NULL);
}

/* Sets up an engine and a batcher; the test's own part follows. */
struct setup {
    struct lk_engine *engine;
    struct lk_batcher *batcher;
};
static int set_up(struct setup *s, int max_batch, int delay_us, int queue) {
    *s = (struct setup){.engine = fake_engine(max_batch)};
    struct lk_batcher_options o = {.max_batch = max_batch, .max_delay_us = delay_us, .queue = queue};
    return s->engine && lk_batcher_open(&s->batcher, s->engine, &o) == 0;
}
static void tear_down(struct setup *s) {
    lk_batcher_close(s->batcher);
    lk_engine_close(s->engine);
}

static void everyone_gets_his_own_vector_in_order(void) {
    struct setup s;
    LK_REQUIRE(set_up(&s, 8, 500, 1024));
    struct ask *a = asks(200);
    for (int i = 0; i < 200; i++)
        LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[i].entry), 0);
    wait_for(a, 200);
    for (int i = 0; i < 200; i++) {
        LK_CHECK_INT(a[i].status, 0);
        LK_CHECK_INT(a[i].order, i);
        LK_CHECK_NEAR(a[i].vector[0], cos(i), 1e-5);
        LK_CHECK_NEAR(a[i].vector[1], sin(i), 1e-5);
    }
    struct lk_batcher_stats stats;
    lk_batcher_stats(s.batcher, &stats);
    LK_CHECK_INT(stats.entries, 200);
    LK_CHECK(stats.batches >= 25 && stats.images_per_second > 0);
    tear_down(&s);
    free(a);
}

static void those_who_come_within_the_delay_share_a_batch(void) {
    struct setup s;
    LK_REQUIRE(set_up(&s, 8, 100000, 1024));
    struct ask *a = asks(8);
    for (int i = 0; i < 3; i++)
        LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[i].entry), 0);
    wait_for(a, 3);
    LK_CHECK_INT(fake.sizes[0], 3);
    int64_t start = lk_now_ns();
    for (int i = 0; i < 8; i++) {
        atomic_store(&a[i].done, 0);
        LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[i].entry), 0);
    }
    wait_for(a, 8); /* a full batch does not wait */
    LK_CHECK((double)(lk_now_ns() - start) < 0.08e9);
    LK_CHECK_INT(fake.sizes[1], 8);
    tear_down(&s);
    free(a);
}

static void pictures_on_their_way_are_waited_for_but_not_for_ever(void) {
    struct setup s;
    LK_REQUIRE(set_up(&s, 8, 0, 1024));
    struct ask *a = asks(4);
    struct timespec t = {.tv_nsec = 100000000};
    fake_hold(1); /* so that a batch takes 100 ms */
    LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[0].entry), 0);
    fake_wait_until_computing();
    nanosleep(&t, NULL);
    fake_hold(0);
    wait_for(a, 1);
    LK_CHECK_INT(lk_batcher_reserve(s.batcher, 2, 0), 0);
    a[1].entry.reserved = a[2].entry.reserved = 1;
    LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[1].entry), 0);
    t.tv_nsec = 20000000;
    nanosleep(&t, NULL);
    LK_CHECK_INT(atomic_load(&a[1].done), 0); /* waits for the second */
    LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[2].entry), 0);
    wait_for(a, 3);
    LK_CHECK_INT(fake.sizes[1], 2);
    LK_CHECK_INT(lk_batcher_reserve(s.batcher, 1, 0), 0); /* and this one never comes */
    int64_t start = lk_now_ns();
    LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[3].entry), 0);
    wait_for(a, 4);
    LK_CHECK(atomic_load(&a[3].done) && lk_now_ns() - start < 2000000000);
    lk_batcher_give_back(s.batcher, 1, 0);
    tear_down(&s);
    free(a);
}

static void the_late_and_the_gone_are_not_computed(void) {
    struct setup s;
    LK_REQUIRE(set_up(&s, 4, 0, 1024));
    struct ask *a = asks(6);
    fake_hold(1);
    LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[0].entry), 0);
    fake_wait_until_computing();
    a[1].entry.deadline_ns = lk_now_ns() - 1;
    a[2].entry.deadline_ns = lk_now_ns() + 60000000000;
    for (int i = 1; i < 6; i++)
        LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[i].entry), 0);
    atomic_store(&a[3].gone, 1);
    fake_hold(0);
    wait_for(a, 6);
    for (int i = 0; i < 6; i++)
        LK_CHECK_INT(a[i].status, i == 1 || i == 3 ? LK_ECANCELLED : 0);
    LK_CHECK_HOLDS(a[1].error, "deadline");
    LK_CHECK_HOLDS(a[3].error, "left");
    LK_CHECK_INT(fake.batches, 2);
    LK_CHECK_INT(fake.sizes[1], 3);
    struct lk_batcher_stats stats;
    lk_batcher_stats(s.batcher, &stats);
    LK_CHECK_INT(stats.dropped_late, 1);
    LK_CHECK_INT(stats.dropped_gone, 1);
    LK_CHECK_INT(stats.entries, 4);
    tear_down(&s);
    free(a);
}

static void bulk_fills_half_a_batch_while_single_ones_wait(void) {
    struct setup s;
    LK_REQUIRE(set_up(&s, 8, 0, 1024));
    struct ask *a = asks(41);
    fake_hold(1);
    LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[0].entry), 0);
    fake_wait_until_computing();
    for (int i = 1; i <= 32; i++) { /* the bulk comes first */
        a[i].entry.bulk = 1;
        LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[i].entry), 0);
    }
    for (int i = 33; i <= 40; i++)
        LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[i].entry), 0);
    fake_hold(0);
    wait_for(a, 41);
    int bulk_before_last_single = 0, last_single = 0;
    for (int i = 33; i <= 40; i++)
        last_single = a[i].order > last_single ? a[i].order : last_single;
    for (int i = 1; i <= 32; i++)
        bulk_before_last_single += a[i].order < last_single;
    LK_CHECK(last_single <= 16);            /* 8 single ones are in the first two batches of 8 */
    LK_CHECK(bulk_before_last_single >= 4); /* and the bulk does not starve */
    LK_CHECK(bulk_before_last_single <= 8);
    tear_down(&s);
    free(a);
}

static void with_a_batch_of_one_bulk_and_single_take_turns(void) {
    struct setup s;
    LK_REQUIRE(set_up(&s, 1, 0, 1024));
    struct ask *a = asks(21);
    fake_hold(1);
    LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[0].entry), 0);
    fake_wait_until_computing();
    for (int i = 1; i <= 20; i++) {
        a[i].entry.bulk = i <= 10;
        LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[i].entry), 0);
    }
    fake_hold(0);
    wait_for(a, 21);
    int bulk_in_first_half = 0;
    for (int i = 1; i <= 10; i++)
        bulk_in_first_half += a[i].order <= 10;
    LK_CHECK_INT(bulk_in_first_half, 5);
    tear_down(&s);
    free(a);
}

static void a_full_queue_refuses_each_kind_by_itself(void) {
    struct setup s;
    LK_REQUIRE(set_up(&s, 2, 0, 4));
    struct ask *a = asks(12);
    fake_hold(1);
    LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[0].entry), 0);
    fake_wait_until_computing();
    for (int i = 1; i <= 4; i++)
        LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[i].entry), 0);
    LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[5].entry), LK_ELIMIT);
    LK_CHECK_HOLDS(lk_error(), "full");
    for (int i = 6; i <= 9; i++) {
        a[i].entry.bulk = 1;
        LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[i].entry), 0);
    }
    a[10].entry.bulk = 1;
    LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[10].entry), LK_ELIMIT);
    struct lk_batcher_stats stats;
    lk_batcher_stats(s.batcher, &stats);
    LK_CHECK_INT(stats.waiting, 8);
    LK_CHECK_INT(stats.refused, 2);
    fake_hold(0);
    wait_for(a, 5);
    wait_for(a + 6, 4);
    LK_CHECK_INT(atomic_load(&a[5].done), 0);
    tear_down(&s);
    free(a);
}

static void reserved_places_count_until_they_are_used_or_given_back(void) {
    struct setup s;
    LK_REQUIRE(set_up(&s, 2, 0, 4));
    struct ask *a = asks(4);
    fake_hold(1);
    LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[0].entry), 0);
    fake_wait_until_computing();
    LK_CHECK_INT(lk_batcher_reserve(s.batcher, 5, 0), LK_ELIMIT);
    LK_CHECK_INT(lk_batcher_reserve(s.batcher, 3, 0), 0);
    LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[1].entry), 0); /* the last free place */
    LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[2].entry), LK_ELIMIT);
    LK_CHECK_INT(lk_batcher_reserve(s.batcher, 1, 0), LK_ELIMIT);
    a[2].entry.reserved = 1;
    LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[2].entry), 0);
    struct lk_batcher_stats stats;
    lk_batcher_stats(s.batcher, &stats);
    LK_CHECK_INT(stats.waiting, 4);
    LK_CHECK_INT(stats.refused, 7); /* pictures: 5, 1 and 1 */
    lk_batcher_give_back(s.batcher, 2, 0);
    LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[3].entry), 0);
    fake_hold(0);
    wait_for(a, 4);
    tear_down(&s);
    free(a);
}

static void clients_with_many_pictures_take_turns(void) {
    struct setup s;
    LK_REQUIRE(set_up(&s, 1, 0, 1024));
    struct ask *a = asks(46);
    struct lk_batch_flow greedy = {0}, modest = {0};
    fake_hold(1);
    LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[0].entry), 0);
    fake_wait_until_computing();
    for (int i = 1; i <= 45; i++) { /* forty of one client, then four of another, then a client with one */
        a[i].entry.bulk = 1;
        a[i].entry.flow = i <= 40 ? &greedy : i <= 44 ? &modest : NULL;
        LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[i].entry), 0);
    }
    fake_hold(0);
    wait_for(a, 46);
    for (int i = 2; i <= 40; i++)
        LK_CHECK(a[i].order > a[i - 1].order); /* each client's in their order */
    for (int i = 42; i <= 44; i++)
        LK_CHECK(a[i].order > a[i - 1].order);
    LK_CHECK_INT(a[45].order, 3); /* the third of the first round */
    LK_CHECK_INT(a[44].order, 9); /* three in the first round, then two a round */
    LK_CHECK_INT(a[40].order, 45);
    tear_down(&s);
    free(a);
}

static void closing_computes_what_waits(void) {
    struct setup s;
    LK_REQUIRE(set_up(&s, 4, 100000, 1024));
    struct ask *a = asks(30);
    for (int i = 0; i < 30; i++)
        LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[i].entry), 0);
    lk_batcher_close(s.batcher);
    for (int i = 0; i < 30; i++)
        LK_CHECK(atomic_load(&a[i].done) && a[i].status == 0);
    lk_engine_close(s.engine);
    free(a);
}

static void a_broken_engine_is_out_of_service(void) {
    struct setup s;
    LK_REQUIRE(set_up(&s, 4, 0, 1024));
    struct ask *a = asks(2);
    float vector[DIM];
    pthread_mutex_lock(&fake.mutex);
    fake.fails = 1;
    pthread_mutex_unlock(&fake.mutex);
    LK_CHECK_INT(lk_batcher_embed(s.batcher, a[0].pixels, vector, 0), LK_EFAIL);
    LK_CHECK_HOLDS(lk_error(), "told to fail");
    LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[1].entry), LK_EFAIL);
    LK_CHECK_HOLDS(lk_error(), "out of service");
    tear_down(&s);
    free(a);
}

static void a_vector_that_is_not_finite_is_one_pictures_fault(void) {
    struct setup s;
    LK_REQUIRE(set_up(&s, 8, 50000, 1024));
    struct ask *a = asks(8);
    pthread_mutex_lock(&fake.mutex);
    fake.nan_for = 3;
    pthread_mutex_unlock(&fake.mutex);
    for (int i = 0; i < 8; i++)
        LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[i].entry), 0);
    wait_for(a, 8);
    for (int i = 0; i < 8; i++)
        LK_CHECK_INT(a[i].status, i == 3 ? LK_EINVAL : 0);
    tear_down(&s);
    free(a);
}

struct embedder {
    struct lk_batcher *batcher;
    int first;
};
static void *embed_many(void *arg) {
    struct embedder *e = arg;
    uint8_t *pixels = lk_calloc(PICTURE, 1);
    float vector[DIM];
    for (int i = 0; pixels && i < 100; i++) {
        pixels[0] = (uint8_t)(e->first + i);
        LK_CHECK_INT(lk_batcher_embed(e->batcher, pixels, vector, 0), 0);
        LK_CHECK_NEAR(vector[0], cos(pixels[0]), 1e-5);
    }
    free(pixels);
    return NULL;
}

/* As the check of a published model does, whose queue may be full of writes. */
static void who_embeds_waits_for_a_place_until_his_deadline(void) {
    struct setup s;
    LK_REQUIRE(set_up(&s, 1, 0, 2));
    struct ask *a = asks(3);
    float vector[DIM];
    pthread_t thread;
    fake_hold(1);
    LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[0].entry), 0);
    fake_wait_until_computing();
    for (int i = 1; i < 3; i++)
        LK_CHECK_INT(lk_batcher_submit(s.batcher, &a[i].entry), 0);
    LK_CHECK_INT(lk_batcher_embed(s.batcher, a[0].pixels, vector, lk_now_ns() + 20000000), LK_ELIMIT);
    struct embedder e = {s.batcher, 7};
    LK_REQUIRE(pthread_create(&thread, NULL, embed_many, &e) == 0);
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    fake_hold(0);
    pthread_join(thread, NULL);
    wait_for(a, 3);
    tear_down(&s);
    free(a);
}

static void many_threads_get_their_own_vectors(void) {
    struct setup s;
    LK_REQUIRE(set_up(&s, 8, 100, 1024));
    pthread_t threads[6];
    struct embedder e[6];
    for (int i = 0; i < 6; i++) {
        e[i] = (struct embedder){s.batcher, i * 20};
        pthread_create(&threads[i], NULL, embed_many, &e[i]);
    }
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    tear_down(&s);
}

static atomic_int running, most;

static void *use_cores(void *arg) {
    struct lk_cores *cores = arg;
    struct timespec t = {.tv_nsec = 20000};
    for (int i = 0; i < 200; i++) {
        int n = 1 + i % 3;
        lk_cores_take(cores, n);
        int now = atomic_fetch_add(&running, n) + n, before = atomic_load(&most);
        while (now > before && !atomic_compare_exchange_weak(&most, &before, now)) {}
        nanosleep(&t, NULL);
        atomic_fetch_sub(&running, n);
        lk_cores_give(cores, n);
    }
    return NULL;
}

static void cores_in_use_never_pass_those_there_are(void) {
    struct lk_cores *cores;
    LK_REQUIRE(lk_cores_open(&cores, 3) == 0);
    pthread_t threads[5];
    for (int i = 0; i < 5; i++)
        pthread_create(&threads[i], NULL, use_cores, cores);
    for (int i = 0; i < 5; i++)
        pthread_join(threads[i], NULL);
    LK_CHECK(atomic_load(&most) >= 2);
    LK_CHECK(atomic_load(&most) <= 3);
    lk_cores_take(cores, 100); /* all of them */
    lk_cores_give(cores, 100);
    lk_cores_take(NULL, 5); /* no limit */
    lk_cores_close(cores);
}

static const struct lk_case cases[] = {
    LK_CASE(everyone_gets_his_own_vector_in_order),
    LK_CASE(those_who_come_within_the_delay_share_a_batch),
    LK_CASE(pictures_on_their_way_are_waited_for_but_not_for_ever),
    LK_CASE(the_late_and_the_gone_are_not_computed),
    LK_CASE(bulk_fills_half_a_batch_while_single_ones_wait),
    LK_CASE(with_a_batch_of_one_bulk_and_single_take_turns),
    LK_CASE(a_full_queue_refuses_each_kind_by_itself),
    LK_CASE(reserved_places_count_until_they_are_used_or_given_back),
    LK_CASE(clients_with_many_pictures_take_turns),
    LK_CASE(closing_computes_what_waits),
    LK_CASE(a_broken_engine_is_out_of_service),
    LK_CASE(a_vector_that_is_not_finite_is_one_pictures_fault),
    LK_CASE(who_embeds_waits_for_a_place_until_his_deadline),
    LK_CASE(many_threads_get_their_own_vectors),
    LK_CASE(cores_in_use_never_pass_those_there_are),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
