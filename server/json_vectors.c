#include "json_vectors.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "json_number.h"

/* Depths of the objects that are queries: the body, or body, "queries", its elements. */
enum { BODY = 1, ELEMENT = 3 };
enum { NUMBER = 24 }; /* bytes that a vector's number may take */

struct walk {
    const char *p, *end, *kept; /* kept: what is not in out->text yet begins there */
    size_t dim, most;
    double *numbers; /* [dim] */
    int64_t depth;
    int in_queries;
    struct lk_json_vectors *out;
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

/* For all vectors that there may be from the first one on: of dim digits, dim - 1 commas and two brackets at least. */
static int make_room(struct walk *w) {
    struct lk_json_vectors *out = w->out;
    const size_t left = (size_t)(w->end - w->p), fit = left / (2 * w->dim + 1), n = fit < w->most ? fit : w->most;
    out->text = lk_arena_take(out->arena, (size_t)(w->p - w->kept) + left + n * NUMBER, 1);
    out->vectors = lk_arena_take(out->arena, n * w->dim, sizeof *out->vectors);
    return out->text && out->vectors ? 0 : LK_ENOMEM;
}

static void keep_text(struct walk *w, const char *end) {
    const size_t n = (size_t)(end - w->kept);
    memcpy(w->out->text + w->out->text_size, w->kept, n);
    w->out->text_size += n;
}

/* 1: the vector at w->p is taken. 0: it is none, and all are left. */
static int take_vector(struct walk *w) {
    struct lk_json_vectors *out = w->out;
    const char *after = out->count < w->most ? read_numbers(w->p, w->end, w->dim, w->numbers) : NULL;
    int rc;
    if (!after)
        return 0;
    if (!out->vectors && (rc = make_room(w)))
        return rc;
    if (lk_json_vector_unit(out->vectors + out->count * w->dim, w->numbers, w->dim))
        return 0;
    keep_text(w, w->p); /* and a space: the number ends there, whatever follows */
    out->text_size += (size_t)snprintf(out->text + out->text_size, NUMBER, "%zu ", out->count++);
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
    *out = (struct lk_json_vectors){.arena = out->arena};
    int rc = (w.numbers = lk_arena_take(out->arena, dim, sizeof *w.numbers)) ? walk(&w) : LK_ENOMEM;
    lk_arena_drop(out->arena, w.numbers);
    if (rc == 1 && out->count)
        keep_text(&w, w.end);
    else
        out->count = 0;
    return rc < 0 ? rc : 0;
}

void lk_json_vectors_close(struct lk_json_vectors *v) {
    lk_arena_drop(v->arena, v->text);
    lk_arena_drop(v->arena, v->vectors);
    *v = (struct lk_json_vectors){.arena = v->arena};
}
