/* See winograd.h. A batch's tiles go through in chunks: v of a chunk is made, then parts of it (some tiles, two blocks of
 * output channels) go through products and output while they are in the cache. Where the weights are small a thread
 * takes chunks of its own; where they are large all threads share each chunk, so that they are read once for all. */
#include "winograd.h"

#include <omp.h>

#include "base/err.h"
#include "cpu.h"

#define PART_TILES 42            /* tiles a part: their m stays in the second cache */
#define ALONE_TILES 56           /* a chunk of one thread */
#define ALONE_WEIGHTS (1u << 20) /* floats */
#define LEAST_TILES 8            /* fewer do not pay for reading four times the weights */
#define LEAST_FILL 6             /* pixels of a tile's 16 that there must be on average */
#define LINE ((size_t)16)        /* keeps the 36 streams of a tile off each other's cache sets */

struct shape {
    size_t block, in_blocks, in_c, pairs; /* a pair: two blocks of output channels */
    size_t across, down, picture, tiles;  /* tiles: across and down a picture, in it, in the batch */
    size_t chunk, part;                   /* tiles at a time */
    int alone;                            /* a chunk is one thread's */
    size_t v_step, m_step;
};

static size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

static struct shape shape_of(const struct lk_plan *plan, int node, int back) {
    const struct lk_cpu_node *k = &plan->nodes[node];
    const size_t threads = (size_t)plan->b->dnnl.threads;
    const size_t in_c = (size_t)(back ? k->padded : k->in_padded), out_c = (size_t)(back ? k->in_padded : k->padded);
    struct shape s = {.block = (size_t)plan->b->kernels->block, .in_c = in_c};
    s.in_blocks = in_c / s.block;
    s.pairs = out_c / (2 * s.block);
    s.across = ceil_div((size_t)k->node->out_w, LK_WINOGRAD_OUT);
    s.picture = s.across * ceil_div((size_t)k->node->out_h, LK_WINOGRAD_OUT);
    s.tiles = s.picture * (size_t)plan->batch;
    s.alone = LK_WINOGRAD_PRODUCTS * in_c * out_c <= ALONE_WEIGHTS && s.tiles >= ALONE_TILES / 2 * threads;
    if (s.alone) {
        size_t share = ceil_div(s.tiles, threads);
        s.chunk = ceil_div(share, ceil_div(share, ALONE_TILES));
    } else { /* the weights are read once a chunk: v grows to half their size */
        size_t fit = out_c / 2;
        s.chunk = ceil_div(s.tiles, ceil_div(s.tiles, fit < ALONE_TILES ? ALONE_TILES : fit));
    }
    s.part = ceil_div(s.chunk, ceil_div(s.chunk, PART_TILES));
    s.v_step = s.chunk * in_c + LINE;
    s.m_step = s.part * 2 * s.block + LINE;
    return s;
}

int lk_cpu__winograd_suits(const struct lk_plan *plan, int node, int back) {
    const struct lk_cpu_node *k = &plan->nodes[node];
    const struct lk_node *n = k->node;
    const size_t block = (size_t)plan->b->kernels->block;
    if ((plan->dt == LK_DT_BF16 && plan->b->best == LK_BF16) || !plan->b->winograd || n->kind != LK_NODE_CONV ||
        n->kernel != 3 || n->stride != 1 || n->pad != 1) {
        return 0;
    }
    struct shape s = shape_of(plan, node, back);
    size_t pixels = (size_t)n->out_h * (size_t)n->out_w * (size_t)plan->batch;
    return s.in_blocks * block == s.in_c && s.pairs * 2 * block == (size_t)(back ? k->in_padded : k->padded) &&
           s.tiles >= LEAST_TILES && pixels >= LEAST_FILL * s.tiles;
}

size_t lk_cpu__winograd_bytes(const struct lk_cpu_node *k) {
    return LK_WINOGRAD_PRODUCTS * (size_t)k->padded * (size_t)k->in_padded * sizeof(float);
}

int lk_cpu__winograd_plan(struct lk_plan *plan) {
    size_t v = 0, m = 0, threads = (size_t)plan->b->dnnl.threads;
    for (int i = 0; i < 2 * plan->n_nodes; i++) {
        const struct lk_cpu_node *k = &plan->nodes[i / 2];
        if (i % 2 ? k->winograd_back : k->winograd) {
            struct shape s = shape_of(plan, i / 2, i % 2);
            size_t v_floats = (s.alone ? threads : 1) * LK_WINOGRAD_PRODUCTS * s.v_step;
            size_t m_floats = LK_WINOGRAD_PRODUCTS * s.m_step;
            v = v > v_floats ? v : v_floats;
            m = m > m_floats ? m : m_floats;
        }
    }
    if (v) {
        plan->winograd_m_floats = m;
        plan->winograd_v = lk_cpu__tensor(v * sizeof(float));
        plan->winograd_m = lk_cpu__tensor(threads * m * sizeof(float));
    }
    return v && (!plan->winograd_v || !plan->winograd_m) ? LK_ENOMEM : 0;
}

/* u [pair][36][in channels][2 blocks]; in `back`, in and out are exchanged. */
static void make_u(const struct lk_plan *plan, float *u, const float *w, size_t in_c, size_t out_c, int back) {
    const struct lk_winograd_kernels *f = plan->b->winograd;
    const size_t columns = 2 * (size_t)plan->b->kernels->block;
    const size_t in_step = back ? 9 * out_c : 9, out_step = back ? 9 : 9 * in_c;
#pragma omp parallel for num_threads(plan->b->dnnl.threads) schedule(static)
    for (size_t i = 0; i < out_c / columns * in_c; i++) {
        size_t pair = i / in_c, c = i % in_c;
        f->weights(u + (pair * LK_WINOGRAD_PRODUCTS * in_c + c) * columns, in_c * columns,
                   w + pair * columns * out_step + c * in_step, out_step, back);
    }
}

void lk_cpu__winograd_weights(const struct lk_plan *plan, struct lk_cpu_node *k, const float *w) {
    if (k->u) {
        make_u(plan, k->u, w, (size_t)k->in_padded, (size_t)k->padded, 0);
    }
    if (k->u_back) {
        make_u(plan, k->u_back, w, (size_t)k->padded, (size_t)k->in_padded, 1);
    }
}

/* Where a block of channels of a picture begins, in blocks or pixel by pixel. */
struct view {
    struct lk_winograd_image image;
    size_t picture, block; /* elements from one to the next */
};

static struct view view_of(const struct lk_plan *plan, int edge) {
    const struct lk_cpu_edge *e = &plan->edges[edge];
    size_t block = (size_t)plan->b->kernels->block, c = (size_t)e->padded, w = (size_t)e->w, h = (size_t)e->h;
    size_t pixel = plan->layout == LK_NHWC ? c : block;
    return (struct view){.image = {e->h, e->w, w * pixel, pixel},
                         .picture = c * h * w,
                         .block = plan->layout == LK_NHWC ? block : block * h * w};
}

struct job {
    const struct lk_winograd_kernels *f;
    struct shape s;
    struct view in, out;
    const float *u, *bias;
    const char *x;
    char *z;
    size_t size; /* bytes of an element of x and z */
    int sum, relu;
};

struct tile {
    size_t picture;
    int y, x; /* its first output */
};

static struct tile tile_of(const struct shape *s, size_t t) {
    size_t in = t % s->picture;
    return (struct tile){t / s->picture, (int)(in / s->across * LK_WINOGRAD_OUT),
                         (int)(in % s->across * LK_WINOGRAD_OUT)};
}

static int least(int a, int b) { return a < b ? a : b; }

/* v of one block of channels of the chunk's tile t. */
static void input(const struct job *j, float *v, size_t chunk, size_t t, size_t block) {
    struct tile at = tile_of(&j->s, chunk + t);
    j->f->input(v + t * j->s.in_c + block * j->s.block, j->s.v_step,
                j->x + (at.picture * j->in.picture + block * j->in.block) * j->size, j->size == 2, at.y - 1, at.x - 1,
                &j->in.image);
}

/* The chunk's tiles [first, first + count) in a pair of output blocks. */
static void part(const struct job *j, const float *v, float *m, size_t chunk, size_t first, size_t count, size_t pair) {
    const struct shape *s = &j->s;
    const struct lk_winograd_image *image = &j->out.image;
    const size_t columns = 2 * s->block;
    for (size_t p = 0; p < LK_WINOGRAD_PRODUCTS; p++) {
        j->f->product(m + p * s->m_step, v + p * s->v_step + first * s->in_c, s->in_c,
                      j->u + (pair * LK_WINOGRAD_PRODUCTS + p) * s->in_c * columns, s->in_c, (int)count);
    }
    for (size_t i = 0; i < 2 * count; i++) {
        size_t block = 2 * pair + i / count, t = i % count;
        struct tile at = tile_of(s, chunk + first + t);
        size_t to = at.picture * j->out.picture + block * j->out.block + (size_t)at.y * image->row +
                    (size_t)at.x * image->pixel;
        j->f->output(j->z + to * j->size, j->size == 2, m + t * columns + i / count * s->block, s->m_step,
                     least(LK_WINOGRAD_OUT, image->h - at.y), least(LK_WINOGRAD_OUT, image->w - at.x), image,
                     j->bias ? j->bias + block * s->block : NULL, j->sum, j->relu);
    }
}

static size_t count_from(size_t from, size_t all, size_t most) { return all - from < most ? all - from : most; }

static void run_alone(const struct job *j, const struct lk_plan *plan) {
    const struct shape *s = &j->s;
#pragma omp parallel for num_threads(plan->b->dnnl.threads) schedule(static)
    for (size_t chunk = 0; chunk < s->tiles; chunk += s->chunk) {
        size_t thread = (size_t)omp_get_thread_num(), tiles = count_from(chunk, s->tiles, s->chunk);
        float *v = plan->winograd_v + thread * LK_WINOGRAD_PRODUCTS * s->v_step;
        float *m = plan->winograd_m + thread * plan->winograd_m_floats;
        for (size_t i = 0; i < tiles * s->in_blocks; i++) {
            input(j, v, chunk, i / s->in_blocks, i % s->in_blocks);
        }
        for (size_t first = 0; first < tiles; first += s->part) {
            for (size_t pair = 0; pair < s->pairs; pair++) {
                part(j, v, m, chunk, first, count_from(first, tiles, s->part), pair);
            }
        }
    }
}

static void run_together(const struct job *j, const struct lk_plan *plan) {
    const struct shape *s = &j->s;
    float *v = plan->winograd_v;
    for (size_t chunk = 0; chunk < s->tiles; chunk += s->chunk) {
        const size_t tiles = count_from(chunk, s->tiles, s->chunk), parts = ceil_div(tiles, s->part);
#pragma omp parallel num_threads(plan->b->dnnl.threads)
        {
            float *m = plan->winograd_m + (size_t)omp_get_thread_num() * plan->winograd_m_floats;
#pragma omp for schedule(static)
            for (size_t i = 0; i < tiles * s->in_blocks; i++) {
                input(j, v, chunk, i / s->in_blocks, i % s->in_blocks);
            }
#pragma omp for schedule(static)
            for (size_t i = 0; i < parts * s->pairs; i++) {
                size_t first = i % parts * s->part;
                part(j, v, m, chunk, first, count_from(first, tiles, s->part), i / parts);
            }
        }
    }
}

static void run(const struct lk_plan *plan, const struct job *j) {
    if (j->s.alone) {
        run_alone(j, plan);
    } else {
        run_together(j, plan);
    }
}

void lk_cpu__winograd(struct lk_pass *pass, int node) {
    const struct lk_plan *plan = pass->plan;
    const struct lk_cpu_node *k = &plan->nodes[node];
    const struct lk_node *n = k->node;
    const int whole = plan->purpose == LK_INFERENCE; /* with residual and ReLU */
    struct job j = {.f = plan->b->winograd,
                    .s = shape_of(plan, node, 0),
                    .in = view_of(plan, n->input),
                    .out = view_of(plan, node + 1),
                    .x = lk_cpu__edge(pass, n->input),
                    .size = lk_cpu__dt_bytes(plan->dt),
                    .u = k->u,
                    .bias = k->bias_md ? k->beta : NULL,
                    .z = lk_cpu__y(pass, node),
                    .sum = whole && n->residual >= 0,
                    .relu = whole && n->relu};
    run(plan, &j);
}

void lk_cpu__winograd_back(struct lk_pass *pass, int node) {
    const struct lk_plan *plan = pass->plan;
    const struct lk_cpu_node *k = &plan->nodes[node];
    struct job j = {.f = plan->b->winograd,
                    .s = shape_of(plan, node, 1),
                    .in = view_of(plan, node + 1),
                    .out = view_of(plan, k->node->input),
                    .x = pass->gradient[k->dy_slot],
                    .size = lk_cpu__dt_bytes(plan->dt),
                    .u = k->u_back,
                    .z = pass->gradient[k->dx_slot]};
    run(plan, &j);
}
