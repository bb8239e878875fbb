/* add: files and folders into the catalogue. Pictures travel many a request, in batches that are bounded in number and
 * bytes, so that memory stays small however large the folder is. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

#include "progress.h"
#include "scan.h"

#define BATCH 128
#define BATCH_BYTES ((size_t)16 << 20)
/* Asking for each id costs about as much as this many ids in a listing. */
#define IDS_A_QUESTION 50

static struct {
    int replace, class_from_folder;
    const char *prefix, *metadata;
} add = {.prefix = ""};

struct adding {
    struct likeness *client;
    struct likeness_model model;
    struct scan scan;
    struct progress progress;
    size_t added, replaced, skipped, failed;
    int exit_code; /* of what ended the work early, or 0 */
};

/* --- What is there already ---------------------------------------------------------------------------------------- */

static int ask_for_each(struct adding *a) {
    for (size_t i = 0; i < a->scan.count; i++) {
        char *json;
        struct scan_entry *e = &a->scan.entries[i];
        const int rc = likeness_get(a->client, e->id, &json);
        free(json);
        e->is_there = rc == 0;
        if (rc && rc != LIKENESS_ENOTFOUND && rc != LIKENESS_EINVAL) { /* a bad id is reported when its turn comes */
            return rc;
        }
    }
    return 0;
}

/* The catalogue's ids and ours are in the same order: one walk over both. */
static int compare_listing(struct adding *a) {
    const int limit = a->model.max_page > 0 && a->model.max_page < 1000 ? (int)a->model.max_page : 1000;
    char *after = NULL;
    size_t at = 0;
    int rc = 0;
    do {
        struct likeness_items page;
        rc = likeness_list(a->client, after, limit, NULL, &page);
        free(after);
        after = NULL;
        for (size_t i = 0; i < page.n && at < a->scan.count;) {
            const int order = strcmp(a->scan.entries[at].id, page.items[i].id);
            if (order == 0) {
                a->scan.entries[at].is_there = 1;
            }
            at += order <= 0;
            i += order >= 0;
        }
        if (!rc) {
            after = page.next;
            page.next = NULL;
        }
        likeness_items_free(&page);
    } while (!rc && after && at < a->scan.count);
    free(after);
    return rc;
}

static int find_what_is_there(struct adding *a) {
    if (add.replace || a->scan.count == 0 || a->model.items == 0) {
        return 0;
    }
    const int few = (double)a->scan.count * IDS_A_QUESTION < (double)a->model.items;
    return few ? ask_for_each(a) : compare_listing(a);
}

/* --- Sending ------------------------------------------------------------------------------------------------------ */

struct batch {
    size_t n, bytes;
    const struct scan_entry *entries[BATCH];
    struct file_bytes files[BATCH];
    char *metadata[BATCH];
};

static void batch_clear(struct batch *b) {
    for (size_t i = 0; i < b->n; i++) {
        free(b->files[i].data);
        free(b->metadata[i]);
    }
    memset(b, 0, sizeof *b);
}

/* Whether going on with other pictures is of any use after this failure. */
static int is_fatal(int status, int http, const char *code) {
    return status == LIKENESS_ECONNECT || status == LIKENESS_ETIMEOUT || status == LIKENESS_EBUSY ||
           status == LIKENESS_ENOMEM || http == 401 || http == 403 || http == 507 || strcmp(code, "disk_full") == 0;
}

static void count(struct adding *a, int created) {
    a->added += created != 0;
    a->replaced += created == 0;
}

static void send_one(struct adding *a, const struct scan_entry *entry, const struct file_bytes *file,
                     const char *metadata) {
    const struct likeness_picture picture = {file->data, file->size};
    int created = 0;
    const int rc = likeness_put(a->client, entry->id, &picture, metadata, &created);
    if (!rc) {
        count(a, created);
        return;
    }
    a->failed++;
    const int code = cli_report(entry->path);
    if (is_fatal(rc, likeness_error()->http, likeness_error()->code)) {
        a->exit_code = code;
    }
}

/* What one answer says of one picture. A busy server is asked again for that picture alone, which waits as told. */
static void take_outcome(struct adding *a, struct batch *b, size_t i, const struct likeness_outcome *outcome) {
    if (outcome->status == 0) {
        count(a, outcome->created);
    } else if (outcome->status == LIKENESS_EBUSY) {
        send_one(a, b->entries[i], &b->files[i], b->metadata[i]);
    } else {
        a->failed++;
        cli_report_outcome(b->entries[i]->path, outcome);
        if (is_fatal(outcome->status, 0, outcome->code)) {
            a->exit_code = EXIT_SOME_FAILED;
        }
    }
}

static void send_batch(struct adding *a, struct batch *b) {
    struct likeness_outcome outcomes[BATCH];
    struct likeness_picture pictures[BATCH];
    const char *ids[BATCH];
    for (size_t i = 0; i < b->n; i++) {
        ids[i] = b->entries[i]->id;
        pictures[i] = (struct likeness_picture){b->files[i].data, b->files[i].size};
    }
    int rc = 0, fatal = 0;
    if (b->n > 0) {
        rc = likeness_put_many(a->client, ids, pictures, (const char *const *)b->metadata, b->n, outcomes);
        fatal = rc && is_fatal(rc, likeness_error()->http, likeness_error()->code);
        if (fatal) {
            a->exit_code = cli_report(NULL);
        }
    }
    for (size_t i = 0; i < b->n; i++) {
        if (rc && outcomes[i].status == rc) { /* not answered for */
            if (!a->exit_code) {
                send_one(a, b->entries[i], &b->files[i], b->metadata[i]); /* the others may still be good */
            }
        } else {
            take_outcome(a, b, i, &outcomes[i]);
        }
    }
    if (b->n > 0) {
        progress_step(&a->progress, b->n);
    }
    batch_clear(b);
}

/* What is stored with the entry, to be freed; *out is NULL for nothing. Not 0: memory ran out. */
static int metadata_of(const struct scan_entry *entry, char **out) {
    const char *given = add.metadata ? strchr(add.metadata, '{') : NULL;
    *out = NULL;
    if (add.class_from_folder && entry->top_folder) {
        char *class = json_object_of("class", entry->top_folder);
        if (!given || !class) {
            *out = class;
            return class == NULL;
        }
        const char *members = given + 1 + strspn(given + 1, " \t\r\n");
        const size_t n = strlen(class), room = n + strlen(members) + 1;
        if ((*out = malloc(room))) { /* {"class":"x" and , and the members with their closing brace */
            snprintf(*out, room, "%.*s%s%s", (int)(n - 1), class, *members == '}' ? "" : ",", members);
        }
        free(class);
        return *out == NULL;
    }
    return given && !(*out = strdup(given));
}

/* Reads the entry's file into the batch; what only fits into a request of its own is sent at once. */
static void put_entry(struct adding *a, struct batch *b, const struct scan_entry *entry) {
    struct file_bytes *file = &b->files[b->n];
    if (cli_read_file(file, entry->path, (size_t)a->model.max_body)) {
        a->failed++;
        progress_step(&a->progress, 1);
        return;
    }
    char *metadata = NULL;
    if (metadata_of(entry, &metadata)) {
        a->exit_code = cli_usage("memory ran out");
    }
    if (!a->exit_code && likeness_id_fits_many(entry->id)) {
        b->metadata[b->n] = metadata;
        b->bytes += file->size;
        b->entries[b->n++] = entry;
        return;
    }
    if (!a->exit_code) {
        send_one(a, entry, file, metadata);
        progress_step(&a->progress, 1);
    }
    free(file->data);
    free(metadata);
    memset(file, 0, sizeof *file);
}

static void send_all(struct adding *a, size_t n_new) {
    static struct batch batch; /* 5 KiB, and this runs once */
    const size_t limit = a->model.max_upload > 0 && a->model.max_upload < BATCH ? (size_t)a->model.max_upload
                                                                                : (size_t)BATCH;
    progress_begin(&a->progress, n_new);
    for (size_t i = 0; i < a->scan.count && !a->exit_code; i++) {
        const struct scan_entry *entry = &a->scan.entries[i];
        if (entry->is_there) {
            continue;
        }
        put_entry(a, &batch, entry);
        if (batch.n == limit || batch.bytes >= BATCH_BYTES) {
            send_batch(a, &batch);
        }
    }
    if (!a->exit_code) {
        send_batch(a, &batch);
    }
    batch_clear(&batch);
    progress_clear(&a->progress);
}

/* --- The command -------------------------------------------------------------------------------------------------- */

static void summarise(const struct adding *a, size_t n_new) {
    const double seconds = progress_seconds(&a->progress);
    const size_t sent = a->added + a->replaced;
    const size_t undone = n_new - sent - a->failed;
    fprintf(stderr, "likeness: %zu added, %zu replaced, %zu there already, %zu failed", a->added, a->replaced,
            a->skipped, a->failed);
    if (undone > 0) {
        fprintf(stderr, ", %zu not tried", undone);
    }
    if (a->scan.ignored > 0) {
        fprintf(stderr, "; %zu files are no pictures by their names", a->scan.ignored);
    }
    if (sent > 0) {
        fprintf(stderr, "; %.1f s, %.1f pictures/s", seconds, (double)sent / (seconds > 0 ? seconds : 1e-9));
    }
    fputc('\n', stderr);
}

static int run_add(const struct common *common, int n_words, char **words) {
    if (n_words == 0) {
        return cli_usage("add takes one or more folders and picture files");
    }
    if (add.metadata && likeness_check_metadata(add.metadata)) {
        return cli_usage("--metadata takes a JSON object, as in '{\"album\": \"2024\"}'");
    }
    struct adding a = {0};
    if (scan_paths(&a.scan, n_words, words, add.prefix)) {
        return EXIT_USAGE;
    }
    int code = cli_open(&a.client, common);
    if (!code && (likeness_model(a.client, &a.model) || find_what_is_there(&a))) {
        code = cli_report(NULL);
    }
    if (!code) {
        for (size_t i = 0; i < a.scan.count; i++) {
            a.skipped += (size_t)a.scan.entries[i].is_there;
        }
        const size_t n_new = a.scan.count - a.skipped;
        send_all(&a, n_new);
        summarise(&a, n_new);
        code = a.exit_code ? a.exit_code : a.failed + a.scan.unread > 0 ? EXIT_SOME_FAILED : EXIT_DONE;
    }
    likeness_model_free(&a.model);
    likeness_close(a.client);
    scan_free(&a.scan);
    return code;
}

static const struct option_entry add_options[] = {
    {OPTION_FLAG, 0, "replace", &add.replace, NULL, "send what is there already once more (default: skip it)", 0, 0},
    {OPTION_FLAG, 0, "class-from-folder", &add.class_from_folder, NULL,
     "store {\"class\": \"<first folder>\"} as metadata", 0, 0},
    {OPTION_TEXT, 0, "metadata", &add.metadata, "JSON", "store this object as metadata of every picture", 0, 0},
    {OPTION_TEXT, 0, "prefix", &add.prefix, "TEXT", "put this in front of every id", 0, 0},
};
const struct command command_add = {
    "add",
    "FOLDER|FILE... [options]",
    "add pictures; those that are there already are skipped",
    "The id of a picture in a FOLDER is its path below that folder (cats/1.png), that of a FILE its own name. Folders\n"
    "are taken with all below them: files named .png .jpg .jpeg .jpe .jfif, and none that are hidden. What is there\n"
    "already is known by its id. A picture that cannot be used is reported, and the others go on.",
    run_add,
    {add_options, sizeof add_options / sizeof *add_options}};
