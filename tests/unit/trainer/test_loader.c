/* Does an epoch show each picture once, in an order that depends on (seed, epoch) alone? */
#include "check.h"

#include <stdlib.h>

#include "base/err.h"
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

static const struct lk_case cases[] = {
    LK_CASE(an_epoch_shows_each_picture_at_most_once),
    LK_CASE(a_batch_names_the_pixels_of_its_pictures),
    LK_CASE(order_depends_on_seed_and_epoch_not_on_history),
    LK_CASE(a_batch_larger_than_the_set_is_refused),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
