/* Pictures to unit vectors by one graph a pass: pinned memory in, kernels recorded once, pinned memory out. Two batches
 * of a pass may be on their way, each with its own pinned memory; on the device they follow each other in the same
 * buffers. A short batch is computed as a whole one, over pictures of an earlier, and its own rows are taken. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "cuda_internal.h"
#include "model/walk.h"

struct lk_cuda_embed {
    cudaGraphExec_t graph; /* NULL: not recorded yet, or not possible */
    int tried;
    float mean[3], std[3]; /* as recorded */
    uint8_t *in;           /* device: [batch] pictures */
    float *out;            /* device: [batch][dim] */
    struct {
        uint8_t *in; /* pinned, as on the device */
        float *out;
        int count; /* rows for the host */
        cudaEvent_t done;
    } slots[LK_EMBED_SLOTS];
    unsigned begun, ended;
};

static size_t picture_bytes(const struct lk_plan *p) {
    return 3 * (size_t)p->net->image_size * (size_t)p->net->image_size;
}

static size_t row_bytes(const struct lk_plan *p) {
    const struct lk_node *last = &p->net->nodes[p->n_nodes - 1];
    return (size_t)last->out_c * (size_t)last->out_h * (size_t)last->out_w * sizeof(float);
}

void lk_cuda__embed_free(struct lk_cuda_embed *e) {
    if (!e) {
        return;
    }
    for (int i = 0; i < LK_EMBED_SLOTS; i++) {
        if (e->slots[i].done) {
            cudaEventDestroy(e->slots[i].done);
        }
        cudaFreeHost(e->slots[i].in);
        cudaFreeHost(e->slots[i].out);
    }
    if (e->graph) {
        cudaGraphExecDestroy(e->graph);
    }
    cudaFree(e->in);
    cudaFree(e->out);
    free(e);
}

static int open_embed(struct lk_pass *pass) {
    const struct lk_plan *p = pass->plan;
    struct lk_cuda_embed *e = lk_calloc(1, sizeof *e);
    size_t in = (size_t)p->batch * picture_bytes(p), out = (size_t)p->batch * row_bytes(p);
    int code;
    if (!e) {
        return LK_ENOMEM;
    }
    (void)((code = lk_cuda__error(cudaMalloc((void **)&e->in, in), "pictures")) ||
           (code = lk_cuda__error(cudaMemsetAsync(e->in, 0, in, p->b->stream), "pictures")) ||
           (code = lk_cuda__error(cudaMalloc((void **)&e->out, out), "vectors")));
    for (int i = 0; !code && i < LK_EMBED_SLOTS; i++) {
        (void)((code = lk_cuda__error(cudaMallocHost((void **)&e->slots[i].in, in), "pinned memory")) ||
               (code = lk_cuda__error(cudaMallocHost((void **)&e->slots[i].out, out), "pinned memory")) ||
               (code = lk_cuda__error(cudaEventCreateWithFlags(&e->slots[i].done, cudaEventDisableTiming), "event")));
    }
    if (code) {
        lk_cuda__embed_free(e);
        return code;
    }
    pass->embed = e;
    return LK_OK;
}

/* The calls that are recorded. */
static int launch(struct lk_pass *pass, const float mean[3], const float std[3]) {
    const struct lk_plan *p = pass->plan;
    const struct lk_node *last = &p->net->nodes[p->n_nodes - 1];
    struct lk_cuda_embed *e = pass->embed;
    int code;
    (void)((code = lk_cuda_input_u8(p->b->stream, p->t, pass->edges[0], e->in, p->batch, p->batch, p->net->image_size,
                                    p->nodes[0].in_pad, mean, std)) ||
           (code = lk_walk_forward(p->b->base.ops, p->net, p->n_nodes, LK_INFERENCE, pass, NULL, 1)) ||
           (code = lk_cuda_output(p->b->stream, p->t, e->out, pass->edges[p->n_nodes], p->batch, last->out_c,
                                  lk_cuda__pad(last->out_c), last->out_h * last->out_w, 1)));
    return code;
}

/* After they have run once. */
static void record(struct lk_pass *pass, const float mean[3], const float std[3]) {
    struct lk_cuda_embed *e = pass->embed;
    struct lk_backend *b = pass->plan->b;
    char why[256] = "";
    int code = lk_cuda__capture_begin(b);
    e->tried = 1;
    if (!code) {
        if ((code = launch(pass, mean, std))) {
            snprintf(why, sizeof why, "%s", lk_error());
        }
        int ended = lk_cuda__capture_end(b, &e->graph);
        code = code ? code : ended;
    }
    if (code) {
        lk_log_warn("batches of %d cannot be recorded and run call by call, which is slower: %s", pass->plan->batch,
                    why[0] ? why : lk_error());
        if (e->graph) {
            cudaGraphExecDestroy(e->graph);
            e->graph = NULL;
        }
        return;
    }
    memcpy(e->mean, mean, sizeof e->mean);
    memcpy(e->std, std, sizeof e->std);
}

static int same(const float a[3], const float b[3]) { return a[0] == b[0] && a[1] == b[1] && a[2] == b[2]; }

/* By the graph, or call by call the first time and where there is none. */
static int run(struct lk_pass *pass, const float mean[3], const float std[3]) {
    struct lk_cuda_embed *e = pass->embed;
    struct lk_backend *b = pass->plan->b;
    int code;
    if (e->graph && !(same(mean, e->mean) && same(std, e->std))) {
        if ((code = lk_cuda__error(cudaStreamSynchronize(b->stream), "forward"))) {
            return code;
        }
        cudaGraphExecDestroy(e->graph);
        e->graph = NULL;
        e->tried = 0;
    }
    if (e->graph) {
        return lk_cuda__error(cudaGraphLaunch(e->graph, b->stream), "recorded forward");
    }
    code = launch(pass, mean, std);
    if (!code && !e->tried) {
        record(pass, mean, std);
    }
    return code;
}

int lk_cuda__embed_begin(struct lk_pass *pass, const uint8_t *pixels, int count, const float mean[3],
                         const float std[3], float *keep) {
    const struct lk_plan *p = lk_cuda__enter(pass);
    size_t bytes = (size_t)(count > 0 ? count : 0) * picture_bytes(p);
    struct lk_cuda_embed *e;
    int code = lk_cuda__check_pictures(p, count);
    if (!code && (p->purpose != LK_INFERENCE || count < 1)) {
        code = lk_err(LK_EINVAL, "%d pictures to embed, by a plan for inference", count);
    }
    if (code || (!pass->embed && (code = open_embed(pass)))) {
        return code;
    }
    e = pass->embed;
    if (e->begun - e->ended == LK_EMBED_SLOTS) {
        return lk_err(LK_EBUSY, "%d batches have begun and none has been ended", LK_EMBED_SLOTS);
    }
    int slot = (int)(e->begun % LK_EMBED_SLOTS);
    memcpy(e->slots[slot].in, pixels, bytes);
    if ((code = lk_cuda__error(cudaMemcpyAsync(e->in, e->slots[slot].in, bytes, cudaMemcpyHostToDevice, p->b->stream),
                               "pictures")) ||
        (code = run(pass, mean, std)) ||
        (code = lk_cuda__error(cudaMemcpyAsync(keep ? keep : e->slots[slot].out, e->out, (size_t)count * row_bytes(p),
                                               keep ? cudaMemcpyDeviceToDevice : cudaMemcpyDeviceToHost, p->b->stream),
                               "vectors")) ||
        (code = lk_cuda__error(cudaEventRecord(e->slots[slot].done, p->b->stream), "vectors"))) {
        return code;
    }
    e->slots[slot].count = keep ? 0 : count;
    e->begun++;
    return LK_OK;
}

int lk_cuda__embed_end(struct lk_pass *pass, float *host) {
    const struct lk_plan *p = lk_cuda__enter(pass);
    struct lk_cuda_embed *e = pass->embed;
    int code;
    if (!e || e->begun == e->ended) {
        return lk_err(LK_EINVAL, "no batch has begun");
    }
    int slot = (int)(e->ended++ % LK_EMBED_SLOTS);
    if ((code = lk_cuda__error(cudaEventSynchronize(e->slots[slot].done), "forward"))) {
        return code;
    }
    if (e->slots[slot].count) {
        memcpy(host, e->slots[slot].out, (size_t)e->slots[slot].count * row_bytes(p));
    }
    return LK_OK;
}
