/* Does the trainer read a server's catalogue, with classes from the metadata, also while the server writes to it? */
#include "check.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/pool.h"
#include "image/decode.h"
#include "store/store.h"
#include "trainer/source.h"

static char root[64], path[96];
static struct lk_pool *pool;
static struct lk_store *server; /* stays open while the trainer reads */

static void put(const char *id, const char *metadata, int width, int height, int shade) {
    struct lk_image image = {0};
    struct lk_buf png = {0};
    int created;
    int64_t seq;
    if (lk_image_alloc(&image, width, height) != 0)
        abort();
    memset(image.pixels, shade, (size_t)width * (size_t)height * 3);
    if (lk_encode_png(&png, &image) != 0 || lk_store_begin(server) != 0 ||
        lk_store_put(server, id, metadata, "image/png", png.data, png.size, width, height, NULL, NULL, 0, &created,
                     &seq) != 0 ||
        lk_store_commit(server) != 0) {
        printf("%s\n", lk_error());
        abort();
    }
    lk_image_free(&image);
    lk_buf_free(&png);
}

static int open_and_read(struct lk_dataset *d, const char *label_field, uint64_t memory) {
    struct lk_source s;
    const struct lk_source_options place = {.label_field = label_field};
    const struct lk_read_options read = {.short_side = 8, .max_bad = 10, .memory = memory};
    memset(d, 0, sizeof *d);
    int rc = lk_source_open(&s, path, &place);
    if (rc == 0) {
        LK_CHECK_INT(s.place, LK_PLACE_CATALOGUE);
        rc = lk_source_read(d, &s, LK_SPLIT_TRAIN, &read, NULL, pool);
    }
    lk_source_close(&s);
    return rc;
}

static void items_are_read_in_order_of_their_ids(void) {
    struct lk_dataset d;
    LK_REQUIRE(open_and_read(&d, NULL, 0) == 0);
    LK_REQUIRE(d.n == 1202); /* several pages */
    for (size_t i = 1; i < d.n; i++)
        LK_CHECK(strcmp(d.name[i - 1], d.name[i]) < 0);
    LK_CHECK_STR(d.name[0], "a/first");
    LK_CHECK_INT(d.width[0], 8); /* shrunk */
    LK_CHECK_INT(d.height[0], 16);
    LK_CHECK_INT(lk_dataset_pixels(&d, 0)[0], 200);
    LK_CHECK_INT(d.n_classes, 0);
    LK_CHECK_INT(d.n_labelled, 0);
    lk_dataset_free(&d);
}

static void a_field_of_the_metadata_is_the_class(void) {
    struct lk_dataset d;
    LK_REQUIRE(open_and_read(&d, "class", 0) == 0);
    LK_CHECK_INT(d.n_classes, 3); /* c0, c1, special */
    LK_CHECK_INT(d.n_labelled, 801);
    LK_CHECK_STR(d.classes[d.label[0]], "special");
    for (size_t i = 0; i < d.n; i++) {
        int number = d.name[i][0] == 'n' ? (int)strtol(d.name[i] + 1, NULL, 10) : -1;
        if (number >= 0 && number % 3 < 2)
            LK_CHECK_INT(d.classes[d.label[i]][1], '0' + number % 3);
        else if (number >= 0)
            LK_CHECK_INT(d.label[i], -1);
    }
    lk_dataset_free(&d);
}

static void a_field_that_tells_nothing_apart_is_refused(void) {
    struct lk_dataset d;
    LK_CHECK_INT(open_and_read(&d, "nothing", 0), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "--label-field nothing needs two classes or more; 0 of 1202 items");
    LK_CHECK_INT(open_and_read(&d, "only", 0), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "1 of 1202 items have that field, with 1 different values");
}

static void streamed_pictures_are_those_in_memory(void) {
    struct lk_dataset d, s;
    uint8_t pixels[8 * 16 * 3];
    LK_REQUIRE(open_and_read(&d, "class", 0) == 0);
    LK_REQUIRE(open_and_read(&s, "class", d.bytes - 1) == 0);
    LK_CHECK(!d.streamed && s.streamed && s.pixels == NULL);
    LK_REQUIRE(s.n == d.n && s.bytes == d.bytes);
    LK_CHECK_INT(memcmp(s.hash, d.hash, sizeof d.hash), 0);
    for (size_t i = 0; i < d.n; i++) {
        LK_CHECK_INT(lk_dataset_load(&s, i, pixels), 0);
        LK_CHECK(s.width[i] == d.width[i] && s.height[i] == d.height[i] && s.label[i] == d.label[i]);
        LK_CHECK_INT(memcmp(pixels, lk_dataset_pixels(&d, i), lk_dataset_picture_bytes(&d, i)), 0);
    }
    lk_dataset_free(&d);
    struct lk_dataset whole;
    LK_REQUIRE(open_and_read(&whole, NULL, s.bytes) == 0);
    LK_CHECK(!whole.streamed); /* what just fits stays */
    lk_dataset_free(&whole);
    lk_dataset_free(&s);
}

/* Last: it changes the catalogue. */
static void a_picture_that_is_replaced_or_deleted_meanwhile_is_told(void) {
    struct lk_dataset s;
    uint8_t pixels[8 * 16 * 3];
    int64_t seq;
    LK_REQUIRE(open_and_read(&s, NULL, 1) == 0);
    put("a/first", NULL, 8, 8, 1);
    LK_CHECK_INT(lk_dataset_load(&s, 0, pixels), LK_ECONFLICT);
    LK_CHECK_HOLDS(lk_error(), "a/first changed since");
    LK_CHECK_HOLDS(lk_error(), "8 x 8 pixels now, where it was 8 x 16");
    LK_REQUIRE(lk_store_begin(server) == 0 && lk_store_delete(server, "a/first", &seq) == 0 &&
               lk_store_commit(server) == 0);
    LK_CHECK_INT(lk_dataset_load(&s, 0, pixels), LK_ENOTFOUND);
    LK_CHECK_HOLDS(lk_error(), "no longer in the catalogue");
    LK_CHECK_INT(lk_dataset_load(&s, 1, pixels), 0);
    lk_dataset_free(&s);
}

static void a_database_of_somebody_else_is_refused(void) {
    struct lk_source s;
    struct lk_dataset d;
    const struct lk_read_options read = {.max_bad = 10};
    char other[96];
    snprintf(other, sizeof other, "%s/other.db", root);
    char bytes[4096] = "SQLite format 3";
    LK_REQUIRE(lk_fs_write_atomic(other, bytes, sizeof bytes) == 0);
    LK_REQUIRE(lk_source_open(&s, other, NULL) == 0);
    LK_CHECK_INT(lk_source_read(&d, &s, LK_SPLIT_TRAIN, &read, NULL, pool), LK_EFORMAT);
    LK_CHECK_HOLDS(lk_error(), other);
    lk_source_close(&s);
}

static const struct lk_case cases[] = {
    LK_CASE(items_are_read_in_order_of_their_ids),
    LK_CASE(a_field_of_the_metadata_is_the_class),
    LK_CASE(a_field_that_tells_nothing_apart_is_refused),
    LK_CASE(streamed_pictures_are_those_in_memory),
    LK_CASE(a_database_of_somebody_else_is_refused),
    LK_CASE(a_picture_that_is_replaced_or_deleted_meanwhile_is_told),
};

int main(int argc, char **argv) {
    snprintf(root, sizeof root, "/tmp/lk_catalogue_XXXXXX");
    if (mkdtemp(root) == NULL)
        return 1;
    snprintf(path, sizeof path, "%s/photos.db", root);
    lk_log_set_level(LK_LOG_ERROR);
    if (lk_pool_open(&pool, 2, 1) != 0 || lk_store_open(&server, path, NULL) != 0)
        return 1;
    put("a/first", "{\"class\":\"special\",\"only\":\"x\"}", 20, 40, 200);
    put("z", "{}", 4, 4, 9);
    struct lk_image image = {0};
    struct lk_buf png = {0};
    if (lk_image_alloc(&image, 4, 4) != 0 || lk_store_begin(server) != 0)
        return 1;
    for (int i = 0; i < 1200; i++) {
        char id[16], metadata[64];
        int created;
        int64_t seq;
        snprintf(id, sizeof id, "n%04d", i);
        snprintf(metadata, sizeof metadata, i % 3 < 2 ? "{\"class\":\"c%d\"}" : "{\"other\":%d}", i % 3);
        memset(image.pixels, i % 256, 48);
        lk_buf_clear(&png);
        if (lk_encode_png(&png, &image) != 0 || lk_store_put(server, id, metadata, "image/png", png.data, png.size, 4,
                                                             4, NULL, NULL, 0, &created, &seq) != 0)
            return 1;
    }
    if (lk_store_commit(server) != 0)
        return 1;
    lk_image_free(&image);
    lk_buf_free(&png);
    int rc = lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
    lk_store_close(server);
    lk_pool_close(pool);
    static const char *const names[] = {"photos.db", "photos.db-wal", "photos.db-shm", "photos.db-lock", "other.db"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", root, names[i]);
        unlink(path);
    }
    rmdir(root);
    return rc;
}
