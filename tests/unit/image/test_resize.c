/* Does resizing equal Pillow's, and preprocessing torchvision's? tests/data/make_images.py made the answers. */
#include "image/decode.h"
#include "image/preprocess.h"
#include "pictures.h"

static struct lk_image decode(const char *name) {
    char path[200];
    snprintf(path, sizeof path, "images/%s", name);
    struct lk_buf file = data_read(path);
    struct lk_image image;
    if (lk_decode(&image, file.data, file.size, NULL) != 0)
        printf("%s: %s\n", path, lk_error());
    lk_buf_free(&file);
    return image;
}

/* Every line of resize.txt whose `how` begins with the word. */
static void check_all(const char *word, int expected) {
    struct lk_buf list = data_read("images/resize.txt");
    int n = 0, worst = 0;
    for (char *line = strtok((char *)list.data, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        char name[100], source[100], how[100], path[200];
        int width, height, side = 0;
        LK_REQUIRE(sscanf(line, "%99s %99s %99s %d %d", name, source, how, &width, &height) == 5);
        if (strncmp(how, word, strlen(word)) != 0)
            continue;
        n++;
        snprintf(path, sizeof path, "images/%s", name);
        struct lk_buf want = data_read(path);
        struct lk_image in = decode(source), out = {0};
        LK_REQUIRE(in.pixels != NULL);
        if (sscanf(how, "crop%d", &side) == 1) {
            LK_REQUIRE(lk_image_alloc(&out, width, height) == 0);
            LK_CHECK_INT(lk_preprocess(out.pixels, &in, side, width), 0);
        } else {
            LK_CHECK_INT(lk_resize(&out, &in, width, height), 0);
        }
        LK_REQUIRE(out.width == width && out.height == height && want.size == (size_t)width * (size_t)height * 3);
        int d = largest_difference(out.pixels, want.data, want.size);
        worst = d > worst ? d : worst;
        if (!LK_CHECK(d <= 1))
            printf("     %s: largest difference %d\n", name, d);
        lk_image_free(&in);
        lk_image_free(&out);
        lk_buf_free(&want);
    }
    printf("     %d pictures, largest difference %d\n", n, worst);
    LK_CHECK_INT(n, expected);
    lk_buf_free(&list);
}

static void resizing_equals_pillow(void) { check_all("resize", 10); }
static void preprocessing_equals_torchvision(void) { check_all("crop", 12); }

static void a_picture_of_the_right_size_is_copied(void) {
    struct lk_image in = decode("noise.png"), square;
    LK_REQUIRE(in.pixels != NULL && lk_resize(&square, &in, 32, 32) == 0);
    uint8_t out[32 * 32 * 3];
    LK_CHECK_INT(lk_preprocess(out, &square, 37, 32), 0); /* whatever the side before the crop */
    LK_CHECK(memcmp(out, square.pixels, sizeof out) == 0);
    lk_image_free(&in);
    lk_image_free(&square);
}

static void a_flat_picture_stays_flat(void) {
    for (int value = 0; value <= 255; value += 5) {
        struct lk_image in, out;
        LK_REQUIRE(lk_image_alloc(&in, 37, 23) == 0);
        memset(in.pixels, value, 37 * 23 * 3);
        LK_REQUIRE(lk_resize(&out, &in, 50, 9) == 0);
        for (size_t i = 0; i < 50 * 9 * 3; i++)
            LK_REQUIRE(out.pixels[i] == value);
        lk_image_free(&in);
        lk_image_free(&out);
    }
}

/* Its resized whole would be 256 x 16,776,960 pixels: 12.9 GB. */
static void a_thin_picture_costs_its_window_only(void) {
    struct lk_image thin, fat;
    static uint8_t out[224 * 224 * 3];
    LK_REQUIRE(lk_image_alloc(&thin, 1, 65535) == 0);
    for (size_t i = 0; i < 65535 * 3; i++)
        thin.pixels[i] = (uint8_t)(i / 3 / 257);
    LK_CHECK_INT(lk_preprocess(out, &thin, 256, 224), 0);
    LK_CHECK_INT(out[0], 127); /* the middle row */
    LK_REQUIRE(lk_image_alloc(&fat, 65535, 1) == 0);
    memcpy(fat.pixels, thin.pixels, 65535 * 3);
    LK_CHECK_INT(lk_preprocess(out, &fat, 256, 224), 0);
    LK_CHECK_INT(out[0], 127);
    LK_CHECK_INT(lk_preprocess(out, &fat, 65535, 224), LK_ELIMIT);
    lk_image_free(&thin);
    lk_image_free(&fat);
}

static void sides_follow_the_convention(void) {
    LK_CHECK_INT(lk_preprocess_resize_side(224), 256);
    LK_CHECK_INT(lk_preprocess_resize_side(32), 32);
    LK_CHECK_INT(lk_preprocess_resize_side(63), 63);
    LK_CHECK_INT(lk_preprocess_resize_side(64), 73);
    LK_CHECK_INT(lk_preprocess_resize_side(96), 110);
}

static void wrong_sides_are_refused(void) {
    struct lk_image in = decode("noise.png");
    uint8_t out[3];
    LK_REQUIRE(in.pixels != NULL);
    LK_CHECK_INT(lk_preprocess(out, &in, 31, 32), LK_EINVAL); /* the crop would leave the picture */
    LK_CHECK_INT(lk_preprocess(out, &in, 32, 0), LK_EINVAL);
    LK_CHECK_INT(lk_preprocess(out, &(struct lk_image){0}, 32, 32), LK_EINVAL);
    struct lk_image none;
    LK_CHECK_INT(lk_resize(&none, &in, 0, 5), LK_EINVAL);
    LK_CHECK(none.pixels == NULL);
    lk_image_free(&in);
}

static const struct lk_case cases[] = {
    LK_CASE(resizing_equals_pillow),
    LK_CASE(preprocessing_equals_torchvision),
    LK_CASE(a_picture_of_the_right_size_is_copied),
    LK_CASE(a_flat_picture_stays_flat),
    LK_CASE(a_thin_picture_costs_its_window_only),
    LK_CASE(sides_follow_the_convention),
    LK_CASE(wrong_sides_are_refused),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
