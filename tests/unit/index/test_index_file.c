/* Is a graph's file used only when it is whole and belongs to the catalogue, and is the catalogue right where they differ? */
#include <unistd.h>

#include "model.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/sha256.h"
#include "server/index_internal.h"

enum { N = 700, DIM = 16 };

struct at {
    char folder[64], path[96];
    struct model m;
    struct lk_buf whole; /* the file as it was written */
};

static struct lk_index_options options(const struct at *at) {
    return (struct lk_index_options){
        .kind = LK_INDEX_HNSW, .m = 8, .ef_construction = 40, .unlinked = 100, .path = at->path, .space = "a-space"};
}

static void setup(struct at *at) {
    struct lk_index_options o;
    struct lk_index *index;
    *at = (struct at){.folder = "/tmp/lk-index-file-XXXXXX"};
    LK_REQUIRE(mkdtemp(at->folder) != NULL);
    snprintf(at->path, sizeof at->path, "%s/photos.db.hnsw", at->folder);
    o = options(at);
    model_open(&at->m, N + 100, DIM, 5);
    LK_REQUIRE(lk_index_open(&index, DIM, &o) == 0); /* no file yet */
    for (int i = 0; i < N; i++)
        LK_CHECK_INT(model_put(&at->m, index, i), 0);
    lk_index_applied(index, 1234);
    LK_CHECK_INT(lk_index_compact(index), 0);
    lk_index_close(index);
    LK_REQUIRE(lk_fs_read(&at->whole, at->path, 0) == 0);
}

static void teardown(struct at *at) {
    model_close(&at->m);
    lk_buf_free(&at->whole);
    (void)unlink(at->path);
    LK_CHECK_INT(rmdir(at->folder), 0); /* nothing else was left there */
}

/* Opens over the file; returns how many vectors it gave. The index is then loaded from the model, as from a catalogue, and
 * has to be its equal. */
static size_t use(struct at *at, const struct lk_index_options *o) {
    struct lk_index *index;
    size_t had;
    if (!LK_CHECK_INT(lk_index_open(&index, DIM, o), 0))
        return 0;
    had = lk_index_count(index);
    for (int i = 0; i < at->m.n; i++) {
        char name[32];
        const char *id = name;
        model_name(name, i);
        if (at->m.alive[i])
            LK_CHECK_INT(lk_index_load(index, 1, &id, model_vector(&at->m, i)), 0);
    }
    LK_CHECK_INT(lk_index_loaded(index), 0);
    model_check(&at->m, index, model_vector(&at->m, 1),
                (size_t)at->m.n); /* all of them: exact, whatever the graph is */
    LK_CHECK(model_near(&at->m, index, model_vector(&at->m, 2), 10) >= 9);
    lk_index_close(index);
    return had;
}

static void a_file_gives_back_what_was_linked(void) {
    struct at at;
    setup(&at);
    const struct lk_index_options o = options(&at);
    LK_CHECK_INT(use(&at, &o), N);
    LK_CHECK(memmem(at.whole.data, 4096, "\"seq\": 1234", 11) != NULL);
    LK_CHECK(memmem(at.whole.data, 4096, "\"space\": \"a-space\"", 18) != NULL);
    teardown(&at);
}

static void the_catalogue_is_right_where_they_differ(void) {
    struct at at;
    setup(&at);
    const struct lk_index_options o = options(&at);
    for (int i = 0; i < 50; i++)
        at.m.alive[i * 7] = 0; /* gone since */
    for (int i = 0; i < 40; i++)
        model_unit(&at.m, model_vector(&at.m, 1 + i * 7)); /* replaced since */
    for (int i = 0; i < 60; i++)
        at.m.alive[N + i] = 1; /* come since */
    LK_CHECK_INT(use(&at, &o), N);
    teardown(&at);
}

/* An older state of the graph beside a catalogue of which nothing is the same: as after another one was put in its place. */
static void nothing_of_a_foreign_file_is_left(void) {
    struct at at;
    setup(&at);
    const struct lk_index_options o = options(&at);
    for (int i = 0; i < at.m.n; i++) {
        at.m.alive[i] = i % 3 == 0;
        model_unit(&at.m, model_vector(&at.m, i));
    }
    LK_CHECK_INT(use(&at, &o), N);
    teardown(&at);
}

/* The first graph is made by FAISS, the later ones are copies that were added to. */
static void a_graph_that_was_added_to_is_kept_too(void) {
    struct at at;
    setup(&at);
    const struct lk_index_options o = options(&at);
    struct lk_index *index;
    LK_REQUIRE(lk_index_open(&index, DIM, &o) == 0);
    for (int j = 0; j < N; j++) {
        char name[32];
        const char *id = name;
        model_name(name, j);
        LK_CHECK_INT(lk_index_load(index, 1, &id, model_vector(&at.m, j)), 0);
    }
    LK_CHECK_INT(lk_index_loaded(index), 0);
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 101; j++) /* one of them twice, of which one slot is linked */
            LK_CHECK_INT(model_put(&at.m, index, 600 + j % 100 + i * 50), 0);
        LK_CHECK_INT(lk_index_compact(index), 0);
        LK_CHECK_INT(lk_index_linked(index), i == 0 ? 800 : 900);
    }
    lk_index_close(index);
    LK_CHECK_INT(use(&at, &o), 750);
    teardown(&at);
}

/* Stops after three rounds, and looks at how much each of them dared. */
static size_t in_file;
static void stop_after_three_rounds(struct lk_index *index, int stage) {
    const size_t linked = lk_index_linked(index);
    if (stage == 0)
        return;
    LK_CHECK(linked - in_file <= 16384 + 4096); /* what a stop may lose: a round, which ends with a segment */
    if ((in_file = linked) >= 48000)
        lk_index_cancel(index);
}

static void a_stop_while_linking_loses_only_the_last_round(void) {
    struct at at = {.folder = "/tmp/lk-index-file-XXXXXX"};
    struct lk_index_options o;
    struct lk_index *index;
    LK_REQUIRE(mkdtemp(at.folder) != NULL);
    snprintf(at.path, sizeof at.path, "%s/photos.db.hnsw", at.folder);
    o = options(&at);
    o.m = 4;
    o.ef_construction = 8;
    model_open(&at.m, 80000, 4, 6);
    LK_REQUIRE(lk_index_open(&index, 4, &o) == 0);
    for (int i = 0; i < at.m.n; i++)
        LK_CHECK_INT(model_put(&at.m, index, i), 0);
    in_file = 0;
    index->halfway = stop_after_three_rounds;
    LK_CHECK_INT(lk_index_compact(index), LK_ECANCELLED);
    lk_index_close(index);
    LK_REQUIRE(lk_index_open(&index, 4, &o) == 0);
    LK_CHECK(in_file >= 48000 && in_file < 65000);
    LK_CHECK_INT(lk_index_linked(index), in_file);
    lk_index_close(index);
    teardown(&at);
}

static void another_space_or_graph_is_not_used(void) {
    struct at at;
    setup(&at);
    struct lk_index_options o = options(&at);
    o.space = "b-space";
    LK_CHECK_INT(use(&at, &o), 0);
    o = options(&at);
    o.m = 9;
    LK_CHECK_INT(use(&at, &o), 0);
    o = options(&at);
    o.ef_construction = 41;
    LK_CHECK_INT(use(&at, &o), 0);
    o = options(&at);
    o.ef_search = 99; /* is no matter of the graph */
    LK_CHECK_INT(use(&at, &o), N);
    teardown(&at);
}

static void expect_unused(struct at *at, const void *bytes, size_t n) {
    const struct lk_index_options o = options(at);
    struct lk_index *index;
    LK_REQUIRE(lk_fs_write_atomic(at->path, bytes, n) == 0);
    LK_REQUIRE(lk_index_open(&index, DIM, &o) == 0);
    LK_CHECK_INT(lk_index_count(index), 0);
    lk_index_close(index);
}

static void a_cut_file_is_not_used(void) {
    struct at at;
    setup(&at);
    for (size_t n = 0; n < at.whole.size; n += 1000)
        expect_unused(&at, at.whole.data, n);
    expect_unused(&at, at.whole.data, at.whole.size - 1);
    LK_CHECK_INT(lk_buf_append(&at.whole, "x", 1), 0);
    expect_unused(&at, at.whole.data, at.whole.size);
    teardown(&at);
}

static void a_changed_byte_anywhere_is_seen(void) {
    struct at at;
    setup(&at);
    unsigned char *bytes = (unsigned char *)at.whole.data;
    for (size_t i = 0; i < at.whole.size; i += i < 200 || i > at.whole.size - 100 ? 1 : 997) {
        bytes[i] ^= 0x15;
        expect_unused(&at, bytes, at.whole.size);
        bytes[i] ^= 0x15;
    }
    LK_REQUIRE(lk_fs_write_atomic(at.path, bytes, at.whole.size) == 0);
    const struct lk_index_options o = options(&at);
    LK_CHECK_INT(use(&at, &o), N); /* and unchanged again, it is used */
    teardown(&at);
}

static void sign(struct lk_buf *file) {
    struct lk_sha256 hash;
    uint8_t digest[32];
    char hex[65];
    lk_sha256_init(&hash);
    lk_sha256_update(&hash, file->data, file->size - 72);
    lk_sha256_final(&hash, digest);
    lk_sha256_hex(digest, hex);
    memcpy((char *)file->data + file->size - 65, hex, 64);
}

/* Every number of the first page as it may not be, under a hash that fits: what a bug or a hand could write. */
static void a_page_that_lies_is_not_used(void) {
    static const char *const lies[][2] = {{"\"dim\": 16", "\"dim\": 17"},
                                          {"\"count\": 700", "\"count\": 701"},
                                          {"\"count\": 700", "\"count\": 699"},
                                          {"\"count\": 700", "\"count\": -70"},
                                          {"\"count\": 700", "\"count\": \"a\""},
                                          {"\"m\": 8", "\"m\": 7"},
                                          {"\"dim\": 16", "\"dim\": {}"},
                                          {"{\"space\"", "[\"space\""},
                                          {"hnsw-1", "hnsw-2"}};
    struct at at;
    setup(&at);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct lk_buf file = {0};
        LK_REQUIRE(lk_buf_append(&file, at.whole.data, at.whole.size) == 0);
        char *place = memmem(file.data, 4096, lies[i][0], strlen(lies[i][0]));
        LK_REQUIRE(place != NULL);
        const size_t n = strlen(lies[i][1]), old = strlen(lies[i][0]);
        if (n != old) /* the page keeps its length: blanks follow the text */
            memmove(place + n, place + old, (size_t)((char *)file.data + 300 - place) - (n > old ? n : old));
        memcpy(place, lies[i][1], n);
        sign(&file);
        expect_unused(&at, file.data, file.size);
        lk_buf_free(&file);
    }
    teardown(&at);
}

static void a_file_that_cannot_be_written_is_no_failure(void) {
    struct at at;
    setup(&at);
    struct lk_index_options o = options(&at);
    struct lk_index *index;
    o.path = "/tmp/lk-no-such-folder/photos.db.hnsw";
    LK_REQUIRE(lk_index_open(&index, DIM, &o) == 0);
    for (int i = 0; i < N; i++)
        LK_CHECK_INT(model_put(&at.m, index, i), 0);
    LK_CHECK_INT(lk_index_compact(index), 0);
    LK_CHECK(!lk_index_wants_compaction(index));
    model_check_queries(&at.m, index, 2);
    lk_index_close(index);
    teardown(&at);
}

static const struct lk_case cases[] = {
    LK_CASE(a_file_gives_back_what_was_linked),
    LK_CASE(the_catalogue_is_right_where_they_differ),
    LK_CASE(nothing_of_a_foreign_file_is_left),
    LK_CASE(a_graph_that_was_added_to_is_kept_too),
    LK_CASE(a_stop_while_linking_loses_only_the_last_round),
    LK_CASE(another_space_or_graph_is_not_used),
    LK_CASE(a_cut_file_is_not_used),
    LK_CASE(a_changed_byte_anywhere_is_seen),
    LK_CASE(a_page_that_lies_is_not_used),
    LK_CASE(a_file_that_cannot_be_written_is_no_failure),
};

int main(int argc, char **argv) {
    lk_log_set_level(LK_LOG_ERROR);
    return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
}
