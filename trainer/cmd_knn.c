#include "commands.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "console.h"
#include "evaluate.h"
#include "json.h"
#include "weights_args.h"

struct request {
    struct lk_weights_request shared;
    long long k, train_limit, test_limit;
    double temperature;
    int json;
};

static int parse(struct request *r, int argc, char **argv) {
    const struct lk_arg args[] = {
        {.kind = LK_ARG_INT, .name = "k", .value = &r->k, .help = "neighbours that vote", .minimum = 1, .maximum = 1e6},
        {.kind = LK_ARG_REAL,
         .name = "temperature",
         .value = &r->temperature,
         .placeholder = "T",
         .help = "their votes weigh exp(cos / T)",
         .minimum = .001,
         .maximum = 100},
        {.kind = LK_ARG_INT,
         .name = "train-limit",
         .value = &r->train_limit,
         .help = "use this many training pictures (0: all)",
         .minimum = 0,
         .maximum = 4e9},
        {.kind = LK_ARG_INT,
         .name = "test-limit",
         .value = &r->test_limit,
         .help = "use this many queries (0: all, 10,000 when leaving one out)",
         .minimum = 0,
         .maximum = 4e9},
        {.kind = LK_ARG_FLAG, .name = "json", .value = &r->json, .help = "print one JSON object"},
    };
    return lk_weights_parse(
        &r->shared, args, sizeof args / sizeof args[0], argc, argv,
        "likeness-trainer knn --model FILE --data PLACE [options]",
        "Evaluates weights without training anything: which class do a picture's nearest neighbours "
        "by cosine have? A folder's classes are its subfolders, with or without train/ and test/; "
        "CIFAR-10's .bin files hold their own; a catalogue's are named by --label-field. Prints the "
        "weighted vote of k neighbours (the number that the field publishes) and the nearest "
        "neighbour alone, with the protocol beside them.");
}

struct reading {
    struct lk_console *console;
    const char *what;
};

static void show_reading(void *arg, size_t done, size_t of) {
    const struct reading *r = arg;
    if (lk_console_due(r->console))
        lk_console_progress(r->console, "reading %s pictures: %zu of %zu", r->what, done, of);
}

static int print_json(const struct request *r, const struct lk_weights *w, const struct lk_evaluation *e,
                      const char *protocol) {
    struct lk_buf b = {0};
    int rc = lk_buf_append(&b, "{", 1) || lk_json_text(&b, "model", r->shared.model) ||
             lk_json_text(&b, "name", w->model.name) || lk_json_number(&b, "knn", e->score.knn) ||
             lk_json_number(&b, "nn1", e->score.nn1) || lk_json_text(&b, "protocol", protocol) ||
             lk_json_number(&b, "k", (double)e->score.k) || lk_json_number(&b, "temperature", e->score.temperature) ||
             lk_json_number(&b, "bank", (double)e->score.bank) ||
             lk_json_number(&b, "queries", (double)e->score.queries) ||
             lk_json_number(&b, "uniformity", e->uniformity) || lk_json_number(&b, "embedding_spread", e->spread) ||
             lk_json_text(&b, "precision", lk_precision_name(w->precision)) ||
             lk_json_text(&b, "device", w->info.device) || lk_buf_append(&b, "}", 2);
    if (rc == 0)
        puts((const char *)b.data);
    lk_buf_free(&b);
    return rc ? LK_ENOMEM : 0;
}

static int evaluate(const struct request *r, struct lk_weights *w, struct lk_console *console) {
    const struct lk_weights_request *shared = &r->shared;
    const struct lk_source_options place = lk_weights_request_source(shared);
    struct lk_source source;
    struct lk_dataset train = {0}, test = {0};
    struct lk_evaluation e;
    struct reading shown = {console, "training"};
    struct lk_read_options read = {.limit = (size_t)r->train_limit,
                                   .short_side = w->model.resize,
                                   .max_bad = shared->max_bad,
                                   .memory = shared->memory_bytes > 0 ? (uint64_t)shared->memory_bytes
                                                                      : lk_source_memory(),
                                   .progress = r->json ? NULL : show_reading,
                                   .arg = &shown};
    struct lk_evaluate_options o = {
        .k = (size_t)r->k, .temperature = r->temperature, .query_limit = (size_t)r->test_limit};
    char protocol[160];
    int rc;
    if ((rc = lk_source_open(&source, shared->data, &place)) ||
        (rc = lk_source_read(&train, &source, LK_SPLIT_TRAIN, &read, NULL, w->pool)))
        goto done;
    if (train.n_classes == 0) {
        rc = lk_err(LK_EINVAL,
                    source.place == LK_PLACE_FOLDER
                        ? "%s has no class subfolders: kNN accuracy needs labels"
                        : "%s has no classes: --label-field names the field of the metadata that is one",
                    shared->data);
        goto done;
    }
    read.limit = (size_t)r->test_limit, shown.what = "test";
    if (source.has_test && (rc = lk_source_read(&test, &source, LK_SPLIT_TEST, &read, &train, w->pool)))
        goto done;
    if (console->terminal)
        lk_console_progress(console, "embedding %zu pictures", train.n + test.n);
    if ((rc = lk_evaluate(&e, &w->embedder, &train, source.has_test ? &test : NULL, &o)))
        goto done;
    lk_console_clear(console);
    lk_knn_protocol(protocol, sizeof protocol, &e.score);
    if (r->json) {
        rc = print_json(r, w, &e, protocol);
    } else {
        printf("kNN   %.2f %%   (%s)\n", e.score.knn, protocol);
        printf("1-NN  %.2f %%   (the nearest neighbour alone, same bank and queries)\n", e.score.nn1);
        printf("uniformity %.3f, spread of embeddings %.2f (1 spread, 0 collapsed)\n", e.uniformity, e.spread);
    }
done:
    lk_console_clear(console);
    lk_dataset_free(&train);
    lk_dataset_free(&test);
    lk_source_close(&source);
    return rc;
}

int lk_cmd_knn(int argc, char **argv) {
    struct request r = {.shared = lk_weights_request_default(128), .k = 200, .temperature = .1};
    struct lk_weights w = {0};
    struct lk_console console;
    lk_console_init(&console);
    int rc = parse(&r, argc, argv);
    if (rc != 0)
        return rc == 1 ? EXIT_SUCCESS : lk_wrong_usage("knn");
    struct lk_weights_options o = lk_weights_request_options(&r.shared);
    if ((rc = lk_weights_open(&w, &o)) == 0)
        rc = evaluate(&r, &w, &console);
    if (rc != 0)
        fprintf(stderr, "likeness-trainer knn: %s\n", lk_error());
    lk_weights_close(&w);
    return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
