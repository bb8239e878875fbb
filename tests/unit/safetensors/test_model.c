/* Is a model file recognised, checked, saved and named as model.h says? */
#include "check.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/sha256.h"
#include "fixture.h"
#include "image/preprocess.h"
#include "model/model.h"

static const float mean[3] = {0.5f, 0.25f, 0.125f}, deviation[3] = {0.3f, 0.2f, 0.1f};

/* A network of `arch` with drawn weights and statistics that differ from their defaults. */
struct drawn {
    struct lk_arch arch;
    struct lk_net net;
    float *params, *stats;
};

static int draw(struct drawn *d, int depth, int width, enum lk_stem stem, int size, const struct lk_heads *heads) {
    *d = (struct drawn){.arch = {.depth = depth, .width = width, .stem = stem, .image_size = size}};
    if (lk_net_build(&d->net, &d->arch, heads)) {
        return -1;
    }
    d->params = lk_calloc(d->net.n_params, sizeof(float));
    d->stats = lk_calloc(d->net.n_stats, sizeof(float));
    if (!d->params || !d->stats) {
        return -1;
    }
    lk_net_init(&d->net, 7, d->params, d->stats);
    for (size_t i = 0; i < d->net.n_stats; i++) {
        d->stats[i] += (float)(i % 17) / 64;
    }
    return 0;
}

static void undraw(struct drawn *d) {
    lk_net_free(&d->net);
    free(d->params);
    free(d->stats);
}

static int save(const struct drawn *d, const char *name, enum lk_dtype dtype) {
    return lk_model_save(fixture_file, &d->arch, &d->net, d->params, d->stats, mean, deviation, name, "byol", dtype,
                         NULL, NULL, 0);
}

/* The drawn network's tensors as a foreign file: names and shapes only, no metadata. `change` may edit or drop (return
 * 0) a tensor; `extra` is appended. */
struct foreign {
    const struct drawn *d;
    int (*change)(struct lk_st_write *w);
    struct lk_st_write writes[400];
    struct lk_net_tensor kept[400];
    size_t n;
};

static int add_foreign(void *arg, const struct lk_net_tensor *t) {
    struct foreign *f = arg;
    f->kept[f->n] = *t;
    struct lk_st_write w = {.name = f->kept[f->n].name,
                            .dtype = LK_DTYPE_F32,
                            .ndim = t->ndim,
                            .data = (t->stat ? f->d->stats : f->d->params) + t->offset};
    for (int i = 0; i < t->ndim; i++) {
        w.shape[i] = t->shape[i];
    }
    if (!f->change || f->change(&w)) {
        f->writes[f->n++] = w;
    }
    return 0;
}

static int save_foreign(const struct drawn *d, int (*change)(struct lk_st_write *), const struct lk_st_write *extra,
                        size_t n_extra, const char *const *keys, const char *const *values, size_t n_meta) {
    static struct foreign f; /* too large for a stack */
    memset(&f, 0, sizeof f);
    f.d = d;
    f.change = change;
    lk_net_tensors(&d->net, d->net.backbone_nodes, add_foreign, &f);
    for (size_t i = 0; i < n_extra; i++) {
        f.writes[f.n++] = extra[i];
    }
    return lk_safetensors_write(fixture_file, f.writes, f.n, keys, values, n_meta);
}

static void saved_model_comes_back(void) {
    static const struct lk_heads heads = {32, 32, 16, 1, 1};
    static const char *const keys[] = {"knn"}, *const values[] = {"81.5"};
    struct drawn d;
    struct lk_model m;
    LK_REQUIRE(draw(&d, 18, 8, LK_STEM_CIFAR, 40, &heads) == 0);
    LK_REQUIRE(lk_model_save(fixture_file, &d.arch, &d.net, d.params, d.stats, mean, deviation, "birds", "byol",
                             LK_DTYPE_F32, keys, values, 1) == 0);
    LK_REQUIRE(lk_model_load(&m, fixture_file, 0) == 0);
    LK_CHECK(m.arch.depth == 18 && m.arch.width == 8 && m.arch.stem == LK_STEM_CIFAR && m.arch.image_size == 40);
    LK_CHECK_INT(m.net.n_params, d.net.backbone_params); /* the heads stay behind */
    LK_CHECK(memcmp(m.params, d.params, m.net.n_params * sizeof(float)) == 0);
    LK_CHECK(memcmp(m.stats, d.stats, m.net.n_stats * sizeof(float)) == 0);
    LK_CHECK(memcmp(m.mean, mean, sizeof mean) == 0 && memcmp(m.std, deviation, sizeof deviation) == 0);
    LK_CHECK_INT(m.resize, lk_preprocess_resize_side(40));
    LK_CHECK_STR(m.name, "birds");
    LK_CHECK_STR(m.method, "byol");
    int seen = 0;
    char hex[65];
    lk_sha256_hex(m.fingerprint, hex);
    for (size_t i = 0; i < m.n_meta; i++) {
        seen += !strcmp(m.meta_keys[i], "knn") && !strcmp(m.meta_values[i], "81.5");
        if (!strcmp(m.meta_keys[i], "fingerprint")) {
            LK_CHECK_STR(m.meta_values[i], hex);
            seen += 2;
        }
    }
    LK_CHECK_INT(seen, 3);
    lk_model_free(&m);
    lk_model_free(&m); /* twice is harmless */
    undraw(&d);
}

static void bf16_file_holds_rounded_weights_and_its_own_fingerprint(void) {
    struct drawn d;
    struct lk_model exact, rounded;
    LK_REQUIRE(draw(&d, 18, 8, LK_STEM_CIFAR, 32, NULL) == 0);
    LK_REQUIRE(save(&d, NULL, LK_DTYPE_F32) == 0 && lk_model_load(&exact, fixture_file, 0) == 0);
    LK_REQUIRE(save(&d, NULL, LK_DTYPE_BF16) == 0 && lk_model_load(&rounded, fixture_file, 0) == 0);
    LK_CHECK(memcmp(exact.fingerprint, rounded.fingerprint, 32) != 0);
    LK_CHECK(memcmp(exact.stats, rounded.stats, exact.net.n_stats * sizeof(float)) == 0);
    double worst = 0;
    for (size_t i = 0; i < exact.net.n_params; i++) {
        double error = fabs((double)rounded.params[i] - (double)exact.params[i]) /
                       (fabs((double)exact.params[i]) + 1e-30);
        worst = error > worst ? error : worst;
    }
    LK_CHECK(worst > 0 && worst <= 1.0 / 256);
    char hex[65];
    lk_sha256_hex(rounded.fingerprint, hex);
    for (size_t i = 0; i < rounded.n_meta; i++) {
        if (!strcmp(rounded.meta_keys[i], "fingerprint")) {
            LK_CHECK_STR(rounded.meta_values[i], hex);
        }
    }
    LK_CHECK_STR(rounded.name, "file"); /* the file's stem */
    lk_model_free(&exact);
    lk_model_free(&rounded);
    LK_CHECK_INT(save(&d, NULL, LK_DTYPE_F16), LK_EINVAL);
    undraw(&d);
}

static void foreign_resnets_are_recognised_by_their_shapes(void) {
    static const struct {
        int depth, width, size, resize;
        enum lk_stem stem;
    } nets[] = {{18, 8, 32, 32, LK_STEM_CIFAR},
                {34, 16, 224, 256, LK_STEM_IMAGENET},
                {50, 8, 224, 256, LK_STEM_IMAGENET},
                {50, 24, 32, 32, LK_STEM_CIFAR}};
    static const float classifier[4];
    static const int64_t batches[1] = {3};
    const struct lk_st_write extra[] = {
        {.name = "fc.weight", .dtype = LK_DTYPE_F32, .ndim = 2, .shape = {2, 2}, .data = classifier},
        {.name = "fc.bias", .dtype = LK_DTYPE_F32, .ndim = 1, .shape = {2}, .data = classifier},
        {.name = "bn1.num_batches_tracked", .dtype = LK_DTYPE_I64, .ndim = 0, .data = batches}};
    static const char *const keys[] = {"format", "image_size", "name"}, *const values[] = {"pt", "64", "theirs"};
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
        struct drawn d;
        struct lk_model m;
        LK_REQUIRE(draw(&d, nets[i].depth, nets[i].width, nets[i].stem, 64, NULL) == 0);
        LK_REQUIRE(save_foreign(&d, NULL, extra, 3, keys, values, 3) == 0);
        LK_REQUIRE(lk_model_load(&m, fixture_file, 0) == 0);
        LK_CHECK_INT(m.arch.depth, nets[i].depth);
        LK_CHECK_INT(m.arch.width, nets[i].width);
        LK_CHECK_INT(m.arch.stem, nets[i].stem);
        LK_CHECK_INT(m.arch.image_size, nets[i].size); /* their image_size and name mean nothing to us */
        LK_CHECK_INT(m.resize, nets[i].resize);
        LK_CHECK_STR(m.name, "file");
        LK_CHECK_STR(m.method, "");
        LK_CHECK_NEAR(m.mean[0], 0.485, 1e-6);
        LK_CHECK_NEAR(m.std[2], 0.225, 1e-6);
        LK_CHECK(memcmp(m.params, d.params, m.net.n_params * sizeof(float)) == 0);
        lk_model_free(&m);
        undraw(&d);
    }
}

static const char *target;
static int64_t wrong_shape[2];
static const float *wrong_data;

static int without(struct lk_st_write *w) { return strcmp(w->name, target) != 0; }
static int without_stage4(struct lk_st_write *w) { return strncmp(w->name, "layer4.1.", 9) != 0; }
static int misshapen(struct lk_st_write *w) {
    if (!strcmp(w->name, target)) {
        w->ndim = wrong_shape[1] ? 2 : 1;
        w->shape[0] = wrong_shape[0], w->shape[1] = wrong_shape[1];
    }
    return 1;
}
static int other_data(struct lk_st_write *w) {
    if (!strcmp(w->name, target)) {
        w->data = wrong_data;
    }
    return 1;
}

static void expect_unknown(int code, const char *says) {
    struct lk_model m;
    LK_CHECK_INT(lk_model_load(&m, fixture_file, 0), code);
    LK_CHECK_HOLDS(lk_error(), fixture_file);
    LK_CHECK_HOLDS(lk_error(), says);
    LK_CHECK(m.params == NULL && m.net.nodes == NULL);
    lk_model_free(&m);
}

static void other_networks_are_refused_by_the_tensor_that_differs(void) {
    static float x[64];
    struct drawn d;
    LK_REQUIRE(draw(&d, 18, 8, LK_STEM_CIFAR, 32, NULL) == 0);
    static const char *const needed[] = {"conv1.weight", "bn1.weight", "layer2.0.downsample.0.weight",
                                         "layer4.1.bn2.running_var"};
    for (size_t i = 0; i < 4; i++) {
        target = needed[i];
        LK_REQUIRE(save_foreign(&d, without, NULL, 0, NULL, NULL, 0) == 0);
        expect_unknown(LK_EUNSUPPORTED, needed[i]);
    }
    LK_REQUIRE(save_foreign(&d, without_stage4, NULL, 0, NULL, NULL, 0) == 0);
    expect_unknown(LK_EUNSUPPORTED, "2, 2, 2 and 1 basic blocks");

    target = "layer1.0.bn1.weight";
    wrong_shape[0] = 4, wrong_shape[1] = 2;
    LK_REQUIRE(save_foreign(&d, misshapen, NULL, 0, NULL, NULL, 0) == 0);
    expect_unknown(LK_EUNSUPPORTED, "'layer1.0.bn1.weight' is [4, 2], but this network needs [8]");
    target = "conv1.weight";
    wrong_shape[0] = 8, wrong_shape[1] = 27;
    LK_REQUIRE(save_foreign(&d, misshapen, NULL, 0, NULL, NULL, 0) == 0);
    expect_unknown(LK_EUNSUPPORTED, "conv1.weight");

    const struct lk_st_write se = {
        .name = "layer1.0.se.fc1.weight", .dtype = LK_DTYPE_F32, .ndim = 1, .shape = {64}, .data = x};
    LK_REQUIRE(save_foreign(&d, NULL, &se, 1, NULL, NULL, 0) == 0);
    expect_unknown(LK_EUNSUPPORTED, "layer1.0.se.fc1.weight");
    LK_REQUIRE(lk_safetensors_write(fixture_file, &se, 1, NULL, NULL, 0) == 0);
    expect_unknown(LK_EUNSUPPORTED, "conv1.weight");
    undraw(&d);
}

static void broken_numbers_are_refused(void) {
    static float x[8];
    struct drawn d;
    LK_REQUIRE(draw(&d, 18, 8, LK_STEM_CIFAR, 32, NULL) == 0);
    wrong_data = x;
    target = "bn1.bias";
    x[3] = NAN;
    LK_REQUIRE(save_foreign(&d, other_data, NULL, 0, NULL, NULL, 0) == 0);
    expect_unknown(LK_EFORMAT, "'bn1.bias' holds nan");
    target = "bn1.running_var";
    x[3] = -1;
    LK_REQUIRE(save_foreign(&d, other_data, NULL, 0, NULL, NULL, 0) == 0);
    expect_unknown(LK_EFORMAT, "'bn1.running_var' holds -1");
    undraw(&d);
}

static void wrong_metadata_is_refused(void) {
    static const struct {
        const char *key, *value;
        int code;
    } wrong[] = {{"likeness.format", "2", LK_EUNSUPPORTED},
                 {"preprocess", "99", LK_EUNSUPPORTED},
                 {"architecture", "resnet50", LK_EFORMAT},
                 {"stem", "imagenet", LK_EFORMAT},
                 {"width", "64", LK_EFORMAT},
                 {"width", "8x", LK_EFORMAT},
                 {"image_size", "5", LK_EFORMAT},
                 {"image_size", "99999999999999999999", LK_EFORMAT},
                 {"resize", "16", LK_EFORMAT},
                 {"mean", "0.5,0.5", LK_EFORMAT},
                 {"mean", "nan,0,0", LK_EFORMAT},
                 {"std", "0.2,0,0.2", LK_EFORMAT},
                 {"std", "0.2,0.2,0.2,0.2", LK_EFORMAT}};
    struct drawn d;
    LK_REQUIRE(draw(&d, 18, 8, LK_STEM_CIFAR, 32, NULL) == 0);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *keys[] = {wrong[i].key, "likeness.format"}, *values[] = {wrong[i].value, "1"};
        LK_REQUIRE(save_foreign(&d, NULL, NULL, 0, keys, values, i ? 2 : 1) == 0);
        expect_unknown(wrong[i].code, wrong[i].value);
    }
    undraw(&d);
}

static void image_size_can_be_chosen_and_is_part_of_the_fingerprint(void) {
    struct drawn d;
    struct lk_model own, larger;
    LK_REQUIRE(draw(&d, 18, 8, LK_STEM_CIFAR, 32, NULL) == 0);
    LK_REQUIRE(save(&d, NULL, LK_DTYPE_F32) == 0);
    LK_REQUIRE(lk_model_load(&own, fixture_file, 0) == 0 && lk_model_load(&larger, fixture_file, 96) == 0);
    LK_CHECK(larger.arch.image_size == 96 && larger.net.image_size == 96);
    LK_CHECK_INT(larger.resize, lk_preprocess_resize_side(96));
    LK_CHECK(memcmp(own.fingerprint, larger.fingerprint, 32) != 0);
    lk_model_free(&own);
    lk_model_free(&larger);
    LK_CHECK_INT(lk_model_load(&own, fixture_file, 5000), LK_EINVAL);
    undraw(&d);
}

static void fingerprint_depends_on_weights_alone(void) {
    static const char *const keys[] = {"epochs"}, *const values[] = {"20"};
    struct drawn d;
    struct lk_model a, b, c;
    LK_REQUIRE(draw(&d, 18, 8, LK_STEM_CIFAR, 32, NULL) == 0);
    LK_REQUIRE(save(&d, "one", LK_DTYPE_F32) == 0 && lk_model_load(&a, fixture_file, 0) == 0);
    LK_REQUIRE(lk_model_save(fixture_file, &d.arch, &d.net, d.params, d.stats, mean, deviation, "two", "simsiam",
                             LK_DTYPE_F32, keys, values, 1) == 0 &&
               lk_model_load(&b, fixture_file, 0) == 0);
    d.stats[d.net.n_stats - 1] += 0x1p-20f;
    LK_REQUIRE(save(&d, "one", LK_DTYPE_F32) == 0 && lk_model_load(&c, fixture_file, 0) == 0);
    LK_CHECK(memcmp(a.fingerprint, b.fingerprint, 32) == 0);
    LK_CHECK(memcmp(a.fingerprint, c.fingerprint, 32) != 0);
    char f32[65], again[65], bf16[65], other[65];
    lk_model_space(&a, "f32", f32);
    lk_model_space(&b, "f32", again);
    lk_model_space(&a, "bf16", bf16);
    lk_model_space(&c, "f32", other);
    LK_CHECK_INT(strlen(f32), 64);
    LK_CHECK_STR(again, f32);
    LK_CHECK(strcmp(f32, bf16) != 0 && strcmp(f32, other) != 0);
    lk_model_free(&a);
    lk_model_free(&b);
    lk_model_free(&c);
    undraw(&d);
}

static void names_are_made_safe(void) {
    struct drawn d;
    struct lk_model m;
    char name[200];
    memset(name, 'a', sizeof name);
    memcpy(name, "x\r\ny", 4);
    memcpy(name + 126, "\xc3\xa9", 3); /* a letter across the cut, and the end */
    LK_REQUIRE(draw(&d, 18, 8, LK_STEM_CIFAR, 32, NULL) == 0);
    LK_REQUIRE(save(&d, name, LK_DTYPE_F32) == 0 && lk_model_load(&m, fixture_file, 0) == 0);
    LK_CHECK_INT(strlen(m.name), 126);
    LK_CHECK(strncmp(m.name, "x__yaaa", 7) == 0);
    lk_model_free(&m);
    undraw(&d);
}

static const struct lk_case cases[] = {LK_CASE(saved_model_comes_back),
                                       LK_CASE(bf16_file_holds_rounded_weights_and_its_own_fingerprint),
                                       LK_CASE(foreign_resnets_are_recognised_by_their_shapes),
                                       LK_CASE(other_networks_are_refused_by_the_tensor_that_differs),
                                       LK_CASE(broken_numbers_are_refused),
                                       LK_CASE(wrong_metadata_is_refused),
                                       LK_CASE(image_size_can_be_chosen_and_is_part_of_the_fingerprint),
                                       LK_CASE(fingerprint_depends_on_weights_alone),
                                       LK_CASE(names_are_made_safe)};

int main(int argc, char **argv) {
    if (fixture_open()) {
        return 1;
    }
    int rc = lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
    fixture_close();
    return rc;
}
