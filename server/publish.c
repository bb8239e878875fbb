#include "publish.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/log.h"
#include "reembed.h"

#define DROP 2000 /* vectors a transaction */
#define PIECE ((size_t)1 << 20)

struct lk_publisher {
    struct lk_collection *collection;
    pthread_t thread;
    int thread_runs;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int busy;     /* a publication is being checked, or was accepted and is not over */
    int accepted; /* and the thread has not taken it yet */
    struct lk_arrival *arrival;
    char *path; /* its file, owned; NULL: --model */
    int closing;
    int cancel; /* changed atomically */
    struct lk_publish_status status;
    struct lk_reembed reembed; /* whose counters status reads while it runs */
};

const char *lk_publish_state_name(enum lk_publish_state state) {
    static const char *const names[] = {"idle", "loading", "embedding", "switching", "done", "failed"};
    return names[state];
}

static int64_t unix_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* --- files ---------------------------------------------------------------------------------------------------------- */

char *lk_publish_in_folder(const struct lk_collection *collection, const char *name) {
    struct lk_buf path = {0};
    if (lk_buf_printf(&path, "%s.models%s%s", collection->options.catalogue_path, name ? "/" : "", name ? name : "") ||
        lk_buf_append(&path, "", 1)) {
        lk_buf_free(&path);
        return NULL;
    }
    return (char *)path.data;
}

char *lk_publish_path(const struct lk_collection *collection, const char *sha256) {
    char name[96];
    snprintf(name, sizeof name, "%s.safetensors", sha256);
    return lk_publish_in_folder(collection, name);
}

/* Removes every file of the folder but the one that serves: earlier models, and at the start also what a crash left half
 * received. */
static void tidy_folder(struct lk_collection *c, int at_start) {
    char *folder = lk_publish_in_folder(c, NULL), keep[96];
    struct lk_fs_list files = {0};
    struct lk_generation *g = lk_collection_pin(c);
    snprintf(keep, sizeof keep, "%s.safetensors", g->serving.model_file_sha256);
    lk_generation_release(g);
    if (folder && lk_fs_is_folder(folder) && lk_fs_walk(&files, folder) == 0) {
        for (size_t i = 0; i < files.count; i++) {
            const char *name = files.paths[i];
            int arriving = !at_start && strncmp(name, LK_PUBLISH_ARRIVING, strlen(LK_PUBLISH_ARRIVING)) == 0;
            char *path = strcmp(name, keep) != 0 && !arriving ? lk_publish_in_folder(c, name) : NULL;
            if (path && unlink(path))
                lk_log_warn("cannot remove \"%s\": %s", path, strerror(errno));
            free(path);
        }
        lk_fs_list_free(&files);
    }
    free(folder);
}

/* The thread has something better to do than tidying up. */
static int wanted(struct lk_publisher *p) {
    pthread_mutex_lock(&p->mutex);
    int yes = p->accepted || p->closing;
    pthread_mutex_unlock(&p->mutex);
    return yes;
}

/* Vectors of models that do not serve, a short transaction after another. */
static void drop_vectors(struct lk_publisher *p) {
    struct lk_collection *c = p->collection;
    struct lk_generation *g = lk_collection_pin(c);
    int dropped = DROP, rc = 0;
    long long all = 0;
    while (dropped == DROP && rc == 0 && !wanted(p)) {
        if ((rc = lk_store_begin(c->store)))
            break;
        (void)lk_store_drop_vectors(c->store, g->serving.space, DROP, &dropped);
        rc = lk_store_commit(c->store);
        all += dropped;
        struct timespec pause = {.tv_nsec = 2000000}; /* the writer's turn */
        nanosleep(&pause, NULL);
    }
    if (rc)
        lk_log_warn("vectors of earlier models stay in the catalogue: %s", lk_error());
    else if (all)
        lk_log_info("dropped %lld vectors of models that do not serve", all);
    lk_generation_release(g);
}

/* Gives a file of the folder the name of its hash. */
static int name_by_hash(const struct lk_collection *c, const char *path, char **name) {
    char sha256[65];
    int rc = lk_fs_sha256(sha256, path);
    if (rc)
        return rc;
    *name = lk_publish_path(c, sha256);
    return *name ? lk_fs_rename(path, *name) : LK_ENOMEM;
}

/* --model as it is now, as one of ours: read, never mapped, since it may be written again meanwhile. */
static int copy_model(struct lk_publisher *p, char **copied) {
    struct lk_collection *c = p->collection;
    char *folder = lk_publish_in_folder(c, NULL), *arriving = lk_publish_in_folder(c, LK_PUBLISH_ARRIVING "reload");
    char *piece = lk_calloc(PIECE, 1);
    struct lk_fs_writer w = {.fd = -1};
    FILE *f = NULL;
    int rc = folder && arriving && piece ? lk_fs_mkdir_parents(folder) : LK_ENOMEM;
    if (rc == 0 && !(f = fopen(c->options.model_path, "rbe")))
        rc = lk_err(LK_EIO, "%s: cannot open: %s", c->options.model_path, strerror(errno));
    if (rc == 0)
        rc = lk_fs_writer_begin(&w, arriving);
    for (size_t n; rc == 0 && (n = fread(piece, 1, PIECE, f)) > 0;)
        rc = lk_fs_writer_append(&w, piece, n);
    if (rc == 0 && ferror(f))
        rc = lk_err(LK_EIO, "%s: cannot read: %s", c->options.model_path, strerror(errno));
    if (f)
        fclose(f);
    if (rc == 0 && (rc = lk_fs_writer_commit(&w)) == 0)
        rc = name_by_hash(c, arriving, copied);
    lk_fs_writer_abort(&w);
    free(folder);
    free(arriving);
    free(piece);
    return rc;
}

/* --- one publication ------------------------------------------------------------------------------------------------- */

static void set_state(struct lk_publisher *p, enum lk_publish_state state) {
    pthread_mutex_lock(&p->mutex);
    p->status.state = state;
    pthread_mutex_unlock(&p->mutex);
}

static int load(struct lk_publisher *p, const char *path, int ours, struct lk_generation **out) {
    struct lk_collection *c = p->collection;
    struct lk_generation *g = lk_collection_pin(c);
    struct lk_engine_options engine = lk_collection_engine_options(c, &g->serving);
    int rc = lk_collection_open_generation(c, out, path, &engine, 1);
    if (rc == 0)
        snprintf((*out)->serving.started_with, sizeof g->serving.started_with, "%s",
                 ours ? g->serving.started_with : (*out)->serving.model_file_sha256);
    lk_generation_release(g);
    return rc;
}

/* Fills the coming generation's index: with the vectors that are there already, and new ones of all other items. */
static int embed(struct lk_publisher *p, struct lk_generation *coming) {
    struct lk_collection *c = p->collection;
    int64_t items = 0;
    int rc;
    if ((rc = lk_collection_load(c, coming, 0)) || (rc = lk_store_count(c->store, &items)))
        return rc;
    pthread_mutex_lock(&p->mutex);
    p->reembed = (struct lk_reembed){.collection = c,
                                     .generation = coming,
                                     .total = items - (int64_t)lk_index_count(coming->index),
                                     .share = c->options.publish_share,
                                     .cancel = &p->cancel};
    p->status.state = LK_PUBLISH_EMBEDDING;
    pthread_mutex_unlock(&p->mutex);
    return lk_reembed_run(&p->reembed);
}

static int same_vectors(struct lk_collection *c, const struct lk_generation *coming) {
    struct lk_generation *g = lk_collection_pin(c);
    int same = strcmp(g->serving.space, coming->serving.space) == 0 &&
               strcmp(g->serving.model_name, coming->serving.model_name) == 0;
    lk_generation_release(g);
    return same;
}

static int publish(struct lk_publisher *p, const char *path, int ours) {
    struct lk_collection *c = p->collection;
    struct lk_generation *coming = NULL;
    int rc = load(p, path, ours, &coming);
    if (rc)
        return rc;
    if ((rc = lk_generation_check(coming))) {
        lk_generation_release(coming);
        return rc;
    }
    pthread_mutex_lock(&p->mutex);
    snprintf(p->status.model, sizeof p->status.model, "%s", coming->serving.model_name);
    p->status.unchanged = same_vectors(c, coming);
    int unchanged = p->status.unchanged;
    pthread_mutex_unlock(&p->mutex);
    if (unchanged) {
        lk_log_info("model \"%s\" serves already", coming->serving.model_name);
        lk_generation_release(coming);
        return 0;
    }
    lk_log_info("publishing model \"%s\" in %s", coming->serving.model_name, lk_engine_precision(coming->engine));
    lk_collection_expect(c, coming);
    if ((rc = embed(p, coming)) == 0 && (rc = lk_generation_check(coming)) == 0) {
        set_state(p, LK_PUBLISH_SWITCHING);
        rc = lk_collection_switch(c, coming); /* takes over our hold, if it succeeds */
    }
    if (rc) {
        lk_collection_expect(c, NULL);
        lk_generation_release(coming);
        return rc;
    }
    return 0;
}

/* From the file to the switch; path: NULL for --model. */
static int run_from_file(struct lk_publisher *p, const char *path) {
    char *copied = NULL;
    int rc = path ? 0 : copy_model(p, &copied);
    if (rc == 0 && (rc = publish(p, path ? path : copied, path != NULL)) && copied)
        lk_err_prefix(rc, "%s, read again", p->collection->options.model_path);
    free(copied);
    return rc;
}

static void run_one(struct lk_publisher *p, char *path) {
    struct lk_collection *c = p->collection;
    char why[512] = "";
    int rc = run_from_file(p, path);
    if (rc)
        snprintf(why, sizeof why, "%s", lk_error());
    if (!__atomic_load_n(&p->cancel, __ATOMIC_RELAXED))
        tidy_folder(c, 0); /* while no other publication can have put its file there */
    struct lk_generation *g = lk_collection_pin(c);
    pthread_mutex_lock(&p->mutex);
    p->status.items = p->reembed.total;
    p->status.embedded = __atomic_load_n(&p->reembed.embedded, __ATOMIC_RELAXED);
    p->status.failed = __atomic_load_n(&p->reembed.failed, __ATOMIC_RELAXED);
    p->status.finished_ms = unix_ms();
    if (rc)
        snprintf(p->status.error, sizeof p->status.error, "%s", why);
    else
        p->status.to = g->serving.generation;
    p->status.state = rc ? LK_PUBLISH_FAILED : LK_PUBLISH_DONE;
    p->busy = 0; /* who reads that it is over may begin another */
    pthread_mutex_unlock(&p->mutex);
    if (rc)
        lk_log_error("the model was not published, generation %lld serves on: %s", (long long)g->serving.generation,
                     why);
    else
        lk_log_info("generation %lld serves: model \"%s\"", (long long)g->serving.generation, g->serving.model_name);
    lk_generation_release(g);
    drop_vectors(p);
    free(path);
}

static void give_up(struct lk_publisher *p) {
    pthread_mutex_lock(&p->mutex);
    p->busy = 0;
    pthread_mutex_unlock(&p->mutex);
}

/* After reserve(); takes `path` over. */
static int64_t start(struct lk_publisher *p, char *path) {
    struct lk_generation *g = lk_collection_pin(p->collection);
    pthread_mutex_lock(&p->mutex);
    int64_t operation = p->status.operation + 1;
    p->status = (struct lk_publish_status){
        .state = LK_PUBLISH_LOADING, .operation = operation, .from = g->serving.generation, .started_ms = unix_ms()};
    p->reembed = (struct lk_reembed){0};
    p->path = path;
    pthread_mutex_unlock(&p->mutex);
    lk_generation_release(g);
    return operation;
}

/* The file as one of ours: a model that can serve, under the name of its hash. */
static int adopt(struct lk_publisher *p, struct lk_arrival *arrival, char **name) {
    struct lk_model model = {0};
    int rc = lk_fs_writer_commit(&arrival->file);
    if (rc)
        return rc;
    rc = lk_model_load(&model, arrival->path, p->collection->options.engine.image_size);
    lk_model_free(&model);
    return rc ? rc : name_by_hash(p->collection, arrival->path, name);
}

/* 0: its file is to be published. Its owner is told, and may be gone. */
static int receive(struct lk_publisher *p, struct lk_arrival *arrival) {
    char *name = NULL;
    int rc = adopt(p, arrival, &name);
    if (rc) {
        if (unlink(arrival->path) && errno != ENOENT)
            lk_log_warn("cannot remove \"%s\": %s", arrival->path, strerror(errno));
        free(name);
        give_up(p);
    } else {
        start(p, name);
    }
    arrival->done(arrival, rc, rc ? lk_error() : NULL);
    return rc;
}

static void *run(void *arg) {
    struct lk_publisher *p = arg;
    drop_vectors(p);
    pthread_mutex_lock(&p->mutex);
    for (;;) {
        while (!p->accepted && !p->closing)
            pthread_cond_wait(&p->changed, &p->mutex);
        if (p->closing)
            break;
        struct lk_arrival *arrival = p->arrival;
        p->arrival = NULL;
        p->accepted = 0;
        pthread_mutex_unlock(&p->mutex);
        if (!arrival || receive(p, arrival) == 0) {
            char *path = p->path;
            p->path = NULL;
            run_one(p, path);
        }
        pthread_mutex_lock(&p->mutex);
    }
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

/* --- the door -------------------------------------------------------------------------------------------------------- */

int lk_publisher_open(struct lk_publisher **out, struct lk_collection *collection) {
    *out = NULL;
    struct lk_publisher *p = lk_calloc(1, sizeof *p);
    if (!p)
        return LK_ENOMEM;
    p->collection = collection;
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->changed, NULL);
    tidy_folder(collection, 1);
    p->thread_runs = pthread_create(&p->thread, NULL, run, p) == 0;
    if (!p->thread_runs) {
        lk_publisher_close(p);
        return lk_err(LK_EFAIL, "the publisher's thread cannot be started");
    }
    *out = p;
    return 0;
}

void lk_publisher_close(struct lk_publisher *p) {
    if (!p)
        return;
    __atomic_store_n(&p->cancel, 1, __ATOMIC_RELAXED);
    pthread_mutex_lock(&p->mutex);
    p->closing = 1;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->mutex);
    if (p->thread_runs)
        pthread_join(p->thread, NULL);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->mutex);
    free(p->path);
    free(p);
}

static int reserve(struct lk_publisher *p) {
    pthread_mutex_lock(&p->mutex);
    int rc = p->closing ? lk_err(LK_ECANCELLED, "the server stops")
             : p->busy  ? lk_err(LK_EBUSY, "another model is being published")
                        : 0;
    if (rc == 0)
        p->busy = 1;
    pthread_mutex_unlock(&p->mutex);
    return rc;
}

int lk_publish_reload(struct lk_publisher *p, int64_t *operation) {
    int rc = reserve(p);
    if (rc)
        return rc;
    *operation = start(p, NULL);
    pthread_mutex_lock(&p->mutex);
    p->accepted = 1;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->mutex);
    return 0;
}

int lk_publish_arrived(struct lk_publisher *p, struct lk_arrival *arrival) {
    int rc = reserve(p);
    if (rc)
        return rc;
    pthread_mutex_lock(&p->mutex);
    p->arrival = arrival;
    p->accepted = 1;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->mutex);
    return 0;
}

void lk_publish_status(struct lk_publisher *p, struct lk_publish_status *out) {
    pthread_mutex_lock(&p->mutex);
    *out = p->status;
    if (out->state == LK_PUBLISH_EMBEDDING || out->state == LK_PUBLISH_SWITCHING) {
        out->items = p->reembed.total;
        out->embedded = __atomic_load_n(&p->reembed.embedded, __ATOMIC_RELAXED);
        out->failed = __atomic_load_n(&p->reembed.failed, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&p->mutex);
}
