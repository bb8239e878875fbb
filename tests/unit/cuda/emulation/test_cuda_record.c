/* Does a recorded training step do what its calls do, bit for bit, when everything that may change from step to step does?
 * On the emulated device, whose work runs when somebody waits, arguments that a recording froze, pinned memory that is
 * written too early, and memory that has moved all show in the weights. Compiled with LK_ON_DEVICE for a real one, where
 * what only the emulation can count or refuse is left out. */
#include "check.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "trainer/byol.h"

#ifdef LK_ON_DEVICE
#include "parity/device.h"
enum { EMULATED = 0 };
static size_t lk_emulated_waits(void) { return 0; }
static size_t lk_emulated_launches(void) { return 0; }
#else
#include "stream.h"
enum { EMULATED = 1 };
#endif

static void check_count(size_t got, size_t want) {
    if (EMULATED)
        LK_CHECK_INT(got, want);
}

enum { SIDE = 8, N = 8, BATCH = 2, OUT = 16, STEPS = 4 };

static uint8_t pixels[N * SIDE * SIDE * 3];
static size_t offset[N];
static int width[N], height[N];
static struct lk_dataset data = {.n = N, .pixels = pixels, .offset = offset, .width = width, .height = height};
static struct lk_augment view[2];
static const struct lk_optimizer_config lars = {
    .kind = LK_LARS, .momentum = 0.9f, .weight_decay = 1e-3f, .trust = 0.02f, .exclude_1d = 1};
static const struct lk_optimizer_config adam = {
    .kind = LK_ADAM, .weight_decay = 1e-3f, .beta1 = 0.9f, .beta2 = 0.99f, .epsilon = 1e-6f};

/* One network trained twice on one device: call by call, and recorded. */
struct pair {
    struct lk_backend *device;
    const struct lk_backend_ops *ops;
    struct lk_net net;
    struct lk_byol plain, recorded;
    struct lk_loader l;
    void *base;
};

static int open_pair(struct pair *p, const struct lk_optimizer_config *optimizer, enum lk_precision precision) {
    static const struct lk_arch arch = {18, 8, LK_STEM_CIFAR, SIDE};
    static const struct lk_heads heads = {16, 16, OUT, 1, 1};
    uint32_t state = 1;
    int rc;
    memset(p, 0, sizeof *p);
    for (int i = 0; i < N; i++)
        offset[i] = (size_t)i * SIDE * SIDE * 3, width[i] = height[i] = SIDE;
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)((state = state * 1664525u + 1013904223u) >> 24);
    view[0] = view[1] = lk_augment_default(SIDE);
    view[1].solarize_p = 0.5f;
    if ((rc = lk_device_open(&p->device, "cuda:0", NULL)))
        return rc;
    p->ops = lk_ops(p->device);
    if ((rc = lk_net_build(&p->net, &arch, &heads)) ||
        (rc = lk_byol_open(&p->plain, p->device, &p->net, BATCH, precision, optimizer, 0.25f, 1)) ||
        (rc = lk_byol_open(&p->recorded, p->device, &p->net, BATCH, precision, optimizer, 0.25f, 1)) ||
        (rc = p->ops->alloc(p->device, sizeof pixels, &p->base)) ||
        (rc = p->ops->upload(p->device, p->base, pixels, sizeof pixels)))
        return rc;
    p->plain.eager = 1;
    return lk_loader_open(&p->l, &data, p->base, BATCH, 1);
}

static void close_pair(struct pair *p) {
    lk_loader_close(&p->l);
    lk_byol_close(&p->plain);
    lk_byol_close(&p->recorded);
    p->ops->free(p->device, p->base);
    lk_net_free(&p->net);
    p->ops->close(p->device);
}

/* Step i of both; nothing that may change stays. The recorded one waits for nothing where it is replayed. */
static void step_both(struct pair *p, int i) {
    const struct lk_step_values v = {0.1f / (float)(i + 1), 0.9f - 0.1f * (float)i, (uint64_t)i + 1};
    struct lk_byol_stats a, b;
    uint64_t seed = 7 + (uint64_t)i / 3;
    uint32_t epoch = (uint32_t)i / 2;
    LK_REQUIRE(lk_loader_batch(&p->l, epoch, (size_t)i % 3) == 0);
    LK_REQUIRE(lk_byol_step(&p->plain, &p->l, view, seed, epoch, &v, 2 * i) == 0);
    LK_REQUIRE(p->ops->byol_stats(p->device, 2 * i, &a) == 0);
    int replayed = p->recorded.recording != NULL && p->recorded.settled;
    size_t waits = lk_emulated_waits();
    LK_REQUIRE(lk_byol_step(&p->recorded, &p->l, view, seed, epoch, &v, 2 * i + 1) == 0);
    if (replayed && p->recorded.recording)
        check_count(lk_emulated_waits() - waits, 0);
    LK_REQUIRE(p->ops->byol_stats(p->device, 2 * i + 1, &b) == 0);
    LK_CHECK(a.loss > 0 && a.finite && a.projection_std > 0);
    LK_CHECK(memcmp(&a, &b, sizeof a) == 0);
}

static void same(const float *a, const float *b, size_t n, const char *what) {
    size_t differ = 0;
    for (size_t i = 0; i < n; i++)
        differ += memcmp(&a[i], &b[i], sizeof *a) != 0;
    if (!LK_CHECK(differ == 0))
        printf("     %zu of %zu %s differ\n", differ, n, what);
}

static void compare(const struct pair *p) {
    struct lk_byol_state a, b;
    LK_REQUIRE(lk_byol_save(&p->plain, &a) == 0 && lk_byol_save(&p->recorded, &b) == 0);
    same(a.params, b.params, a.n_params, "parameters");
    same(a.stats, b.stats, a.n_stats, "running statistics");
    same(a.optimizer, b.optimizer, a.n_optimizer, "moments");
    same(a.teacher, b.teacher, a.n_teacher, "teacher's parameters");
    lk_byol_state_free(&a);
    lk_byol_state_free(&b);
}

static void check_recorded(const struct lk_optimizer_config *optimizer, enum lk_precision precision) {
    struct pair p;
    size_t launches = lk_emulated_launches();
    LK_REQUIRE(open_pair(&p, optimizer, precision) == 0);
    for (int i = 0; i < STEPS; i++)
        step_both(&p, i);
    check_count(lk_emulated_launches() - launches, STEPS - 1);
    compare(&p);
    close_pair(&p);
}

static void recorded_steps_by_lars_equal_their_calls(void) { check_recorded(&lars, LK_FP32); }

static void recorded_steps_by_adam_in_bf16_equal_their_calls(void) { check_recorded(&adam, LK_BF16); }

static void other_settings_and_moved_memory_are_recorded_again(void) {
    enum { LARGE = 64 };
    static float zeros[LARGE * 3 * SIDE * SIDE];
    struct pair p;
    struct lk_plan *plan = NULL;
    struct lk_pass *pass = NULL;
    size_t launches = lk_emulated_launches();
    LK_REQUIRE(open_pair(&p, &adam, LK_FP32) == 0);
    step_both(&p, 0);
    step_both(&p, 1);
    check_count(lk_emulated_launches() - launches, 1);
    view[0].solarize_p = 1; /* each of these: call by call once, then recorded */
    step_both(&p, 2);
    p.plain.optimizer.weight_decay = p.recorded.optimizer.weight_decay = 0.1f;
    step_both(&p, 3);
    p.plain.loss_scale = p.recorded.loss_scale = 1;
    step_both(&p, 4);
    check_count(lk_emulated_launches() - launches, 1);
    step_both(&p, 5);
    check_count(lk_emulated_launches() - launches, 2);
    LK_REQUIRE(p.ops->plan(p.device, &p.net, 1, LARGE, LK_FP32, LK_FORWARD, NULL, &plan) == 0);
    LK_REQUIRE(p.ops->pass(plan, &pass) == 0);
    LK_REQUIRE(p.ops->input_f32(pass, zeros) == 0);
    step_both(&p, 6);
    check_count(lk_emulated_launches() - launches, 2);
    step_both(&p, 7);
    check_count(lk_emulated_launches() - launches, 3);
    compare(&p);
    p.ops->pass_free(pass);
    p.ops->plan_free(plan);
    close_pair(&p);
}

#ifndef LK_ON_DEVICE
/* What a call writes to stderr, as text. */
static void step_both_and_listen(struct pair *p, int i, char *text, size_t size) {
    FILE *file = tmpfile();
    int kept = dup(STDERR_FILENO);
    LK_REQUIRE(file && kept >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
    step_both(p, i);
    dup2(kept, STDERR_FILENO);
    close(kept);
    rewind(file);
    text[fread(text, 1, size - 1, file)] = 0;
    fclose(file);
}

static void what_cannot_be_recorded_runs_call_by_call_and_says_why_once(void) {
    struct pair p;
    char text[1024] = "";
    LK_REQUIRE(open_pair(&p, &adam, LK_FP32) == 0);
    step_both(&p, 0);
    lk_emulated_refuse("cudaGraphInstantiate");
    step_both_and_listen(&p, 1, text, sizeof text);
    lk_emulated_refuse(NULL);
    LK_CHECK(strstr(text, "cannot be recorded") && strstr(text, "operation not supported"));
    step_both_and_listen(&p, 2, text, sizeof text);
    LK_CHECK(!text[0] && !p.recorded.recording);
    compare(&p);
    close_pair(&p);
}
#endif

/* A recording of the update alone, whose weights depend on every step's rate. */
struct walk {
    struct lk_backend *device;
    const struct lk_backend_ops *ops;
    float *params[2], *grads[2], *state[2];
};
enum { COUNT = 8 };
static const struct lk_param_span span = {.offset = 0, .count = COUNT};
static const struct lk_optimizer_config sgd = {.kind = LK_SGD, .momentum = 0.9f, .weight_decay = 0.1f};

static struct lk_step_values values_of(int i) {
    return (struct lk_step_values){.lr = 0.01f * (float)(i % 7 + 1), .tau = 1, .step = (uint64_t)i + 1};
}

static int open_walk(struct walk *w) {
    static const float start[COUNT] = {1, -2, 3, -4, 5, -6, 7, -8};
    int rc = lk_device_open(&w->device, "cuda:0", NULL);
    if (rc)
        return rc;
    w->ops = lk_ops(w->device);
    for (int k = 0; k < 2 && !rc; k++)
        (void)((rc = w->ops->alloc(w->device, sizeof start, (void **)&w->params[k])) ||
               (rc = w->ops->alloc(w->device, sizeof start, (void **)&w->grads[k])) ||
               (rc = w->ops->alloc(w->device, sizeof start, (void **)&w->state[k])) ||
               (rc = w->ops->upload(w->device, w->params[k], start, sizeof start)));
    return rc;
}

static int update(struct walk *w, int k, int i) {
    struct lk_step_values v = values_of(i);
    return w->ops->update(w->device, &sgd, &v, &span, 1, COUNT, w->params[k], w->grads[k], w->state[k], NULL, 0);
}

static void close_walk(struct walk *w) {
    for (int k = 0; k < 2; k++) {
        w->ops->free(w->device, w->params[k]);
        w->ops->free(w->device, w->grads[k]);
        w->ops->free(w->device, w->state[k]);
    }
    w->ops->close(w->device);
}

static void a_hundred_steps_in_flight_keep_their_own_values(void) {
    enum { IN_FLIGHT = 100, WITHOUT_WAITING = 24 };
    const uint8_t *none = NULL;
    const int side = SIDE;
    const uint64_t id = 0;
    struct lk_recording *r;
    struct walk w = {0};
    float a[COUNT], b[COUNT];
    LK_REQUIRE(open_walk(&w) == 0);
    LK_REQUIRE(update(&w, 0, 0) == 0 && update(&w, 1, 0) == 0);
    LK_REQUIRE(w.ops->record_begin(w.device, 1) == 0);
    LK_CHECK_INT(update(&w, 1, 99), 0);
    LK_REQUIRE(w.ops->record_end(w.device, &r) == 0);
    size_t waits = lk_emulated_waits();
    for (int i = 1; i < IN_FLIGHT; i++) {
        struct lk_step s = {
            .values = values_of(i), .pixels = &none, .widths = &side, .heights = &side, .image_ids = &id};
        LK_REQUIRE(w.ops->replay(r, &s) == 0);
        if (i == WITHOUT_WAITING)
            check_count(lk_emulated_waits() - waits, 0);
    }
    for (int i = 1; i < IN_FLIGHT; i++)
        LK_REQUIRE(update(&w, 0, i) == 0 && w.ops->sync(w.device) == 0);
    LK_REQUIRE(w.ops->download(w.device, a, w.params[0], sizeof a) == 0);
    LK_REQUIRE(w.ops->download(w.device, b, w.params[1], sizeof b) == 0);
    same(a, b, COUNT, "weights");
    w.ops->recording_free(r);
    close_walk(&w);
}

static void calls_that_wait_break_a_recording_and_the_next_is_whole(void) {
    struct lk_recording *r;
    struct walk w = {0};
    float before[COUNT], after[COUNT];
    LK_REQUIRE(open_walk(&w) == 0);
    LK_REQUIRE(update(&w, 0, 0) == 0 && w.ops->download(w.device, before, w.params[0], sizeof before) == 0);
    LK_REQUIRE(w.ops->record_begin(w.device, 1) == 0);
    LK_CHECK_INT(update(&w, 0, 1), 0);
    LK_CHECK_INT(w.ops->record_begin(w.device, 1), LK_EINVAL);
    LK_CHECK_INT(w.ops->download(w.device, after, w.params[0], sizeof after), LK_EFAIL);
    LK_CHECK_INT(w.ops->sync(w.device), LK_EFAIL);
    LK_CHECK_INT(w.ops->record_end(w.device, &r), LK_EFAIL);
    LK_CHECK(r == NULL && strstr(lk_error(), "during capture") != NULL);
    LK_CHECK_INT(w.ops->record_end(w.device, &r), LK_EINVAL);
    LK_REQUIRE(w.ops->download(w.device, after, w.params[0], sizeof after) == 0);
    same(before, after, COUNT, "weights"); /* nothing of it has happened */
    LK_REQUIRE(w.ops->record_begin(w.device, 1) == 0);
    LK_CHECK_INT(update(&w, 0, 1), 0);
    LK_REQUIRE(w.ops->record_end(w.device, &r) == 0);
    w.ops->recording_free(r);
    close_walk(&w);
}

int main(int argc, char **argv) {
    static const struct lk_case cases[] = {
        LK_CASE(recorded_steps_by_lars_equal_their_calls),
        LK_CASE(recorded_steps_by_adam_in_bf16_equal_their_calls),
        LK_CASE(other_settings_and_moved_memory_are_recorded_again),
#ifndef LK_ON_DEVICE
        LK_CASE(what_cannot_be_recorded_runs_call_by_call_and_says_why_once),
#endif
        LK_CASE(a_hundred_steps_in_flight_keep_their_own_values),
        LK_CASE(calls_that_wait_break_a_recording_and_the_next_is_whole),
    };
#ifdef LK_ON_DEVICE
    struct lk_backend *device;
    setenv("LK_TEST_DEVICE", "cuda:0", 1);
    int status = test_device_open(&device, NULL, cases, sizeof cases / sizeof *cases);
    if (status)
        return status;
    lk_ops(device)->close(device);
#endif
    return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
}
