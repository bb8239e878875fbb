/* A stand-in for a device, for tests of what is around it: the vector of a picture is (cos p, sin p, 0 ...), p being its
 * first byte, so that a test sees whose vector it got. It can be held, slowed and broken, and compute beside the host
 * (fake.beside before the engine is opened): then a batch has begun when it was given and ends when that is let. Defines
 * lk_device_open, so the tests that include it do not link lk_devices. */
#ifndef LK_TESTS_FAKE_BACKEND_H
#define LK_TESTS_FAKE_BACKEND_H

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "model/backend.h"
#include "model/model.h"
#include "server/engine.h"

struct lk_backend {
    struct lk_backend_base base;
};
struct lk_plan {
    const struct lk_net *net;
    int batch;
};
struct lk_pass {
    struct lk_plan *plan;
    uint8_t *first; /* [LK_EMBED_SLOTS][batch] first byte of each picture */
    struct {
        int count, number;
    } slots[LK_EMBED_SLOTS];
    unsigned begun, ended;
};

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int held, fails, nan_for, computing; /* nan_for: pictures with this first byte get NaN; -1: none */
    int sizes[4096], batches;            /* how many pictures each call had */
    int beside, let;                     /* let: how many batches may end while it is held */
    int begin_fails, end_fails;          /* how many of them */
    int on_their_way, most, disorder;    /* batches begun and not ended; ended before an older one */
    int number;                          /* of the next batch */
} fake = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .nan_for = -1};

static void fake_hold(int held) {
    pthread_mutex_lock(&fake.mutex);
    fake.held = held;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.mutex);
}

/* Waits until the engine is inside a held call. */
static inline void fake_wait_until_computing(void) {
    pthread_mutex_lock(&fake.mutex);
    while (!fake.computing)
        pthread_cond_wait(&fake.changed, &fake.mutex);
    pthread_mutex_unlock(&fake.mutex);
}

static void fake_info(const struct lk_backend *b, struct lk_backend_info *out) {
    (void)b;
    *out = (struct lk_backend_info){.device = "a stand-in", .threads = 1, .best = LK_FP32};
}
static int fake_supports(const struct lk_backend *b, enum lk_precision p) {
    (void)b;
    return p == LK_FP32;
}
static int fake_plan(struct lk_backend *b, const struct lk_net *net, int n_nodes, int batch,
                     enum lk_precision precision, enum lk_purpose purpose, struct lk_plan *share,
                     struct lk_plan **out) {
    (void)b, (void)n_nodes, (void)precision, (void)purpose, (void)share;
    *out = lk_calloc(1, sizeof **out);
    if (!*out)
        return LK_ENOMEM;
    **out = (struct lk_plan){net, batch};
    return 0;
}
static void fake_plan_free(struct lk_plan *plan) { free(plan); }
static int fake_set_weights(struct lk_plan *plan, const float *params, const float *stats) {
    (void)plan, (void)params, (void)stats;
    return 0;
}
static int fake_pass(struct lk_plan *plan, struct lk_pass **out) {
    *out = lk_calloc(1, sizeof **out);
    if (!*out)
        return LK_ENOMEM;
    (*out)->plan = plan;
    (*out)->first = lk_calloc((size_t)plan->batch, LK_EMBED_SLOTS);
    return (*out)->first ? 0 : LK_ENOMEM;
}
static void fake_pass_free(struct lk_pass *pass) {
    free(pass->first);
    free(pass);
}
static int fake_input(struct lk_pass *pass, const uint8_t *pixels, int count, const float mean[3], const float std[3]) {
    (void)mean, (void)std;
    size_t picture = (size_t)pass->plan->net->image_size * (size_t)pass->plan->net->image_size * 3;
    for (int i = 0; i < count; i++)
        pass->first[i] = pixels[(size_t)i * picture];
    return 0;
}
/* NOLINTNEXTLINE(readability-non-const-parameter): the type of the table */
static int fake_forward(struct lk_pass *pass, float *running_stats) {
    (void)pass, (void)running_stats;
    return 0;
}
static void fake_vectors(const struct lk_pass *pass, const uint8_t *first, int count, float *host) {
    size_t dim = (size_t)pass->plan->net->feature_dim;
    for (int i = 0; i < count; i++) {
        memset(host + (size_t)i * dim, 0, dim * sizeof *host);
        host[(size_t)i * dim] = first[i] == fake.nan_for ? NAN : cosf((float)first[i]);
        host[(size_t)i * dim + 1] = sinf((float)first[i]);
    }
}
static int fake_output(struct lk_pass *pass, int edge, int count, int normalize, float *host) {
    (void)edge, (void)normalize;
    pthread_mutex_lock(&fake.mutex);
    fake.computing = 1;
    pthread_cond_broadcast(&fake.changed);
    while (fake.held)
        pthread_cond_wait(&fake.changed, &fake.mutex);
    fake.computing = 0;
    if (fake.batches < 4096)
        fake.sizes[fake.batches++] = count;
    int rc = fake.fails ? lk_err(LK_EFAIL, "the stand-in was told to fail") : 0;
    if (rc == 0)
        fake_vectors(pass, pass->first, count, host);
    pthread_mutex_unlock(&fake.mutex);
    return rc;
}
/* NOLINTBEGIN(readability-non-const-parameter): the type of the table */
static int fake_begin(struct lk_pass *pass, const uint8_t *pixels, int count, const float mean[3], const float std[3],
                      float *keep) {
    /* NOLINTEND(readability-non-const-parameter) */
    (void)mean, (void)std, (void)keep;
    size_t picture = (size_t)pass->plan->net->image_size * (size_t)pass->plan->net->image_size * 3;
    unsigned slot = pass->begun % LK_EMBED_SLOTS;
    if (pass->begun - pass->ended == LK_EMBED_SLOTS)
        return lk_err(LK_EBUSY, "the stand-in's pass has %d batches", LK_EMBED_SLOTS);
    pthread_mutex_lock(&fake.mutex);
    int fails = fake.begin_fails > 0 && fake.begin_fails--;
    if (!fails) {
        for (int i = 0; i < count; i++)
            pass->first[slot * (unsigned)pass->plan->batch + (unsigned)i] = pixels[(size_t)i * picture];
        pass->slots[slot].count = count;
        pass->slots[slot].number = fake.number++;
        pass->begun++;
        fake.most = ++fake.on_their_way > fake.most ? fake.on_their_way : fake.most;
        if (fake.batches < 4096)
            fake.sizes[fake.batches++] = count;
    }
    pthread_mutex_unlock(&fake.mutex);
    return fails ? lk_err(LK_EFAIL, "the stand-in takes no batch") : 0;
}
static int fake_end(struct lk_pass *pass, float *host) {
    unsigned slot = pass->ended++ % LK_EMBED_SLOTS;
    pthread_mutex_lock(&fake.mutex);
    fake.computing = 1;
    pthread_cond_broadcast(&fake.changed);
    while (fake.held && fake.let == 0)
        pthread_cond_wait(&fake.changed, &fake.mutex);
    fake.let -= fake.let > 0;
    fake.computing = 0;
    fake.disorder += pass->slots[slot].number != fake.number - fake.on_their_way;
    fake.on_their_way--;
    int fails = fake.end_fails > 0 && fake.end_fails--;
    if (!fails)
        fake_vectors(pass, pass->first + slot * (unsigned)pass->plan->batch, pass->slots[slot].count, host);
    pthread_mutex_unlock(&fake.mutex);
    return fails ? lk_err(LK_EFAIL, "the stand-in lost a batch") : 0;
}
static void fake_close(struct lk_backend *b) { free(b); }

#define FAKE_COMMON                                                                                     \
    .version = LK_BACKEND_VERSION, .name = "stand-in", .info = fake_info, .supports = fake_supports,    \
    .plan = fake_plan, .plan_free = fake_plan_free, .set_weights = fake_set_weights, .pass = fake_pass, \
    .pass_free = fake_pass_free, .close = fake_close

static const struct lk_backend_ops fake_ops = {
    FAKE_COMMON,
    .input_u8 = fake_input,
    .forward = fake_forward,
    .output = fake_output,
};

static const struct lk_backend_ops fake_ops_beside = {
    FAKE_COMMON,
    .embed_begin = fake_begin,
    .embed_end = fake_end,
};

int lk_device_open(struct lk_backend **out, const char *name, const struct lk_backend_options *options) {
    (void)name, (void)options;
    *out = lk_calloc(1, sizeof **out);
    if (!*out)
        return LK_ENOMEM;
    (*out)->base.ops = fake.beside ? &fake_ops_beside : &fake_ops;
    return 0;
}

/* An engine of `max_batch` over a tiny network: 32 x 32 pictures, 64 values. NULL after a failed check. */
static struct lk_engine *fake_engine(int max_batch) {
    static const float mean[3] = {0.5f, 0.5f, 0.5f}, std[3] = {0.25f, 0.25f, 0.25f};
    struct lk_arch arch = {.depth = 18, .width = 8, .stem = LK_STEM_CIFAR, .image_size = 32};
    struct lk_net net;
    struct lk_engine *engine = NULL;
    char path[] = "/tmp/likeness-fake-XXXXXX";
    int fd = mkstemp(path);
    pthread_mutex_lock(&fake.mutex);
    fake.held = fake.fails = fake.computing = fake.let = 0;
    fake.nan_for = -1;
    pthread_mutex_unlock(&fake.mutex);
    if (fd < 0 || lk_net_build(&net, &arch, NULL))
        return NULL;
    close(fd);
    float *params = lk_calloc(net.n_params, sizeof *params), *stats = lk_calloc(net.n_stats, sizeof *stats);
    if (params && stats) {
        lk_net_init(&net, 1, params, stats);
        struct lk_engine_options options = {.max_batch = max_batch};
        if (lk_model_save(path, &arch, &net, params, stats, mean, std, "fake", "none", LK_DTYPE_F32, NULL, NULL, 0) ||
            lk_engine_open(&engine, path, &options))
            printf("%s\n", lk_error());
    }
    free(params);
    free(stats);
    lk_net_free(&net);
    unlink(path);
    pthread_mutex_lock(&fake.mutex);
    fake.batches = fake.most = 0; /* not the warming */
    pthread_mutex_unlock(&fake.mutex);
    return engine;
}

#endif
