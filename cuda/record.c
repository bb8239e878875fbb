/* Recorded steps. What changes from step to step lies in device memory (struct lk_cuda_step, then the batch's lists)
 * and kernels read it there, in a step that runs as it comes as in a recorded one: the one has it in b->staging, the
 * other in a place of its recording's, where replay() sends the new values out of pinned memory before it launches.
 * References: CUDA programming guide, "CUDA graphs", stream capture; calls that may not be made meanwhile are left to
 * CUDA to refuse, as it does by name. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "bodies.h"
#include "cuda_internal.h"

enum { HEAD = (sizeof(struct lk_cuda_step) + 15) / 16 * 16 };

struct lk_recording {
    struct lk_backend *b;
    cudaGraphExec_t graph;
    int batch;
    uint64_t moved; /* b->moved when it was made */
    int has_loss;
    struct lk_optimizer_config optimizer;
    char *values; /* device memory */
};

/* ----------------------------------------------------------------------------------------------------- capture */

/* Thread-local: this thread's calls that would break the capture's order are refused, other threads' work goes on. */
int lk_cuda__capture_begin(struct lk_backend *b) {
    return lk_cuda__error(cudaStreamBeginCapture(b->stream, cudaStreamCaptureModeThreadLocal), "recording");
}

int lk_cuda__capture_end(struct lk_backend *b, cudaGraphExec_t *out) {
    cudaGraph_t graph = NULL;
    int code = lk_cuda__error(cudaStreamEndCapture(b->stream, &graph), "recording");
    *out = NULL;
    if (!code && !(code = lk_cuda__error(cudaGraphInstantiate(out, graph, 0), "recording, making the graph"))) {
        code = lk_cuda__error(cudaGraphUpload(*out, b->stream), "recording, sending the graph");
    }
    if (code && *out) {
        cudaGraphExecDestroy(*out);
        *out = NULL;
    }
    if (graph) {
        cudaGraphDestroy(graph);
    }
    return code;
}

/* -------------------------------------------------------------------------------------------- a step's values */

static size_t values_bytes(int batch) {
    return HEAD + (size_t)batch * (sizeof(uint64_t) + sizeof(uint8_t *) + 2 * sizeof(int));
}

static struct lk_cuda_values values_at(char *at, int batch) {
    size_t n = (size_t)batch;
    char *ids = at + HEAD, *pixels = ids + n * sizeof(uint64_t), *widths = pixels + n * sizeof(uint8_t *);
    return (struct lk_cuda_values){.step = (const struct lk_cuda_step *)(void *)at,
                                   .ids = (const uint64_t *)(void *)ids,
                                   .pixels = (const uint8_t *const *)(void *)pixels,
                                   .widths = (const int *)(void *)widths,
                                   .heights = (const int *)(void *)(widths + n * sizeof(int))};
}

static struct lk_cuda_rule rule_of(const struct lk_optimizer_config *c, const struct lk_step_values *v) {
    return (struct lk_cuda_rule){
        .kind = (int)c->kind,
        .clip = c->lars_clip,
        .exclude_1d = c->exclude_1d,
        .lr = v->lr,
        .tau = v->tau,
        .momentum = c->momentum,
        .weight_decay = c->weight_decay,
        .trust = c->trust,
        .beta1 = c->beta1,
        .beta2 = c->beta2,
        .epsilon = c->epsilon,
        .step_size = (float)((double)v->lr / (1.0 - pow((double)c->beta1, (double)v->step))),
        .root_correction = (float)sqrt(1.0 - pow((double)c->beta2, (double)v->step)),
    };
}

/* optimizer NULL: no update reads this. */
static void values_write(char *host, const struct lk_step *s, const struct lk_optimizer_config *optimizer, int batch) {
    struct lk_cuda_step step = {.seed = s->seed, .epoch = s->epoch, .slot = s->slot};
    size_t n = (size_t)batch;
    if (optimizer) {
        step.rule = rule_of(optimizer, &s->values);
    }
    memcpy(host, &step, sizeof step);
    if (n) {
        char *ids = host + HEAD, *pixels = ids + n * sizeof *s->image_ids, *widths = pixels + n * sizeof *s->pixels;
        memcpy(ids, s->image_ids, n * sizeof *s->image_ids);
        memcpy(pixels, s->pixels, n * sizeof *s->pixels);
        memcpy(widths, s->widths, n * sizeof *s->widths);
        memcpy(widths + n * sizeof *s->widths, s->heights, n * sizeof *s->heights);
    }
}

int lk_cuda__values(struct lk_backend *b, const struct lk_step *s, const struct lk_optimizer_config *optimizer,
                    int batch, size_t scratch, struct lk_cuda_values *out) {
    struct lk_recording *r = b->recording;
    size_t bytes = values_bytes(batch), at = (bytes + 255) / 256 * 256;
    void *host;
    int code = lk_cuda__staging(b, at + scratch);
    if (code) {
        return code;
    }
    if (r) {
        if (batch && batch != r->batch) {
            return lk_err(LK_EINVAL, "a batch of %d in a recording for %d", batch, r->batch);
        }
        *out = values_at(r->values, r->batch);
    } else {
        if ((code = lk_cuda__slot(&b->values, bytes, &host))) {
            return code;
        }
        values_write(host, s, optimizer, batch);
        if ((code = lk_cuda__slot_send(b, &b->values, b->staging, bytes))) {
            return code;
        }
        *out = values_at(b->staging, batch);
    }
    out->scratch = (char *)b->staging + at;
    return LK_OK;
}

/* -------------------------------------------------------------------------------------------------- recordings */

void lk_cuda__recording_free(struct lk_recording *r) {
    if (!r) {
        return;
    }
    lk_cuda__use(r->b);
    cudaStreamSynchronize(r->b->stream);
    if (r->graph) {
        cudaGraphExecDestroy(r->graph);
    }
    cudaFree(r->values);
    free(r);
}

int lk_cuda__record_begin(struct lk_backend *b, int batch) {
    struct lk_recording *r;
    int code;
    if (b->recording || batch < 1) {
        return lk_err(LK_EINVAL, b->recording ? "a step is being recorded already" : "a batch of %d", batch);
    }
    if (!(r = lk_calloc(1, sizeof *r))) {
        return LK_ENOMEM;
    }
    lk_cuda__use(b);
    r->b = b;
    r->batch = batch;
    if ((code = lk_cuda__error(cudaMalloc((void **)&r->values, values_bytes(batch)), "recording")) ||
        (code = lk_cuda__capture_begin(b))) {
        lk_cuda__recording_free(r);
        return code;
    }
    b->recording = r;
    return LK_OK;
}

int lk_cuda__record_end(struct lk_backend *b, struct lk_recording **out) {
    struct lk_recording *r = b->recording;
    int code;
    *out = NULL;
    if (!r) {
        return lk_err(LK_EINVAL, "no step is being recorded");
    }
    lk_cuda__use(b);
    b->recording = NULL;
    code = lk_cuda__capture_end(b, &r->graph);
    r->moved = b->moved;
    if (code) {
        lk_cuda__recording_free(r);
        return code;
    }
    *out = r;
    return LK_OK;
}

void lk_cuda__record_loss(struct lk_backend *b) { b->recording->has_loss = 1; }

void lk_cuda__record_optimizer(struct lk_backend *b, const struct lk_optimizer_config *c) {
    b->recording->optimizer = *c;
}

int lk_cuda__replay(struct lk_recording *r, const struct lk_step *s) {
    struct lk_backend *b = r->b;
    size_t bytes = values_bytes(r->batch);
    void *host;
    int code;
    if (s->slot < 0 || s->slot >= LK_LOSS_RING) {
        return lk_err(LK_EINVAL, "loss slot %d is not in 0..%d", s->slot, LK_LOSS_RING - 1);
    }
    if (r->moved != b->moved) {
        return lk_err(LK_ECONFLICT, "memory that the recorded step uses has moved");
    }
    lk_cuda__use(b);
    if ((code = lk_cuda__slot(&b->values, bytes, &host))) {
        return code;
    }
    values_write(host, s, &r->optimizer, r->batch);
    (void)((code = lk_cuda__slot_send(b, &b->values, r->values, bytes)) ||
           (code = lk_cuda__error(cudaGraphLaunch(r->graph, b->stream), "recorded step")) ||
           (r->has_loss && (code = lk_cuda__fetch_loss(b, s->slot))));
    return code;
}
