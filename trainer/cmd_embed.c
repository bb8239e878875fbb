#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/args.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/log.h"
#include "console.h"
#include "image/decode.h"
#include "source.h"
#include "stop.h"
#include "weights.h"

struct request {
    const char *model, *data, *out, *ids, *device, *precision;
    long long batch, threads, image_size;
    double max_bad;
};

static int parse(struct request *r, int argc, char **argv) {
    struct lk_arg args[] = {
        {.kind = LK_ARG_STRING, .name = "model", .value = &r->model, .placeholder = "FILE", .help = "the weights"},
        {.kind = LK_ARG_STRING,
         .name = "data",
         .value = &r->data,
         .placeholder = "FOLDER",
         .help = "pictures, subfolders included"},
        {.kind = LK_ARG_STRING,
         .name = "out",
         .value = &r->out,
         .placeholder = "FILE",
         .help = "the vectors, NumPy's .npy: float32 [pictures][dimension], unit length"},
        {.kind = LK_ARG_STRING,
         .name = "ids",
         .value = &r->ids,
         .placeholder = "FILE",
         .help = "the pictures' names below FOLDER, a line each (default: OUT with .txt)"},
        {.kind = LK_ARG_REAL,
         .name = "max-bad",
         .value = &r->max_bad,
         .help = "stop when more than this per cent of the pictures cannot be read; fewer are reported and left out",
         .minimum = 0,
         .maximum = 100},
        {.kind = LK_ARG_INT,
         .name = "image-size",
         .value = &r->image_size,
         .help = "side of the network's input (0: the weights')",
         .minimum = 0,
         .maximum = 4096},
        {.kind = LK_ARG_INT,
         .name = "batch",
         .value = &r->batch,
         .help = "pictures embedded at once",
         .minimum = 1,
         .maximum = 4096},
        {.kind = LK_ARG_STRING,
         .name = "device",
         .value = &r->device,
         .placeholder = "NAME",
         .help = "auto, cpu, cuda or cuda:N"},
        {.kind = LK_ARG_CHOICE,
         .name = "precision",
         .value = &r->precision,
         .help = "of the computation",
         .choices = "auto|fp32|bf16"},
        {.kind = LK_ARG_INT,
         .name = "threads",
         .value = &r->threads,
         .help = "CPU threads (0: as many as cores)",
         .minimum = 0,
         .maximum = 4096},
    };
    size_t n = sizeof args / sizeof args[0], n_words = 0;
    const char *words[1];
    int rc = lk_args_parse(args, n, argc, argv, words, 1, &n_words);
    if (rc == 1)
        lk_args_help(args, n, "likeness-trainer embed --model FILE --data FOLDER --out FILE.npy [options]",
                     "Turns a folder's pictures into vectors, as the server would, and writes them for NumPy.");
    if (rc != 0)
        return rc;
    if (n_words > 0)
        return lk_err(LK_EINVAL, "unexpected argument '%s'", words[0]);
    return r->model == NULL  ? lk_err(LK_EINVAL, "--model is missing: the weights")
           : r->data == NULL ? lk_err(LK_EINVAL, "--data is missing: the folder with the pictures")
           : r->out == NULL  ? lk_err(LK_EINVAL, "--out is missing: where the vectors go")
                             : 0;
}

/* --- a chunk of files ------------------------------------------------------------------------------------------------ */

struct chunk {
    const char *folder;
    char **names;
    struct lk_image *images;
    char **errors; /* NULL: decoded */
};

static void decode_one(void *arg, size_t i) {
    struct chunk *c = arg;
    struct lk_buf path = {0}, file = {0};
    int rc = lk_buf_printf(&path, "%s/%s", c->folder, c->names[i]);
    if (rc == 0)
        rc = lk_fs_read(&file, (const char *)path.data, 1u << 29);
    if (rc == 0)
        rc = lk_decode(&c->images[i], file.data, file.size, NULL);
    if (rc != 0)
        c->errors[i] = lk_strdup(lk_error());
    lk_buf_free(&path);
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
            lk_log_warn("%s/%s: left out: %s", c->folder, c->names[i],
                        c->errors[i] != NULL ? c->errors[i] : "out of memory");
            r->bad++;
            continue;
        }
        struct lk_image image = c->images[i];
        memset(&c->images[i], 0, sizeof image);
        c->images[kept++] = image; /* kept <= i: a slot that is free by now */
        rc = rc ? rc : lk_buf_printf(&r->names, "%s\n", c->names[i]);
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

static int embed_folder(const struct request *q, struct lk_weights *w, struct lk_console *console) {
    struct lk_fs_list list = {0};
    struct result r = {{0}, {0}, NULL, 0, 0};
    size_t batch = w->embedder.batch, dim = w->embedder.dim;
    struct chunk c = {q->data, NULL, lk_calloc(batch, sizeof *c.images), lk_calloc(batch, sizeof *c.errors)};
    r.row = lk_calloc(batch * dim, sizeof *r.row);
    int rc = c.images == NULL || c.errors == NULL || r.row == NULL ? LK_ENOMEM : lk_source_list(&list, q->data);
    double began = lk_console_now();
    for (size_t at = 0; at < list.count && rc == 0; at += batch) {
        size_t n = list.count - at < batch ? list.count - at : batch;
        c.names = list.paths + at;
        rc = embed_chunk(&r, w, &c, n);
        double seconds = lk_console_now() - began;
        if (rc == 0 && lk_console_due(console))
            lk_console_progress(console, "embedded %zu of %zu, %.0f a second", at + n, list.count,
                                (double)(at + n) / seconds);
        if (rc == 0 && lk_stop_asked())
            rc = lk_err(LK_ECANCELLED, "stopped: nothing was written");
    }
    lk_console_clear(console);
    if (rc == 0 && (r.n == 0 || (double)r.bad * 100 > q->max_bad * (double)list.count))
        rc = lk_err(LK_EFORMAT, "%zu of %zu pictures cannot be read, more than --max-bad %g per cent", r.bad,
                    list.count, q->max_bad);
    if (rc == 0)
        rc = write_results(q, &r, dim);
    lk_fs_list_free(&list);
    free(c.images);
    free(c.errors);
    free(r.row);
    lk_buf_free(&r.vectors);
    lk_buf_free(&r.names);
    return rc;
}

int lk_cmd_embed(int argc, char **argv) {
    struct request r = {.device = "auto", .precision = "auto", .batch = 64, .max_bad = 10};
    struct lk_weights w = {0};
    struct lk_console console;
    lk_console_init(&console);
    int rc = parse(&r, argc, argv);
    if (rc == 1)
        return EXIT_SUCCESS;
    struct lk_weights_options o = {r.model, r.device, r.precision, (int)r.image_size, (int)r.batch, (int)r.threads};
    if (rc == 0 && (rc = lk_weights_open(&w, &o)) == 0) {
        lk_stop_install();
        rc = embed_folder(&r, &w, &console);
    }
    if (rc != 0)
        fprintf(stderr, "likeness-trainer embed: %s\n", lk_error());
    lk_weights_close(&w);
    return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
