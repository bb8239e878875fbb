/* BYOL's loss (Grill et al. 2020, equation 2, summed over both directions) and its gradient, and the collapse
 * statistic. Cosines are torch.nn.functional.cosine_similarity's: a norm below 1e-8 counts as 1e-8. Rows are short and
 * few, so one thread in double does it. */
#include <math.h>

#include "base/err.h"
#include "cpu.h"

#define EPSILON 1e-8

static double norm_of(const float *x, size_t n, int *clamped) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    double norm = sqrt(sum);
    *clamped = norm < EPSILON;
    return *clamped ? EPSILON : norm;
}

/* Sum over the batch of 2 - 2 cos(p, z); gradient [batch][d] = scale / batch * d/dp of it. */
static double direction(const float *p, const float *z, float *gradient, size_t batch, size_t d, double scale) {
    double total = 0.0;
    for (size_t i = 0; i < batch; i++, p += d, z += d, gradient += d) {
        int p_clamped, z_clamped;
        double p_norm = norm_of(p, d, &p_clamped), z_norm = norm_of(z, d, &z_clamped), dot = 0.0;
        for (size_t j = 0; j < d; j++) {
            dot += (double)p[j] * (double)z[j];
        }
        double cosine = dot / (p_norm * z_norm), k = -2.0 * scale / (double)batch;
        double to_z = k / (p_norm * z_norm), to_p = p_clamped ? 0.0 : -k * cosine / (p_norm * p_norm);
        for (size_t j = 0; j < d; j++) {
            gradient[j] = (float)(to_z * (double)z[j] + to_p * (double)p[j]);
        }
        total += 2.0 - 2.0 * cosine;
    }
    return total;
}

/* Mean over dimensions of the deviation (n - 1) of z / |z| over the batch. sums: 2 d doubles. */
static double spread_of(const float *z, size_t batch, size_t d, double *sums) {
    if (batch < 2) {
        return 0.0;
    }
    for (size_t j = 0; j < 2 * d; j++) {
        sums[j] = 0.0;
    }
    for (size_t i = 0; i < batch; i++, z += d) {
        int clamped;
        double inverse = 1.0 / norm_of(z, d, &clamped);
        for (size_t j = 0; j < d; j++) {
            double u = (double)z[j] * inverse;
            sums[j] += u;
            sums[d + j] += u * u;
        }
    }
    double total = 0.0, n = (double)batch;
    for (size_t j = 0; j < d; j++) {
        double var = (sums[d + j] - sums[j] * sums[j] / n) / (n - 1.0);
        total += var > 0.0 ? sqrt(var) : var < 0.0 ? 0.0 : var; /* NaN stays */
    }
    return total / (double)d;
}

static int check_pair(const struct lk_pass *a, const struct lk_pass *b, enum lk_purpose purpose, const char *who) {
    const struct lk_cpu_edge *e = &a->plan->edges[a->plan->n_nodes];
    if (a->plan != b->plan || a == b || !e->flat || e->dt != LK_DT_F32 ||
        (purpose == LK_TRAIN && a->plan->purpose != LK_TRAIN)) {
        return lk_err(LK_EINVAL, "the %s's two passes are not two of one plan that ends in a linear layer", who);
    }
    return 0;
}

int lk_cpu__byol_loss(struct lk_pass *student1, struct lk_pass *student2, struct lk_pass *teacher1,
                      struct lk_pass *teacher2, float scale, int slot) {
    const struct lk_plan *student = student1->plan, *teacher = teacher1->plan;
    const struct lk_cpu_edge *p = &student->edges[student->n_nodes], *z = &teacher->edges[teacher->n_nodes];
    int rc;
    if ((rc = check_pair(student1, student2, LK_TRAIN, "student")) ||
        (rc = check_pair(teacher1, teacher2, LK_FORWARD, "teacher"))) {
        return rc;
    }
    if (p->c != z->c || student->batch != teacher->batch || slot < 0 || slot >= LK_LOSS_RING) {
        return lk_err(LK_EINVAL, "predictions are %d x %d, projections %d x %d, slot %d", student->batch, p->c,
                      teacher->batch, z->c, slot);
    }
    const float *p1 = lk_cpu__edge(student1, student->n_nodes), *p2 = lk_cpu__edge(student2, student->n_nodes);
    const float *z1 = lk_cpu__edge(teacher1, teacher->n_nodes), *z2 = lk_cpu__edge(teacher2, teacher->n_nodes);
    const size_t batch = (size_t)student->batch, d = (size_t)p->c;
    double loss = direction(p1, z2, student1->gradient[p->gradient[0]], batch, d, (double)scale);
    loss += direction(p2, z1, student2->gradient[p->gradient[0]], batch, d, (double)scale);
    loss /= (double)batch;
    double deviation = spread_of(z1, batch, d, teacher->partials);
    student->b->stats[slot] = (struct lk_byol_stats){
        .loss = (float)loss, .projection_std = (float)deviation, .finite = isfinite(loss) && isfinite(deviation)};
    return 0;
}

int lk_cpu__byol_stats(struct lk_backend *b, int slot, struct lk_byol_stats *out) {
    if (slot < 0 || slot >= LK_LOSS_RING) {
        return lk_err(LK_EINVAL, "loss slot %d is not in 0..%d", slot, LK_LOSS_RING - 1);
    }
    *out = b->stats[slot];
    return 0;
}
