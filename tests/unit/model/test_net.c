/* Is a network what torchvision says it is? Names, shapes, counts, sizes. */
#include "check.h"

#include <stdlib.h>

#include "base/err.h"
#include "model/net.h"

static void build(struct lk_net *net, int depth, int width, enum lk_stem stem, int size) {
    struct lk_arch arch = {.depth = depth, .width = width, .stem = stem, .image_size = size};
    LK_CHECK_INT(lk_net_build(net, &arch, NULL), 0);
}

/* torchvision's own totals, less the classifier: 11,689,512 - 513,000, 21,797,672 - 513,000, 25,557,032 - 2,049,000. */
static void parameter_counts_are_torchvisions(void) {
    static const struct {
        int depth, features;
        size_t params;
    } want[] = {{18, 512, 11176512}, {34, 512, 21284672}, {50, 2048, 23508032}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct lk_net net;
        build(&net, want[i].depth, 64, LK_STEM_IMAGENET, 224);
        LK_CHECK_INT(net.n_params, want[i].params);
        LK_CHECK_INT(net.backbone_params, want[i].params);
        LK_CHECK_INT(net.feature_dim, want[i].features);
        LK_CHECK_INT(net.backbone_nodes, net.n_nodes);
        lk_net_free(&net);
    }
}

/* fvcore's counts for 224 x 224 without the classifier: 1.814, 3.664 and 4.089 G with it (0.5 M and 2 M). */
static void multiply_accumulates_are_the_published_ones(void) {
    static const struct {
        int depth;
        double macs;
    } want[] = {{18, 1813561344.0}, {34, 3663249408.0}, {50, 4087136256.0}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct lk_net net;
        build(&net, want[i].depth, 64, LK_STEM_IMAGENET, 224);
        LK_CHECK_NEAR(lk_net_macs(&net, net.n_nodes), want[i].macs, 0.5);
        lk_net_free(&net);
    }
    struct lk_net net; /* the CIFAR stem at 32: 555.4 M */
    build(&net, 18, 64, LK_STEM_CIFAR, 32);
    LK_CHECK_NEAR(lk_net_macs(&net, net.n_nodes), 555417600.0, 0.5);
    lk_net_free(&net);
}

struct expected {
    const char *name;
    int stat, ndim, shape[4];
};

struct search {
    const struct expected *want;
    int found;
};

static int look(void *arg, const struct lk_net_tensor *t) {
    struct search *s = arg;
    if (strcmp(t->name, s->want->name) != 0) {
        return 0;
    }
    s->found++;
    LK_CHECK_INT(t->stat, s->want->stat);
    LK_CHECK_INT(t->ndim, s->want->ndim);
    for (int i = 0; i < t->ndim && i < 4; i++) {
        LK_CHECK_INT(t->shape[i], s->want->shape[i]);
    }
    return 0;
}

static void expect(const struct lk_net *net, const struct expected *want, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct search s = {.want = &want[i]};
        lk_net_tensors(net, net->n_nodes, look, &s);
        if (!LK_CHECK_INT(s.found, 1)) {
            printf("tensor %s\n", want[i].name);
        }
    }
}

static void tensors_have_torchvisions_names_and_shapes(void) {
    static const struct expected r18[] = {{"conv1.weight", 0, 4, {64, 3, 7, 7}},
                                          {"bn1.weight", 0, 1, {64}},
                                          {"bn1.bias", 0, 1, {64}},
                                          {"bn1.running_mean", 1, 1, {64}},
                                          {"bn1.running_var", 1, 1, {64}},
                                          {"layer1.0.conv1.weight", 0, 4, {64, 64, 3, 3}},
                                          {"layer2.0.conv1.weight", 0, 4, {128, 64, 3, 3}},
                                          {"layer2.0.downsample.0.weight", 0, 4, {128, 64, 1, 1}},
                                          {"layer2.0.downsample.1.running_var", 1, 1, {128}},
                                          {"layer4.1.bn2.bias", 0, 1, {512}}};
    static const struct expected r50[] = {
        {"layer1.0.conv1.weight", 0, 4, {64, 64, 1, 1}},         {"layer1.0.conv3.weight", 0, 4, {256, 64, 1, 1}},
        {"layer1.0.downsample.0.weight", 0, 4, {256, 64, 1, 1}}, {"layer3.5.conv2.weight", 0, 4, {256, 256, 3, 3}},
        {"layer4.0.downsample.1.weight", 0, 1, {2048}},          {"layer4.2.bn3.running_mean", 1, 1, {2048}}};
    struct lk_net net;
    build(&net, 18, 64, LK_STEM_IMAGENET, 224);
    expect(&net, r18, sizeof r18 / sizeof *r18);
    lk_net_free(&net);
    build(&net, 50, 64, LK_STEM_IMAGENET, 224);
    expect(&net, r50, sizeof r50 / sizeof *r50);
    lk_net_free(&net);
    static const struct expected cifar[] = {{"conv1.weight", 0, 4, {32, 3, 3, 3}}};
    build(&net, 18, 32, LK_STEM_CIFAR, 32);
    expect(&net, cifar, 1);
    LK_CHECK_INT(net.feature_dim, 256);
    lk_net_free(&net);
}

static void heads_are_named_as_members_of_a_sequential(void) {
    struct lk_arch arch = {.depth = 18, .width = 16, .stem = LK_STEM_CIFAR, .image_size = 32};
    struct lk_heads heads = {
        .projector_hidden = 64, .predictor_hidden = 48, .output = 32, .projector_bn = 1, .predictor_bn = 0};
    static const struct expected want[] = {
        {"projector.0.weight", 0, 2, {64, 128}}, {"projector.1.weight", 0, 1, {64}},
        {"projector.1.running_var", 1, 1, {64}}, {"projector.3.weight", 0, 2, {32, 64}},
        {"projector.3.bias", 0, 1, {32}},        {"predictor.0.weight", 0, 2, {48, 32}},
        {"predictor.0.bias", 0, 1, {48}},        {"predictor.2.weight", 0, 2, {32, 48}},
        {"predictor.2.bias", 0, 1, {32}}};
    struct lk_net net;
    LK_REQUIRE(lk_net_build(&net, &arch, &heads) == 0);
    expect(&net, want, sizeof want / sizeof *want);
    LK_CHECK_INT(net.output_dim, 32);
    LK_CHECK_INT(net.teacher_nodes, net.backbone_nodes + 2);
    LK_CHECK_INT(net.n_nodes, net.backbone_nodes + 4);
    LK_CHECK_INT(net.teacher_params, net.backbone_params + 64 * 128 + 2 * 64 + 32 * 64 + 32);
    LK_CHECK_INT(net.n_params, net.teacher_params + 48 * 32 + 48 + 32 * 48 + 32);
    LK_CHECK_INT(net.teacher_stats, net.backbone_stats + 2 * 64);
    LK_CHECK_INT(net.n_stats, net.teacher_stats);
    lk_net_free(&net);
}

struct cover {
    size_t next[2]; /* of parameters, of statistics */
};

static int covers(void *arg, const struct lk_net_tensor *t) {
    struct cover *c = arg;
    LK_CHECK_INT(t->offset, c->next[t->stat]);
    c->next[t->stat] += t->count;
    return 0;
}

static void tensors_fill_both_arenas_without_gaps(void) {
    struct lk_net net;
    struct cover c = {{0, 0}};
    build(&net, 50, 8, LK_STEM_IMAGENET, 64);
    lk_net_tensors(&net, net.n_nodes, covers, &c);
    LK_CHECK_INT(c.next[0], net.n_params);
    LK_CHECK_INT(c.next[1], net.n_stats);
    lk_net_free(&net);
}

/* torch: floor((in + 2 pad - kernel) / stride) + 1, at every odd and small size. */
static void sides_follow_the_image_size(void) {
    static const int want[][4] = {/* image, after the stem, after layer1, after layer4 */
                                  {8, 8, 8, 1},
                                  {32, 32, 32, 4},
                                  {33, 33, 33, 5},
                                  {40, 40, 40, 5}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct lk_net net;
        build(&net, 18, 16, LK_STEM_CIFAR, want[i][0]);
        LK_CHECK_INT(net.nodes[0].out_h, want[i][1]);
        LK_CHECK_INT(net.nodes[4].out_h, want[i][2]);
        LK_CHECK_INT(net.nodes[net.n_nodes - 1].in_h, want[i][3]);
        lk_net_free(&net);
    }
    struct lk_net net;
    build(&net, 18, 16, LK_STEM_IMAGENET, 225);
    LK_CHECK_INT(net.nodes[0].out_h, 113);
    LK_CHECK_INT(net.nodes[1].out_h, 57);
    LK_CHECK_INT(net.nodes[net.n_nodes - 1].in_h, 8);
    lk_net_free(&net);
}

static void a_field_out_of_range_is_named(void) {
    static const struct {
        struct lk_arch arch;
        const char *field;
    } bad[] = {{{19, 64, LK_STEM_CIFAR, 32}, "depth"},
               {{18, 12, LK_STEM_CIFAR, 32}, "width"},
               {{18, 1024, LK_STEM_CIFAR, 32}, "width"},
               {{18, 64, LK_STEM_CIFAR, 7}, "image size"},
               {{18, 64, (enum lk_stem)7, 32}, "stem"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct lk_net net;
        LK_CHECK_INT(lk_net_build(&net, &bad[i].arch, NULL), LK_EINVAL);
        LK_CHECK_HOLDS(lk_error(), bad[i].field);
        LK_CHECK(net.nodes == NULL);
    }
    struct lk_arch arch = {18, 64, LK_STEM_CIFAR, 32};
    struct lk_heads heads = {.projector_hidden = 1000, .predictor_hidden = 1024, .output = 256};
    struct lk_net net;
    LK_CHECK_INT(lk_net_build(&net, &arch, &heads), LK_EINVAL);
    LK_CHECK_HOLDS(lk_error(), "projector_hidden");
}

static void initial_weights_have_the_right_spread(void) {
    struct lk_net net;
    build(&net, 18, 64, LK_STEM_CIFAR, 32);
    float *params = malloc(net.n_params * sizeof *params), *stats = malloc(net.n_stats * sizeof *stats);
    if (!LK_CHECK(params && stats)) {
        goto done;
    }
    lk_net_init(&net, 7, params, stats);
    const struct lk_node *n = &net.nodes[4]; /* layer1.1.conv2: 64 x 64 x 3 x 3 */
    double sum = 0.0, squares = 0.0, count = 64.0 * 64 * 9;
    for (size_t i = 0; i < (size_t)count; i++) {
        sum += (double)params[n->weight + i];
        squares += (double)params[n->weight + i] * (double)params[n->weight + i];
    }
    LK_CHECK_NEAR(sum / count, 0.0, 0.001);
    LK_CHECK_NEAR(sqrt(squares / count), sqrt(2.0 / (64 * 9)), 0.001);
    LK_CHECK_NEAR((double)params[n->gamma], 1.0, 0.0);
    LK_CHECK_NEAR((double)params[n->beta + 63], 0.0, 0.0);
    LK_CHECK_NEAR((double)stats[n->mean], 0.0, 0.0);
    LK_CHECK_NEAR((double)stats[n->var + 63], 1.0, 0.0);
    float first = params[0];
    lk_net_init(&net, 8, params, stats);
    LK_CHECK(params[0] != first); /* another seed */
    lk_net_init(&net, 7, params, stats);
    LK_CHECK(params[0] == first);
done:
    free(params);
    free(stats);
    lk_net_free(&net);
}

static void names_go_both_ways(void) {
    LK_CHECK_INT(lk_arch_depth("resnet34"), 34);
    LK_CHECK_INT(lk_arch_depth("resnet35"), LK_EINVAL);
    LK_CHECK_STR(lk_arch_name(50), "resnet50");
    LK_CHECK_STR(lk_stem_name(LK_STEM_CIFAR), "cifar");
    LK_CHECK_STR(lk_stem_name(LK_STEM_IMAGENET), "imagenet");
}

int main(int argc, char **argv) {
    static const struct lk_case cases[] = {LK_CASE(parameter_counts_are_torchvisions),
                                           LK_CASE(multiply_accumulates_are_the_published_ones),
                                           LK_CASE(tensors_have_torchvisions_names_and_shapes),
                                           LK_CASE(heads_are_named_as_members_of_a_sequential),
                                           LK_CASE(tensors_fill_both_arenas_without_gaps),
                                           LK_CASE(sides_follow_the_image_size),
                                           LK_CASE(a_field_out_of_range_is_named),
                                           LK_CASE(initial_weights_have_the_right_spread),
                                           LK_CASE(names_go_both_ways)};
    return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
}
