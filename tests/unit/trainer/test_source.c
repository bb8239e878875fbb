/* Are pictures, labels, splits and broken files found as promised? On small folders made here. */
#include "check.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/pool.h"
#include "image/decode.h"
#include "trainer/source.h"

static char root[64];
static struct lk_pool *pool;

static void put(const char *name, const void *bytes, size_t n) {
    char file[256], parent[256];
    snprintf(file, sizeof file, "%s/%s", root, name);
    snprintf(parent, sizeof parent, "%s", file);
    *strrchr(parent, '/') = '\0';
    if (lk_fs_mkdir_parents(parent) != 0 || lk_fs_write_atomic(file, bytes, n) != 0)
        abort();
}

/* A PNG of one colour. */
static void put_png(const char *name, int width, int height, int shade) {
    struct lk_image image = {0};
    struct lk_buf png = {0};
    if (lk_image_alloc(&image, width, height) != 0)
        abort();
    memset(image.pixels, shade, (size_t)width * (size_t)height * 3);
    if (lk_encode_png(&png, &image) != 0)
        abort();
    put(name, png.data, png.size);
    lk_image_free(&image);
    lk_buf_free(&png);
}

static int read_split(struct lk_dataset *d, const char *folder, enum lk_split split, size_t limit, int side,
                      double max_bad, const struct lk_dataset *classes_of) {
    static char path[256];
    struct lk_source s;
    struct lk_read_options o = {.limit = limit, .short_side = side, .max_bad = max_bad};
    snprintf(path, sizeof path, "%s/%s", root, folder);
    memset(d, 0, sizeof *d);
    int rc = lk_source_open(&s, path, NULL);
    return rc ? rc : lk_source_read(d, &s, split, &o, classes_of, pool);
}

static void class_subfolders_become_labels(void) {
    struct lk_dataset d;
    put_png("a/dog/1.png", 4, 4, 10);
    put_png("a/cat/2.png", 4, 4, 20);
    put_png("a/cat/deep/3.png", 4, 4, 30);
    put_png("a/cat-and-dog/4.png", 4, 4, 40); /* sorts between cat/ and dog/, and has cat as a prefix */
    put("a/cat/notes.txt", "no picture", 10);
    put("a/cat/.hidden.png", "no picture", 10);
    LK_REQUIRE(read_split(&d, "a", LK_SPLIT_TRAIN, 0, 0, 0, NULL) == 0);
    LK_CHECK_INT(d.n, 4);
    LK_CHECK_INT(d.n_classes, 3);
    LK_CHECK_INT(d.n_bad, 0);
    for (size_t i = 0; i < d.n; i++) {
        const char *class = d.classes[d.label[i]];
        LK_CHECK(strncmp(d.name[i], class, strlen(class)) == 0 && d.name[i][strlen(class)] == '/');
    }
    lk_dataset_free(&d);
}

static void a_flat_folder_and_a_lone_subfolder_have_no_labels(void) {
    struct lk_dataset d;
    put_png("b/1.png", 4, 4, 10);
    put_png("b/more/2.png", 4, 4, 10);
    LK_REQUIRE(read_split(&d, "b", LK_SPLIT_TRAIN, 0, 0, 0, NULL) == 0);
    LK_CHECK_INT(d.n, 2);
    LK_CHECK_INT(d.n_classes, 0);
    LK_CHECK_INT(d.label[0], -1);
    lk_dataset_free(&d);
    put_png("c/only/1.png", 4, 4, 10);
    LK_REQUIRE(read_split(&d, "c", LK_SPLIT_TRAIN, 0, 0, 0, NULL) == 0);
    LK_CHECK_INT(d.n_classes, 0);
    lk_dataset_free(&d);
}

static void train_and_test_folders_are_splits_with_the_same_classes(void) {
    struct lk_dataset train, test;
    put_png("d/train/x/1.png", 4, 4, 10);
    put_png("d/train/y/2.png", 4, 4, 20);
    put_png("d/train/z/3.png", 4, 4, 30);
    put_png("d/val/z/4.png", 4, 4, 40);
    LK_REQUIRE(read_split(&train, "d", LK_SPLIT_TRAIN, 0, 0, 0, NULL) == 0);
    LK_REQUIRE(read_split(&test, "d", LK_SPLIT_TEST, 0, 0, 0, &train) == 0);
    LK_CHECK_INT(train.n, 3);
    LK_CHECK_INT(test.n, 1);
    LK_CHECK_INT(test.label[0], 2);
    lk_dataset_free(&test);
    put_png("d/val/unknown/5.png", 4, 4, 40);
    LK_CHECK_INT(read_split(&test, "d", LK_SPLIT_TEST, 0, 0, 0, &train), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "unknown/5.png");
    lk_dataset_free(&train);
}

static void large_pictures_are_shrunk_keeping_their_shape(void) {
    struct lk_dataset d;
    put_png("e/wide.png", 200, 100, 7);
    put_png("e/tall.png", 60, 121, 8);
    put_png("e/small.png", 20, 30, 9);
    LK_REQUIRE(read_split(&d, "e", LK_SPLIT_TRAIN, 0, 50, 0, NULL) == 0);
    LK_REQUIRE(d.n == 3);
    for (size_t i = 0; i < 3; i++) {
        int w = strstr(d.name[i], "wide") ? 100 : strstr(d.name[i], "tall") ? 50 : 20;
        int h = strstr(d.name[i], "wide") ? 50 : strstr(d.name[i], "tall") ? 100 : 30;
        int shade = strstr(d.name[i], "wide") ? 7 : strstr(d.name[i], "tall") ? 8 : 9;
        LK_CHECK_INT(d.width[i], w);
        LK_CHECK_INT(d.height[i], h);
        LK_CHECK_INT(lk_dataset_pixels(&d, i)[0], shade);
        LK_CHECK_INT(lk_dataset_pixels(&d, i)[w * h * 3 - 1], shade);
    }
    LK_CHECK_INT(d.bytes, (100 * 50 + 50 * 100 + 20 * 30) * 3);
    lk_dataset_free(&d);
}

static void broken_pictures_are_skipped_until_there_are_too_many(void) {
    struct lk_dataset d;
    for (int i = 0; i < 9; i++) {
        char name[32];
        snprintf(name, sizeof name, "f/%d.png", i);
        put_png(name, 4, 4, i);
    }
    put("f/broken.jpg", "\xFF\xD8\xFF\xE0 cut short", 14);
    LK_REQUIRE(read_split(&d, "f", LK_SPLIT_TRAIN, 0, 0, 10, NULL) == 0);
    LK_CHECK_INT(d.n, 9);
    LK_CHECK_INT(d.n_bad, 1);
    lk_dataset_free(&d);
    LK_CHECK_INT(read_split(&d, "f", LK_SPLIT_TRAIN, 0, 0, 9.9, NULL), LK_EFORMAT);
    LK_CHECK_HOLDS(lk_error(), "1 of 10");
}

static void a_limit_draws_the_same_pictures_every_time(void) {
    struct lk_dataset a, b, all;
    LK_REQUIRE(read_split(&a, "f", LK_SPLIT_TRAIN, 4, 0, 50, NULL) == 0);
    LK_REQUIRE(read_split(&b, "f", LK_SPLIT_TRAIN, 4, 0, 50, NULL) == 0);
    LK_REQUIRE(read_split(&all, "f", LK_SPLIT_TRAIN, 0, 0, 50, NULL) == 0);
    LK_CHECK(a.n + a.n_bad == 4);
    LK_CHECK_INT(memcmp(a.hash, b.hash, 32), 0);
    LK_CHECK(memcmp(a.hash, all.hash, 32) != 0);
    lk_dataset_free(&a), lk_dataset_free(&b), lk_dataset_free(&all);
}

static void the_hash_is_of_names_and_contents_not_of_the_size_in_memory(void) {
    struct lk_dataset a, b, c;
    put_png("g/1.png", 100, 100, 1);
    put_png("g/2.png", 100, 100, 2);
    LK_REQUIRE(read_split(&a, "g", LK_SPLIT_TRAIN, 0, 0, 0, NULL) == 0);
    LK_REQUIRE(read_split(&b, "g", LK_SPLIT_TRAIN, 0, 10, 0, NULL) == 0);
    put_png("g/2.png", 100, 100, 3);
    LK_REQUIRE(read_split(&c, "g", LK_SPLIT_TRAIN, 0, 0, 0, NULL) == 0);
    LK_CHECK_INT(memcmp(a.hash, b.hash, 32), 0);
    LK_CHECK(memcmp(a.hash, c.hash, 32) != 0);
    lk_dataset_free(&a), lk_dataset_free(&b), lk_dataset_free(&c);
}

static void median_side_is_of_short_sides(void) {
    struct lk_source s;
    char path[128];
    int side = 0;
    snprintf(path, sizeof path, "%s/e", root);
    LK_REQUIRE(lk_source_open(&s, path, NULL) == 0);
    LK_CHECK_INT(lk_source_median_side(&side, &s, LK_SPLIT_TRAIN), 0);
    LK_CHECK_INT(side, 60); /* of 100, 60, 20 */
}

static void cifar_files_are_planes_behind_a_label(void) {
    enum { RECORD = 3073 };
    uint8_t *two = calloc(2, RECORD);
    struct lk_dataset d, test;
    LK_REQUIRE(two != NULL);
    two[0] = 3, two[RECORD] = 9;
    two[1] = 11, two[1 + 1024] = 22, two[1 + 2048] = 33; /* first pixel of the first picture */
    two[RECORD + 1 + 1023] = 44;                         /* last pixel's red of the second */
    put("h/data_batch_1.bin", two, 2 * RECORD);
    put("h/data_batch_2.bin", two, RECORD);
    put("h/test_batch.bin", two + RECORD, RECORD);
    LK_REQUIRE(read_split(&d, "h", LK_SPLIT_TRAIN, 0, 0, 0, NULL) == 0);
    LK_REQUIRE(read_split(&test, "h", LK_SPLIT_TEST, 0, 0, 0, &d) == 0);
    LK_REQUIRE(d.n == 3 && test.n == 1);
    LK_CHECK_INT(d.label[0], 3);
    LK_CHECK_STR(d.classes[d.label[1]], "truck");
    LK_CHECK_STR(d.name[1], "data_batch_1.bin:1");
    LK_CHECK_INT(lk_dataset_pixels(&d, 0)[0], 11);
    LK_CHECK_INT(lk_dataset_pixels(&d, 0)[1], 22);
    LK_CHECK_INT(lk_dataset_pixels(&d, 0)[2], 33);
    LK_CHECK_INT(lk_dataset_pixels(&d, 1)[1023 * 3], 44);
    LK_CHECK_INT(test.label[0], 9);
    lk_dataset_free(&d), lk_dataset_free(&test);
    put("h/data_batch_2.bin", two, RECORD - 1);
    LK_CHECK_INT(read_split(&d, "h", LK_SPLIT_TRAIN, 0, 0, 0, NULL), LK_EFORMAT);
    two[0] = 10;
    put("h/data_batch_2.bin", two, RECORD);
    LK_CHECK_INT(read_split(&d, "h", LK_SPLIT_TRAIN, 0, 0, 0, NULL), LK_EFORMAT);
    LK_CHECK_HOLDS(lk_error(), "label 10");
    free(two);
}

static void places_without_pictures_are_refused(void) {
    struct lk_dataset d;
    put("i/readme.txt", "x", 1);
    LK_CHECK_INT(read_split(&d, "i", LK_SPLIT_TRAIN, 0, 0, 0, NULL), LK_EINVAL);
    LK_CHECK_INT(read_split(&d, "nowhere", LK_SPLIT_TRAIN, 0, 0, 0, NULL), LK_ENOTFOUND);
    LK_CHECK_INT(read_split(&d, "i/readme.txt", LK_SPLIT_TRAIN, 0, 0, 0, NULL), LK_EINVAL);
    put("j/1.png", "x", 1);
    LK_CHECK_INT(read_split(&d, "j", LK_SPLIT_TRAIN, 0, 0, 100, NULL), LK_EINVAL);
}

static const struct lk_case cases[] = {
    LK_CASE(class_subfolders_become_labels),
    LK_CASE(a_flat_folder_and_a_lone_subfolder_have_no_labels),
    LK_CASE(train_and_test_folders_are_splits_with_the_same_classes),
    LK_CASE(large_pictures_are_shrunk_keeping_their_shape),
    LK_CASE(broken_pictures_are_skipped_until_there_are_too_many),
    LK_CASE(a_limit_draws_the_same_pictures_every_time),
    LK_CASE(the_hash_is_of_names_and_contents_not_of_the_size_in_memory),
    LK_CASE(median_side_is_of_short_sides),
    LK_CASE(cifar_files_are_planes_behind_a_label),
    LK_CASE(places_without_pictures_are_refused),
};

static void remove_all(void) {
    struct lk_fs_list list = {0};
    char path[512];
    if (lk_fs_walk(&list, root) == 0) {
        for (size_t i = 0; i < list.count; i++) {
            snprintf(path, sizeof path, "%s/%s", root, list.paths[i]);
            unlink(path);
            for (char *slash = strrchr(path, '/'); slash != NULL && strlen(path) > strlen(root);
                 slash = strrchr(path, '/')) {
                *slash = '\0';
                rmdir(path); /* fails while others lie in it */
            }
        }
    }
    lk_fs_list_free(&list);
    rmdir(root);
}

int main(int argc, char **argv) {
    snprintf(root, sizeof root, "/tmp/lk_source_%ld", (long)getpid());
    lk_log_set_level(LK_LOG_ERROR);
    if (lk_pool_open(&pool, 2, 1) != 0)
        return 1;
    int rc = lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
    lk_pool_close(pool);
    remove_all();
    return rc;
}
