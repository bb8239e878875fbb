/* Do pictures become vectors or faults of their own, within the limits, and is a readiness probe honest? */
#include <stdatomic.h>
#include <time.h>

#include "check.h"
#include "fake_backend.h"
#include "image/decode.h"
#include "server/embedding.h"
#include "server/prober.h"

#define SIDE 32
#define DIM 64

static struct lk_work work;
static struct lk_engine *engine;
static struct lk_batcher *batcher;
static struct lk_generation generation; /* over the two; never freed by its holders */
static atomic_int finished;

static int set_up(int threads, int queue) {
    engine = fake_engine(4);
    struct lk_batcher_options o = {.queue = queue};
    atomic_store(&finished, 0);
    if (!engine || lk_work_open(&work, 2, 0, threads, 1000, 1 << 20, 10000) || lk_batcher_open(&batcher, engine, &o))
        return 0;
    generation = (struct lk_generation){
        .engine = engine, .batcher = batcher, .work = &work, .dim = DIM, .side = SIDE, .resize = SIDE};
    generation.holders = 1;
    return 1;
}
static void tear_down(void) {
    lk_batcher_close(batcher);
    lk_work_close(&work);
    lk_engine_close(engine);
}

/* A picture of one colour; its vector tells the red value. */
static struct lk_buf png(int red, int side) {
    struct lk_buf out = {0};
    struct lk_image image = {0};
    if (lk_image_alloc(&image, side, side) == 0) {
        for (int i = 0; i < side * side * 3; i++)
            image.pixels[i] = (uint8_t)red;
        LK_CHECK_INT(lk_encode_png(&out, &image), 0);
    }
    lk_image_free(&image);
    return out;
}

static void on_done(void *arg) {
    (void)arg;
    atomic_store(&finished, 1);
}

static int open_embedding(struct lk_embedding *e, size_t count) {
    *e = (struct lk_embedding){.done = on_done};
    return lk_embedding_open(e, count, &generation, NULL);
}

static void wait_until_finished(void) {
    struct timespec t = {.tv_nsec = 1000000};
    for (int i = 0; !atomic_load(&finished) && i < 20000; i++)
        nanosleep(&t, NULL);
    LK_CHECK(atomic_load(&finished));
}

static void each_picture_has_its_vector_or_its_fault(void) {
    LK_REQUIRE(set_up(2, 1024));
    struct lk_buf good[3] = {png(10, 32), png(20, 64), png(30, 7)}, big = png(1, 101), cut = png(2, 32);
    struct lk_embedding e;
    LK_REQUIRE(open_embedding(&e, 8) == 0);
    for (int i = 0; i < 3; i++) {
        e.pictures[2 * i].bytes = good[i].data;
        e.pictures[2 * i].size = good[i].size;
    }
    e.pictures[1].bytes = "GIF89a......";
    e.pictures[1].size = 12;
    e.pictures[3].bytes = cut.data;
    e.pictures[3].size = cut.size - 20;
    e.pictures[5].bytes = big.data;
    e.pictures[5].size = big.size;
    e.pictures[6].bytes = "";
    lk_fault_set(&e.pictures[7].fault, LK_API_INVALID_ARGUMENT, "images[7]", "known before");
    e.bulk = 1;
    lk_embedding_start(&e);
    wait_until_finished();
    const enum lk_api_error want[8] = {
        LK_API_OK, LK_API_UNSUPPORTED_IMAGE_FORMAT, LK_API_OK,         LK_API_UNDECODABLE_IMAGE,
        LK_API_OK, LK_API_IMAGE_TOO_LARGE,          LK_API_EMPTY_BODY, LK_API_INVALID_ARGUMENT};
    for (int i = 0; i < 8; i++) {
        LK_CHECK_INT(e.pictures[i].fault.error, want[i]);
        LK_CHECK(want[i] == LK_API_OK || lk_fault_is_pictures(&e.pictures[i].fault));
    }
    for (int i = 0; i < 3; i++)
        LK_CHECK_NEAR(e.pictures[2 * i].vectors[0][0], cos(10 * (i + 1)), 1e-5);
    LK_CHECK_HOLDS(e.pictures[5].fault.message, "10000");
    LK_CHECK_INT(e.pictures[2].width, 64);
    LK_CHECK_STR(e.pictures[2].media_type, "image/png");
    LK_CHECK_INT(lk_budget_used(&work.decode), 0);
    struct lk_batcher_stats stats;
    lk_batcher_stats(batcher, &stats);
    LK_CHECK_INT(stats.waiting, 0); /* what was not decoded gave its place back */
    lk_embedding_close(&e);
    for (int i = 0; i < 3; i++)
        lk_buf_free(&good[i]);
    lk_buf_free(&big);
    lk_buf_free(&cut);
    tear_down();
}

static void start_equal(struct lk_embedding *e, const struct lk_buf *picture, size_t count, int patient) {
    LK_REQUIRE(open_embedding(e, count) == 0);
    for (size_t i = 0; i < count; i++) {
        e->pictures[i].bytes = picture->data;
        e->pictures[i].size = picture->size;
    }
    e->bulk = 1;
    e->patient = patient;
    atomic_store(&finished, 0);
    lk_embedding_start(e);
}

static void a_full_queue_delays_the_patient(void) {
    LK_REQUIRE(set_up(1, 2));
    struct lk_buf picture = png(50, 32);
    struct lk_embedding e;
    struct timespec t = {.tv_nsec = 50000000};
    fake_hold(1);
    start_equal(&e, &picture, 12, 1);
    nanosleep(&t, NULL);
    LK_CHECK_INT(atomic_load(&finished), 0);
    fake_hold(0);
    wait_until_finished();
    for (int i = 0; i < 12; i++)
        LK_CHECK_INT(e.pictures[i].fault.error, LK_API_OK);
    lk_embedding_close(&e);
    lk_buf_free(&picture);
    tear_down();
}

static void a_full_queue_refuses_the_hasty_before_decoding(void) {
    LK_REQUIRE(set_up(1, 2));
    struct lk_buf picture = png(50, 32);
    struct lk_embedding e;
    start_equal(&e, &picture, 3, 0);
    wait_until_finished();
    for (int i = 0; i < 3; i++) {
        LK_CHECK_INT(e.pictures[i].fault.error, LK_API_OVERLOADED);
        LK_CHECK(!lk_fault_is_pictures(&e.pictures[i].fault));
        LK_CHECK_INT(e.pictures[i].width, 0); /* nobody looked at it */
    }
    lk_embedding_close(&e);
    for (int i = 0; i < 3; i++) { /* the places come back */
        start_equal(&e, &picture, 2, 0);
        wait_until_finished();
        LK_CHECK_INT(e.pictures[1].fault.error, LK_API_OK);
        lk_embedding_close(&e);
    }
    struct lk_batcher_stats stats;
    lk_batcher_stats(batcher, &stats);
    LK_CHECK_INT(stats.waiting, 0);
    lk_buf_free(&picture);
    tear_down();
}

static void a_deadline_that_passed_is_told(void) {
    LK_REQUIRE(set_up(1, 10));
    struct lk_buf picture = png(50, 32);
    struct lk_embedding e;
    LK_REQUIRE(open_embedding(&e, 1) == 0);
    e.pictures[0].bytes = picture.data;
    e.pictures[0].size = picture.size;
    e.deadline_ns = lk_now_ns() - 1;
    lk_embedding_start(&e);
    wait_until_finished();
    LK_CHECK_INT(e.pictures[0].fault.error, LK_API_DEADLINE_EXCEEDED);
    LK_CHECK_INT(fake.batches, 0);
    lk_embedding_close(&e);
    lk_buf_free(&picture);
    tear_down();
}

static void an_embedding_of_nothing_is_done(void) {
    LK_REQUIRE(set_up(1, 10));
    struct lk_embedding e;
    LK_REQUIRE(open_embedding(&e, 0) == 0);
    lk_embedding_start(&e);
    wait_until_finished();
    lk_embedding_close(&e);
    tear_down();
}

static atomic_int probes;
static char probe_reason[256];

static void on_probe(struct lk_probe *probe, double milliseconds, const char *reason) {
    (void)probe;
    LK_CHECK(milliseconds >= 0);
    snprintf(probe_reason, sizeof probe_reason, "%s", reason ? reason : "ready");
    atomic_fetch_add(&probes, 1);
}
static void ask(struct lk_prober *prober, struct lk_probe *probe, const char *want) {
    struct timespec t = {.tv_nsec = 1000000};
    atomic_store(&probes, 0);
    *probe = (struct lk_probe){.done = on_probe};
    lk_prober_ask(prober, probe);
    for (int i = 0; !atomic_load(&probes) && i < 20000; i++)
        nanosleep(&t, NULL);
    LK_CHECK_HOLDS(probe_reason, want);
}

static void readiness_is_a_picture_that_comes_back_in_time(void) {
    LK_REQUIRE(set_up(1, 10));
    struct lk_prober *prober;
    struct lk_probe probe;
    struct lk_collection collection = {.mutex = PTHREAD_MUTEX_INITIALIZER, .current = &generation};
    LK_REQUIRE(lk_prober_open(&prober, &collection, 0.1) == 0);
    ask(prober, &probe, "ready");
    fake_hold(1);
    ask(prober, &probe, "in time"); /* stuck: told after the time is over, and the canary is still out */
    fake_hold(0);
    ask(prober, &probe, "ready");
    pthread_mutex_lock(&fake.mutex);
    fake.fails = 1;
    pthread_mutex_unlock(&fake.mutex);
    ask(prober, &probe, "told to fail");
    ask(prober, &probe, "out of service");
    lk_prober_close(prober);
    tear_down();
}

static const struct lk_case cases[] = {
    LK_CASE(each_picture_has_its_vector_or_its_fault),
    LK_CASE(a_full_queue_delays_the_patient),
    LK_CASE(a_full_queue_refuses_the_hasty_before_decoding),
    LK_CASE(a_deadline_that_passed_is_told),
    LK_CASE(an_embedding_of_nothing_is_done),
    LK_CASE(readiness_is_a_picture_that_comes_back_in_time),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
