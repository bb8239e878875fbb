/* POST /embed: pictures in, unit vectors out. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "pictures.h"

#define NUMBER_BYTES 16 /* of a number and its text */

enum output { AS_JSON, AS_FLOATS, AS_NPY };

struct embed {
    struct lk_pictures pictures;
    struct lk_embedding embedding;
    int many; /* a form for many: bad pictures stand in their places */
    enum output output;
};

static void embed_free(void *state) {
    struct embed *s = state;
    lk_embedding_close(&s->embedding);
    lk_pictures_free(&s->pictures);
}

/* The best of the types that we have; an Accept header that names none of them gets JSON. */
static enum output choose_output(struct lk_request *r) {
    static const char *const types[] = {"application/json", "application/octet-stream", "application/x-npy"};
    const char *p = lk_request_header(r, "Accept");
    enum output best = AS_JSON;
    double best_q = 0;
    while (p && *p) {
        const char *end = strchr(p, ',');
        size_t n = end ? (size_t)(end - p) : strlen(p);
        while (n && (*p == ' ' || *p == '\t'))
            p++, n--;
        const char *q = memchr(p, ';', n);
        size_t name = q ? (size_t)(q - p) : n;
        while (name && p[name - 1] == ' ')
            name--;
        double weight = 1;
        while (q && q < p + n && strncasecmp(q, "q=", 2) != 0)
            q++;
        if (q && q + 2 < p + n)
            weight = strtod(q + 2, NULL);
        for (int i = 0; i < 3; i++)
            if (strlen(types[i]) == name && strncasecmp(types[i], p, name) == 0 && weight > best_q) {
                best = (enum output)i;
                best_q = weight;
            }
        p = end ? end + 1 : NULL;
    }
    return best;
}

static int read_json(struct embed *s, struct lk_request *r, struct lk_fault *f) {
    const struct lk_config *config = lk_request_server(r)->config;
    return lk_pictures_json(&s->pictures, &r->body, (size_t)config->max_json_values, (size_t)config->max_images, f);
}

static int write_json(struct embed *s, struct lk_request *r, struct lk_buf *out) {
    const struct lk_embedding *e = &s->embedding;
    int rc;
    if ((rc = lk_json_raw(out, "{")) || (rc = lk_reply_generation(r, out)) ||
        (rc = lk_buf_printf(out, ",\"dim\":%d,\"embeddings\":[", e->targets[0]->dim)))
        return rc;
    for (size_t i = 0; i < e->count && rc == 0; i++) {
        if ((rc = lk_buf_printf(out, "%s{\"index\":%zu,", i ? "," : "", i)))
            return rc;
        if (e->pictures[i].fault.error) {
            if ((rc = lk_json_raw(out, "\"error\":")) || (rc = lk_fault_json(out, &e->pictures[i].fault)))
                return rc;
        } else if ((rc = lk_json_raw(out, "\"embedding\":")) ||
                   (rc = lk_json_floats(out, e->pictures[i].vectors[0], (size_t)e->targets[0]->dim))) {
            return rc;
        }
        rc = lk_json_raw(out, "}");
    }
    return rc ? rc : lk_json_raw(out, "]}\n");
}

/* NumPy's format 1.0: magic, version, header length, a Python dictionary padded to 64 bytes, the values. */
static int write_npy_header(struct lk_buf *out, size_t count, int dim) {
    char text[128];
    int n = snprintf(text, sizeof text, "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %d), }", count, dim);
    int padded = (10 + n + 1 + 63) / 64 * 64 - 10;
    const unsigned char head[10] = {
        0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)(padded & 255), (unsigned char)(padded >> 8)};
    int rc = lk_buf_append(out, head, sizeof head);
    return rc ? rc : lk_buf_printf(out, "%s%*s\n", text, padded - n - 1, "");
}

static int write_binary(struct embed *s, struct lk_request *r, struct lk_buf *out) {
    const struct lk_embedding *e = &s->embedding;
    lk_reply_generation_header(r);
    int rc = s->output == AS_NPY ? write_npy_header(out, e->count, e->targets[0]->dim) : 0;
    for (size_t i = 0; i < e->count && rc == 0; i++) /* this processor is little-endian, as the store insists */
        rc = lk_buf_append(out, e->pictures[i].vectors[0], (size_t)e->targets[0]->dim * sizeof(float));
    return rc;
}

static void embedded(void *arg) {
    struct lk_request *r = arg;
    struct embed *s = r->state;
    const struct lk_embedding *e = &s->embedding;
    for (size_t i = 0; i < e->count; i++) {
        struct lk_fault *f = &e->pictures[i].fault;
        if (!f->error || (s->many && s->output == AS_JSON && lk_fault_is_pictures(f)))
            continue;
        if (s->many && lk_fault_is_pictures(f))
            snprintf(f->param, sizeof f->param, "images[%zu]", i);
        lk_reply_fault(r, f);
        return;
    }
    static const char *const types[] = {"application/json", "application/octet-stream", "application/x-npy"};
    struct lk_buf out = lk_reply_buffer(r);
    struct lk_fault f = {0};
    int rc = lk_request_hold(r, e->count * (size_t)e->targets[0]->dim * NUMBER_BYTES);
    if (rc == 0)
        rc = s->output == AS_JSON ? write_json(s, r, &out) : write_binary(s, r, &out);
    if (rc) {
        lk_buf_free(&out);
        lk_request_hold_fault(&f, rc);
        lk_reply_fault(r, &f);
    } else {
        lk_reply(r, 200, types[s->output], &out);
    }
}

void lk_route_embed(struct lk_request *r) {
    struct lk_fault f = {0};
    struct embed *s = r->state = lk_arena_take(r->arena, 1, sizeof *s);
    if (!s) {
        lk_reply_failed(r, LK_ENOMEM);
        return;
    }
    r->state_free = embed_free;
    s->output = choose_output(r);
    enum lk_body_form form = lk_request_form(r);
    s->many = form != LK_FORM_PICTURE;
    int rc = lk_query_only(r, NULL, 0, &f);
    if (rc == 0 && form == LK_FORM_JSON)
        rc = read_json(s, r, &f);
    else if (rc == 0 && form == LK_FORM_MULTIPART)
        rc = lk_pictures_multipart(&s->pictures, r, &f);
    if (rc) {
        lk_reply_fault(r, &f);
        return;
    }
    rc = form == LK_FORM_PICTURE ? lk_body_embedding(r, &s->embedding, 0)
                                 : lk_pictures_embedding(&s->pictures, r, &s->embedding);
    if (rc) {
        lk_reply_failed(r, rc);
        return;
    }
    s->embedding.bulk = s->embedding.count > 1;
    s->embedding.done = embedded;
    lk_embedding_start(&s->embedding);
}
