/* While a model is published, does a write wait for the coming model's full queue as long as it may, and no longer? */
#include "../store/fixture.h"
#include "fake_backend.h"
#include "image/decode.h"
#include "server/collection.h"

enum { SIDE = 32, DIM = 64, QUEUE = 2 };

struct world {
    struct fixture f;
    struct lk_work work;
    struct lk_generation current, coming;
    struct lk_collection collection;
    struct lk_buf picture;
    float vector[DIM]; /* the picture's, in the generation that serves */
    uint8_t pixels[SIDE * SIDE * 3];
    struct lk_batch_entry waiting[QUEUE + 1];
    float results[QUEUE + 1][DIM];
};

static void ignore(struct lk_batch_entry *entry, int status, const char *error) {
    (void)entry, (void)status, (void)error;
}

static int open_generation(struct world *w, struct lk_generation *g, const char *space) {
    const struct lk_batcher_options options = {.queue = QUEUE, .max_batch = 1};
    *g = (struct lk_generation){.work = &w->work, .dim = DIM, .side = SIDE, .resize = SIDE, .holders = 1};
    snprintf(g->serving.space, sizeof g->serving.space, "%064d", space[0]);
    g->engine = fake_engine(1);
    return !g->engine || lk_batcher_open(&g->batcher, g->engine, &options) || lk_index_open(&g->index, DIM, NULL);
}

static int open_world(struct world *w) {
    struct lk_image image = {0};
    memset(w, 0, sizeof *w);
    w->vector[0] = 1;
    if (fixture_open(&w->f) || lk_work_open(&w->work, 2, 0, 2, 100, 1 << 20, 10000) ||
        open_generation(w, &w->current, "a") || open_generation(w, &w->coming, "b") || lk_image_alloc(&image, 8, 8))
        return 0;
    memset(image.pixels, 40, 8 * 8 * 3);
    (void)lk_encode_png(&w->picture, &image);
    lk_image_free(&image);
    w->collection = (struct lk_collection){
        .work = &w->work, .store = w->f.store, .current = &w->current, .coming = &w->coming};
    pthread_mutex_init(&w->collection.mutex, NULL);
    return lk_writer_open(&w->collection.writer, &w->collection) == 0;
}

static void close_world(struct world *w) {
    struct lk_generation *const both[2] = {&w->current, &w->coming};
    lk_writer_close(w->collection.writer);
    for (int i = 0; i < 2; i++) {
        lk_batcher_close(both[i]->batcher);
        lk_index_close(both[i]->index);
        lk_engine_close(both[i]->engine);
    }
    lk_work_close(&w->work);
    pthread_mutex_destroy(&w->collection.mutex);
    lk_buf_free(&w->picture);
    fixture_close(&w->f);
    free(w);
}

/* One picture that the coming engine does not come to the end of, and as many more as its queue takes. */
static void fill_queue(struct world *w) {
    fake_hold(1);
    for (int i = 0; i <= QUEUE; i++) {
        w->waiting[i] = (struct lk_batch_entry){.pixels = w->pixels, .vector = w->results[i], .done = ignore};
        LK_CHECK_INT(lk_batcher_submit(w->coming.batcher, &w->waiting[i]), 0);
        if (i == 0)
            fake_wait_until_computing();
    }
}

struct outcome {
    struct lk_write write;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int done;
};

static void on_done(struct lk_write *write) {
    struct outcome *o = write->arg;
    pthread_mutex_lock(&o->mutex);
    o->done = 1;
    pthread_cond_signal(&o->changed);
    pthread_mutex_unlock(&o->mutex);
}

static void submit(struct world *w, struct outcome *o, const char *id, int64_t deadline_ns) {
    *o = (struct outcome){.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    o->write = (struct lk_write){.kind = LK_WRITE_PUT,
                                 .id = id,
                                 .media_type = "image/png",
                                 .image = w->picture.data,
                                 .image_bytes = w->picture.size,
                                 .width = 8,
                                 .height = 8,
                                 .vectors = {{&w->current, w->vector}},
                                 .deadline_ns = deadline_ns,
                                 .done = on_done,
                                 .arg = o};
    lk_writer_submit(w->collection.writer, &o->write);
}

static void wait_for(struct outcome *o) {
    pthread_mutex_lock(&o->mutex);
    while (!o->done)
        pthread_cond_wait(&o->changed, &o->mutex);
    pthread_mutex_unlock(&o->mutex);
}

static int64_t seconds_from_now(double seconds) { return lk_now_ns() + (int64_t)(seconds * 1e9); }

static int64_t count_items(struct world *w) {
    int64_t n = -1;
    LK_CHECK_INT(lk_store_count(w->f.store, &n), 0);
    return n;
}

static void a_write_gives_up_at_its_deadline_and_leaves_nothing(void) {
    struct world *w = malloc(sizeof *w);
    struct outcome o;
    LK_REQUIRE(w != NULL && open_world(w));
    fill_queue(w);
    const int64_t deadline = seconds_from_now(0.2);
    submit(w, &o, "late", deadline);
    wait_for(&o);
    LK_CHECK(lk_now_ns() >= deadline);
    LK_CHECK_INT(o.write.status, LK_ECANCELLED);
    LK_CHECK_HOLDS(o.write.error, "deadline");
    LK_CHECK_INT(count_items(w), 0);
    LK_CHECK_INT(lk_index_count(w->current.index), 0);
    fake_hold(0);
    close_world(w);
}

static void a_write_that_has_time_waits_and_is_in_both_generations(void) {
    struct world *w = malloc(sizeof *w);
    struct outcome o;
    LK_REQUIRE(w != NULL && open_world(w));
    fill_queue(w);
    submit(w, &o, "patient", seconds_from_now(60));
    struct timespec pause = {.tv_nsec = 50000000};
    nanosleep(&pause, NULL);
    LK_CHECK_INT(count_items(w), 0);
    fake_hold(0);
    wait_for(&o);
    LK_CHECK_INT(o.write.status, 0);
    LK_CHECK_INT(count_items(w), 1);
    float vector[DIM] = {0};
    LK_CHECK_INT(lk_index_vector(w->coming.index, "patient", vector), 0);
    LK_CHECK_NEAR(vector[0], cos(40), 1e-5);
    LK_CHECK_INT(lk_index_vector(w->current.index, "patient", vector), 0);
    LK_CHECK_NEAR(vector[0], 1, 1e-6);
    close_world(w);
}

static const struct lk_case cases[] = {
    LK_CASE(a_write_gives_up_at_its_deadline_and_leaves_nothing),
    LK_CASE(a_write_that_has_time_waits_and_is_in_both_generations),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
