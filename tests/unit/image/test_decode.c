/* Do pictures decode to Pillow's pixels? The files and what Pillow makes of them: tests/data/make_images.py. */
#include "image/decode.h"
#include "pictures.h"

static void check_picture(const char *name, int width, int height, int tolerance) {
    char path[200];
    snprintf(path, sizeof path, "images/%s", name);
    struct lk_buf file = data_read(path);
    snprintf(path, sizeof path, "images/%s.rgb", name);
    struct lk_buf want = data_read(path);
    struct lk_image image;
    struct lk_image_info info;
    int rc = lk_decode(&image, file.data, file.size, NULL);
    if (!LK_CHECK_INT(rc, 0)) {
        printf("     %s: %s\n", name, lk_error());
    } else {
        int same = image.width == width && image.height == height && want.size == (size_t)width * (size_t)height * 3;
        int d = same ? largest_difference(image.pixels, want.data, want.size) : 256;
        if (!LK_CHECK(d <= tolerance))
            printf("     %s: %d x %d, largest difference %d, allowed %d\n", name, image.width, image.height, d,
                   tolerance);
    }
    LK_CHECK_INT(lk_decode_info(&info, file.data, file.size), 0);
    LK_CHECK_INT(info.width, width);
    LK_CHECK_INT(info.height, height);
    LK_CHECK_STR(info.format, strstr(name, ".png") ? "png" : "jpeg");
    lk_image_free(&image);
    lk_buf_free(&file);
    lk_buf_free(&want);
}

/* Every line of the manifest whose name holds `part`. */
static void check_all(const char *part, int at_least) {
    struct lk_buf manifest = data_read("images/manifest.txt");
    int n = 0;
    for (char *line = strtok((char *)manifest.data, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        char name[100];
        int width, height, tolerance;
        LK_REQUIRE(sscanf(line, "%99s %d %d %d", name, &width, &height, &tolerance) == 4);
        if (strstr(name, part) == NULL)
            continue;
        check_picture(name, width, height, tolerance);
        n++;
    }
    LK_CHECK(n >= at_least);
    lk_buf_free(&manifest);
}

static void every_png_kind_equals_pillow(void) { check_all(".png", 56); }
static void every_jpeg_kind_equals_pillow(void) { check_all(".jpg", 22); }
static void eight_orientations_are_among_them(void) { check_all("orientation", 8); }

static void the_sample_pictures_decode(void) {
    struct lk_fs_list list;
    LK_REQUIRE(lk_fs_walk(&list, data_path("cifar10-sample")) == 0);
    LK_CHECK_INT(list.count, 1000);
    for (size_t i = 0; i < list.count; i++) {
        char path[200];
        struct lk_image image;
        snprintf(path, sizeof path, "cifar10-sample/%s", list.paths[i]);
        struct lk_buf file = data_read(path);
        LK_CHECK_INT(lk_decode(&image, file.data, file.size, NULL), 0);
        LK_CHECK(image.width == 32 && image.height == 32);
        lk_image_free(&image);
        lk_buf_free(&file);
    }
    lk_fs_list_free(&list);
}

static void a_scaled_jpeg_keeps_both_sides(void) {
    static const struct {
        int side, width, height;
    } lines[] = {{0, 200, 150}, {150, 200, 150}, {76, 200, 150}, {75, 100, 75},
                 {38, 50, 38},  {20, 50, 38},    {19, 25, 19},   {1, 25, 19}};
    struct lk_buf file = data_read("images/large-420.jpg");
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct lk_decode_limits limits = {.scaled_side = lines[i].side};
        struct lk_image image;
        LK_REQUIRE(lk_decode(&image, file.data, file.size, &limits) == 0);
        LK_CHECK_INT(image.width, lines[i].width);
        LK_CHECK_INT(image.height, lines[i].height);
        lk_image_free(&image);
    }
    lk_buf_free(&file);
}

static void the_pixel_limit_is_exact(void) {
    struct lk_buf png = data_read("images/noise.png"), jpeg = data_read("images/large-420.jpg");
    struct lk_decode_limits limits = {.max_pixels = 61 * 47};
    struct lk_image image;
    LK_CHECK_INT(lk_decode(&image, png.data, png.size, &limits), 0);
    lk_image_free(&image);
    limits.max_pixels--;
    LK_CHECK_INT(lk_decode(&image, png.data, png.size, &limits), LK_ELIMIT);
    LK_CHECK_STR(lk_error(), "61 x 47 pixels exceed the limit of 2866");
    LK_CHECK(image.pixels == NULL && image.width == 0);
    limits.max_pixels = 200 * 150;
    LK_CHECK_INT(lk_decode(&image, jpeg.data, jpeg.size, &limits), 0);
    lk_image_free(&image);
    limits.max_pixels--;
    LK_CHECK_INT(lk_decode(&image, jpeg.data, jpeg.size, &limits), LK_ELIMIT);
    LK_CHECK_HOLDS(lk_error(), "200 x 150 pixels");
    lk_buf_free(&png);
    lk_buf_free(&jpeg);
}

static void an_encoded_png_decodes_to_the_same(void) {
    struct lk_buf file = data_read("images/noise.png"), again = {0};
    struct lk_image a, b;
    LK_REQUIRE(lk_decode(&a, file.data, file.size, NULL) == 0);
    LK_REQUIRE(lk_buf_append(&again, "front", 5) == 0);
    LK_REQUIRE(lk_encode_png(&again, &a) == 0); /* appended */
    LK_CHECK(memcmp(again.data, "front", 5) == 0);
    LK_REQUIRE(lk_decode(&b, again.data + 5, again.size - 5, NULL) == 0);
    LK_CHECK(b.width == a.width && b.height == a.height);
    LK_CHECK(memcmp(a.pixels, b.pixels, (size_t)a.width * (size_t)a.height * 3) == 0);
    lk_image_free(&a);
    lk_image_free(&b);
    lk_buf_free(&again);
    lk_buf_free(&file);
}

static void sides_of_an_image_are_bounded(void) {
    struct lk_image image;
    LK_CHECK_INT(lk_image_alloc(&image, 0, 5), LK_EINVAL);
    LK_CHECK_INT(lk_image_alloc(&image, 5, -1), LK_EINVAL);
    LK_CHECK_INT(lk_image_alloc(&image, 65536, 1), LK_EINVAL);
    LK_CHECK_INT(lk_image_alloc(&image, 65535, 1), 0);
    lk_image_free(&image);
    lk_image_free(&image);
}

static const struct lk_case cases[] = {
    LK_CASE(every_png_kind_equals_pillow),       LK_CASE(every_jpeg_kind_equals_pillow),
    LK_CASE(eight_orientations_are_among_them),  LK_CASE(the_sample_pictures_decode),
    LK_CASE(a_scaled_jpeg_keeps_both_sides),     LK_CASE(the_pixel_limit_is_exact),
    LK_CASE(an_encoded_png_decodes_to_the_same), LK_CASE(sides_of_an_image_are_bounded),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
