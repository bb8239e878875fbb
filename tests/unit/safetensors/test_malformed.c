/* Is every malformed safetensors file a clear error? */
#include "check.h"

#include "base/err.h"
#include "fixture.h"
#include "model/safetensors.h"

#define T(members) "{\"t\":{" members "}}"
#define GOOD_T "\"t\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}"
#define GOOD_U "\"u\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}"

static const struct {
    const char *what, *header;
    size_t data; /* bytes after the header */
    const char *says;
} malformed[] = {
    {"header is not an object", "[1,2]", 0, "begin with '{'"},
    {"header begins with a blank", " {}", 0, "begin with '{'"},
    {"header ends early", "{\"t\":{\"dtype\":\"U8\"", 0, "',' or '}'"},
    {"header ends inside a string", "{\"t", 0, "end of the string"},
    {"text after the object", "{" GOOD_T "} x", 4, "end after its last brace"},
    {"second object", "{" GOOD_T "}{}", 4, "end after its last brace"},
    {"trailing comma", "{" GOOD_T ",}", 4, "string"},
    {"missing colon", "{\"t\" {}}", 0, "':'"},
    {"name is a number", "{1:{}}", 0, "string"},
    {"tensor is a list", "{\"t\":[]}", 0, "'{'"},
    {"tensor is empty", "{\"t\":{}}", 0, "string"},
    {"no dtype", T("\"shape\":[4],\"data_offsets\":[0,4]"), 4, "lacks dtype"},
    {"no shape", T("\"dtype\":\"U8\",\"data_offsets\":[0,4]"), 4, "lacks shape"},
    {"no offsets", T("\"dtype\":\"U8\",\"shape\":[4]"), 4, "lacks data_offsets"},
    {"dtype twice", T("\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]"), 4, "double member"},
    {"unknown member", T("\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"x\":1"), 4, "unknown member 'x'"},
    {"unknown dtype", T("\"dtype\":\"F8_E4M3\",\"shape\":[4],\"data_offsets\":[0,4]"), 4, "unknown dtype 'F8_E4M3'"},
    {"dtype is a number", T("\"dtype\":1,\"shape\":[4],\"data_offsets\":[0,4]"), 4, "string"},
    {"negative dimension", T("\"dtype\":\"U8\",\"shape\":[-4],\"data_offsets\":[0,4]"), 4, "non-negative integer"},
    {"fractional dimension", T("\"dtype\":\"U8\",\"shape\":[4.0],\"data_offsets\":[0,4]"), 4, "plain integer"},
    {"exponent", T("\"dtype\":\"U8\",\"shape\":[4e0],\"data_offsets\":[0,4]"), 4, "plain integer"},
    {"leading zero", T("\"dtype\":\"U8\",\"shape\":[04],\"data_offsets\":[0,4]"), 4, "plain integer"},
    {"dimension above 2^63", T("\"dtype\":\"U8\",\"shape\":[9223372036854775808],\"data_offsets\":[0,4]"), 4, "2^63"},
    {"nine dimensions", T("\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,4],\"data_offsets\":[0,4]"), 4, "8 dimensions"},
    {"count overflows", T("\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]"), 0, "overflows"},
    {"bytes overflow", T("\"dtype\":\"F64\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]"), 0, "overflows"},
    {"one offset", T("\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0]"), 4, "holds 1 numbers"},
    {"no offset", T("\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[]"), 4, "holds 0 numbers"},
    {"three offsets", T("\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4,8]"), 4, "more than two"},
    {"end before begin", T("\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,0]"), 4, "spans bytes 4 to 0"},
    {"end after the data", T("\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]"), 4, "of 4 bytes of data"},
    {"shape larger than its span", T("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]"), 4, "its shape needs 8"},
    {"shape smaller than its span", T("\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,4]"), 4, "its shape needs 2"},
    {"data before the first tensor", "{" GOOD_U "}", 8, "gap"},
    {"gap", "{" GOOD_T ",\"u\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[6,10]}}", 10, "gap"},
    {"overlap", "{" GOOD_T ",\"u\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}", 6, "overlaps"},
    {"same bytes twice", "{" GOOD_T ",\"u\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "overlaps"},
    {"data after the last tensor", "{" GOOD_T "}", 6, "end at byte 4 of 6"},
    {"no tensors, but data", "{}", 3, "end at byte 0 of 3"},
    {"empty tensor inside another", "{" GOOD_T ",\"u\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]}}", 4,
     "overlaps"},
    {"name twice", "{" GOOD_T ",\"t\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}", 8, "'t' twice"},
    {"name twice, once escaped", "{" GOOD_T ",\"\\u0074\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}", 8,
     "'t' twice"},
    {"metadata is text", "{\"__metadata__\":\"x\"}", 0, "'{'"},
    {"metadata value is a number", "{\"__metadata__\":{\"a\":1}}", 0, "string"},
    {"metadata key twice", "{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, "key 'a' twice"},
    {"metadata twice", "{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ twice"},
    {"NUL in a name", "{\"a\\u0000b\":{}}", 0, "character that a name can hold"},
    {"lone high surrogate", "{\"\\ud800\":{}}", 0, "surrogate"},
    {"lone low surrogate", "{\"\\udc00\":{}}", 0, "character that a name can hold"},
    {"broken surrogate pair", "{\"\\ud800\\u0041\":{}}", 0, "surrogate"},
    {"short escape", "{\"\\u12\":{}}", 0, "hexadecimal"},
    {"unknown escape", "{\"\\x\":{}}", 0, "escape that JSON knows"},
    {"line break in a name", "{\"a\nb\":{}}", 0, "end of the string"},
    {"invalid UTF-8", "{\"\xff\":{}}", 0, "valid UTF-8"},
    {"overlong UTF-8", "{\"\xc0\xaf\":{}}", 0, "valid UTF-8"},
    {"UTF-8 cut off", "{\"\xe2\x82", 0, "valid UTF-8"},
    {"surrogate in UTF-8", "{\"\xed\xa0\x80\":{}}", 0, "valid UTF-8"},
    {"beyond Unicode", "{\"\xf4\x90\x80\x80\":{}}", 0, "valid UTF-8"},
};

static void expect_error(const char *what, const char *says) {
    struct lk_safetensors st;
    int before = atomic_load(&lk_check_failures);
    LK_CHECK_INT(lk_safetensors_open(&st, fixture_file), LK_EFORMAT);
    LK_CHECK_HOLDS(lk_error(), fixture_file);
    LK_CHECK_HOLDS(lk_error(), says);
    LK_CHECK(st.tensors == NULL && st.n_tensors == 0 && st.n_meta == 0);
    lk_safetensors_close(&st); /* harmless after a failure */
    if (atomic_load(&lk_check_failures) != before) {
        printf("     case: %s\n", what);
    }
}

static void malformed_headers_are_clear_errors(void) {
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        size_t n = strlen(malformed[i].header);
        fixture_write(n, malformed[i].header, n, malformed[i].data);
        expect_error(malformed[i].what, malformed[i].says);
    }
}

static void header_lengths_are_checked_before_use(void) {
    const char *good = "{" GOOD_T "}";
    size_t n = strlen(good);
    fixture_write(n + 5, good, n, 4);
    expect_error("one byte longer than the file", "claims");
    fixture_write(UINT64_MAX, good, n, 4);
    expect_error("2^64 - 1", "exceeds the limit");
    fixture_write(100000001, good, n, 4);
    expect_error("one above the limit", "exceeds the limit");
    fixture_write(0, "", 0, 0);
    expect_error("empty header", "begin with '{'");
    fixture_write(1, "{", 1, 0);
    expect_error("one byte", "begin with '{'");
}

static void short_files_are_errors(void) {
    for (size_t n = 0; n < 8; n++) {
        FILE *f = fopen(fixture_file, "wb");
        LK_REQUIRE(f != NULL);
        fwrite("\x02\0\0\0\0\0\0", 1, n, f);
        fclose(f);
        expect_error("shorter than a length", "too few");
    }
}

/* Cutting a good file anywhere makes it a bad one; no cut may read past the end (run under ASan). */
static void every_truncation_is_an_error(void) {
    const char *good = "{\"__metadata__\":{\"k\":\"v\"}," GOOD_T "," GOOD_U "}";
    size_t n = strlen(good);
    struct lk_safetensors st;
    fixture_write(n, good, n, 8);
    LK_CHECK_INT(lk_safetensors_open(&st, fixture_file), 0);
    lk_safetensors_close(&st);
    for (size_t cut = 1; cut <= 8; cut++) {
        fixture_write(n, good, n, 8 - cut);
        LK_CHECK_INT(lk_safetensors_open(&st, fixture_file), LK_EFORMAT);
    }
    for (size_t cut = 1; cut < n; cut++) {
        fixture_write(n - cut, good, n - cut, 0);
        LK_CHECK_INT(lk_safetensors_open(&st, fixture_file), LK_EFORMAT);
    }
}

/* Flipping one byte of the header may leave a valid file (a letter of a name), but never a crash or a bad range. */
static void flipped_bytes_never_escape_the_file(void) {
    char good[] = "{\"__metadata__\":{\"k\":\"v\"}," GOOD_T "," GOOD_U "}";
    size_t n = sizeof good - 1, opened = 0;
    for (size_t i = 0; i < n; i++) {
        for (int bit = 0; bit < 8; bit++) {
            struct lk_safetensors st;
            good[i] = (char)(good[i] ^ 1 << bit);
            fixture_write(n, good, n, 8);
            if (lk_safetensors_open(&st, fixture_file) == 0) {
                opened++;
                for (size_t t = 0; t < st.n_tensors; t++) {
                    LK_CHECK(st.tensors[t].data >= st.map.data + 8 + n);
                    LK_CHECK(st.tensors[t].data + st.tensors[t].bytes <= st.map.data + st.map.size);
                }
                lk_safetensors_close(&st);
            }
            good[i] = (char)(good[i] ^ 1 << bit);
        }
    }
    LK_CHECK(opened > 0 && opened < 8 * n);
}

static void missing_file_and_folder_are_errors(void) {
    struct lk_safetensors st;
    LK_CHECK_INT(lk_safetensors_open(&st, "/nonexistent/x.safetensors"), LK_ENOTFOUND);
    LK_CHECK(lk_safetensors_open(&st, fixture_folder) < 0);
    LK_CHECK_HOLDS(lk_error(), fixture_folder);
}

static const struct lk_case cases[] = {LK_CASE(malformed_headers_are_clear_errors),
                                       LK_CASE(header_lengths_are_checked_before_use),
                                       LK_CASE(short_files_are_errors),
                                       LK_CASE(every_truncation_is_an_error),
                                       LK_CASE(flipped_bytes_never_escape_the_file),
                                       LK_CASE(missing_file_and_folder_are_errors)};

int main(int argc, char **argv) {
    if (fixture_open()) {
        return 1;
    }
    int rc = lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
    fixture_close();
    return rc;
}
