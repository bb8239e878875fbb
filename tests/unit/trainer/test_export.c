/* Is a server's export read as it was sent, and is every tar that is cut, damaged or hostile refused with a reason? On tars
 * made here, block by block. */
#include "check.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/pool.h"
#include "image/decode.h"
#include "trainer/source.h"

static char file[64];
static int memory; /* the file: thousands of them are written */
static struct lk_buf tar, png;

/* --- making tars ----------------------------------------------------------------------------------------------------- */

static void append(const void *bytes, size_t n) {
    if (lk_buf_append(&tar, bytes, n) != 0)
        abort();
}

static void checksum(char h[512]) {
    unsigned sum = 0;
    memset(h + 148, ' ', 8);
    for (int i = 0; i < 512; i++)
        sum += (unsigned char)h[i];
    snprintf(h + 148, 8, "%06o", sum);
}

/* One entry (POSIX 1003.1, ustar). size: what the header says, when it is not n. */
static void entry_of(char type, const char *name, const char *link, const void *bytes, size_t n, const char *size) {
    char h[512] = {0}, zeros[512] = {0};
    snprintf(h, 100, "%s", name);
    snprintf(h + 100, 8, "%07o", 0644U);
    if (size != NULL)
        memcpy(h + 124, size, 12);
    else
        snprintf(h + 124, 12, "%011zo", n);
    snprintf(h + 136, 12, "%011o", 0U);
    h[156] = type;
    snprintf(h + 157, 100, "%s", link);
    memcpy(h + 257,
           "ustar\0"
           "00",
           8);
    checksum(h);
    append(h, sizeof h);
    append(bytes, n);
    append(zeros, (512 - n % 512) % 512);
}

static void entry(const char *name, const void *bytes, size_t n) { entry_of('0', name, "", bytes, n, NULL); }

static void text(const char *name, const char *json) { entry(name, json, strlen(json)); }

static void end(void) {
    static const char zeros[1024];
    append(zeros, sizeof zeros);
}

static void begin(void) { lk_buf_clear(&tar); }

static int open_first(struct lk_items *items, size_t bytes, const char *label_field) {
    if (ftruncate(memory, 0) != 0 || pwrite(memory, tar.data, bytes, 0) != (ssize_t)bytes)
        abort();
    return lk_items_export(items, file, label_field);
}

static int open_tar(struct lk_items *items, const char *label_field) {
    return open_first(items, tar.size, label_field);
}

/* The tar is refused, and the sentence names the file and holds `says`. */
static void refuse(const char *says) {
    struct lk_items items;
    int rc = open_tar(&items, NULL);
    if (!LK_CHECK_INT(rc, LK_EFORMAT)) {
        printf("  for a tar that should be refused with: %s\n", says);
        lk_items_close(&items);
        return;
    }
    LK_CHECK_HOLDS(lk_error(), file);
    LK_CHECK_HOLDS(lk_error(), says);
}

/* A tar of one good item and then an entry. */
static void refuse_entry(char type, const char *name, const char *link, const char *says) {
    begin();
    entry("images/good", png.data, png.size);
    entry_of(type, name, link, "x", type == '0' || type == '1' ? 1 : 0, NULL);
    end();
    refuse(says);
}

/* --- the cases ------------------------------------------------------------------------------------------------------- */

static void items_come_in_order_of_their_ids_with_their_bytes(void) {
    struct lk_items items;
    struct lk_buf out = {0};
    begin();
    text("items/b%2Fc.json", "{\"id\":\"b/c\",\"metadata\":{\"class\":\"dog\"}}");
    entry("images/b%2Fc", png.data, png.size);
    text("items/%C3%A4.json", "{\"id\":\"\\u00e4\",\"metadata\":{\"class\":7}}");
    entry("images/%C3%A4", "second", 6);
    entry("images/a", "", 0); /* an item without a description, and an empty picture */
    end();
    LK_REQUIRE(open_tar(&items, "class") == 0);
    LK_REQUIRE(items.n == 3);
    LK_CHECK_STR(items.name[0], "a");
    LK_CHECK_STR(items.name[1], "b/c");
    LK_CHECK_STR(items.name[2], "\xC3\xA4");
    LK_CHECK(items.label[0] == NULL);
    LK_CHECK_STR(items.label[1], "dog");
    LK_CHECK_STR(items.label[2], "7");
    LK_CHECK_INT(items.read(&items, 1, &out), 0);
    LK_CHECK(out.size == png.size && memcmp(out.data, png.data, png.size) == 0);
    LK_CHECK_INT(items.read(&items, 2, &out), 0);
    LK_CHECK(out.size == 6 && memcmp(out.data, "second", 6) == 0);
    LK_CHECK_INT(items.read(&items, 0, &out), 0);
    LK_CHECK_INT(out.size, 0);
    lk_buf_free(&out);
    lk_items_close(&items);
}

static void a_long_name_comes_by_a_pax_record(void) {
    struct lk_items items;
    char id[256], record[400];
    memset(id, 'n', 255), id[255] = '\0';
    begin();
    snprintf(record, sizeof record, "%zu path=images/%s\n", strlen("xxx path=images/\n") + 255, id);
    entry_of('x', "pax", "", record, strlen(record), NULL);
    entry("images/nnn", png.data, png.size);
    end();
    LK_REQUIRE(open_tar(&items, NULL) == 0);
    LK_CHECK_INT(items.n, 1);
    LK_CHECK_STR(items.name[0], id);
    lk_items_close(&items);
}

static void a_tar_that_was_packed_again_is_read(void) {
    struct lk_items items;
    begin();
    entry_of('5', "./", "", "", 0, NULL);
    entry_of('5', "./images/", "", "", 0, NULL);
    entry("./images/a", png.data, png.size);
    end(), end(); /* and padded with more zeros */
    LK_REQUIRE(open_tar(&items, NULL) == 0);
    LK_CHECK_INT(items.n, 1);
    LK_CHECK_STR(items.name[0], "a");
    lk_items_close(&items);
}

static void every_cut_is_noticed(void) {
    struct lk_items items;
    begin();
    text("items/a.json", "{\"id\":\"a\",\"metadata\":{}}");
    entry("images/a", png.data, png.size);
    text("items/b.json", "{\"id\":\"b\",\"metadata\":{}}");
    entry("images/b", png.data, png.size);
    end();
    for (size_t n = 0; n < tar.size; n++)
        if (open_first(&items, n, "class") == 0) {
            printf("the first %zu of %zu bytes are taken for a whole export\n", n, tar.size);
            LK_CHECK(0);
            lk_items_close(&items);
        }
    LK_CHECK_INT(open_first(&items, tar.size - 1024 - 512 + 10, NULL), LK_EFORMAT); /* within the last picture */
    LK_CHECK_HOLDS(lk_error(), "images/b\"");
    LK_CHECK_INT(open_tar(&items, "class"), 0);
    lk_items_close(&items);
}

static void an_end_that_is_none_is_noticed(void) {
    char block[512];
    begin();
    entry("images/a", png.data, png.size);
    memset(block, 0, sizeof block);
    append(block, sizeof block);
    memset(block, 'x', sizeof block);
    append(block, sizeof block);
    refuse("the end of the export is missing");
}

static void no_damaged_byte_does_harm(void) {
    struct lk_items items;
    struct lk_buf out = {0};
    int accepted = 0;
    begin();
    text("items/a.json", "{\"id\":\"a\",\"metadata\":{\"class\":\"dog\"}}");
    entry("images/a", png.data, png.size);
    end();
    for (size_t i = 0; i < tar.size; i++)
        for (int bit = 0; bit < 8; bit += 7) {
            tar.data[i] ^= (uint8_t)(1 << bit);
            if (open_tar(&items, "class") == 0) { /* within a picture, say */
                accepted++;
                for (size_t p = 0; p < items.n; p++)
                    (void)items.read(&items, p, &out);
                lk_items_close(&items);
            } else {
                LK_CHECK(lk_error()[0] != '\0');
            }
            tar.data[i] ^= (uint8_t)(1 << bit);
        }
    LK_CHECK(accepted > 0);
    lk_buf_free(&out);
}

static void names_that_lead_elsewhere_are_refused(void) {
    static const char *const names[] = {"/etc/passwd",    "../images/x",  "images/../../x", "images/a/b",
                                        "images/%",       "images/%4",    "images/%zz",     "images/%00",
                                        "images/a%0Ab",   "images/%7F",   "items/a",        "items/.json",
                                        "items/a/b.json", "etc/images/a", "images",         "images/\n"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        refuse_entry('0', names[i], "", "is none of an export");
}

static void links_and_devices_are_refused(void) {
    refuse_entry('2', "images/x", "/etc/passwd", "no regular file");
    refuse_entry('1', "images/x", "images/good", "no regular file");
    refuse_entry('3', "images/x", "", "no regular file");
    refuse_entry('6', "images/x", "", "no regular file");
    refuse_entry('5', "images/x/", "", "entry 2");
}

static void sizes_that_cannot_be_are_refused(void) {
    static const char sizes[][13] = {"77777777777", "00000010000",                        /* larger than the file */
                                     "\x80\0\0\0\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF",        /* base 256: 2^63 - 1 */
                                     "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"}; /* -1 */
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        begin();
        entry("images/good", png.data, png.size);
        entry_of('0', "images/x", "", "x", 1, sizes[i]);
        end();
        refuse("");
    }
}

static void an_item_that_comes_twice_is_refused(void) {
    begin();
    entry("images/a", png.data, png.size);
    entry("images/%61", png.data, png.size); /* the same id by another name */
    end();
    refuse("\"a\" is there twice");
}

static void a_description_that_is_no_json_is_told_by_its_item(void) {
    struct lk_items items;
    begin();
    text("items/a.json", "{\"id\":\"a\",\"metadata\":{");
    entry("images/a", png.data, png.size);
    end();
    LK_CHECK_INT(open_tar(&items, "class"), LK_EFORMAT);
    LK_CHECK_HOLDS(lk_error(), "the description of item \"a\"");
    LK_CHECK_INT(open_tar(&items, NULL), 0); /* nobody asks for it */
    lk_items_close(&items);
}

static void an_empty_export_is_told(void) {
    struct lk_items items;
    begin(), end();
    LK_CHECK_INT(open_tar(&items, NULL), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "no picture");
}

static void a_set_from_an_export_has_labels_and_skips_what_is_no_picture(void) {
    struct lk_items items;
    struct lk_source s;
    struct lk_dataset d;
    struct lk_pool *pool = NULL;
    const struct lk_source_options place = {.label_field = "class"};
    const struct lk_read_options read = {.max_bad = 50};
    begin();
    text("items/a.json", "{\"metadata\":{\"class\":\"dog\"}}");
    entry("images/a", png.data, png.size);
    entry("images/b", "no picture", 10);
    text("items/c.json", "{\"metadata\":{\"class\":\"cat\"}}");
    entry("images/c", png.data, png.size);
    text("items/d.json", "{\"metadata\":{\"class\":[1]}}");
    entry("images/d", png.data, png.size);
    end();
    LK_REQUIRE(open_first(&items, tar.size, NULL) == 0 && lk_pool_open(&pool, 2, 1) == 0);
    lk_items_close(&items);
    LK_REQUIRE(lk_source_open(&s, file, &place) == 0);
    LK_CHECK_INT(s.place, LK_PLACE_EXPORT);
    LK_REQUIRE(lk_source_read(&d, &s, LK_SPLIT_TRAIN, &read, NULL, pool) == 0);
    LK_CHECK_INT(d.n, 3);
    LK_CHECK_INT(d.n_bad, 1);
    LK_CHECK_INT(d.n_classes, 2);
    LK_CHECK_INT(d.n_labelled, 2);
    LK_CHECK_STR(d.classes[d.label[0]], "dog");
    LK_CHECK_STR(d.classes[d.label[1]], "cat");
    LK_CHECK_INT(d.label[2], -1);
    lk_dataset_free(&d);
    lk_source_close(&s);
    lk_pool_close(pool);
}

static const struct lk_case cases[] = {
    LK_CASE(items_come_in_order_of_their_ids_with_their_bytes),
    LK_CASE(a_long_name_comes_by_a_pax_record),
    LK_CASE(a_tar_that_was_packed_again_is_read),
    LK_CASE(every_cut_is_noticed),
    LK_CASE(an_end_that_is_none_is_noticed),
    LK_CASE(no_damaged_byte_does_harm),
    LK_CASE(names_that_lead_elsewhere_are_refused),
    LK_CASE(links_and_devices_are_refused),
    LK_CASE(sizes_that_cannot_be_are_refused),
    LK_CASE(an_item_that_comes_twice_is_refused),
    LK_CASE(a_description_that_is_no_json_is_told_by_its_item),
    LK_CASE(an_empty_export_is_told),
    LK_CASE(a_set_from_an_export_has_labels_and_skips_what_is_no_picture),
};

int main(int argc, char **argv) {
    struct lk_image image = {0};
    memory = memfd_create("export", MFD_CLOEXEC);
    snprintf(file, sizeof file, "/proc/self/fd/%d", memory);
    lk_log_set_level(LK_LOG_ERROR);
    if (memory < 0 || lk_image_alloc(&image, 4, 4) != 0 || lk_encode_png(&png, &image) != 0)
        return 1;
    int rc = lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
    close(memory);
    lk_image_free(&image);
    lk_buf_free(&png);
    lk_buf_free(&tar);
    return rc;
}
