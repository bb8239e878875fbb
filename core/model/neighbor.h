/* What "the k nearest rows" are, to the last bit: how a dot product is summed, which of two neighbours is worse, and how the
 * best are kept. gcc compiles these bodies for the trainer's search on the host and nvcc for the one on a device
 * (backend.h's neighbors), so that both find the same. With a BLAS the host sums in an order of its own: scores are
 * then equal to rounding, and neighbours may change places whose scores are as near as that. */
#ifndef LK_MODEL_NEIGHBOR_H
#define LK_MODEL_NEIGHBOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/hd.h"

struct lk_neighbor {
    float cosine;
    uint32_t index; /* row of the bank */
};

/* --- The sum. Each lane adds every LK_DOT_LANES-th product, which the host may keep in vector registers; the products
 * that fill no round are added first, then the lanes. */
enum { LK_DOT_LANES = 16 };

LK_HD float lk_dot(const float *a, const float *b, size_t n) {
    float part[LK_DOT_LANES] = {0}, sum = 0;
    size_t i = 0;
    for (; i + LK_DOT_LANES <= n; i += LK_DOT_LANES)
        for (size_t j = 0; j < LK_DOT_LANES; j++)
            part[j] += a[i + j] * b[i + j];
    for (; i < n; i++)
        sum += a[i] * b[i];
    for (size_t j = 0; j < LK_DOT_LANES; j++)
        sum += part[j];
    return sum;
}

/* The same sum one product after another: runs of products, each added up from 0 and then to the sum, in this order of
 * columns. The first run has lk_dot_first_run() of them, the others n / LK_DOT_LANES. */
LK_HD size_t lk_dot_first_run(size_t n) { return n % LK_DOT_LANES ? n % LK_DOT_LANES : n / LK_DOT_LANES; }
LK_HD size_t lk_dot_column(size_t at, size_t n) {
    size_t rounds = n / LK_DOT_LANES, rest = n % LK_DOT_LANES;
    return at < rest ? rounds * LK_DOT_LANES + at : (at - rest) % rounds * LK_DOT_LANES + (at - rest) / rounds;
}

/* --- The order: by falling cosine, equal ones by rising row. It is total, so the best k and their order do not depend on
 * the order in which rows come. (A NaN is neither better nor worse: where it stays is not defined.) */
LK_HD int lk_neighbor_worse(struct lk_neighbor a, struct lk_neighbor b) {
    return a.cosine < b.cosine || (a.cosine == b.cosine && a.index > b.index);
}

/* --- A heap of the best: the root is the worst of them. */
LK_HD void lk_neighbor_down(struct lk_neighbor *heap, size_t n, size_t at) {
    struct lk_neighbor moved = heap[at];
    for (size_t child = 2 * at + 1; child < n; at = child, child = 2 * at + 1) {
        if (child + 1 < n && lk_neighbor_worse(heap[child + 1], heap[child]))
            child++;
        if (!lk_neighbor_worse(heap[child], moved))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

/* Takes n in where fewer than k are kept or it is better than the worst of them; the number kept. */
LK_HD size_t lk_neighbor_take(struct lk_neighbor *heap, size_t kept, size_t k, struct lk_neighbor n) {
    if (kept < k) {
        size_t at = kept;
        for (; at > 0 && lk_neighbor_worse(n, heap[(at - 1) / 2]); at = (at - 1) / 2)
            heap[at] = heap[(at - 1) / 2];
        heap[at] = n;
        return kept + 1;
    }
    if (lk_neighbor_worse(heap[0], n)) {
        heap[0] = n;
        lk_neighbor_down(heap, k, 0);
    }
    return kept;
}

/* The heap into a list, best first. */
LK_HD void lk_neighbor_sort(struct lk_neighbor *heap, size_t n) {
    while (n > 1) {
        struct lk_neighbor worst = heap[0];
        heap[0] = heap[--n];
        heap[n] = worst;
        lk_neighbor_down(heap, n, 0);
    }
}

#endif
