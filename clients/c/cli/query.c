/* embed, neighbors and model: questions that change nothing. */
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- neighbors ---------------------------------------------------------------------------------------------------- */

static struct {
    const char *id, *filter;
    int k, json;
} neighbors = {.k = 10};

static int run_neighbors(const struct common *common, int n_words, char **words) {
    if ((n_words == 1) == (neighbors.id != NULL) || n_words > 1) {
        return cli_usage("neighbors takes one picture file, or --id ID");
    }
    struct likeness *client;
    struct file_bytes file = {0};
    struct likeness_neighbors found = {0};
    const char *subject = neighbors.id ? neighbors.id : words[0];
    int code = cli_open(&client, common);
    if (!code && !neighbors.id) {
        code = cli_read_file(&file, words[0], 0);
    }
    if (!code) {
        const struct likeness_picture picture = {file.data, file.size};
        const int rc = neighbors.id ? likeness_neighbors_of(client, neighbors.id, neighbors.k, neighbors.filter, &found)
                                    : likeness_neighbors(client, &picture, neighbors.k, neighbors.filter, &found);
        code = rc ? cli_report(subject) : EXIT_DONE;
    }
    if (!code && neighbors.json) {
        puts(found.json);
    }
    for (size_t i = 0; i < found.n && !code && !neighbors.json; i++) {
        printf("%s %.6f\n", found.items[i].id, found.items[i].score);
    }
    likeness_neighbors_free(&found);
    free(file.data);
    likeness_close(client);
    return code;
}

static const struct option_entry neighbors_options[] = {
    {OPTION_TEXT, 0, "id", &neighbors.id, "ID", "of this item of the catalogue, instead of a file", 0, 0},
    {OPTION_INT, 'k', "k", &neighbors.k, "N", "how many (default 10)", 1, 1000000},
    {OPTION_TEXT, 0, "filter", &neighbors.filter, "JSON", "only items whose metadata fulfils this", 0, 0},
    {OPTION_FLAG, 0, "json", &neighbors.json, NULL, "the server's whole answer: model, generation, metadata", 0, 0},
};
const struct command command_neighbors = {
    "neighbors",
    "FILE | --id ID [options]",
    "print the pictures most alike, \"id score\" a line, best first",
    "FILE may be - for standard input. The score is a cosine: 1 is the same, 0 is nothing alike.\n"
    "A filter has must, should and must_not, each a list of conditions on a key: match, any, range or exists:\n"
    "  --filter '{\"must\": [{\"key\": \"class\", \"any\": [\"cat\", \"dog\"]}]}'",
    run_neighbors,
    {neighbors_options, sizeof neighbors_options / sizeof *neighbors_options}};

/* --- embed -------------------------------------------------------------------------------------------------------- */

#define EMBED_BATCH 32
#define EMBED_BYTES ((size_t)16 << 20)

static struct { const char *npy; } embed;

struct embedding_run {
    struct likeness *client;
    struct out_file npy; /* stream NULL: JSON lines to stdout */
    size_t n_words, done, failed;
    int64_t generation;
    int dim;
    size_t max_images, max_bytes, max_file; /* pictures and bytes a request, bytes a picture */
    struct file_bytes carried;              /* read, but for the next request */
};

/* NumPy's format 1.0 (numpy.lib.format): little-endian float32, C order. The header is padded to 64 bytes. */
static int write_npy_header(struct out_file *out, size_t rows, int dim) {
    static const unsigned char start[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, 128 - 10, 0}; /* ... text's length */
    char header[128];
    memset(header, ' ', sizeof header);
    memcpy(header, start, sizeof start);
    const int n = snprintf(header + 10, sizeof header - 10,
                           "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %d), }", rows, dim);
    header[10 + n] = ' '; /* snprintf's NUL */
    header[sizeof header - 1] = '\n';
    return out_write(out, header, sizeof header);
}

static int write_npy_row(struct out_file *out, const float *row, int dim) {
    int failed = 0;
    for (int i = 0; i < dim && !failed; i++) {
        uint32_t bits;
        memcpy(&bits, &row[i], sizeof bits);
        const unsigned char bytes[4] = {(unsigned char)bits, (unsigned char)(bits >> 8), (unsigned char)(bits >> 16),
                                        (unsigned char)(bits >> 24)};
        failed = out_write(out, bytes, sizeof bytes);
    }
    return failed;
}

static void print_row(const char *file, const struct likeness_vectors *vectors, const float *row) {
    fputs("{\"file\":", stdout);
    print_json_string(stdout, file);
    fputs(",\"model\":", stdout);
    print_json_string(stdout, vectors->model);
    printf(",\"generation\":%lld,\"embedding\":[", (long long)vectors->generation);
    for (int i = 0; i < vectors->dim; i++) {
        printf("%s%.9g", i ? "," : "", (double)row[i]); /* 9 digits bring every float back */
    }
    puts("]}");
}

/* The vectors of one batch out; 0 or an exit code. */
static int write_vectors(struct embedding_run *run, char **names, const struct likeness_vectors *vectors) {
    if (run->done == 0) {
        run->generation = vectors->generation;
        run->dim = vectors->dim;
        if (run->npy.stream && write_npy_header(&run->npy, run->n_words, run->dim)) {
            return EXIT_SOME_FAILED;
        }
    }
    if (vectors->generation != run->generation || vectors->dim != run->dim) {
        fprintf(stderr,
                "likeness: the server changed from generation %lld to %lld meanwhile, and vectors of two cannot "
                "be compared: run it again\n",
                (long long)run->generation, (long long)vectors->generation);
        return EXIT_SOME_FAILED;
    }
    for (size_t i = 0; i < vectors->n; i++) {
        const float *row = vectors->values + i * (size_t)vectors->dim;
        if (vectors->outcomes[i].status) {
            cli_report_outcome(names[i], &vectors->outcomes[i]);
            run->failed++;
        } else if (!run->npy.stream) {
            print_row(names[i], vectors, row);
        } else if (write_npy_row(&run->npy, row, run->dim)) {
            return EXIT_SOME_FAILED;
        }
        run->done++;
    }
    return 0;
}

/* The next file, or the one that did not fit into the batch before. 1 when it could not be read, which was reported. */
static int next_file(struct embedding_run *run, struct file_bytes *file, const char *path) {
    if (run->carried.data) {
        *file = run->carried;
        memset(&run->carried, 0, sizeof run->carried);
        return 0;
    }
    if (cli_read_file(file, path, run->max_file)) {
        run->failed++;
        return 1;
    }
    return 0;
}

static int send_pictures(struct embedding_run *run, char **names, const struct likeness_picture *pictures, size_t n) {
    struct likeness_vectors vectors;
    const int rc = likeness_embed(run->client, pictures, n, &vectors);
    if (rc == LIKENESS_EPICTURE && n == 1) { /* too large for a request: the others may go on */
        cli_report(names[0]);
        run->failed++;
        return 0;
    }
    const int code = rc ? cli_report(n == 1 ? names[0] : NULL) : write_vectors(run, names, &vectors);
    likeness_vectors_free(&vectors);
    return code;
}

/* Reads and sends files from words[*at] on, as many as a batch takes; 0 or an exit code that ends the command. */
static int embed_batch(struct embedding_run *run, char **words, size_t *at) {
    struct file_bytes files[EMBED_BATCH] = {{0}};
    struct likeness_picture pictures[EMBED_BATCH];
    char *names[EMBED_BATCH] = {NULL};
    size_t n = 0, bytes = 0;
    for (; *at < run->n_words && n < run->max_images; ++*at) {
        if (next_file(run, &files[n], words[*at])) {
            continue;
        }
        if (n > 0 && bytes + files[n].size > run->max_bytes) {
            run->carried = files[n];
            break;
        }
        names[n] = words[*at];
        pictures[n] = (struct likeness_picture){files[n].data, files[n].size};
        bytes += files[n++].size;
    }
    const int code = n > 0 ? send_pictures(run, names, pictures, n) : 0;
    for (size_t i = 0; i < n; i++) {
        free(files[i].data);
    }
    return code;
}

static int run_embed(const struct common *common, int n_words, char **words) {
    if (n_words == 0) {
        return cli_usage("embed takes one or more picture files");
    }
    struct embedding_run run = {.n_words = (size_t)n_words, .max_images = EMBED_BATCH, .max_bytes = EMBED_BYTES};
    struct likeness_model model = {0};
    int code = cli_open(&run.client, common);
    if (!code && likeness_model(run.client, &model)) {
        code = cli_report(NULL);
    }
    if (model.max_images > 0 && (size_t)model.max_images < run.max_images) {
        run.max_images = (size_t)model.max_images;
    }
    if (model.max_body > 0) { /* the multipart frame needs some of it */
        run.max_file = (size_t)model.max_body;
        run.max_bytes = run.max_file / 8 * 7 < EMBED_BYTES ? run.max_file / 8 * 7 : EMBED_BYTES;
    }
    if (!code && embed.npy) {
        code = out_open(&run.npy, embed.npy);
    }
    for (size_t at = 0; at < run.n_words && !code;) {
        code = embed_batch(&run, words, &at);
        if (!code && run.failed && run.npy.stream) {
            code = EXIT_SOME_FAILED; /* a row for every file, or no array */
        }
    }
    if (run.npy.stream && out_finish(&run.npy, code == 0)) {
        code = EXIT_SOME_FAILED;
    }
    free(run.carried.data);
    likeness_model_free(&model);
    likeness_close(run.client);
    return code ? code : run.failed ? EXIT_SOME_FAILED : EXIT_DONE;
}

static const struct option_entry embed_options[] = {
    {OPTION_TEXT, 0, "npy", &embed.npy, "FILE", "write a NumPy array instead, a row a file (- for standard output)", 0,
     0},
};
const struct command command_embed = {
    "embed",
    "FILE... [options]",
    "print the vectors of pictures, a JSON object a line",
    "A picture that cannot be used is reported and the others go on; with --npy it fails the command, because a row\n"
    "for every file is what the array is for.",
    run_embed,
    {embed_options, sizeof embed_options / sizeof *embed_options}};

/* --- model -------------------------------------------------------------------------------------------------------- */

static struct { int json; } model_options_given;

static int run_model(const struct common *common, int n_words, char **words) {
    (void)words;
    if (n_words > 0) {
        return cli_usage("model takes no arguments");
    }
    struct likeness *client;
    struct likeness_model model = {0};
    int code = cli_open(&client, common);
    if (!code && likeness_model(client, &model)) {
        code = cli_report(NULL);
    }
    if (!code && model_options_given.json) {
        puts(model.json);
    } else if (!code) {
        printf("model       %s\ngeneration  %lld\ndimensions  %d\npictures    %lld\nserver      %s\n", model.name,
               (long long)model.generation, model.dim, (long long)model.items, likeness_server(client));
    }
    likeness_model_free(&model);
    likeness_close(client);
    return code;
}

static const struct option_entry model_options[] = {
    {OPTION_FLAG, 0, "json", &model_options_given.json, NULL, "the server's whole answer, with every limit and option",
     0, 0},
};
const struct command command_model = {
    "model", "[options]", "print which model serves, its generation, and how many pictures there are",
    NULL,    run_model,   {model_options, sizeof model_options / sizeof *model_options}};
