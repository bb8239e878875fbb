/* Does an epoch show each picture once, in an order that depends on (seed, epoch) alone, and do pictures that are read ahead
 * come as those in memory do? */
#include "check.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "image/decode.h"
#include "trainer/loader.h"

enum { N = 23, BATCH = 5 };

static struct lk_dataset make_set(void) {
    static size_t offset[N];
    static int width[N], height[N];
    static uint8_t pixels[N * 12];
    for (int i = 0; i < N; i++)
        offset[i] = (size_t)i * 12, width[i] = 1 + i % 2, height[i] = 2;
    return (struct lk_dataset){.n = N, .pixels = pixels, .offset = offset, .width = width, .height = height};
}

static void an_epoch_shows_each_picture_at_most_once(void) {
    struct lk_dataset d = make_set();
    struct lk_loader l;
    int seen[N] = {0}, total = 0;
    LK_REQUIRE(lk_loader_open(&l, &d, d.pixels, BATCH, 7) == 0);
    LK_CHECK_INT(lk_loader_steps(&l), N / BATCH); /* the last three are dropped */
    for (size_t s = 0; s < lk_loader_steps(&l); s++) {
        lk_loader_batch(&l, 0, s);
        for (int i = 0; i < BATCH; i++)
            seen[l.id[i]]++;
    }
    for (int i = 0; i < N; i++) {
        LK_CHECK(seen[i] <= 1);
        total += seen[i];
    }
    LK_CHECK_INT(total, N / BATCH * BATCH);
    lk_loader_close(&l);
}

static void a_batch_names_the_pixels_of_its_pictures(void) {
    struct lk_dataset d = make_set();
    struct lk_loader l;
    const uint8_t *elsewhere = d.pixels + 1; /* as on a device: another base, equal offsets */
    LK_REQUIRE(lk_loader_open(&l, &d, elsewhere, BATCH, 7) == 0);
    lk_loader_batch(&l, 3, 1);
    for (int i = 0; i < BATCH; i++) {
        LK_CHECK(l.pixels[i] == elsewhere + d.offset[l.id[i]]);
        LK_CHECK_INT(l.width[i], d.width[l.id[i]]);
        LK_CHECK_INT(l.height[i], d.height[l.id[i]]);
    }
    lk_loader_close(&l);
}

static void order_depends_on_seed_and_epoch_not_on_history(void) {
    struct lk_dataset d = make_set();
    struct lk_loader a, b, c;
    int differs_by_epoch = 0, differs_by_seed = 0;
    LK_REQUIRE(lk_loader_open(&a, &d, d.pixels, BATCH, 7) == 0);
    LK_REQUIRE(lk_loader_open(&b, &d, d.pixels, BATCH, 7) == 0);
    LK_REQUIRE(lk_loader_open(&c, &d, d.pixels, BATCH, 8) == 0);
    lk_loader_batch(&a, 0, 0);
    lk_loader_batch(&a, 2, 3); /* b jumps right into the middle, as a resumed run does */
    lk_loader_batch(&b, 2, 3);
    for (int i = 0; i < BATCH; i++)
        LK_CHECK_INT(b.id[i], a.id[i]);
    lk_loader_batch(&b, 1, 3);
    lk_loader_batch(&c, 2, 3);
    for (int i = 0; i < BATCH; i++)
        differs_by_epoch |= b.id[i] != a.id[i], differs_by_seed |= c.id[i] != a.id[i];
    LK_CHECK(differs_by_epoch && differs_by_seed);
    lk_loader_close(&a), lk_loader_close(&b), lk_loader_close(&c);
}

static void a_batch_larger_than_the_set_is_refused(void) {
    struct lk_dataset d = make_set();
    struct lk_loader l;
    LK_CHECK_INT(lk_loader_open(&l, &d, d.pixels, N + 1, 7), LK_EINVAL);
    lk_loader_close(&l);
}

/* --- pictures that are read ahead: one byte tells a picture, which this place "decodes" from its number ---------------- */

static atomic_int reads, most_at_once, at_once, fail_at;

static int read_number(const struct lk_items *items, size_t i, struct lk_buf *out) {
    static const char *const shades = "abcdefghijklmnopqrstuvw";
    struct lk_image image = {0};
    int now = atomic_fetch_add(&at_once, 1) + 1, most = atomic_load(&most_at_once);
    while (now > most && !atomic_compare_exchange_weak(&most_at_once, &most, now))
        continue;
    (void)items;
    atomic_fetch_add(&reads, 1);
    lk_buf_clear(out);
    int rc = lk_image_alloc(&image, 1 + (int)(i % 2), 2);
    if (rc == 0) {
        memset(image.pixels, shades[i], (size_t)image.width * 6);
        rc = lk_encode_png(out, &image);
    }
    lk_image_free(&image);
    atomic_fetch_sub(&at_once, 1);
    return (int)i == atomic_load(&fail_at) ? lk_err(LK_EIO, "the disk is gone") : rc;
}

static uint32_t numbers[N];
static char *names[N];

static struct lk_dataset make_streamed(void) {
    struct lk_dataset d = make_set();
    for (int i = 0; i < N; i++)
        numbers[i] = (uint32_t)i, names[i] = (char *)(uintptr_t) "picture";
    d.pixels = NULL;
    d.streamed = 1;
    d.items.place = (char *)(uintptr_t) "place";
    d.items.read = read_number;
    d.item = numbers;
    d.name = names;
    atomic_store(&reads, 0);
    atomic_store(&fail_at, -1);
    return d;
}

/* A batch of l is that of the loader in memory, and its pixels are right. */
static int same_batch(struct lk_loader *l, struct lk_loader *memory, uint32_t epoch, size_t step) {
    int same = lk_loader_batch(l, epoch, step) == 0 && lk_loader_batch(memory, epoch, step) == 0;
    for (int i = 0; same && i < BATCH; i++) {
        size_t bytes = (size_t)l->width[i] * 6;
        same = l->id[i] == memory->id[i] && l->width[i] == memory->width[i];
        for (size_t b = 0; same && b < bytes; b++)
            same = l->pixels[i][b] == (uint8_t) "abcdefghijklmnopqrstuvw"[l->id[i]];
    }
    return same;
}

static void pictures_read_ahead_come_in_the_same_order(void) {
    struct lk_dataset d = make_set(), s = make_streamed();
    struct lk_loader memory, ahead;
    LK_REQUIRE(lk_loader_open(&memory, &d, d.pixels, BATCH, 7) == 0);
    LK_REQUIRE(lk_loader_open_ahead(&ahead, &s, NULL, BATCH, 7, 3, 3) == 0);
    for (uint32_t epoch = 0; epoch < 3; epoch++)
        for (size_t step = 0; step < N / BATCH; step++)
            LK_CHECK(same_batch(&ahead, &memory, epoch, step));
    lk_loader_close(&ahead);
    LK_CHECK_INT(atomic_load(&reads), 3 * (N / BATCH) * BATCH); /* each picture once an epoch, none beyond the end */
    lk_loader_close(&memory);
}

static void a_jump_begins_anew_where_it_lands(void) {
    static const struct {
        uint32_t epoch;
        size_t step;
    } jumps[] = {{5, 2}, {5, 3}, {0, 0}, {0, 0}, {0, 1}, {0, 3}, {9, 1}, {8, 3}, {9, 0}};
    struct lk_dataset d = make_set(), s = make_streamed();
    struct lk_loader memory, ahead;
    LK_REQUIRE(lk_loader_open(&memory, &d, d.pixels, BATCH, 7) == 0);
    LK_REQUIRE(lk_loader_open_ahead(&ahead, &s, NULL, BATCH, 7, 0, 2) == 0);
    for (size_t i = 0; i < sizeof jumps / sizeof *jumps; i++)
        LK_CHECK(same_batch(&ahead, &memory, jumps[i].epoch, jumps[i].step));
    lk_loader_close(&ahead);
    lk_loader_close(&memory);
}

static void no_more_is_read_than_the_queue_holds(void) {
    struct lk_dataset s = make_streamed();
    struct lk_loader ahead;
    LK_REQUIRE(lk_loader_open_ahead(&ahead, &s, NULL, BATCH, 7, 0, 2) == 0);
    usleep(50000);
    LK_CHECK_INT(atomic_load(&reads), 0); /* not before the first step */
    LK_REQUIRE(lk_loader_batch(&ahead, 0, 0) == 0);
    for (int i = 0; i < 200 && atomic_load(&reads) < LK_AHEAD_BATCHES * BATCH; i++)
        usleep(10000);
    usleep(50000);
    LK_CHECK_INT(atomic_load(&reads), LK_AHEAD_BATCHES * BATCH);
    LK_CHECK(atomic_load(&most_at_once) <= 3);
    lk_loader_close(&ahead);
}

static void a_picture_that_cannot_be_read_fails_its_own_batch(void) {
    struct lk_dataset s = make_streamed();
    struct lk_loader ahead;
    LK_REQUIRE(lk_loader_open_ahead(&ahead, &s, NULL, BATCH, 7, 0, 2) == 0);
    atomic_store(&fail_at, 11);
    int failed = 0;
    for (size_t step = 0; step < N / BATCH; step++) {
        int rc = lk_loader_batch(&ahead, 0, step), has = 0;
        for (int i = 0; i < BATCH; i++)
            has |= ahead.id[i] == 11;
        LK_CHECK_INT(rc, has ? LK_EIO : 0);
        if (rc != 0)
            LK_CHECK_HOLDS(lk_error(), "the disk is gone");
        failed += rc != 0;
    }
    LK_CHECK_INT(failed, 1);
    lk_loader_close(&ahead);
}

static const struct lk_case cases[] = {
    LK_CASE(an_epoch_shows_each_picture_at_most_once),       LK_CASE(a_batch_names_the_pixels_of_its_pictures),
    LK_CASE(order_depends_on_seed_and_epoch_not_on_history), LK_CASE(a_batch_larger_than_the_set_is_refused),
    LK_CASE(pictures_read_ahead_come_in_the_same_order),     LK_CASE(a_jump_begins_anew_where_it_lands),
    LK_CASE(no_more_is_read_than_the_queue_holds),           LK_CASE(a_picture_that_cannot_be_read_fails_its_own_batch),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
