#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/args.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/sha256.h"
#include "checkpoint.h"
#include "console.h"
#include "model/model.h"

static const char *dtype_name(enum lk_dtype dtype) {
    static const char *const names[] = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"};
    return (size_t)dtype < sizeof names / sizeof names[0] ? names[dtype] : "?";
}

static void print_metadata(const struct lk_safetensors *st, const char *without) {
    size_t n = strlen(without), shown = 0;
    for (size_t i = 0; i < st->n_meta; i++) {
        if (n > 0 && strncmp(st->meta_keys[i], without, n) == 0)
            continue;
        if (shown++ == 0)
            printf("\nmetadata\n");
        printf("  %-20s %s\n", st->meta_keys[i], st->meta_values[i]);
    }
}

static void print_tensors(const struct lk_safetensors *st) {
    printf("\ntensors\n");
    for (size_t i = 0; i < st->n_tensors; i++) {
        const struct lk_st_tensor *t = &st->tensors[i];
        printf("  %-36s %-5s [", t->name, dtype_name(t->dtype));
        for (int d = 0; d < t->ndim; d++)
            printf("%s%lld", d > 0 ? ", " : "", (long long)t->shape[d]);
        printf("]\n");
    }
}

/* What a model file says, and what can be recomputed from it. */
static void print_model(const char *path, int image_size) {
    struct lk_model m = {0};
    char fingerprint[65], space[65];
    if (lk_model_load(&m, path, image_size) != 0) {
        printf("network      none that this version serves: %s\n", lk_error());
        return;
    }
    lk_sha256_hex(m.fingerprint, fingerprint);
    lk_model_space(&m, "f32", space);
    printf("name         %s\n", m.name);
    printf("network      %s, width %d, %s stem, %d x %d pixels (short side %d, then the centre)\n",
           lk_arch_name(m.arch.depth), m.arch.width, lk_stem_name(m.arch.stem), m.arch.image_size, m.arch.image_size,
           m.resize);
    printf("parameters   %.3f M, %.3f G multiply-adds a picture\n", (double)m.net.n_params / 1e6,
           lk_net_macs(&m.net, m.net.n_nodes) / 1e9);
    printf("vectors      %d numbers\n", m.net.feature_dim);
    printf("method       %s\n", m.method[0] != '\0' ? m.method : "unknown");
    printf("mean, std    %g %g %g, %g %g %g\n", (double)m.mean[0], (double)m.mean[1], (double)m.mean[2],
           (double)m.std[0], (double)m.std[1], (double)m.std[2]);
    printf("fingerprint  %s\n", fingerprint);
    printf("space (f32)  %s\n", space);
    lk_model_free(&m);
}

static int print_setting(void *arg, const char *name, const char *value, int frozen) {
    (void)arg;
    (void)frozen;
    printf("  %-20s %s\n", name, value);
    return 0;
}

static int print_checkpoint(const char *path) {
    struct lk_checkpoint c = {0};
    struct lk_train_config config;
    lk_config_init(&config, LK_PRETRAIN);
    int rc = lk_checkpoint_open(&c, path);
    if (rc == 0)
        rc = lk_checkpoint_adopt(&c, &config);
    if (rc == 0) {
        const struct lk_progress *p = &c.progress;
        char took[32];
        lk_console_duration(took, p->total_seconds);
        printf("file         a training checkpoint: likeness-trainer pretrain --resume goes on with it\n");
        printf("progress     %llu of %lld epochs and %llu steps, %llu steps in all, %s\n", (unsigned long long)p->epoch,
               config.epochs, (unsigned long long)p->step_in_epoch, (unsigned long long)p->step, took);
        if (p->knn >= 0)
            printf("kNN          %.2f %% (nearest neighbour %.2f %%), best %.2f %% after epoch %llu\n", p->knn, p->nn1,
                   p->best_knn, (unsigned long long)p->best_epoch);
        printf("data hash    %s\n", p->data_hash);
        printf("\nsettings\n");
        lk_config_visit(&config, print_setting, NULL);
    }
    lk_checkpoint_close(&c);
    lk_config_free(&config);
    return rc;
}

static int inspect(const char *path, long long image_size, int tensors) {
    struct lk_safetensors st = {0};
    size_t numbers = 0;
    int rc = lk_safetensors_open(&st, path);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < st.n_tensors; i++)
        numbers += st.tensors[i].count;
    int checkpoint = lk_checkpoint_is(&st);
    if (checkpoint)
        rc = print_checkpoint(path);
    else
        print_model(path, (int)image_size);
    if (rc == 0) {
        printf("%s%zu tensors, %zu numbers, %.2f MB\n", checkpoint ? "\n" : "file         ", st.n_tensors, numbers,
               (double)st.map.size / 1e6);
        if (!checkpoint)
            print_metadata(&st, "");
        if (tensors)
            print_tensors(&st);
    }
    lk_safetensors_close(&st);
    return rc;
}

int lk_cmd_inspect(int argc, char **argv) {
    long long image_size = 0;
    int tensors = 1;
    struct lk_arg args[] = {
        {.kind = LK_ARG_INT,
         .name = "image-size",
         .value = &image_size,
         .help = "side of the network's input (0: the file's)",
         .minimum = 0,
         .maximum = 4096},
        {.kind = LK_ARG_FLAG, .name = "tensors", .value = &tensors, .help = "list every tensor"},
    };
    size_t n = sizeof args / sizeof args[0], n_words = 0;
    const char *words[1];
    int rc = lk_args_parse(args, n, argc, argv, words, 1, &n_words);
    if (rc == 1) {
        lk_args_help(args, n, "likeness-trainer inspect FILE [options]",
                     "Prints what is in a weights file (safetensors) or a training checkpoint.");
        return EXIT_SUCCESS;
    }
    if (rc == 0 && n_words != 1)
        rc = lk_err(LK_EINVAL, "name one file");
    if (rc != 0)
        return lk_wrong_usage("inspect");
    if ((rc = inspect(words[0], image_size, tensors)) != 0)
        fprintf(stderr, "likeness-trainer inspect: %s\n", lk_error());
    return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
