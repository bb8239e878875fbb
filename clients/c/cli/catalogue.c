/* ls, get, image, rm and export: what is in the catalogue. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

/* --- ls ----------------------------------------------------------------------------------------------------------- */

#define PAGE 1000

static struct {
    int limit, json, wide;
    const char *after, *filter;
} ls;

static void print_item(const struct likeness_item *item) {
    if (ls.json) {
        puts(item->json);
    } else if (ls.wide) {
        printf("%s\t%dx%d\t%lld\t%s\n", item->id, item->width, item->height, (long long)item->bytes,
               item->metadata ? item->metadata : "{}");
    } else {
        puts(item->id);
    }
}

static int run_ls(const struct common *common, int n_words, char **words) {
    (void)words;
    if (n_words > 0) {
        return cli_usage("ls takes no arguments");
    }
    struct likeness *client;
    struct likeness_model model = {0};
    struct likeness_items page = {0};
    int code = cli_open(&client, common);
    if (!code && likeness_model(client, &model)) {
        code = cli_report(NULL);
    }
    int size = model.max_page > 0 && model.max_page < PAGE ? (int)model.max_page : PAGE, left = ls.limit;
    char *after = ls.after ? strdup(ls.after) : NULL;
    do {
        if (!code) {
            const int limit = ls.limit && left < size ? left : size;
            code = likeness_list(client, after, limit, ls.filter, &page) ? cli_report(NULL) : 0;
        }
        for (size_t i = 0; i < page.n; i++) {
            print_item(&page.items[i]);
        }
        left -= (int)page.n;
        free(after);
        after = page.next;
        page.next = NULL;
        likeness_items_free(&page);
    } while (!code && after && !ferror(stdout) && (!ls.limit || left > 0));
    if (!code && after && !ferror(stdout)) {
        fprintf(stderr, "likeness: more follow: --after '%s'\n", after);
    }
    free(after);
    likeness_model_free(&model);
    likeness_close(client);
    return code;
}

static const struct option_entry ls_options[] = {
    {OPTION_INT, 'n', "limit", &ls.limit, "N", "at most so many (default: all)", 1, 2147483647},
    {OPTION_TEXT, 0, "after", &ls.after, "CURSOR", "go on where a limited listing ended", 0, 0},
    {OPTION_TEXT, 0, "filter", &ls.filter, "JSON", "only items whose metadata fulfils this; see neighbors", 0, 0},
    {OPTION_FLAG, 'l', "long", &ls.wide, NULL, "id, size in pixels, bytes and metadata, between tabs", 0, 0},
    {OPTION_FLAG, 0, "json", &ls.json, NULL, "a JSON object a line", 0, 0},
};
const struct command command_ls = {"ls", "[options]", "list the ids in the catalogue",
                                   NULL, run_ls,      {ls_options, sizeof ls_options / sizeof *ls_options}};

/* --- get ---------------------------------------------------------------------------------------------------------- */

static int run_get(const struct common *common, int n_words, char **words) {
    if (n_words != 1) {
        return cli_usage("get takes one id");
    }
    struct likeness *client;
    char *json = NULL;
    int code = cli_open(&client, common);
    if (!code && likeness_get(client, words[0], &json)) {
        code = cli_report(words[0]);
    }
    if (!code) {
        fputs(json, stdout);
        if (*json && json[strlen(json) - 1] != '\n') {
            putchar('\n');
        }
    }
    free(json);
    likeness_close(client);
    return code;
}

const struct command command_get = {"get", "ID",    "print an item as JSON: metadata, size, times",
                                    NULL,  run_get, {NULL, 0}};

/* --- image and export: downloads ---------------------------------------------------------------------------------- */

static struct { const char *path; } image;

static int run_image(const struct common *common, int n_words, char **words) {
    if (n_words != 1 || !image.path) {
        return cli_usage("image takes one id, and -o FILE (- for standard output)");
    }
    struct likeness *client;
    struct out_file out;
    int code = cli_open(&client, common);
    if (!code && !(code = out_open(&out, image.path))) {
        const int rc = likeness_image(client, words[0], out_write, &out);
        if (rc) {
            code = rc == LIKENESS_ESTOPPED ? EXIT_SOME_FAILED : cli_report(words[0]);
        }
        if (out_finish(&out, rc == 0)) {
            code = EXIT_SOME_FAILED;
        }
    }
    likeness_close(client);
    return code;
}

static const struct option_entry image_options[] = {
    {OPTION_TEXT, 'o', "output", &image.path, "FILE", "where it goes (- for standard output)", 0, 0},
};
const struct command command_image = {"image", "ID -o FILE", "fetch an item's picture, as it was stored",
                                      NULL,    run_image,    {image_options, 1}};

static int run_export(const struct common *common, int n_words, char **words) {
    if (n_words != 1) {
        return cli_usage("export takes one file name (- for standard output)");
    }
    struct likeness *client;
    struct out_file out;
    int code = cli_open(&client, common);
    if (!code && !(code = out_open(&out, words[0]))) {
        const int rc = likeness_export(client, out_write, &out);
        if (rc) {
            code = rc == LIKENESS_ESTOPPED ? EXIT_SOME_FAILED : cli_report(words[0]);
        }
        if (out_finish(&out, rc == 0)) {
            code = EXIT_SOME_FAILED;
        }
    }
    likeness_close(client);
    return code;
}

const struct command command_export = {
    "export",
    "FILE.tar",
    "fetch the whole catalogue as a tar: images/NAME and items/NAME.json",
    "NAME is the id, with every byte other than A-Z a-z 0-9 . _ - percent-encoded. The file appears when it is\n"
    "complete.",
    run_export,
    {NULL, 0}};

/* --- rm ----------------------------------------------------------------------------------------------------------- */

static int run_rm(const struct common *common, int n_words, char **words) {
    if (n_words == 0) {
        return cli_usage("rm takes one or more ids");
    }
    struct likeness *client;
    int code = cli_open(&client, common);
    for (int i = 0; i < n_words && client; i++) {
        if (likeness_delete(client, words[i])) {
            code = cli_report(words[i]);
            if (code == EXIT_NO_SERVER) {
                break;
            }
        }
    }
    likeness_close(client);
    return code;
}

const struct command command_rm = {"rm", "ID...", "delete items", NULL, run_rm, {NULL, 0}};
