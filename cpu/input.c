/* What goes into a pass and what comes out: pictures, random views, edges read back, the gradient to start from. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "cpu.h"

static int check_picture_edge(const struct lk_pass *pass) {
    const struct lk_cpu_edge *e = &pass->plan->edges[0];
    if (e->flat || e->c != 3) {
        return lk_err(LK_EINVAL, "this network does not read pictures");
    }
    return 0;
}

/* The floats of picture i into edge 0, when they were not made there. */
static void write_picture(struct lk_pass *pass, size_t i, const float *chw) {
    const struct lk_cpu_edge *e = &pass->plan->edges[0];
    const size_t n = 3 * (size_t)e->h * (size_t)e->w;
    if (e->dt == LK_DT_BF16) {
        pass->plan->b->kernels->to_bf16((uint16_t *)lk_cpu__edge(pass, 0) + i * n, chw, n);
    }
}

/* Where a picture's planar floats are made: in edge 0 itself, or for bf16 in this thread's scratch. */
static float *picture_buffer(struct lk_pass *pass, size_t i, float *scratch) {
    const struct lk_cpu_edge *e = &pass->plan->edges[0];
    if (e->dt == LK_DT_F32) {
        return (float *)lk_cpu__edge(pass, 0) + i * 3 * (size_t)e->h * (size_t)e->w;
    }
    return scratch;
}

/* One stretch of `floats` for each thread; kept by the pass. */
static int reserve_scratch(struct lk_pass *pass, size_t floats) {
    if (pass->augment_floats >= floats) {
        return 0;
    }
    floats = (floats + 15) / 16 * 16;
    float *p = lk_calloc_aligned(floats * (size_t)pass->plan->b->dnnl.threads, sizeof *p);
    if (!p) {
        return LK_ENOMEM;
    }
    free(pass->augment_scratch);
    pass->augment_scratch = p;
    pass->augment_floats = floats;
    return 0;
}

int lk_cpu__input_u8(struct lk_pass *pass, const uint8_t *pixels, int count, const float mean[3], const float std[3]) {
    const struct lk_plan *plan = pass->plan;
    const struct lk_cpu_edge *e = &plan->edges[0];
    const size_t area = (size_t)e->h * (size_t)e->w;
    int rc = check_picture_edge(pass);
    if (rc || (rc = reserve_scratch(pass, 3 * area))) {
        return rc;
    }
    if (count < 0 || count > plan->batch) {
        return lk_err(LK_EINVAL, "%d pictures for a batch of %d", count, plan->batch);
    }
    float table[3][256];
    for (int c = 0; c < 3; c++) {
        for (int v = 0; v < 256; v++) {
            table[c][v] = ((float)v / 255.0f - mean[c]) / std[c];
        }
    }
    const size_t pixel = plan->layout == LK_NHWC ? 3 : 1, plane = plan->layout == LK_NHWC ? 1 : area;
    const int threads = plan->b->dnnl.threads;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < threads; t++) {
        for (size_t i = (size_t)t; i < (size_t)plan->batch; i += (size_t)threads) {
            float *chw = picture_buffer(pass, i, pass->augment_scratch + (size_t)t * pass->augment_floats);
            if (i < (size_t)count) {
                const uint8_t *from = pixels + i * 3 * area;
                for (size_t p = 0; p < area; p++) {
                    chw[pixel * p] = table[0][from[3 * p]];
                    chw[plane + pixel * p] = table[1][from[3 * p + 1]];
                    chw[2 * plane + pixel * p] = table[2][from[3 * p + 2]];
                }
            } else {
                memset(chw, 0, 3 * area * sizeof *chw);
            }
            write_picture(pass, i, chw);
        }
    }
    return 0;
}

/* Runs a change of layout that is made for this one call: tests and tools, never a step. */
static int convert(const struct lk_plan *plan, const lk_md *from, const void *source, const lk_md *to, void *target) {
    const struct lk_dnnl *d = &plan->b->dnnl;
    struct lk_prim reorder = {0};
    struct lk_call call = {.prim = &reorder};
    lk_mem *m_from = NULL, *m_to = NULL;
    int rc;
    if ((rc = lk_dnnl__mem(&m_from, d, from, NULL)) || (rc = lk_dnnl__mem_set(m_from, source)) ||
        (rc = lk_dnnl__mem(&m_to, d, to, target)) || (rc = lk_dnnl__reorder(&reorder, d, from, to, 0))) {
        goto done;
    }
    lk_dnnl__arg(&call, LK_ARG_SRC, m_from);
    lk_dnnl__arg(&call, LK_ARG_DST, m_to);
    rc = lk_dnnl__run(d, &call);
done:
    lk_dnnl__prim_free(&reorder);
    lk_dnnl__mem_free(m_from);
    lk_dnnl__mem_free(m_to);
    return rc;
}

/* How the outside sees an edge: float, CHW. */
static int plain(lk_md **out, const struct lk_plan *plan, const struct lk_cpu_edge *e) {
    return lk_dnnl__md(out, LK_DT_F32, e->flat ? LK_NC : LK_NCHW, plan->batch, e->c, e->h, e->w);
}

int lk_cpu__input_f32(struct lk_pass *pass, const float *chw) {
    const struct lk_cpu_edge *e = &pass->plan->edges[0];
    lk_md *md = NULL;
    int rc = plain(&md, pass->plan, e);
    if (!rc) {
        rc = convert(pass->plan, md, chw, e->true_md, lk_cpu__edge(pass, 0));
    }
    lk_dnnl__md_free(md);
    return rc;
}

int lk_cpu__augment(struct lk_pass *pass, const struct lk_augment *a, uint64_t seed, uint32_t epoch, int view,
                    const uint8_t *const *pixels, const int *widths, const int *heights, const uint64_t *image_ids) {
    const struct lk_plan *plan = pass->plan;
    const struct lk_cpu_edge *e = &plan->edges[0];
    const size_t area = (size_t)e->h * (size_t)e->w, work = lk_augment_scratch(a);
    int rc = check_picture_edge(pass);
    if (rc || (rc = reserve_scratch(pass, 3 * area + work))) {
        return rc;
    }
    if (plan->layout == LK_NHWC) {
        return lk_err(LK_EUNSUPPORTED, "a plan for the inference of one picture makes no random views");
    }
    if (a->size != e->h || a->size != e->w) {
        return lk_err(LK_EINVAL, "views of side %d for a network of side %d", a->size, e->h);
    }
    const int threads = plan->b->dnnl.threads;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < threads; t++) {
        float *scratch = pass->augment_scratch + (size_t)t * pass->augment_floats;
        for (size_t i = (size_t)t; i < (size_t)plan->batch; i += (size_t)threads) {
            float *chw = picture_buffer(pass, i, scratch + work);
            lk_augment_view(chw, pixels[i], widths[i], heights[i], a, seed, epoch, image_ids[i], view, scratch);
            write_picture(pass, i, chw);
        }
    }
    return 0;
}

int lk_cpu__input_from(struct lk_pass *pass, const struct lk_pass *from) {
    const struct lk_cpu_edge *to = &pass->plan->edges[0], *e = &from->plan->edges[0];
    int rc = check_picture_edge(pass);
    if (rc) {
        return rc;
    }
    if (from->plan->purpose != LK_TRAIN || from->plan->batch != pass->plan->batch || e->dt != to->dt || e->h != to->h ||
        e->w != to->w || e->bytes != to->bytes || from->plan->layout != pass->plan->layout) {
        return lk_err(LK_EINVAL, "an input can only come from a training pass of the same shape, precision and batch");
    }
    memcpy(lk_cpu__edge(pass, 0), from->forward[e->slot], to->bytes);
    return 0;
}

static void to_unit_length(float *row, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)row[i] * (double)row[i];
    }
    if (sum > 0.0) {
        double scale = 1.0 / sqrt(sum);
        for (size_t i = 0; i < n; i++) {
            row[i] = (float)((double)row[i] * scale);
        }
    }
}

int lk_cpu__output(struct lk_pass *pass, int edge, int count, int normalize, float *host) {
    const struct lk_plan *plan = pass->plan;
    if (edge < 0 || edge > plan->n_nodes || count < 0 || count > plan->batch) {
        return lk_err(LK_EINVAL, "no edge %d with %d rows in this pass", edge, count);
    }
    const struct lk_cpu_edge *e = &plan->edges[edge];
    if (plan->forward_slots.owner[e->slot] != edge) {
        return lk_err(LK_EINVAL, "edge %d is not kept by this kind of plan", edge);
    }
    const size_t row = (size_t)e->c * (size_t)e->h * (size_t)e->w, floats = (size_t)count * row;
    if (e->flat && e->dt == LK_DT_F32) {
        memcpy(host, lk_cpu__edge(pass, edge), floats * sizeof *host);
    } else {
        float *all = lk_calloc_aligned((size_t)plan->batch * row, sizeof *all);
        lk_md *md = NULL;
        int rc = all ? plain(&md, plan, e) : LK_ENOMEM;
        if (!rc && !(rc = convert(plan, e->true_md, lk_cpu__edge(pass, edge), md, all))) {
            memcpy(host, all, floats * sizeof *host);
        }
        lk_dnnl__md_free(md);
        free(all);
        if (rc) {
            return rc;
        }
    }
    for (size_t i = 0; normalize && i < (size_t)count; i++) {
        to_unit_length(host + i * row, row);
    }
    return 0;
}

int lk_cpu__output_gradient(struct lk_pass *pass, int edge, const float *gradient) {
    const struct lk_plan *plan = pass->plan;
    if (plan->purpose != LK_TRAIN || edge != plan->n_nodes) {
        return lk_err(LK_EINVAL, "a gradient can only be given for the last edge of a training pass");
    }
    const struct lk_cpu_edge *e = &plan->edges[edge];
    void *to = pass->gradient[e->gradient[0]];
    if (e->flat && e->dt == LK_DT_F32) {
        memcpy(to, gradient, (size_t)plan->batch * (size_t)e->c * sizeof *gradient);
        return 0;
    }
    lk_md *md = NULL;
    int rc = plain(&md, plan, e);
    if (!rc) {
        rc = convert(plan, md, gradient, e->true_md, to);
    }
    lk_dnnl__md_free(md);
    return rc;
}
