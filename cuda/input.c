/* Into a pass and out of it. Host data goes through pinned slots, so that a step does not wait for the stream; what is
 * read back, and the float input of tests, waits. */
#include <string.h>

#include "base/err.h"
#include "cuda_internal.h"

int lk_cuda__check_pictures(const struct lk_plan *p, int count) {
    const struct lk_node *first = &p->net->nodes[0];
    if (first->in_c != 3 || first->in_h != p->net->image_size || first->in_w != p->net->image_size) {
        return lk_err(LK_EINVAL, "this network does not read pictures");
    }
    if (count < 0 || count > p->batch) {
        return lk_err(LK_EINVAL, "%d pictures for a batch of %d", count, p->batch);
    }
    return LK_OK;
}

int lk_cuda__input_u8(struct lk_pass *pass, const uint8_t *pixels, int count, const float mean[3], const float std[3]) {
    const struct lk_plan *p = lk_cuda__enter(pass);
    int side = p->net->image_size, code = lk_cuda__check_pictures(p, count);
    size_t bytes = (size_t)count * (size_t)side * (size_t)side * 3;
    void *host;
    if (!code && count > 0 && !(code = lk_cuda__staging(p->b, bytes)) &&
        !(code = lk_cuda__slot(&p->b->pictures, bytes, &host))) {
        memcpy(host, pixels, bytes);
        code = lk_cuda__slot_send(p->b, &p->b->pictures, p->b->staging, bytes);
    }
    return code ? code
                : lk_cuda_input_u8(p->b->stream, p->t, pass->edges[0], p->b->staging, count, p->batch, side,
                                   p->nodes[0].in_pad, mean, std);
}

int lk_cuda__input_f32(struct lk_pass *pass, const float *chw) {
    const struct lk_plan *p = lk_cuda__enter(pass);
    const struct lk_node *first = &p->net->nodes[0];
    int hw = first->in_h * first->in_w, code;
    size_t bytes = (size_t)p->batch * (size_t)first->in_c * (size_t)hw * sizeof(float);
    (void)((code = lk_cuda__staging(p->b, bytes)) ||
           (code = lk_cuda__error(cudaMemcpyAsync(p->b->staging, chw, bytes, cudaMemcpyHostToDevice, p->b->stream),
                                  "copy of input")) ||
           (code = lk_cuda_from_chw(p->b->stream, p->t, pass->edges[0], p->b->staging, p->batch, first->in_c, hw,
                                    p->nodes[0].in_pad)) ||
           (code = lk_cuda__error(cudaStreamSynchronize(p->b->stream), "input"))); /* chw is pageable memory */
    return code;
}

int lk_cuda__augment(struct lk_pass *pass, const struct lk_augment *a, uint64_t seed, uint32_t epoch, int view,
                     const uint8_t *const *pixels, const int *widths, const int *heights, const uint64_t *image_ids) {
    const struct lk_plan *p = lk_cuda__enter(pass);
    const struct lk_step s = {
        .seed = seed, .epoch = epoch, .pixels = pixels, .widths = widths, .heights = heights, .image_ids = image_ids};
    struct lk_cuda_values v;
    int code = lk_cuda__check_pictures(p, p->batch);
    if (!code && a->size != p->net->image_size) {
        code = lk_err(LK_EINVAL, "views of side %d for a network of side %d", a->size, p->net->image_size);
    }
    if (code || (code = lk_cuda__values(p->b, &s, NULL, p->batch, lk_cuda_augment_scratch(p->batch, a->size), &v))) {
        return code;
    }
    return lk_cuda_augment(p->b->stream, p->t, pass->edges[0], p->nodes[0].in_pad, p->batch, a, view, v.step, v.pixels,
                           v.widths, v.heights, v.ids, v.scratch);
}

int lk_cuda__input_from(struct lk_pass *pass, const struct lk_pass *from) {
    const struct lk_plan *p = lk_cuda__enter(pass), *q = from->plan;
    const struct lk_node *a = &p->net->nodes[0], *b = &q->net->nodes[0];
    size_t bytes = (size_t)p->batch * (size_t)a->in_h * (size_t)a->in_w * (size_t)lk_cuda__pad(a->in_c) * p->element;
    if (q->b != p->b || q->purpose != LK_TRAIN || q->batch != p->batch || q->precision != p->precision ||
        a->in_c != b->in_c || a->in_h != b->in_h || a->in_w != b->in_w) {
        return lk_err(LK_EINVAL, "an input comes from a training pass of the same shape, batch and precision");
    }
    return lk_cuda__error(
        cudaMemcpyAsync(pass->edges[0], from->edges[0], bytes, cudaMemcpyDeviceToDevice, p->b->stream),
        "input of another pass");
}

/* Passes that keep nothing let edges share memory: 0 when a later edge has taken this one's. */
static int kept(const struct lk_pass *pass, int edge) {
    for (int e = edge + 1; e <= pass->plan->n_nodes; e++) {
        if (pass->edges[e] == pass->edges[edge]) {
            return 0;
        }
    }
    return 1;
}

int lk_cuda__output(struct lk_pass *pass, int edge, int count, int normalize, float *host) {
    const struct lk_plan *p = lk_cuda__enter(pass);
    if (edge < 0 || edge > p->n_nodes || count < 0 || count > p->batch) {
        return lk_err(LK_EINVAL, "no edge %d with %d rows in this pass", edge, count);
    }
    if (!kept(pass, edge)) {
        return lk_err(LK_EINVAL, "edge %d is not kept by this kind of plan", edge);
    }
    const struct lk_node *n = &p->net->nodes[edge ? edge - 1 : 0];
    int c = edge ? n->out_c : n->in_c, hw = edge ? n->out_h * n->out_w : n->in_h * n->in_w, code;
    size_t bytes = (size_t)count * (size_t)c * (size_t)hw * sizeof(float);
    if (!count) {
        return LK_OK;
    }
    (void)((code = lk_cuda__staging(p->b, bytes)) ||
           (code = lk_cuda_output(p->b->stream, p->t, p->b->staging, pass->edges[edge], count, c, lk_cuda__pad(c), hw,
                                  normalize)) ||
           (code = lk_cuda__error(cudaMemcpyAsync(host, p->b->staging, bytes, cudaMemcpyDeviceToHost, p->b->stream),
                                  "copy of output")) ||
           (code = lk_cuda__error(cudaStreamSynchronize(p->b->stream), "forward")));
    return code;
}

int lk_cuda__output_gradient(struct lk_pass *pass, int edge, const float *device_gradient) {
    const struct lk_plan *p = lk_cuda__enter(pass);
    const struct lk_node *n = &p->net->nodes[p->n_nodes - 1];
    void *to = pass->masked ? pass->masked[p->n_nodes] : NULL;
    int code;
    if (p->purpose != LK_TRAIN || edge != p->n_nodes) {
        return lk_err(LK_EINVAL, "a gradient can only be given for the last edge of a training pass");
    }
    (void)((code = lk_cuda__begin_backward(pass)) ||
           (code = lk_cuda_from_chw(p->b->stream, p->t, to, device_gradient, p->batch, n->out_c, n->out_h * n->out_w,
                                    lk_cuda__pad(n->out_c))) ||
           (code = lk_cuda__contribute(pass, edge, to)));
    return code;
}
