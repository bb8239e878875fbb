/* Does the hash map keep what a plain array keeps, over growth and removal in crowded neighbourhoods? */
#include <stdlib.h>

#include "check.h"
#include "server/idmap.h"

enum { N = 3000, STEPS = 200000 };
static char names[N][16];
static int there[N];
static uint32_t slots[N];

static void a_random_history_leaves_what_an_array_leaves(void) {
    struct lk_idmap map;
    uint64_t random = 9;
    size_t count = 0;
    int segment;
    LK_REQUIRE(lk_idmap_init(&map) == 0);
    for (int i = 0; i < N; i++)
        snprintf(names[i], sizeof names[i], "%*d", i % 13, i); /* lengths on both sides of a hash word */
    for (uint32_t step = 0; step < STEPS; step++) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        int i = (int)((random >> 33) % N);
        struct lk_place *place = lk_idmap_find(&map, names[i]);
        LK_REQUIRE((place != NULL) == there[i]);
        if (place != NULL) {
            LK_CHECK_INT(place->slot, slots[i]);
            LK_CHECK(place->segment == &segment);
            lk_idmap_remove(&map, place);
            there[i] = 0;
            count--;
        } else {
            LK_REQUIRE(lk_idmap_reserve(&map, 1) == 0);
            lk_idmap_insert(&map, names[i], &segment, step);
            there[i] = 1;
            slots[i] = step;
            count++;
        }
        LK_CHECK_INT(map.count, count);
    }
    for (int i = 0; i < N; i++) {
        const struct lk_place *place = lk_idmap_find(&map, names[i]);
        LK_CHECK_INT(place != NULL, there[i]);
        if (place != NULL)
            LK_CHECK_INT(place->slot, slots[i]);
    }
    lk_idmap_free(&map);
}

static void two_maps_hash_differently(void) {
    struct lk_idmap a, b;
    LK_REQUIRE(lk_idmap_init(&a) == 0 && lk_idmap_init(&b) == 0);
    LK_REQUIRE(lk_idmap_reserve(&a, 1) == 0 && lk_idmap_reserve(&b, 1) == 0);
    lk_idmap_insert(&a, "same", NULL, 1);
    lk_idmap_insert(&b, "same", NULL, 1);
    LK_CHECK(lk_idmap_find(&a, "same")->hash != lk_idmap_find(&b, "same")->hash); /* by chance equal once in 2^32 */
    lk_idmap_free(&a);
    lk_idmap_free(&b);
}

static void more_than_it_can_hold_is_refused(void) {
    struct lk_idmap map;
    LK_REQUIRE(lk_idmap_init(&map) == 0);
    LK_CHECK(lk_idmap_reserve(&map, (size_t)1 << 40) < 0);
    LK_CHECK(lk_idmap_find(&map, "x") == NULL);
    lk_idmap_free(&map);
}

static const struct lk_case cases[] = {
    LK_CASE(a_random_history_leaves_what_an_array_leaves),
    LK_CASE(two_maps_hash_differently),
    LK_CASE(more_than_it_can_hold_is_refused),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
