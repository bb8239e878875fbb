#include "json_vectors.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "json_number.h"

/* Depths of the objects that are queries: the body, or body, "queries", its elements. */
enum { BODY = 1, ELEMENT = 3 };

struct walk {
    const char *p, *end, *kept; /* kept: what is not in out->text yet begins there */
    size_t dim, most;
    double *numbers; /* [dim] */
    int64_t depth;
    int in_queries;
    struct lk_json_vectors *out;
    struct lk_buf floats;
};

int lk_json_vector_unit(float *out, const double *values, size_t dim) {
    double sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += values[i] * values[i];
    const double length = sqrt(sum);
    if (!isfinite(length) || !(length > 1e-30))
        return LK_EINVAL;
    for (size_t i = 0; i < dim; i++)
        out[i] = (float)(values[i] / length);
    return 0;
}

static const char *skip_space(const char *p, const char *end) {
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r'))
        p++;
    return p;
}

/* An array of dim numbers; returns its end, NULL: it is something else. */
static const char *read_numbers(const char *p, const char *end, size_t dim, double *numbers) {
    if (p == end || *p != '[')
        return NULL;
    for (size_t i = 0; i < dim; i++) {
        p = lk_json_number(skip_space(p + 1, end), end, &numbers[i]);
        p = p ? skip_space(p, end) : end;
        if (p == end || *p != (i + 1 < dim ? ',' : ']'))
            return NULL;
    }
    return p + 1;
}

/* 1: the vector at w->p is taken. 0: it is none, and all are left. */
static int take_vector(struct walk *w) {
    struct lk_json_vectors *out = w->out;
    const size_t bytes = w->dim * sizeof(float);
    const char *after = out->count < w->most ? read_numbers(w->p, w->end, w->dim, w->numbers) : NULL;
    int rc;
    if (!after)
        return 0;
    if ((rc = lk_buf_reserve(&w->floats, w->floats.size + bytes)) ||
        (rc = lk_buf_append(&out->text, w->kept, (size_t)(w->p - w->kept))) ||
        (rc = lk_buf_printf(&out->text, "%zu ", out->count))) /* a space: the number ends here, whatever follows */
        return rc;
    if (lk_json_vector_unit((float *)(void *)(w->floats.data + w->floats.size), w->numbers, w->dim))
        return 0;
    w->floats.size += bytes;
    out->count++;
    w->p = w->kept = after;
    return 1;
}

/* The string at w->p; when it is the name of a vector, the vector too. 1: go on, 0: leave all. */
static int walk_string(struct walk *w) {
    const char *text = w->p + 1, *quote = text;
    for (;; quote++) { /* to the quote that no odd number of backslashes precedes */
        quote = memchr(quote, '"', (size_t)(w->end - quote));
        if (!quote)
            return 0;
        const char *back = quote;
        while (back > text && back[-1] == '\\')
            back--;
        if ((quote - back) % 2 == 0)
            break;
    }
    const size_t n = (size_t)(quote - text);
    const char *colon = skip_space(quote + 1, w->end);
    w->p = quote + 1;
    if (colon == w->end || *colon != ':' || !(w->depth == BODY || (w->depth == ELEMENT && w->in_queries)))
        return 1;
    if (memchr(text, '\\', n))
        return 0; /* it may spell "vector" */
    if (n == 7 && w->depth == BODY && memcmp(text, "queries", n) == 0)
        w->in_queries = 1;
    if (n != 6 || memcmp(text, "vector", n) != 0)
        return 1;
    w->p = skip_space(colon + 1, w->end);
    return take_vector(w);
}

static int walk(struct walk *w) {
    int rc = 1;
    while (rc == 1 && w->p < w->end) {
        switch (*w->p) {
        case '"': rc = walk_string(w); continue;
        case '{':
        case '[': w->depth++; break;
        case '}':
        case ']':
            w->depth--;
            w->in_queries &= w->depth > BODY;
            break;
        default: break;
        }
        w->p++;
    }
    return rc;
}

int lk_json_vectors_take(struct lk_json_vectors *out, const char *body, size_t n, size_t dim, size_t most) {
    struct walk w = {.p = body, .end = body + n, .kept = body, .dim = dim, .most = most, .out = out};
    *out = (struct lk_json_vectors){0};
    int rc = (w.numbers = lk_calloc(dim, sizeof *w.numbers)) ? walk(&w) : LK_ENOMEM;
    free(w.numbers);
    if (rc == 1 && out->count)
        rc = lk_buf_append(&out->text, w.kept, (size_t)(w.end - w.kept));
    else
        out->count = 0;
    out->vectors = (float *)(void *)w.floats.data;
    return rc < 0 ? rc : 0;
}

void lk_json_vectors_close(struct lk_json_vectors *v) {
    lk_buf_free(&v->text);
    free(v->vectors);
    *v = (struct lk_json_vectors){0};
}
