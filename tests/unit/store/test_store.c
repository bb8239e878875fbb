/* Does the catalogue give back what was put in: items, images, metadata, vectors, order? */
#include "fixture.h"

#include <float.h>
#include <math.h>

static void an_item_comes_back_as_it_was_put(void) {
    struct fixture f;
    struct lk_buf image = {0};
    char media_type[64];
    const float vector[4] = {0.5F, -0.25F, FLT_MIN / 4, 1};
    int created = -1;
    int64_t seq = 0, items = 0;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(lk_store_begin(f.store), 0);
    LK_CHECK_INT(lk_store_put(f.store, "cats/1", "{\"a\": [1, 2.50]}", "image/jpeg", "abc", 3, 640, 480, "space",
                              vector, 4, &created, &seq),
                 0);
    LK_CHECK_INT(lk_store_commit(f.store), 0);
    LK_CHECK_INT(created, 1);
    LK_CHECK_INT(seq, 1);
    LK_CHECK_INT(lk_store_seq(f.store), 1);
    LK_CHECK_INT(lk_store_count(f.store, &items), 0);
    LK_CHECK_INT(items, 1);
    for (int again = 0; again < 2; again++) {
        struct copy c = get(f.store, "cats/1", "space");
        LK_CHECK_STR(c.id, "cats/1");
        LK_CHECK_STR(c.metadata, "{\"a\":[1,2.50]}");
        LK_CHECK_STR(c.media_type, "image/jpeg");
        LK_CHECK_STR(c.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"); /* FIPS 180-4 */
        LK_CHECK_INT(c.bytes, 3);
        LK_CHECK_INT(c.width, 640);
        LK_CHECK_INT(c.height, 480);
        LK_CHECK_INT(c.seq, 1);
        LK_CHECK(c.created_ms > 1600000000000 && c.updated_ms == c.created_ms);
        LK_CHECK_INT(c.dim, 4);
        LK_CHECK(same_bits(c.vector, vector, sizeof vector));
        LK_CHECK_INT(get(f.store, "cats/1", "another space").dim, 0);
        LK_CHECK_INT(get(f.store, "cats/1", NULL).dim, 0);
        LK_CHECK_INT(lk_store_image(f.store, "cats/1", &image, media_type), 0);
        LK_CHECK_INT(image.size, 3 * (again + 1)); /* appended */
        LK_CHECK(memcmp(image.data, "abcabc", image.size) == 0);
        LK_CHECK_STR(media_type, "image/jpeg");
        LK_CHECK_INT(fixture_reopen(&f), 0);
    }
    lk_buf_free(&image);
    fixture_close(&f);
}

static void what_is_not_there_is_not_found(void) {
    struct fixture f;
    struct lk_buf image = {0};
    struct copy c = {0};
    char media_type[64];
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(lk_store_get(f.store, "x", NULL, copy_item, &c), LK_ENOTFOUND);
    LK_CHECK_HOLDS(lk_error(), "'x'");
    LK_CHECK_INT(lk_store_image(f.store, "x", &image, media_type), LK_ENOTFOUND);
    LK_CHECK_INT(lk_store_begin(f.store), 0);
    LK_CHECK_INT(lk_store_delete(f.store, "x", NULL), LK_ENOTFOUND);
    LK_CHECK_INT(lk_store_patch(f.store, "x", "{}", NULL), LK_ENOTFOUND);
    LK_CHECK_INT(lk_store_put_vector(f.store, "x", 0, "s", (float[]){1}, 1), LK_ENOTFOUND);
    LK_CHECK_INT(lk_store_commit(f.store), 0);
    LK_CHECK_INT(lk_store_seq(f.store), 0);
    fixture_close(&f);
}

static void ids_are_1_to_255_bytes_of_utf8_without_controls(void) {
    static const char *const good[] = {"a",
                                       "a/b c",
                                       "\xC3\xA9",
                                       "\xE2\x82\xAC",
                                       "\xF0\x9F\x90\xB1",
                                       "\xC2\xA0",
                                       "%2F",
                                       "'; DROP TABLE items; --",
                                       "\xF4\x8F\xBF\xBF"};
    static const char *const bad[] = {
        "",         "a\nb",     "\x7F",         "\xC2\x80",     "\xC2\x9F",         "\x80",
        "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xF8\x88\x80\x80\x80",
        "\xE2\x82", "\xFF",     "abc\xC3"};
    struct fixture f;
    char longest[257];
    LK_REQUIRE(fixture_open(&f) == 0);
    memset(longest, 'x', 256);
    longest[256] = '\0';
    LK_CHECK_INT(put(f.store, longest, "i", NULL, 0), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "255");
    longest[255] = '\0';
    LK_CHECK_INT(put(f.store, longest, "i", NULL, 0), 0);
    LK_CHECK_STR(get(f.store, longest, NULL).id, longest);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        LK_CHECK_INT(lk_store_check_id(good[i], strlen(good[i])), 0);
        LK_CHECK_INT(put(f.store, good[i], "i", NULL, 0), 0);
        LK_CHECK_STR(get(f.store, good[i], NULL).id, good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (!LK_CHECK_INT(lk_store_check_id(bad[i], strlen(bad[i])), LK_EINVAL))
            printf("     id %zu\n", i);
        LK_CHECK_INT(put(f.store, bad[i], "i", NULL, 0), LK_EINVAL);
    }
    LK_CHECK_INT(lk_store_check_id("a\0b", 3), LK_EINVAL);
    LK_CHECK_INT(lk_store_check_id(NULL, 0), LK_EINVAL);
    fixture_close(&f);
}

static int put_metadata(struct lk_store *store, const char *id, const char *metadata) {
    int rc;
    if ((rc = lk_store_begin(store)) < 0)
        return rc;
    rc = lk_store_put(store, id, metadata, "image/png", "i", 1, 1, 1, NULL, NULL, 0, NULL, NULL);
    if (rc < 0) {
        lk_store_rollback(store);
        return rc;
    }
    return lk_store_commit(store);
}

static void metadata_is_one_json_object(void) {
    static const char *const bad[] = {"",
                                      "{",
                                      "[]",
                                      "null",
                                      "1",
                                      "\"x\"",
                                      "{\"a\":}",
                                      "{'a':1}",
                                      "{\"a\":NaN}",
                                      "{\"a\":1,}",
                                      "{} {}",
                                      "{\"a\":01}",
                                      "{\"\xFF\":1}",
                                      "{\"a\":\"\\ud800\"}",
                                      "{\"a\":1,\"b\":2,\"a\":3}",
                                      "{\"x\":{\"k\":1,\"\\u006b\":2}}"};
    struct fixture f;
    LK_REQUIRE(fixture_open(&f) == 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (!LK_CHECK_INT(put_metadata(f.store, "a", bad[i]), LK_EINVAL))
            printf("     metadata %s\n", bad[i]);
    }
    LK_CHECK_HOLDS(lk_error(), "'k' twice");
    LK_CHECK_INT(put_metadata(f.store, "a", NULL), 0);
    LK_CHECK_STR(get(f.store, "a", NULL).metadata, "{}");
    LK_CHECK_INT(
        put_metadata(f.store, "a", " { \"k\" : \"a b\\u00e9\\/\\n\\u0001\\ud83d\\ude00\\\"\\\\\" , \"n\":null} "), 0);
    LK_CHECK_STR(get(f.store, "a", NULL).metadata,
                 "{\"k\":\"a b\xC3\xA9/\\n\\u0001\xF0\x9F\x98\x80\\\"\\\\\",\"n\":null}");
    LK_CHECK_INT(put_metadata(f.store, "a", NULL), 0); /* replacing without metadata keeps it */
    LK_CHECK_HOLDS(get(f.store, "a", NULL).metadata, "\"n\":null");
    LK_CHECK_INT(put_metadata(f.store, "a", "{\"same key\":{\"k\":1},\"k\":{\"k\":2}}"), 0);
    fixture_close(&f);
}

static void a_patch_merges_as_rfc_7396_says(void) {
    /* Appendix A, as far as target and patch are objects, and what it implies for escapes. */
    static const struct {
        const char *target, *patch, *result;
    } rows[] = {
        {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
        {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
        {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
        {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
        {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
        {"{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}"},
        {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
        {"{\"a\":1}", "{}", "{\"a\":1}"},
        {"{\"\xC3\xA9\":1}", "{\"\\u00e9\":null}", "{}"},
        {"{\"\\u0061\":1,\"\\/\":2}", "{\"a\":3,\"/\":null}", "{\"a\":3}"},
        {"{\"a\":[null]}", "{\"b\":{\"x\":[null]}}", "{\"a\":[null],\"b\":{\"x\":[null]}}"},
        {"{\"a\":1.50}", "{\"b\":1e400}", "{\"a\":1.50,\"b\":1e400}"},
    };
    struct fixture f;
    int64_t seq = 0;
    LK_REQUIRE(fixture_open(&f) == 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        LK_CHECK_INT(put_metadata(f.store, "x", rows[i].target), 0);
        LK_CHECK_INT(lk_store_begin(f.store), 0);
        LK_CHECK_INT(lk_store_patch(f.store, "x", rows[i].patch, &seq), 0);
        LK_CHECK_INT(lk_store_commit(f.store), 0);
        LK_CHECK_STR(get(f.store, "x", NULL).metadata, rows[i].result);
        LK_CHECK_INT(get(f.store, "x", NULL).seq, seq);
        LK_CHECK_INT(seq, lk_store_seq(f.store));
    }
    LK_CHECK_INT(lk_store_begin(f.store), 0);
    LK_CHECK_INT(lk_store_patch(f.store, "x", "[1]", NULL), LK_EINVAL);
    LK_CHECK_INT(lk_store_patch(f.store, "x", "nonsense", NULL), LK_EINVAL);
    LK_CHECK_INT(lk_store_patch(f.store, "x", NULL, NULL), LK_EINVAL);
    lk_store_rollback(f.store);
    fixture_close(&f);
}

static void a_list_is_ordered_by_bytes_and_pages(void) {
    static const char *const ids[] = {"b", "\xC3\xA9", "a", "B", "a/2", "a/10", "\xF0\x9F\x90\xB1", "~", "aa", " "};
    struct fixture f;
    struct copy c;
    char after[256] = "";
    int pages = 0, n = 0;
    LK_REQUIRE(fixture_open(&f) == 0);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        LK_CHECK_INT(put(f.store, ids[i], "image", i % 2 ? "s" : NULL, (float)i), 0);
    LK_CHECK_STR(list(f.store, NULL, 100, NULL).ids, "  B a a/10 a/2 aa b ~ \xC3\xA9 \xF0\x9F\x90\xB1 ");
    LK_CHECK_STR(list(f.store, "a/11 is not there", 2, NULL).ids, "a/2 aa ");
    LK_CHECK_INT(list(f.store, "\xF0\x9F\x90\xB1", 5, NULL).n, 0);
    LK_CHECK_INT(list(f.store, NULL, 0, NULL).n, 0);
    do {
        c = list(f.store, after, 3, "s");
        snprintf(after, sizeof after, "%s", c.id);
        n += c.n;
        pages++;
    } while (c.n == 3);
    LK_CHECK_INT(n, 10);
    LK_CHECK_INT(pages, 4);
    c = list(f.store, "a/", 1, "s"); /* a/10, which is ids[5] */
    LK_CHECK_INT(c.dim, 3);
    LK_CHECK_NEAR(c.vector[0], 5, 0);
    LK_CHECK_INT(lk_store_list(f.store, NULL, -1, NULL, copy_item, &c), LK_EINVAL);
    fixture_close(&f);
}

static int stop_at_second(void *arg, const struct lk_item *item) {
    (void)item;
    return ++*(int *)arg == 2 ? 42 : 0;
}

static void a_visitor_may_stop_with_its_own_value(void) {
    struct fixture f;
    int seen = 0;
    LK_REQUIRE(fixture_open(&f) == 0);
    for (int i = 0; i < 5; i++)
        LK_CHECK_INT(put(f.store, (char[]){(char)('a' + i), 0}, "image", NULL, 0), 0);
    LK_CHECK_INT(lk_store_list(f.store, NULL, 10, NULL, stop_at_second, &seen), 42);
    LK_CHECK_INT(seen, 2);
    LK_CHECK_INT(list(f.store, NULL, 10, NULL).n, 5); /* the statement was given back */
    fixture_close(&f);
}

static void another_image_drops_the_vectors_of_every_space(void) {
    struct fixture f;
    struct copy before, after;
    int created = -1;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(put(f.store, "x", "first", "old", 1), 0);
    LK_CHECK_INT(lk_store_begin(f.store), 0);
    LK_CHECK_INT(lk_store_put_vector(f.store, "x", 1, "new", (float[]){7}, 1), 0);
    LK_CHECK_INT(lk_store_commit(f.store), 0);
    before = get(f.store, "x", "new");
    LK_CHECK_INT(before.dim, 1);

    LK_CHECK_INT(put(f.store, "x", "first", "old", 5), 0); /* the same bytes: the other space's vector still holds */
    LK_CHECK_INT(get(f.store, "x", "new").dim, 1);
    LK_CHECK_NEAR(get(f.store, "x", "old").vector[0], 5, 0);

    usleep(2000);
    LK_CHECK_INT(lk_store_begin(f.store), 0);
    LK_CHECK_INT(
        lk_store_put(f.store, "x", NULL, "image/jpeg", "second", 6, 1, 2, "old", (float[]){9, 9}, 2, &created, NULL),
        0);
    LK_CHECK_INT(lk_store_commit(f.store), 0);
    LK_CHECK_INT(created, 0);
    after = get(f.store, "x", "old");
    LK_CHECK_INT(after.dim, 2);
    LK_CHECK_INT(get(f.store, "x", "new").dim, 0);
    LK_CHECK_INT(after.created_ms, before.created_ms);
    LK_CHECK(after.updated_ms > before.updated_ms);
    LK_CHECK(after.seq > before.seq);
    LK_CHECK_STR(after.media_type, "image/jpeg");
    LK_CHECK_INT(after.width, 1);
    LK_CHECK_INT(after.height, 2);
    LK_CHECK_INT(put(f.store, "x", "third", NULL, 0), 0);
    LK_CHECK_INT(get(f.store, "x", "old").dim, 0);
    LK_CHECK_INT(fixture_sql(&f, "SELECT count(*) FROM vectors"), 0);
    fixture_close(&f);
}

static void equal_images_are_kept_once_and_go_with_their_last_item(void) {
    struct fixture f;
    struct lk_buf image = {0};
    char media_type[64];
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(put(f.store, "a", "shared", NULL, 0), 0);
    LK_CHECK_INT(put(f.store, "b", "shared", NULL, 0), 0);
    LK_CHECK_INT(put(f.store, "c", "other", NULL, 0), 0);
    LK_CHECK_INT(fixture_sql(&f, "SELECT count(*) FROM images"), 2);
    LK_CHECK_INT(put(f.store, "a", "own", NULL, 0), 0);
    LK_CHECK_INT(fixture_sql(&f, "SELECT count(*) FROM images"), 3);
    LK_CHECK_INT(lk_store_image(f.store, "b", &image, media_type), 0);
    LK_CHECK(image.size == 6 && memcmp(image.data, "shared", 6) == 0);
    LK_CHECK_INT(put(f.store, "b", "other", NULL, 0), 0); /* the last user of "shared" leaves it */
    LK_CHECK_INT(fixture_sql(&f, "SELECT count(*) FROM images"), 2);
    LK_CHECK_INT(lk_store_begin(f.store), 0);
    LK_CHECK_INT(lk_store_delete(f.store, "b", NULL), 0);
    LK_CHECK_INT(lk_store_commit(f.store), 0);
    LK_CHECK_INT(fixture_sql(&f, "SELECT count(*) FROM images"), 2);
    LK_CHECK_INT(lk_store_begin(f.store), 0);
    LK_CHECK_INT(lk_store_delete(f.store, "c", NULL), 0);
    LK_CHECK_INT(lk_store_delete(f.store, "a", NULL), 0);
    LK_CHECK_INT(lk_store_commit(f.store), 0);
    LK_CHECK_INT(fixture_sql(&f, "SELECT count(*) FROM images"), 0);
    lk_buf_free(&image);
    fixture_close(&f);
}

static void a_delete_leaves_a_record_with_its_seq(void) {
    struct fixture f;
    struct copy c = {0};
    int64_t seq = 0;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(put(f.store, "x", "image", "s", 1), 0);
    for (int round = 0; round < 2; round++) {
        LK_CHECK_INT(lk_store_begin(f.store), 0);
        LK_CHECK_INT(lk_store_delete(f.store, "x", &seq), 0);
        LK_CHECK_INT(lk_store_commit(f.store), 0);
        LK_CHECK_INT(seq, 2 + 2 * round);
        LK_CHECK_INT(lk_store_get(f.store, "x", NULL, copy_item, &c), LK_ENOTFOUND);
        LK_CHECK_INT(fixture_sql(&f, "SELECT count(*) FROM vectors"), 0);
        LK_CHECK_INT(fixture_sql(&f, "SELECT max(seq) FROM deletes WHERE id = 'x'"), seq);
        LK_CHECK_INT(put(f.store, "x", "image", "s", 1), 0);
    }
    LK_CHECK_INT(fixture_sql(&f, "SELECT count(*) FROM deletes"), 2);
    fixture_close(&f);
}

static void embedding_again_fills_what_is_missing_and_yields_to_new_images(void) {
    struct fixture f;
    struct copy c = {0};
    const float vector[2] = {3, 4};
    int64_t seen;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(put(f.store, "a", "1", "old", 1), 0);
    LK_CHECK_INT(put(f.store, "b", "2", "old", 1), 0);
    LK_CHECK_INT(put(f.store, "c", "3", NULL, 1), 0);
    LK_CHECK_INT(lk_store_missing(f.store, NULL, 10, "old", copy_item, &c), 0);
    LK_CHECK_STR(c.ids, "c ");
    c = (struct copy){0};
    LK_CHECK_INT(lk_store_missing(f.store, NULL, 10, "new", copy_item, &c), 0);
    LK_CHECK_STR(c.ids, "a b c ");
    c = (struct copy){0};
    LK_CHECK_INT(lk_store_missing(f.store, "a", 1, "new", copy_item, &c), 0);
    LK_CHECK_STR(c.ids, "b ");
    seen = c.seq;

    LK_CHECK_INT(lk_store_begin(f.store), 0);
    LK_CHECK_INT(lk_store_patch(f.store, "b", "{\"k\":1}", NULL), 0); /* neither changes the picture */
    LK_CHECK_INT(put_in(f.store, "b", "2", "old", 1), 0);
    LK_CHECK_INT(lk_store_put_vector(f.store, "b", seen, "new", vector, 2), 0);
    LK_CHECK_INT(lk_store_commit(f.store), 0);
    LK_CHECK_INT(get(f.store, "b", "new").dim, 2);
    LK_CHECK_INT(get(f.store, "b", "old").dim, 3);

    LK_CHECK_INT(put(f.store, "b", "another", "old", 1), 0);
    LK_CHECK_INT(lk_store_begin(f.store), 0);
    LK_CHECK_INT(lk_store_put_vector(f.store, "b", seen, "new", vector, 2), LK_ECONFLICT);
    LK_CHECK_INT(lk_store_commit(f.store), 0);
    LK_CHECK_INT(get(f.store, "b", "new").dim, 0);
    fixture_close(&f);
}

static void an_index_is_loaded_in_pages(void) {
    struct fixture f;
    int64_t cursor = 0, before;
    int n = 0;
    char id[24];
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(lk_store_begin(f.store), 0);
    for (int i = 0; i < 250; i++) {
        snprintf(id, sizeof id, "%03d", i * 7 % 250);
        LK_CHECK_INT(put_in(f.store, id, "image", i % 5 ? "s" : "t", (float)i), 0);
    }
    LK_CHECK_INT(lk_store_commit(f.store), 0);
    do {
        struct copy c = {0};
        before = cursor;
        LK_CHECK_INT(lk_store_vectors(f.store, &cursor, 64, "s", copy_item, &c), 0);
        LK_CHECK(c.n == 0 || c.dim == 3);
        n += c.n;
    } while (cursor != before);
    LK_CHECK_INT(n, 200);
    fixture_close(&f);
}

static void long_vectors_and_images_keep_every_bit(void) {
    enum { DIM = 2048, BYTES = 3 << 20 };
    struct fixture f;
    struct lk_buf got = {0};
    static float vector[DIM];
    static char image[BYTES];
    char media_type[64];
    struct copy c;
    LK_REQUIRE(fixture_open(&f) == 0);
    for (int i = 0; i < DIM; i++)
        vector[i] = ldexpf((float)(i % 7 - 3), i % 250 - 140);
    for (int i = 0; i < BYTES; i++)
        image[i] = (char)(i * 31 + i / 251);
    LK_CHECK_INT(lk_store_begin(f.store), 0);
    LK_CHECK_INT(lk_store_put(f.store, "x", NULL, "image/png", image, BYTES, 1, 1, "s", vector, DIM, NULL, NULL), 0);
    vector[DIM - 1] = NAN;
    LK_CHECK_INT(lk_store_put(f.store, "y", NULL, "image/png", image, BYTES, 1, 1, "s", vector, DIM, NULL, NULL),
                 LK_EINVAL);
    LK_CHECK_INT(lk_store_commit(f.store), 0);
    LK_CHECK_INT(fixture_reopen(&f), 0);
    c = get(f.store, "x", "s");
    LK_CHECK_INT(c.dim, DIM);
    LK_CHECK(same_bits(c.vector, vector, sizeof c.vector));
    LK_CHECK_INT(lk_store_image(f.store, "x", &got, media_type), 0);
    LK_CHECK(got.size == BYTES && memcmp(got.data, image, BYTES) == 0);
    LK_CHECK_INT(fixture_sql(&f, "SELECT count(*) FROM vectors WHERE length(data) = 4 * dim AND dtype = 'f32'"), 1);
    lk_buf_free(&got);
    fixture_close(&f);
}

static void generations_are_never_numbered_twice(void) {
    struct fixture f;
    struct lk_store_serving s = {.space = "aa", .model_name = "cats", .model_file_sha256 = "bb", .precision = "f32"},
                            got;
    LK_REQUIRE(fixture_open(&f) == 0);
    LK_CHECK_INT(lk_store_serving(f.store, &got), LK_ENOTFOUND);
    LK_CHECK_INT(lk_store_set_serving(f.store, &s), 0);
    LK_CHECK_INT(s.generation, 1);
    snprintf(s.space, sizeof s.space, "cc");
    LK_CHECK_INT(lk_store_set_serving(f.store, &s), 0);
    LK_CHECK_INT(s.generation, 2);
    LK_CHECK_INT(fixture_reopen(&f), 0);
    LK_CHECK_INT(lk_store_serving(f.store, &got), 0);
    LK_CHECK_INT(got.generation, 2);
    LK_CHECK_STR(got.space, "cc");
    LK_CHECK_STR(got.model_name, "cats");
    LK_CHECK_STR(got.model_file_sha256, "bb");
    LK_CHECK_STR(got.precision, "f32");
    LK_CHECK_INT(fixture_change(&f, "DELETE FROM generations"), 0);
    LK_CHECK_INT(lk_store_serving(f.store, &got), LK_ENOTFOUND);
    LK_CHECK_INT(lk_store_set_serving(f.store, &s), 0);
    LK_CHECK_INT(s.generation, 3);
    s.space[0] = '\0';
    LK_CHECK_INT(lk_store_set_serving(f.store, &s), LK_EINVAL);
    fixture_close(&f);
}

static const struct lk_case cases[] = {
    LK_CASE(an_item_comes_back_as_it_was_put),
    LK_CASE(what_is_not_there_is_not_found),
    LK_CASE(ids_are_1_to_255_bytes_of_utf8_without_controls),
    LK_CASE(metadata_is_one_json_object),
    LK_CASE(a_patch_merges_as_rfc_7396_says),
    LK_CASE(a_list_is_ordered_by_bytes_and_pages),
    LK_CASE(a_visitor_may_stop_with_its_own_value),
    LK_CASE(another_image_drops_the_vectors_of_every_space),
    LK_CASE(equal_images_are_kept_once_and_go_with_their_last_item),
    LK_CASE(a_delete_leaves_a_record_with_its_seq),
    LK_CASE(embedding_again_fills_what_is_missing_and_yields_to_new_images),
    LK_CASE(an_index_is_loaded_in_pages),
    LK_CASE(long_vectors_and_images_keep_every_bit),
    LK_CASE(generations_are_never_numbered_twice),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
