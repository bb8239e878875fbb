/* Does what is written come back, and is a file of the reference package read right? */
#include "check.h"

#include "base/err.h"
#include "fixture.h"
#include "model/safetensors.h"

static float bits(uint32_t b) {
    float f;
    memcpy(&f, &b, 4);
    return f;
}

static void file_of_the_python_package_is_read(void) {
    struct lk_safetensors st;
    LK_REQUIRE(lk_safetensors_open(&st, "python.safetensors") == 0); /* by make_python_sample.py */
    LK_CHECK_INT(st.n_tensors, 12);
    LK_CHECK_STR(lk_safetensors_meta(&st, "author"), "caf\xc3\xa9 \"quoted\" \\ \n\xf0\x9f\x98\x80");
    LK_CHECK(lk_safetensors_meta(&st, "absent") == NULL);
    static const char *const floats[] = {"bf16", "f16", "f32", "f64"};
    for (size_t i = 0; i < 4; i++) {
        const struct lk_st_tensor *t = lk_safetensors_find(&st, floats[i]);
        LK_REQUIRE(t != NULL && t->ndim == 2 && t->shape[0] == 2 && t->shape[1] == 3);
        float x[6];
        LK_CHECK_INT(lk_safetensors_to_float(t, x), 0);
        for (int k = 0; k < 6; k++) {
            LK_CHECK(x[k] == (float)(k - 2) * 0.375f);
        }
    }
    static const struct {
        const char *name;
        enum lk_dtype dtype;
        size_t size;
    } integers[] = {{"i64", LK_DTYPE_I64, 8}, {"i32", LK_DTYPE_I32, 4}, {"i16", LK_DTYPE_I16, 2},
                    {"i8", LK_DTYPE_I8, 1},   {"u8", LK_DTYPE_U8, 1},   {"bool", LK_DTYPE_BOOL, 1}};
    for (size_t i = 0; i < 6; i++) {
        const struct lk_st_tensor *t = lk_safetensors_find(&st, integers[i].name);
        LK_REQUIRE(t != NULL);
        LK_CHECK_INT(t->dtype, integers[i].dtype);
        LK_CHECK_INT(t->bytes, 3 * integers[i].size);
        float x[3];
        LK_CHECK_INT(lk_safetensors_to_float(t, x), LK_EUNSUPPORTED);
        LK_CHECK_HOLDS(lk_error(), integers[i].name);
    }
    const struct lk_st_tensor *scalar = lk_safetensors_find(&st, "scalar"), *empty = lk_safetensors_find(&st, "empty");
    LK_REQUIRE(scalar != NULL && empty != NULL);
    float x;
    LK_CHECK(scalar->ndim == 0 && scalar->count == 1 && lk_safetensors_to_float(scalar, &x) == 0 && x == 7.5f);
    LK_CHECK(empty->ndim == 2 && empty->shape[1] == 0 && empty->count == 0 && empty->bytes == 0);
    LK_CHECK_INT(lk_safetensors_to_float(empty, &x), 0);
    LK_CHECK(lk_safetensors_find(&st, "") == NULL && lk_safetensors_find(&st, "zzz") == NULL);
    lk_safetensors_close(&st);
}

static void tensors_and_metadata_round_trip(void) {
    static const float a[6] = {0, -0.0f, 1.5f, -3.25e-20f, 1e30f, 0x1.fffffep127f}, b[4] = {1, 2, -3, 0.5f};
    static const int64_t c[3] = {INT64_MIN, -1, INT64_MAX};
    const struct lk_st_write w[] = {
        {.name = "z \"odd\"\\\t name \xc3\xa9", .dtype = LK_DTYPE_F32, .ndim = 2, .shape = {2, 3}, .data = a},
        {.name = "half", .dtype = LK_DTYPE_F16, .ndim = 1, .shape = {4}, .data = b},
        {.name = "brain", .dtype = LK_DTYPE_BF16, .ndim = 4, .shape = {1, 2, 2, 1}, .data = b},
        {.name = "counter", .dtype = LK_DTYPE_I64, .ndim = 1, .shape = {3}, .data = c},
        {.name = "scalar", .dtype = LK_DTYPE_F32, .ndim = 0, .data = b},
        {.name = "empty", .dtype = LK_DTYPE_BF16, .ndim = 1, .shape = {0}, .data = b}};
    const char *keys[] = {"k", "control \x01"}, *values[] = {"", "line\nbreak \"q\""};
    struct lk_safetensors st;
    LK_REQUIRE(lk_safetensors_write(fixture_file, w, 6, keys, values, 2) == 0);
    LK_REQUIRE(lk_safetensors_open(&st, fixture_file) == 0);
    LK_CHECK_INT(st.n_tensors, 6);
    LK_CHECK_INT((st.tensors[0].data - st.map.data) % 2, 0);
    LK_CHECK_STR(lk_safetensors_meta(&st, "k"), "");
    LK_CHECK_STR(lk_safetensors_meta(&st, "control \x01"), "line\nbreak \"q\"");
    float x[6];
    const struct lk_st_tensor *t = lk_safetensors_find(&st, w[0].name);
    LK_REQUIRE(t != NULL && t->count == 6);
    LK_CHECK(((t->data - st.map.data) & 7) == 0); /* the first tensor's data is aligned */
    LK_CHECK(lk_safetensors_to_float(t, x) == 0 && memcmp(x, a, sizeof a) == 0);
    for (int i = 1; i <= 2; i++) {
        t = lk_safetensors_find(&st, w[i].name);
        LK_REQUIRE(t != NULL && t->count == 4 && t->bytes == 8 && t->ndim == w[i].ndim);
        LK_CHECK(lk_safetensors_to_float(t, x) == 0 && memcmp(x, b, sizeof b) == 0);
    }
    t = lk_safetensors_find(&st, "counter");
    LK_REQUIRE(t != NULL && t->bytes == sizeof c);
    LK_CHECK(memcmp(t->data, c, sizeof c) == 0);
    lk_safetensors_close(&st);
}

/* Writes one value as dtype and returns what comes back. */
static float stored(enum lk_dtype dtype, float value) {
    struct lk_st_write w = {.name = "x", .dtype = dtype, .ndim = 1, .shape = {1}, .data = &value};
    struct lk_safetensors st;
    float back = -12345;
    if (LK_CHECK_INT(lk_safetensors_write(fixture_file, &w, 1, NULL, NULL, 0), 0) &&
        LK_CHECK_INT(lk_safetensors_open(&st, fixture_file), 0)) {
        LK_CHECK_INT(lk_safetensors_to_float(&st.tensors[0], &back), 0);
        lk_safetensors_close(&st);
    }
    return back;
}

static void bf16_rounds_to_nearest_even(void) {
    LK_CHECK(stored(LK_DTYPE_BF16, bits(0x3F808000)) == bits(0x3F800000)); /* tie, even below */
    LK_CHECK(stored(LK_DTYPE_BF16, bits(0x3F818000)) == bits(0x3F820000)); /* tie, even above */
    LK_CHECK(stored(LK_DTYPE_BF16, bits(0x3F808001)) == bits(0x3F810000));
    LK_CHECK(stored(LK_DTYPE_BF16, bits(0xBF807FFF)) == bits(0xBF800000));
    LK_CHECK(stored(LK_DTYPE_BF16, bits(0x7F7FFFFF)) == INFINITY); /* FLT_MAX is nearer to 2^128 */
    LK_CHECK(stored(LK_DTYPE_BF16, -INFINITY) == -INFINITY);
    LK_CHECK(isnan(stored(LK_DTYPE_BF16, bits(0x7F800001)))); /* a NaN whose upper half is infinity */
    LK_CHECK(stored(LK_DTYPE_BF16, bits(1)) == 0);
}

static void half_rounds_to_nearest_even(void) {
    LK_CHECK(stored(LK_DTYPE_F16, 1.0f + 0x1p-11f) == 1.0f);                /* tie, even below */
    LK_CHECK(stored(LK_DTYPE_F16, 1.0f + 0x1.8p-10f) == 1.0f + 0x1p-9f);    /* tie, even above */
    LK_CHECK(stored(LK_DTYPE_F16, 1.0f + 0x1.002p-11f) == 1.0f + 0x1p-10f); /* just above the tie */
    LK_CHECK(stored(LK_DTYPE_F16, 65504.0f) == 65504.0f);
    LK_CHECK(stored(LK_DTYPE_F16, 65519.996f) == 65504.0f);
    LK_CHECK(stored(LK_DTYPE_F16, 65520.0f) == INFINITY);
    LK_CHECK(stored(LK_DTYPE_F16, -1e30f) == -INFINITY);
    LK_CHECK(stored(LK_DTYPE_F16, 0x1p-14f) == 0x1p-14f);         /* smallest normal */
    LK_CHECK(stored(LK_DTYPE_F16, 0x1.ffap-15f) == 0x1.ff8p-15f); /* largest subnormal: 1023 * 2^-24 */
    LK_CHECK(stored(LK_DTYPE_F16, 0x1.ffcp-15f) == 0x1p-14f);     /* tie, even above */
    LK_CHECK(stored(LK_DTYPE_F16, 0x1p-24f) == 0x1p-24f);
    LK_CHECK(stored(LK_DTYPE_F16, -0x1p-25f) == 0 && signbit(stored(LK_DTYPE_F16, -0x1p-25f)));
    LK_CHECK(stored(LK_DTYPE_F16, 0x1.8p-25f) == 0x1p-24f);
    LK_CHECK(isnan(stored(LK_DTYPE_F16, NAN)));
}

/* Every half comes back as itself: reading is exact, writing is its inverse. */
static void every_half_survives(void) {
    enum { N = 65536 };
    static float all[N], back[N];
    FILE *f = fopen(fixture_file, "wb");
    LK_REQUIRE(f != NULL);
    const char *header = "{\"x\":{\"dtype\":\"F16\",\"shape\":[65536],\"data_offsets\":[0,131072]}}   ";
    uint64_t n = strlen(header);
    fwrite(&n, 8, 1, f);
    fwrite(header, 1, n, f);
    for (unsigned i = 0; i < N; i++) {
        uint16_t half = (uint16_t)i;
        fwrite(&half, 2, 1, f);
    }
    fclose(f);
    struct lk_safetensors st;
    LK_REQUIRE(lk_safetensors_open(&st, fixture_file) == 0);
    LK_CHECK_INT(lk_safetensors_to_float(&st.tensors[0], all), 0);
    lk_safetensors_close(&st);
    LK_CHECK(all[0x3C00] == 1.0f && all[0xC000] == -2.0f && all[1] == 0x1p-24f && all[0x7BFF] == 65504.0f);
    struct lk_st_write w = {.name = "x", .dtype = LK_DTYPE_F16, .ndim = 1, .shape = {N}, .data = all};
    LK_REQUIRE(lk_safetensors_write(fixture_file, &w, 1, NULL, NULL, 0) == 0);
    LK_REQUIRE(lk_safetensors_open(&st, fixture_file) == 0);
    LK_CHECK_INT(lk_safetensors_to_float(&st.tensors[0], back), 0);
    int wrong = 0;
    for (unsigned i = 0; i < N; i++) {
        uint16_t half;
        memcpy(&half, st.tensors[0].data + (size_t)2 * i, 2);
        wrong += isnan(all[i]) ? !isnan(back[i]) : half != i;
    }
    LK_CHECK_INT(wrong, 0);
    lk_safetensors_close(&st);
}

static void bad_requests_leave_the_old_file(void) {
    float x[2] = {1, 2};
    struct lk_st_write good = {.name = "x", .dtype = LK_DTYPE_F32, .ndim = 1, .shape = {2}, .data = x};
    struct lk_st_write bad[] = {good, good, good, good, good};
    bad[0].dtype = LK_DTYPE_I8;
    bad[1].name = "__metadata__";
    bad[2].name = "\xff";
    bad[3].shape[0] = -1;
    bad[4].ndim = 9;
    struct lk_st_write twice[] = {good, good};
    LK_REQUIRE(lk_safetensors_write(fixture_file, &good, 1, NULL, NULL, 0) == 0);
    for (size_t i = 0; i < 5; i++) {
        LK_CHECK_INT(lk_safetensors_write(fixture_file, &bad[i], 1, NULL, NULL, 0), LK_EINVAL);
    }
    LK_CHECK_INT(lk_safetensors_write(fixture_file, twice, 2, NULL, NULL, 0), LK_EINVAL);
    const char *keys[] = {"k", "k"}, *values[] = {"1", "2"};
    LK_CHECK_INT(lk_safetensors_write(fixture_file, &good, 1, keys, values, 2), LK_EINVAL);
    LK_CHECK(lk_safetensors_write("/nonexistent/x.safetensors", &good, 1, NULL, NULL, 0) < 0);
    struct lk_safetensors st;
    LK_CHECK_INT(lk_safetensors_open(&st, fixture_file), 0);
    LK_CHECK_INT(st.n_tensors, 1);
    lk_safetensors_close(&st);
}

static void file_without_tensors_is_valid(void) {
    struct lk_safetensors st;
    LK_REQUIRE(lk_safetensors_write(fixture_file, NULL, 0, NULL, NULL, 0) == 0);
    LK_CHECK_INT(lk_safetensors_open(&st, fixture_file), 0);
    LK_CHECK_INT(st.n_tensors, 0);
    LK_CHECK(lk_safetensors_find(&st, "x") == NULL);
    lk_safetensors_close(&st);
    lk_safetensors_close(&st); /* twice is harmless */
}

static const struct lk_case cases[] = {LK_CASE(file_of_the_python_package_is_read),
                                       LK_CASE(tensors_and_metadata_round_trip),
                                       LK_CASE(bf16_rounds_to_nearest_even),
                                       LK_CASE(half_rounds_to_nearest_even),
                                       LK_CASE(every_half_survives),
                                       LK_CASE(bad_requests_leave_the_old_file),
                                       LK_CASE(file_without_tensors_is_valid)};

int main(int argc, char **argv) {
    if (fixture_open()) {
        return 1;
    }
    int rc = lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
    fixture_close();
    return rc;
}
