#include "golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/rng.h"

struct lk_backend *golden_device(void) {
    const char *name = getenv("LK_TEST_DEVICE");
    struct lk_backend *b = NULL;
    name = name && *name ? name : "cpu";
    int rc = lk_device_open(&b, name, NULL);
    if (rc == LK_EUNSUPPORTED && strncmp(name, "cpu", 3) != 0) {
        printf("skipped, every case: %s\n", lk_error());
        exit(77);
    }
    if (rc) {
        printf("no device: %s\n", lk_error());
    }
    return rc ? NULL : b;
}

float *golden_tensor(const struct lk_safetensors *st, const char *a, const char *b, size_t count) {
    char name[160];
    snprintf(name, sizeof name, "%s%s", a, b);
    const struct lk_st_tensor *t = lk_safetensors_find(st, name);
    if (!t || t->count != count) {
        printf("golden tensor '%s' has %zu values, not %zu\n", name, t ? t->count : 0, count);
        return NULL;
    }
    float *x = lk_calloc(count, sizeof *x);
    if (x && lk_safetensors_to_float(t, x)) {
        printf("%s\n", lk_error());
        free(x);
        x = NULL;
    }
    return x;
}

double golden_number(const struct lk_safetensors *st, const char *key) {
    const char *text = lk_safetensors_meta(st, key);
    return text ? strtod(text, NULL) : NAN;
}

struct drawing {
    struct golden_net *g;
    uint64_t seed;
    const float *gamma, *beta;
    float last;
    uint32_t number; /* of the parameter tensor */
};

static int disturb(void *arg, const struct lk_net_tensor *t) {
    struct drawing *d = arg;
    if (t->stat) {
        return 0;
    }
    const struct lk_node *n = &d->g->net.nodes[t->node];
    float *x = d->g->params + t->offset;
    if (n->bn && t->ndim == 1) {
        int is_gamma = t->offset == n->gamma;
        if (is_gamma) {
            lk_rng_uniform(x, t->count, d->gamma[1], d->seed, d->number);
        } else {
            lk_rng_normal(x, t->count, d->beta[1], d->seed, d->number);
        }
        for (size_t i = 0; i < t->count; i++) {
            x[i] += is_gamma ? d->gamma[0] : d->beta[0];
            x[i] *= is_gamma && n->residual >= 0 ? d->last : 1.0f;
        }
    }
    d->number++;
    return 0;
}

int golden_net_open(struct golden_net *g, const struct lk_arch *arch, const struct lk_heads *heads, uint64_t seed,
                    const float gamma[2], const float beta[2], float last) {
    memset(g, 0, sizeof *g);
    if (lk_net_build(&g->net, arch, heads)) {
        printf("%s\n", lk_error());
        return -1;
    }
    g->params = lk_calloc_aligned(g->net.n_params, sizeof(float));
    g->stats = lk_calloc_aligned(g->net.n_stats, sizeof(float));
    if (!g->params || !g->stats) {
        golden_net_close(g);
        return -1;
    }
    lk_net_init(&g->net, seed, g->params, g->stats);
    struct drawing d = {.g = g, .seed = seed, .gamma = gamma, .beta = beta, .last = last};
    lk_net_tensors(&g->net, g->net.n_nodes, disturb, &d);
    return 0;
}

void golden_net_close(struct golden_net *g) {
    lk_net_free(&g->net);
    free(g->params);
    free(g->stats);
    memset(g, 0, sizeof *g);
}

double golden_error(const float *a, const float *b, size_t count, size_t stride, double floor) {
    double apart = 0, length = 0;
    for (size_t i = 0, k = 0; i < count; i += stride, k++) {
        double d = (double)a[i] - (double)b[k];
        apart += d * d;
        length += (double)b[k] * (double)b[k];
    }
    length = sqrt(length);
    return sqrt(apart) / (length > floor ? length : floor);
}
