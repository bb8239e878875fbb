#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/log.h"
#include "console.h"
#include "image/decode.h"
#include "stop.h"
#include "weights_args.h"

struct request {
    struct lk_weights_request shared;
    const char *out, *ids;
};

static int parse(struct request *r, int argc, char **argv) {
    const struct lk_arg args[] = {
        {.kind = LK_ARG_STRING,
         .name = "out",
         .value = &r->out,
         .placeholder = "FILE",
         .help = "the vectors, NumPy's .npy: float32 [pictures][dimension], unit length"},
        {.kind = LK_ARG_STRING,
         .name = "ids",
         .value = &r->ids,
         .placeholder = "FILE",
         .help = "the pictures' names below a folder, or their ids, a line each (default: OUT with .txt)"},
    };
    int rc = lk_weights_parse(&r->shared, args, sizeof args / sizeof args[0], argc, argv,
                              "likeness-trainer embed --model FILE --data PLACE --out FILE.npy [options]",
                              "Turns pictures into vectors, as the server would, and writes them for NumPy.");
    return rc == 0 && r->out == NULL ? lk_err(LK_EINVAL, "--out is missing: where the vectors go") : rc;
}

/* --- a chunk of pictures --------------------------------------------------------------------------------------------- */

struct chunk {
    const struct lk_items *items;
    size_t first;
    struct lk_image *images;
    char **errors; /* NULL: decoded */
};

static void decode_one(void *arg, size_t i) {
    struct chunk *c = arg;
    struct lk_buf file = {0};
    int rc = c->items->read(c->items, c->first + i, &file);
    if (rc == 0)
        rc = lk_decode(&c->images[i], file.data, file.size, NULL);
    if (rc != 0)
        c->errors[i] = lk_strdup(lk_error());
    lk_buf_free(&file);
}

struct result {
    struct lk_buf vectors, names;
    float *row; /* [batch][dim] */
    size_t n, bad;
};

static int embed_chunk(struct result *r, struct lk_weights *w, struct chunk *c, size_t n) {
    size_t kept = 0;
    lk_pool_for(w->pool, n, decode_one, c);
    int rc = 0;
    for (size_t i = 0; i < n; i++) {
        if (c->images[i].pixels == NULL) {
            lk_log_warn("%s/%s: left out: %s", c->items->place, c->items->name[c->first + i],
                        c->errors[i] != NULL ? c->errors[i] : "out of memory");
            r->bad++;
            continue;
        }
        struct lk_image image = c->images[i];
        memset(&c->images[i], 0, sizeof image);
        c->images[kept++] = image; /* kept <= i: a slot that is free by now */
        rc = rc ? rc : lk_buf_printf(&r->names, "%s\n", c->items->name[c->first + i]);
    }
    if (rc == 0 && kept > 0)
        rc = lk_embedder_images(&w->embedder, r->row, c->images, kept);
    if (rc == 0)
        rc = lk_buf_append(&r->vectors, r->row, kept * w->embedder.dim * sizeof(float));
    r->n += kept;
    for (size_t i = 0; i < n; i++) {
        lk_image_free(&c->images[i]);
        free(c->errors[i]);
        c->errors[i] = NULL;
    }
    return rc;
}

/* NumPy's format 1.0 (numpy/lib/format.py): magic, version, header length, a Python literal padded to 64 bytes. */
static int write_npy(const char *path, const struct result *r, size_t dim) {
    static const unsigned char magic[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, 128 - 10, 0};
    char header[192];
    memset(header, ' ', 128);
    memcpy(header, magic, sizeof magic);
    int n = snprintf(header + 10, sizeof header - 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }",
                     r->n, dim);
    if (n < 0 || n > 117)
        return lk_err(LK_EFAIL, "%s: too many vectors for the header", path);
    header[10 + n] = ' ';
    header[127] = '\n';
    struct lk_fs_writer w = {0};
    int rc;
    if ((rc = lk_fs_writer_begin(&w, path)) || (rc = lk_fs_writer_append(&w, header, 128)) ||
        (rc = lk_fs_writer_append(&w, r->vectors.data, r->vectors.size)) || (rc = lk_fs_writer_commit(&w)))
        lk_fs_writer_abort(&w);
    return rc;
}

static int write_results(const struct request *q, const struct result *r, size_t dim) {
    struct lk_buf ids = {0};
    size_t n = strlen(q->out);
    int rc = 0;
    if (n > 4 && strcmp(q->out + n - 4, ".npy") == 0)
        n -= 4;
    rc = q->ids != NULL ? lk_buf_printf(&ids, "%s", q->ids) : lk_buf_printf(&ids, "%.*s.txt", (int)n, q->out);
    if (rc == 0)
        rc = write_npy(q->out, r, dim);
    if (rc == 0)
        rc = lk_fs_write_atomic((const char *)ids.data, r->names.data, r->names.size);
    if (rc == 0)
        printf("%zu vectors of %zu numbers in %s, names in %s%s", r->n, dim, q->out, (const char *)ids.data,
               r->bad > 0 ? "" : "\n");
    if (rc == 0 && r->bad > 0)
        printf("; %zu pictures were left out\n", r->bad);
    lk_buf_free(&ids);
    return rc;
}

static int embed_all(const struct request *q, struct lk_weights *w, struct lk_console *console) {
    const struct lk_source_options place = lk_weights_request_source(&q->shared);
    struct lk_source source;
    struct lk_items items = {0};
    struct result r = {{0}, {0}, NULL, 0, 0};
    size_t batch = w->embedder.batch, dim = w->embedder.dim;
    struct chunk c = {&items, 0, lk_calloc(batch, sizeof *c.images), lk_calloc(batch, sizeof *c.errors)};
    r.row = lk_calloc(batch * dim, sizeof *r.row);
    int rc = c.images == NULL || c.errors == NULL || r.row == NULL ? LK_ENOMEM : 0;
    memset(&source, 0, sizeof source);
    if (rc == 0 && (rc = lk_source_open(&source, q->shared.data, &place)) == 0)
        rc = lk_source_items(&items, &source, LK_SPLIT_ALL);
    double began = lk_console_now();
    for (; c.first < items.n && rc == 0; c.first += batch) {
        size_t n = items.n - c.first < batch ? items.n - c.first : batch;
        rc = embed_chunk(&r, w, &c, n);
        double seconds = lk_console_now() - began;
        if (rc == 0 && lk_console_due(console))
            lk_console_progress(console, "embedded %zu of %zu, %.0f a second", c.first + n, items.n,
                                (double)(c.first + n) / seconds);
        if (rc == 0 && lk_stop_asked())
            rc = lk_err(LK_ECANCELLED, "stopped: nothing was written");
    }
    lk_console_clear(console);
    if (rc == 0 && (r.n == 0 || (double)r.bad * 100 > q->shared.max_bad * (double)items.n))
        rc = lk_err(LK_EFORMAT, "%zu of %zu pictures cannot be read, more than --max-bad %g per cent", r.bad, items.n,
                    q->shared.max_bad);
    if (rc == 0)
        rc = write_results(q, &r, dim);
    lk_items_close(&items);
    lk_source_close(&source);
    free(c.images);
    free(c.errors);
    free(r.row);
    lk_buf_free(&r.vectors);
    lk_buf_free(&r.names);
    return rc;
}

int lk_cmd_embed(int argc, char **argv) {
    struct request r = {.shared = lk_weights_request_default(64)};
    struct lk_weights w = {0};
    struct lk_console console;
    lk_console_init(&console);
    int rc = parse(&r, argc, argv);
    if (rc != 0)
        return rc == 1 ? EXIT_SUCCESS : lk_wrong_usage("embed");
    struct lk_weights_options o = lk_weights_request_options(&r.shared);
    if ((rc = lk_weights_open(&w, &o)) == 0) {
        lk_stop_install();
        rc = embed_all(&r, &w, &console);
    }
    if (rc != 0)
        fprintf(stderr, "likeness-trainer embed: %s\n", lk_error());
    lk_weights_close(&w);
    return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
