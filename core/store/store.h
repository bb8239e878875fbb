/* The catalogue: one SQLite file with items (id, metadata, times, seq), images keyed by SHA-256, vectors per space, and
 * the record of what is served. WAL, synchronous=FULL, page_size 16384, application_id and user_version from the first
 * version; a newer version is refused, an older one migrated. sqlite3.h stays inside this room.
 *
 * A 2xx of the server means that the write survives kill -9 and power loss: lk_store_commit returns after the sync.
 * Every write takes the next seq; deletes leave a record. Threads: one writer at a time (the store locks), any number
 * of readers through the store's own pool of read connections. Strings and blobs handed to a callback live until it
 * returns; a callback may write into an open batch but must not read from the store, since it holds a connection of
 * the pool. One process writes: PATH-lock is locked (flock) while it does, readers of other processes go on beside it.
 * docs/formats.md describes the file. */
#ifndef LK_STORE_STORE_H
#define LK_STORE_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct lk_store;

struct lk_store_options {
    int read_only;       /* 1: the trainer reading a catalogue; nothing is created */
    int readers;         /* read connections kept; 0: 4 */
    int busy_ms;         /* wait for another process to let go of the file; 0: 5000 */
    size_t max_metadata; /* bytes that a patch may make an item's metadata grow to; 0: no limit */
};

/* Opens or creates. LK_EFORMAT: no catalogue, or damaged (the file is left as it was); LK_EUNSUPPORTED: made by a newer
 * version; LK_EBUSY: another process has it open for writing; LK_ENOTFOUND: read_only and not there; LK_ENOSPACE,
 * LK_EIO. options NULL: defaults. Every sentence names the file. */
int lk_store_open(struct lk_store **out, const char *path, const struct lk_store_options *options);
void lk_store_close(struct lk_store *store); /* NULL is fine */

/* Ids are 1..255 bytes of valid UTF-8 without control characters (U+0000..1F, U+007F..9F): LK_EINVAL with the reason. */
int lk_store_check_id(const char *id, size_t n);

struct lk_item {
    const char *id;
    const char *metadata;   /* JSON object text */
    const char *media_type; /* "image/png" */
    char image_sha256[65];
    int64_t image_bytes;
    int width, height;
    int64_t created_ms, updated_ms; /* Unix time */
    int64_t seq;
    const float *vector; /* NULL unless asked for and present in the space; [dim] */
    int dim;
};

/* Group commit: begin, any puts/patches/deletes, commit (durable) or rollback. One batch at a time; begin waits. A call
 * that is refused (LK_EINVAL, LK_ENOTFOUND, LK_ECONFLICT, LK_ELIMIT) leaves the batch as it was. After any other failure
 * the batch is lost: every later call, and commit, returns that failure. commit and rollback always end the batch. */
int lk_store_begin(struct lk_store *store);
int lk_store_commit(struct lk_store *store);
void lk_store_rollback(struct lk_store *store);

/* Inside a batch. put adds or replaces image, metadata (NULL: "{}"; kept when replacing with NULL) and the vector for
 * `space` (dim floats; NULL: none yet, and the item is `missing`). Another image drops the item's vectors of every space,
 * the same bytes keep them. *created: 1 when new. LK_EINVAL for a bad id, a vector that is not finite, metadata that is no
 * JSON object or names a key twice. Metadata is stored without white space and with escapes resolved. */
int lk_store_put(struct lk_store *store, const char *id, const char *metadata, const char *media_type,
                 const void *image, size_t image_bytes, int width, int height, const char *space, const float *vector,
                 int dim, int *created, int64_t *seq);
/* JSON merge patch (RFC 7396) of the metadata. LK_ENOTFOUND; LK_EINVAL past max_metadata, unless it became smaller. */
int lk_store_patch(struct lk_store *store, const char *id, const char *merge_patch, int64_t *seq);
int lk_store_delete(struct lk_store *store, const char *id, int64_t *seq); /* LK_ENOTFOUND */
/* Sets the vector of an item in another space (embedding again). `seq` is the item's when its image was read: LK_ECONFLICT
 * when the image was replaced since (a patch does not count), LK_ENOTFOUND when the item is gone. */
int lk_store_put_vector(struct lk_store *store, const char *id, int64_t seq, const char *space, const float *vector,
                        int dim);

/* Reads; any thread, outside batches. space NULL: no vector. */
int lk_store_get(struct lk_store *store, const char *id, const char *space,
                 int (*visit)(void *arg, const struct lk_item *item), void *arg); /* LK_ENOTFOUND */
/* Items with id > after (NULL: from the start), ordered by id bytes, at most limit, in one short transaction. Stops at
 * and returns the first non-zero of visit. */
int lk_store_list(struct lk_store *store, const char *after, int limit, const char *space,
                  int (*visit)(void *arg, const struct lk_item *item), void *arg);
/* Appends the stored bytes of the item's image to out. media_type[64]. LK_ENOTFOUND. */
int lk_store_image(struct lk_store *store, const char *id, struct lk_buf *out, char media_type[64]);
int lk_store_count(struct lk_store *store, int64_t *items);
int64_t lk_store_seq(struct lk_store *store); /* last seq committed; 0 when none */
/* Items that have no vector in `space`: ordered by id > after, as lk_store_list. */
int lk_store_missing(struct lk_store *store, const char *after, int limit, const char *space,
                     int (*visit)(void *arg, const struct lk_item *item), void *arg);

/* Items that have a vector in `space`, in the order in which the file holds them: to load an index fast. *cursor is 0 to
 * begin with and moves past what was visited; the end is reached when a call leaves it as it was. */
int lk_store_vectors(struct lk_store *store, int64_t *cursor, int limit, const char *space,
                     int (*visit)(void *arg, const struct lk_item *item), void *arg);

/* What happened to the vectors of a space after write number `cursor`, so that a copy of them can be brought up to date. */
struct lk_change {
    int64_t seq; /* of the write */
    const char *id;
    const float *vector; /* [dim]; NULL: the item is gone, or its new image has no vector in the space yet */
    int dim;
};
/* At most limit changes in the order of their seq, in one short transaction: where an item has several, the last one, and
 * a delete before what the id has become since. *cursor moves past what was visited, and to the last write when nothing
 * is left; the end is reached when a call leaves it as it was. LK_ENOTFOUND: this cannot be told, because some delete
 * after *cursor is on record no longer (the last 100,000 are) or *cursor is no write of this catalogue: make the copy
 * anew. Vectors that lk_store_drop_vectors dropped are no change. */
int lk_store_changes(struct lk_store *store, int64_t *cursor, int limit, const char *space,
                     int (*visit)(void *arg, const struct lk_change *change), void *arg);

/* Inside a batch: removes at most `limit` vectors of spaces other than `keep`, which some vector is in. *dropped: how many;
 * fewer than limit when none is left. */
int lk_store_drop_vectors(struct lk_store *store, const char *keep, int limit, int *dropped);

/* Id and metadata of every item, in the order in which the file holds them: for filters. *cursor is 0 to begin with and
 * moves past what was visited; the end is reached when a call leaves it as it was. Stops at and returns the first non-zero
 * of visit, without moving past that item. An item that is added between two calls may be missed. */
int lk_store_scan(struct lk_store *store, int64_t *cursor, int limit,
                  int (*visit)(void *arg, const char *id, const char *metadata), void *arg);

/* One moment of the catalogue, for many look-ups: much cheaper than a read each. It holds a connection of the pool, so keep
 * it for a fraction of a second, and read nothing else meanwhile. */
struct lk_store_view;
int lk_store_view_open(struct lk_store_view **out, struct lk_store *store);
void lk_store_view_close(struct lk_store_view *view); /* NULL is fine */
/* An item's metadata at that moment, valid until the next call. LK_ENOTFOUND. */
int lk_store_view_metadata(struct lk_store_view *view, const char *id, const char **metadata);

/* A copy of the catalogue at `path`, made while others read and write: a batch waits a few milliseconds for it at most. The
 * file is a catalogue like any other, complete and on the disk on return, and holds every write up to seq; until then it is
 * named path LK_STORE_SNAPSHOT_PART. go_on (may be NULL) is asked every megabyte: 0 gives up. LK_EBUSY: another one is
 * being made; LK_EEXISTS: path is there; LK_ECANCELLED; LK_ENOSPACE, LK_EIO: the catalogue itself is as it was. Not
 * inside a batch. */
#define LK_STORE_SNAPSHOT_PART ".part"
struct lk_store_snapshot {
    int64_t seq, items, bytes;
};
int lk_store_snapshot(struct lk_store *store, const char *path, int (*go_on)(void *arg), void *arg,
                      struct lk_store_snapshot *out);

/* What is served: space, generation number (never reused: next_generation is monotone), model file hash. */
struct lk_store_serving {
    int64_t generation;
    char space[65];
    char model_name[128];
    char model_file_sha256[65];
    char precision[8];     /* class: "f32", "bf16", "int8" */
    char started_with[65]; /* hash of the model file that the server was last started with: another one is served when a
                              model was published since */
};
int lk_store_serving(struct lk_store *store, struct lk_store_serving *out); /* LK_ENOTFOUND: never served */
/* Records a new generation and returns its number in s->generation; durable on return. */
int lk_store_set_serving(struct lk_store *store, struct lk_store_serving *s);

#endif
