/* Does cuDNN offer an engine for every operation graph that the product uses, on an H100, asked on a machine without one?
 * The device is described (tests/data/h100.json, as cuDNN prints it); the heuristics answer for every convolution and
 * linear shape of every network at the batches that training and serving use, and of each kind of graph one plan is built:
 * from cuDNN's pre-compiled kernels, and read back from its own text as the plan cache does, or generated and compiled up
 * to loading the module. Nothing is executed, so this proves support, not results or speed.
 *
 * Run-time compiled engines want libcuda.so.1; the toolkit's stub does (see CMakeLists.txt). */
#include <dlfcn.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/fs.h"
#include "check.h"
#include "cuda/cuda_internal.h"

enum use { FORWARD, DATA_GRADIENT, FILTER_GRADIENT, BIASED, WITH_STATS, REDUCED, ADDED_REDUCED, FUSED, USES };
static const struct {
    const char *name;
    enum lk_graph_conv conv;
    enum lk_cuda_epilogue epilogue;
} uses[USES] = {
    [FORWARD] = {"forward", LK_G_FORWARD, LK_CUDA_BARE},
    [DATA_GRADIENT] = {"data gradient", LK_G_BACKWARD_DATA, LK_CUDA_BARE},
    [FILTER_GRADIENT] = {"filter gradient", LK_G_BACKWARD_FILTER, LK_CUDA_BARE},
    [BIASED] = {"forward with bias", LK_G_FORWARD, LK_CUDA_BIAS},
    [WITH_STATS] = {"forward with batch sums", LK_G_FORWARD, LK_CUDA_STATS},
    [REDUCED] = {"data gradient with mask and sums", LK_G_BACKWARD_DATA, LK_CUDA_REDUCED},
    [ADDED_REDUCED] = {"data gradient with another, mask and sums", LK_G_BACKWARD_DATA, LK_CUDA_ADDED_REDUCED},
    [FUSED] = {"fused inference", LK_G_FORWARD, LK_CUDA_WHOLE},
};
static const enum lk_graph_type types[] = {[LK_FP32] = LK_G_F32, [LK_BF16] = LK_G_BF16, [LK_FP16] = LK_G_F16};

/* What may have no engine: a fused epilogue in fp32 without TF32, for which the plan runs the plain convolution and our
 * own epilogue. Everything else is required. */
static int may_fall_back(enum use use, enum lk_precision precision) { return use >= BIASED && precision == LK_FP32; }

static struct lk_graph_device *h100;

static int describe(void) {
    char path[1024];
    struct lk_buf json = {0};
    const char *root = getenv("LK_SOURCE_DIR");
    snprintf(path, sizeof path, "%s/tests/data/h100.json", root ? root : ".");
    int rc = lk_fs_read(&json, path, 1 << 16);
    if (!rc) {
        rc = lk_graph_device_describe(&h100, (const char *)json.data, json.size);
    }
    lk_buf_free(&json);
    return rc;
}

/* --- Shapes: the nodes of all networks, each shape once. */
struct shapes {
    struct lk_node node[256];
    int n;
};

static int same_shape(const struct lk_node *a, const struct lk_node *b) {
    return a->in_c == b->in_c && a->in_h == b->in_h && a->in_w == b->in_w && a->out_c == b->out_c &&
           a->kernel == b->kernel && a->stride == b->stride && a->relu == b->relu &&
           (a->residual >= 0) == (b->residual >= 0) && (a->input == 0) == (b->input == 0) && a->bias == b->bias &&
           a->bn == b->bn;
}

static void add_shapes(struct shapes *s, const struct lk_arch *arch, const struct lk_heads *heads) {
    struct lk_net net;
    LK_REQUIRE(LK_CHECK_INT(lk_net_build(&net, arch, heads), 0));
    for (int i = 0; i < net.n_nodes; i++) {
        const struct lk_node *n = &net.nodes[i];
        int k = 0;
        if (n->kind != LK_NODE_CONV && n->kind != LK_NODE_LINEAR) {
            continue;
        }
        while (k < s->n && !same_shape(&s->node[k], n)) {
            k++;
        }
        if (k == s->n && LK_CHECK(s->n < 256)) {
            s->node[s->n++] = *n;
        }
    }
    lk_net_free(&net);
}

static void collect(struct shapes *s, int quick) {
    static const struct lk_heads small = {1024, 1024, 256, 1, 1}, large = {4096, 4096, 256, 1, 1},
                                 tutorial = {2048, 2048, 256, 0, 0};
    s->n = 0;
    add_shapes(s, &(struct lk_arch){18, 64, LK_STEM_CIFAR, 32}, &small);
    if (quick) {
        return;
    }
    for (int depth = 18; depth <= 50; depth += 16) {
        add_shapes(s, &(struct lk_arch){depth, 64, LK_STEM_CIFAR, 32}, &large);
        add_shapes(s, &(struct lk_arch){depth, 64, LK_STEM_IMAGENET, 224}, &tutorial);
    }
    add_shapes(s, &(struct lk_arch){18, 32, LK_STEM_CIFAR, 32}, &small);
    add_shapes(s, &(struct lk_arch){18, 16, LK_STEM_CIFAR, 32}, &small);
    add_shapes(s, &(struct lk_arch){18, 8, LK_STEM_CIFAR, 33}, &small);
}

static int check_one(const struct lk_node *n, int batch, enum lk_precision precision, enum use use, int tries,
                     struct lk_graph_support *out) {
    struct lk_graph_policy policy = {.exact = precision == LK_FP32, .deterministic = 1};
    struct lk_graph *g = NULL;
    int rc = lk_cuda__conv_graph(&g, n, batch, types[precision], uses[use].conv, uses[use].epilogue,
                                 lk_precision_name(precision));
    if (!rc) {
        rc = lk_graph_check(g, h100, &policy, tries, out);
    }
    lk_graph_free(g);
    return rc;
}

static int wanted(const struct lk_node *n, enum lk_precision precision, enum use use) {
    if (precision == LK_FP16 && use != FUSED) {
        return 0; /* fp16 serves */
    }
    switch (use) {
    case DATA_GRADIENT: return n->input != 0;
    case BIASED: return n->bias;
    case WITH_STATS: return n->bn && precision == LK_BF16;
    case REDUCED:
    case ADDED_REDUCED: return n->input != 0 && (n->stride == 1 || n->kind == LK_NODE_LINEAR) && precision == LK_BF16;
    default: return 1;
    }
}

/* Offers that training may do without: asked at the last batch of a list alone, as each question takes its time. */
static int is_offer(enum use use) { return use == WITH_STATS || use == REDUCED || use == ADDED_REDUCED; }

/* --- Heuristics for everything. */
static void ask_for(const struct shapes *s, const int *batches, size_t n_batches, int training) {
    int asked = 0, fell_back = 0;
    for (int i = 0; i < s->n; i++) {
        const struct lk_node *n = &s->node[i];
        for (size_t k = 0; k < n_batches; k++) {
            for (int p = LK_FP32; p <= LK_FP16; p++) {
                for (int use = training ? FORWARD : FUSED; use < (training ? FUSED : USES); use++) {
                    struct lk_graph_support support = {0};
                    int rc;
                    if (!wanted(n, (enum lk_precision)p, (enum use)use) ||
                        (is_offer((enum use)use) && k + 1 < n_batches)) {
                        continue;
                    }
                    rc = check_one(n, batches[k], (enum lk_precision)p, (enum use)use, 0, &support);
                    asked++;
                    if (rc || !support.configurations) {
                        int allowed = may_fall_back((enum use)use, (enum lk_precision)p);
                        printf("%s: %s in %s of %s, %dx%dx%d to %d, %dx%d/%d, batch %d: %s\n",
                               allowed ? "falls back" : "no engine", uses[use].name,
                               lk_precision_name((enum lk_precision)p), n->name, n->in_c, n->in_h, n->in_w, n->out_c,
                               n->kernel, n->kernel, n->stride, batches[k],
                               rc ? lk_error() : "the heuristics know none");
                        fell_back += allowed;
                        LK_CHECK(allowed);
                    }
                }
            }
        }
    }
    printf("     %d graphs of %d shapes, %d fall back\n", asked, s->n, fell_back);
    LK_CHECK(asked > 0);
}

static void training_graphs_have_engines(void) {
    static const int batches[] = {1, 64, 512};
    struct shapes s;
    collect(&s, 0);
    ask_for(&s, batches, sizeof batches / sizeof *batches, 1);
}

static void training_at_every_batch_of_the_default_net(void) {
    static const int batches[] = {2, 4, 8, 16, 32, 100, 128, 200, 256};
    struct shapes s;
    collect(&s, 1);
    ask_for(&s, batches, sizeof batches / sizeof *batches, 1);
}

static void serving_graphs_have_engines(void) {
    static const int batches[] = {1, 32, 256};
    struct shapes s;
    collect(&s, 0);
    ask_for(&s, batches, sizeof batches / sizeof *batches, 0);
}

static void serving_at_every_bucket_of_the_default_net(void) {
    static const int batches[] = {2, 4, 8, 16, 64, 128, 512};
    struct shapes s;
    collect(&s, 1);
    ask_for(&s, batches, sizeof batches / sizeof *batches, 0);
}

/* --- One plan of each kind, as far as a machine without a device gets. */
static void one_plan_of_each_kind_is_built(void) {
    struct shapes s, kinds = {.n = 0};
    int precompiled = 0, generated = 0;
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (!driver) {
        lk_skip("neither a driver nor the toolkit's stub of it: nothing can be generated");
        return;
    }
    collect(&s, 0);
    for (int i = 0; i < s.n; i++) { /* a kind: filter, stride, epilogue, linear or not */
        int k = 0;
        while (k < kinds.n &&
               !(kinds.node[k].kernel == s.node[i].kernel && kinds.node[k].stride == s.node[i].stride &&
                 kinds.node[k].relu == s.node[i].relu && kinds.node[k].bias == s.node[i].bias &&
                 kinds.node[k].kind == s.node[i].kind && (kinds.node[k].residual >= 0) == (s.node[i].residual >= 0))) {
            k++;
        }
        if (k == kinds.n) {
            kinds.node[kinds.n++] = s.node[i];
        }
    }
    for (int i = 0; i < kinds.n; i++) {
        const struct lk_node *n = &kinds.node[i];
        for (int p = LK_FP32; p <= LK_FP16; p++) {
            for (int use = FORWARD; use < USES; use++) {
                struct lk_graph_support support = {0};
                if (!wanted(n, (enum lk_precision)p, (enum use)use)) {
                    continue;
                }
                int rc = check_one(n, use == FUSED ? 32 : 256, (enum lk_precision)p, (enum use)use, 1, &support);
                if (!rc && !support.precompiled && !support.generated) { /* as the backend: the next one */
                    rc = check_one(n, use == FUSED ? 32 : 256, (enum lk_precision)p, (enum use)use, 8, &support);
                }
                int built = !rc && (support.precompiled || support.generated);
                if (!built) {
                    printf("%s in %s of %s: %s\n", uses[use].name, lk_precision_name((enum lk_precision)p), n->name,
                           rc ? lk_error() : support.why);
                }
                LK_CHECK(built || may_fall_back((enum use)use, (enum lk_precision)p));
                LK_CHECK_INT(support.restored, support.precompiled);
                precompiled += support.precompiled > 0;
                generated += support.generated > 0;
            }
        }
    }
    printf("     %d kinds of node: %d plans of compiled kernels, each read back from its text, %d generated\n", kinds.n,
           precompiled, generated);
    LK_CHECK(precompiled > 0 && generated > 0);
    dlclose(driver);
}

static void a_described_device_runs_nothing(void) {
    struct lk_graph_plan *plan = NULL;
    struct lk_graph *g = NULL;
    struct shapes s;
    collect(&s, 1);
    LK_REQUIRE(LK_CHECK_INT(lk_cuda__conv_graph(&g, &s.node[0], 1, LK_G_BF16, LK_G_FORWARD, 0, "bf16"), 0));
    LK_CHECK_INT(lk_graph_build(g, h100, &(struct lk_graph_policy){.exact = 0}, &plan), LK_EUNSUPPORTED);
    LK_CHECK(plan == NULL);
    lk_graph_free(g);
}

static void a_wrong_graph_is_refused_in_words(void) {
    struct lk_graph_support support = {0};
    struct lk_graph *g = NULL;
    LK_REQUIRE(LK_CHECK_INT(lk_graph_begin(&g, "nonsense"), 0));
    int x = lk_graph_tensor(g, LK_G_BF16, 2, 8, 8, 8), w = lk_graph_tensor(g, LK_G_BF16, 16, 24, 3, 3);
    int y = lk_graph_tensor(g, LK_G_BF16, 2, 16, 8, 8);
    lk_graph_conv(g, LK_G_FORWARD, x, w, y, 3, 1, 1); /* 8 channels against 24 */
    LK_CHECK(lk_graph_check(g, h100, &(struct lk_graph_policy){.exact = 0}, 1, &support) != 0 ||
             support.configurations == 0);
    LK_CHECK(strlen(lk_error()) > 0);
    lk_graph_free(g);
}

static const struct lk_case cases[] = {
    LK_CASE(a_described_device_runs_nothing), LK_CASE(a_wrong_graph_is_refused_in_words),
    LK_CASE(training_graphs_have_engines),    LK_CASE(training_at_every_batch_of_the_default_net),
    LK_CASE(serving_graphs_have_engines),     LK_CASE(serving_at_every_bucket_of_the_default_net),
    LK_CASE(one_plan_of_each_kind_is_built)};

int main(int argc, char **argv) {
    printf("cuDNN %zu\n", lk_graph_version());
    if (describe()) {
        printf("%s\n", lk_error());
        return 1;
    }
    int status = lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
    lk_graph_device_close(h100);
    return status;
}
