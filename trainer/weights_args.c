#include "weights_args.h"

#include <string.h>

#include "base/err.h"
#include "stop.h"

enum { MAX_OWN = 16 };

struct lk_weights_request lk_weights_request_default(int batch) {
    return (struct lk_weights_request){.device = "auto", .precision = "auto", .batch = batch, .max_bad = 10};
}

int lk_weights_parse(struct lk_weights_request *r, const struct lk_arg *own, size_t n_own, int argc, char **argv,
                     const char *usage, const char *description) {
    const struct lk_arg shared[LK_WEIGHTS_ARGS] = {
        {.kind = LK_ARG_STRING, .name = "model", .value = &r->model, .placeholder = "FILE", .help = "the weights"},
        {.kind = LK_ARG_STRING,
         .name = "data",
         .value = &r->data,
         .placeholder = "PLACE",
         .help =
             "the pictures: a folder, a server's catalogue (photos.db), its export (a tar), or its address (http://...)"},
        {.kind = LK_ARG_STRING,
         .name = "label-field",
         .value = &r->label_field,
         .placeholder = "NAME",
         .help = "of a catalogue or an export: the field of an item's metadata that is its class"},
        {.kind = LK_ARG_STRING,
         .name = "key-file",
         .value = &r->key_file,
         .placeholder = "FILE",
         .help = "the first line is the bearer key for the server"},
        {.kind = LK_ARG_REAL,
         .name = "max-bad",
         .value = &r->max_bad,
         .help = "stop when more than this per cent of the pictures cannot be read; fewer are reported and left out",
         .minimum = 0,
         .maximum = 100},
        {.kind = LK_ARG_SIZE,
         .name = "memory-bytes",
         .value = &r->memory_bytes,
         .placeholder = "BYTES",
         .help = "decoded pictures are kept in memory up to this (k, M, G; 0: half of the machine's)",
         .minimum = 0,
         .maximum = 9e18},
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
    struct lk_arg args[LK_WEIGHTS_ARGS + MAX_OWN];
    const char *words[1];
    size_t n = LK_WEIGHTS_ARGS + n_own, n_words = 0;
    if (n_own > MAX_OWN)
        return lk_err(LK_EFAIL, "%zu options of a command's own; there is room for %d", n_own, MAX_OWN);
    memcpy(args, shared, 2 * sizeof *args); /* weights and pictures first */
    memcpy(args + 2, own, n_own * sizeof *args);
    memcpy(args + 2 + n_own, shared + 2, sizeof shared - 2 * sizeof *args);
    int rc = lk_args_parse(args, n, argc, argv, words, 1, &n_words);
    if (rc == 1)
        lk_args_help(args, n, usage, description);
    if (rc != 0)
        return rc;
    if (n_words > 0)
        return lk_err(LK_EINVAL, "unexpected argument '%s'", words[0]);
    return r->model == NULL  ? lk_err(LK_EINVAL, "--model is missing: the weights")
           : r->data == NULL ? lk_err(LK_EINVAL, "--data is missing: the pictures")
                             : 0;
}

struct lk_weights_options lk_weights_request_options(const struct lk_weights_request *r) {
    return (struct lk_weights_options){r->model,           r->device,     r->precision,
                                       (int)r->image_size, (int)r->batch, (int)r->threads};
}

struct lk_source_options lk_weights_request_source(const struct lk_weights_request *r) {
    return (struct lk_source_options){.label_field = r->label_field, .key_file = r->key_file, .stop = lk_stop_asked};
}
