/* Publishing a model: a thread that loads and warms it beside the one that serves, embeds the catalogue again with its own
 * share of the machine while writes are made in both, and switches. If anything fails, the old one stays. One at a time.
 *
 * A published file lies in the folder CATALOGUE.models under its SHA-256; after a switch the others there are removed, and
 * at the start what a crash left. Vectors of models that no longer serve are dropped from the catalogue behind the switch,
 * in short transactions. Knows no HTTP. */
#ifndef LK_SERVER_PUBLISH_H
#define LK_SERVER_PUBLISH_H

#include <stdint.h>

#include "base/fs.h"
#include "collection.h"

enum lk_publish_state {
    LK_PUBLISH_IDLE, /* none since the start */
    LK_PUBLISH_LOADING,
    LK_PUBLISH_EMBEDDING,
    LK_PUBLISH_SWITCHING,
    LK_PUBLISH_DONE,
    LK_PUBLISH_FAILED
};

struct lk_publish_status {
    enum lk_publish_state state;
    int64_t operation; /* counts from 1 since the start */
    char model[128];   /* its name; "" until it was loaded */
    int64_t from, to;  /* generations; to: 0 until the switch */
    int unchanged;     /* done, and there was nothing to do: it makes the same vectors */
    long long items, embedded, failed;
    int64_t started_ms, finished_ms; /* Unix time; 0: not yet */
    char error[512];                 /* failed: why */
};

const char *lk_publish_state_name(enum lk_publish_state state); /* "embedding" */

/* Starts the thread, which first removes what earlier models left behind. */
int lk_publisher_open(struct lk_publisher **out, struct lk_collection *collection);
/* Gives up what runs. NULL is fine. */
void lk_publisher_close(struct lk_publisher *p);

#define LK_PUBLISH_ARRIVING "arriving-"

/* The path of a name in the folder of published models; NULL: the folder's own. free() it. NULL when memory ran out. */
char *lk_publish_in_folder(const struct lk_collection *collection, const char *name);
/* Where a file of this hash lies once it is published: free() it. NULL when memory ran out. */
char *lk_publish_path(const struct lk_collection *collection, const char *sha256);

/* Publishes the --model file, as it is now. LK_EBUSY: another publication runs. */
int lk_publish_reload(struct lk_publisher *p, int64_t *operation);
/* A file that was received whole: by whom it is owned until done(). */
struct lk_arrival {
    struct lk_fs_writer file; /* of a path in the folder of published models that begins with LK_PUBLISH_ARRIVING */
    const char *path;
    /* once, on the publisher's thread; short. 0: it is published; else a negative lk_status and its sentence: LK_EFORMAT,
     * LK_EUNSUPPORTED (no model that can serve), or what the disk says. The file is the publisher's, or gone. */
    void (*done)(struct lk_arrival *arrival, int status, const char *error);
    void *arg;
};
/* Brings it to the disk, checks it, renames it after its hash and publishes it. All of that takes seconds, so it is done
 * on the publisher's thread, and done() follows. LK_EBUSY: another publication runs, LK_ECANCELLED; then it does not. */
int lk_publish_arrived(struct lk_publisher *p, struct lk_arrival *arrival);
void lk_publish_status(struct lk_publisher *p, struct lk_publish_status *out);

#endif
