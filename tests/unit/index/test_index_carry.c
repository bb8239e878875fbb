/* Is what is written while a compaction is under way neither lost nor back from the dead? The index says when it is halfway
 * through, and everything that can happen to an item happens there. */
#include "model.h"

#include "base/err.h"
#include "base/log.h"
#include "server/index_internal.h"

enum { N = 3000, DIM = 16 };

static struct model m;
static int calls[2], next; /* the first item that has not been touched */

static void put(struct lk_index *index, int i) {
    model_unit(&m, model_vector(&m, i));
    LK_CHECK_INT(model_put(&m, index, i), 0);
}

/* Items below N are there, those from N on are not. */
static void everything_happens(struct lk_index *index, int stage) {
    calls[stage]++;
    for (int n = 0; n < 20; n++, next += 7) {
        LK_CHECK_INT(model_delete(&m, index, next), 0);     /* gone */
        put(index, next + 1);                               /* replaced */
        LK_CHECK_INT(model_delete(&m, index, next + 2), 0); /* gone, and there again */
        put(index, next + 2);
        put(index, next + 3); /* replaced, and gone */
        LK_CHECK_INT(model_delete(&m, index, next + 3), 0);
        put(index, N + next);     /* new */
        put(index, N + next + 1); /* new, and gone */
        LK_CHECK_INT(model_delete(&m, index, N + next + 1), 0);
    }
    model_check(&m, index, model_vector(&m, 0), (size_t)m.n);
    for (int i = 0; i < next; i++) {
        float got[DIM];
        char name[32];
        model_name(name, i);
        LK_CHECK_INT(lk_index_vector(index, name, got), m.alive[i] ? 0 : LK_ENOTFOUND);
        LK_CHECK(!m.alive[i] || same_bits(got, model_vector(&m, i), sizeof got));
    }
}

static void check(const struct lk_index_options *options, int rounds) {
    struct lk_index *index;
    model_open(&m, 2 * N, DIM, 21);
    LK_REQUIRE(lk_index_open(&index, DIM, options) == 0);
    calls[0] = calls[1] = next = 0;
    for (int i = 0; i < N; i++)
        put(index, i);
    for (int i = 2500; i < N; i++)
        LK_CHECK_INT(model_delete(&m, index, i), 0);
    index->halfway = everything_happens;
    for (int i = 0; i < rounds; i++) {
        LK_CHECK_INT(lk_index_compact(index), 0);
        model_check(&m, index, model_vector(&m, 0), (size_t)m.n);
    }
    LK_CHECK(calls[0] >= rounds && calls[0] == calls[1]);
    index->halfway = NULL;
    LK_CHECK_INT(lk_index_compact(index), 0);
    if (options == NULL)
        LK_CHECK_INT(lk_index_tombstones(index), 0);
    model_check(&m, index, model_vector(&m, 0), (size_t)m.n);
    model_check_queries(&m, index, options == NULL ? 5 : 0);
    lk_index_close(index);
    model_close(&m);
}

static void a_compaction_carries_over_what_is_written_meanwhile(void) { check(NULL, 4); }

static void linking_carries_over_what_is_written_meanwhile(void) {
    const struct lk_index_options hnsw = {.kind = LK_INDEX_HNSW, .m = 8, .ef_construction = 40, .unlinked = 50};
    check(&hnsw, 3);
}

static const struct lk_case cases[] = {
    LK_CASE(a_compaction_carries_over_what_is_written_meanwhile),
    LK_CASE(linking_carries_over_what_is_written_meanwhile),
};

int main(int argc, char **argv) {
    lk_log_set_level(LK_LOG_WARN);
    return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
}
