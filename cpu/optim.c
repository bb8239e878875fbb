/* SGD with momentum and Adam as torch.optim has them, LARS (You et al. 2017, arXiv 1708.03888) with LARC's clip, and
 * the teacher's moving average, in one walk over the arena that also clears the gradients.
 *
 * The arena is cut into chunks that never cross a span, so that threads share the work evenly and the norms of LARS are
 * sums in a fixed order. */
#include <math.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "cpu.h"

#define CHUNK ((size_t)8192)
#define LARS_EPSILON 1e-8

struct lk_cpu_chunk {
    size_t offset, count, span;
    float decay, ratio;
};

static int cut(struct lk_backend *b, const struct lk_param_span *spans, size_t n_spans, size_t n_params) {
    size_t n = 0;
    for (size_t s = 0; s < n_spans; s++) {
        if (spans[s].offset > n_params || spans[s].count > n_params - spans[s].offset) {
            return lk_err(LK_EINVAL, "span %zu lies outside the arena", s);
        }
        n += (spans[s].count + CHUNK - 1) / CHUNK;
    }
    if (n > b->chunk_capacity) {
        struct lk_cpu_chunk *chunks = lk_calloc(n, sizeof *chunks);
        double *sums = lk_calloc(2 * n, sizeof *sums);
        if (!chunks || !sums) {
            free(chunks);
            free(sums);
            return LK_ENOMEM;
        }
        free(b->chunks);
        free(b->chunk_sums);
        b->chunks = chunks, b->chunk_sums = sums, b->chunk_capacity = n;
    }
    b->n_chunks = 0;
    for (size_t s = 0; s < n_spans; s++) {
        for (size_t at = 0; at < spans[s].count; at += CHUNK) {
            size_t left = spans[s].count - at;
            b->chunks[b->n_chunks++] = (struct lk_cpu_chunk){
                .offset = spans[s].offset + at, .count = left < CHUNK ? left : CHUNK, .span = s, .ratio = 1.0f};
        }
    }
    return 0;
}

/* Each span's trust ratio, from |w| and |g| over its chunks in order. Where either is zero the span gets a plain step
 * without decay, as in the reference implementations. */
static void trust(struct lk_backend *b, const struct lk_optimizer_config *c, float lr,
                  const struct lk_param_span *spans, const float *params, const float *grads) {
    const size_t n = b->n_chunks;
#pragma omp parallel for num_threads(b->dnnl.threads) schedule(static)
    for (size_t i = 0; i < n; i++) {
        const struct lk_cpu_chunk *k = &b->chunks[i];
        b->chunk_sums[2 * i] = b->kernels->sum_squares(params + k->offset, k->count);
        b->chunk_sums[2 * i + 1] = b->kernels->sum_squares(grads + k->offset, k->count);
    }
    for (size_t from = 0, to; from < n; from = to) {
        double w = 0.0, g = 0.0;
        for (to = from; to < n && b->chunks[to].span == b->chunks[from].span; to++) {
            w += b->chunk_sums[2 * to];
            g += b->chunk_sums[2 * to + 1];
        }
        w = sqrt(w), g = sqrt(g);
        int plain = c->exclude_1d && spans[b->chunks[from].span].one_dimensional;
        double ratio = 1.0, decay = 0.0;
        if (!plain && w > 0.0 && g > 0.0) {
            decay = (double)c->weight_decay;
            ratio = (double)c->trust * w / (g + decay * w + LARS_EPSILON);
            if (c->lars_clip) {
                ratio = fmin(ratio / (double)lr, 1.0);
            }
        }
        for (size_t i = from; i < to; i++) {
            b->chunks[i].decay = (float)decay, b->chunks[i].ratio = (float)ratio;
        }
    }
}

static void update_part(const struct lk_kernels *kernels, const struct lk_optimizer_config *c,
                        const struct lk_update_scalars *s, size_t at, size_t n, size_t n_params, float *params,
                        float *grads, float *state, float *teacher) {
    float *t = teacher ? teacher + at : NULL;
    if (c->kind == LK_ADAM) {
        kernels->adam(params + at, grads + at, state + at, state + n_params + at, t, n, s);
    } else {
        kernels->momentum(params + at, grads + at, state + at, t, n, s);
    }
}

int lk_cpu__update(struct lk_backend *b, const struct lk_optimizer_config *c, const struct lk_step_values *v,
                   const struct lk_param_span *spans, size_t n_spans, size_t n_params, float *params, float *grads,
                   float *state, float *teacher, size_t teacher_count) {
    if (c->kind != LK_SGD && c->kind != LK_ADAM && c->kind != LK_LARS) {
        return lk_err(LK_EINVAL, "unknown optimiser %d", (int)c->kind);
    }
    int rc = cut(b, spans, n_spans, n_params);
    if (rc) {
        return rc;
    }
    if (c->kind == LK_LARS) {
        trust(b, c, v->lr, spans, params, grads);
    } else {
        for (size_t i = 0; i < b->n_chunks; i++) {
            int plain = c->exclude_1d && spans[b->chunks[i].span].one_dimensional;
            b->chunks[i].decay = plain ? 0.0f : c->weight_decay;
        }
    }
    const double step = (double)v->step;
    const struct lk_update_scalars common = {.lr = v->lr,
                                             .momentum = c->momentum,
                                             .beta1 = c->beta1,
                                             .beta2 = c->beta2,
                                             .epsilon = c->epsilon,
                                             .step_size = (float)((double)v->lr / (1.0 - pow((double)c->beta1, step))),
                                             .root_correction = (float)sqrt(1.0 - pow((double)c->beta2, step)),
                                             .tau = v->tau};
    const size_t n = b->n_chunks, moved = teacher ? teacher_count : 0;
#pragma omp parallel for num_threads(b->dnnl.threads) schedule(static)
    for (size_t i = 0; i < n; i++) {
        const struct lk_cpu_chunk *k = &b->chunks[i];
        struct lk_update_scalars s = common;
        s.decay = k->decay, s.ratio = k->ratio;
        size_t with = k->offset >= moved ? 0 : moved - k->offset < k->count ? moved - k->offset : k->count;
        if (with) {
            update_part(b->kernels, c, &s, k->offset, with, n_params, params, grads, state, teacher);
        }
        if (with < k->count) {
            update_part(b->kernels, c, &s, k->offset + with, k->count - with, n_params, params, grads, state, NULL);
        }
    }
    return 0;
}
