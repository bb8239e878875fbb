/* What a batch does. A request that is refused (bad id, no such item) leaves the batch as it was; a failure of SQLite
 * breaks it, and then commit rolls back and says why. */
#include "store/store_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/sha256.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "vectors are stored as little-endian floats, as this processor's are not"
#endif

enum { MAX_BLOB = 512 * 1024 * 1024 };

struct found {
    int64_t item, image_seq;
    char image[65];
    char *metadata; /* owned; NULL unless asked for */
};

static int64_t now_ms(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Remembers a failure of SQLite: the transaction may be half done or gone. */
static int broke(struct lk_store *store, int rc) {
    if (!store->broken) {
        store->broken = rc;
        (void)snprintf(store->broken_why, sizeof store->broken_why, "%s", lk_error());
    }
    return rc;
}

static int usable(struct lk_store *store) {
    if (!store->in_batch)
        return lk_err(LK_EINVAL, "%s: no batch is open", store->path);
    if (store->broken)
        return lk_err(store->broken, "%s", store->broken_why);
    return 0;
}

static void bind_text(sqlite3_stmt *s, int i, const char *text) {
    (void)sqlite3_bind_text(s, i, text, -1, SQLITE_STATIC); /* NULL binds NULL */
}

/* 1 found, 0 not. */
static int find(struct lk_store *store, const char *id, int with_metadata, struct found *out) {
    struct lk_store__conn *c = &store->writer;
    sqlite3_stmt *s = lk_store__statement(c, LK_SQL_FIND);
    int rc, step;
    *out = (struct found){0};
    if (s == NULL)
        return broke(store, store->writer.status);
    bind_text(s, 1, id);
    step = sqlite3_step(s);
    if (step == SQLITE_ROW) {
        const unsigned char *image = sqlite3_column_text(s, 1);
        out->item = sqlite3_column_int64(s, 0);
        (void)snprintf(out->image, sizeof out->image, "%s", image != NULL ? (const char *)image : "");
        out->image_seq = sqlite3_column_int64(s, 2);
        rc = 1;
        if (with_metadata) {
            const unsigned char *metadata = sqlite3_column_text(s, 3);
            if ((out->metadata = lk_strdup(metadata != NULL ? (const char *)metadata : "{}")) == NULL)
                rc = LK_ENOMEM;
        }
    } else {
        rc = step == SQLITE_DONE ? 0 : broke(store, lk_store__fail(c, "looking up an item"));
    }
    lk_store__done(s);
    return rc;
}

static int find_or_refuse(struct lk_store *store, const char *id, int with_metadata, struct found *out) {
    int rc = lk_store_check_id(id, id != NULL ? strlen(id) : 0);
    if (rc == 0 && (rc = find(store, id, with_metadata, out)) == 0)
        rc = lk_err(LK_ENOTFOUND, "there is no item '%s'", id);
    return rc < 0 ? rc : 0;
}

/* Refuses what is no JSON object or names a key twice; puts the canonical text into out. */
static int check_object(struct lk_store *store, const char *json, const char *what, struct lk_buf *out) {
    struct lk_store__conn *c = &store->writer;
    const char *bad = lk_store__bad_utf8(json, strlen(json), 1);
    sqlite3_stmt *s;
    int rc = 0, valid;
    if (bad != NULL)
        return lk_err(LK_EINVAL, "%s %s", what, bad);
    if (strlen(json) > MAX_BLOB)
        return lk_err(LK_ELIMIT, "%s has %zu bytes; the limit is %d", what, strlen(json), MAX_BLOB);
    if ((s = lk_store__statement(c, LK_SQL_JSON_OBJECT)) == NULL)
        return broke(store, store->writer.status);
    bind_text(s, 1, json);
    if (sqlite3_step(s) != SQLITE_ROW)
        rc = broke(store, lk_store__fail(c, "checking JSON"));
    valid = rc == 0 && sqlite3_column_int(s, 0);
    lk_store__done(s);
    if (rc < 0)
        return rc;
    if (!valid)
        return lk_err(LK_EINVAL, "%s is no JSON object", what);
    if ((rc = lk_store__json_canonical(out, json)) < 0)
        return rc;
    if ((s = lk_store__statement(c, LK_SQL_JSON_DOUBLE_KEY)) == NULL)
        return broke(store, store->writer.status);
    bind_text(s, 1, (const char *)out->data);
    switch (sqlite3_step(s)) {
    case SQLITE_DONE: break;
    case SQLITE_ROW: {
        const unsigned char *key = sqlite3_column_text(s, 0);
        rc = lk_err(LK_EINVAL, "%s names '%.100s' twice", what, key != NULL ? (const char *)key : "");
        break;
    }
    default: rc = broke(store, lk_store__fail(c, "checking JSON"));
    }
    lk_store__done(s);
    return rc;
}

static int check_vector(const char *space, const float *vector, int dim) {
    if (space == NULL || space[0] == '\0' || strlen(space) > 64)
        return lk_err(LK_EINVAL, "a vector needs the name of its space, 1 to 64 bytes");
    if (dim < 1 || dim > 1 << 20)
        return lk_err(LK_EINVAL, "a vector cannot have %d components", dim);
    for (int i = 0; i < dim; i++) {
        if (!isfinite(vector[i]))
            return lk_err(LK_EINVAL, "component %d of the vector is not finite", i);
    }
    return 0;
}

static int run1(struct lk_store *store, enum lk_store__sql which, int64_t item, const char *doing) {
    sqlite3_stmt *s = lk_store__statement(&store->writer, which);
    int rc;
    if (s == NULL)
        return broke(store, store->writer.status);
    (void)sqlite3_bind_int64(s, 1, item);
    rc = lk_store__run(&store->writer, s, doing);
    return rc < 0 ? broke(store, rc) : 0;
}

static int drop_image(struct lk_store *store, const char *sha256) {
    sqlite3_stmt *s = lk_store__statement(&store->writer, LK_SQL_IMAGE_DROP);
    int rc;
    if (s == NULL)
        return broke(store, store->writer.status);
    bind_text(s, 1, sha256);
    rc = lk_store__run(&store->writer, s, "dropping an image");
    return rc < 0 ? broke(store, rc) : 0;
}

static int keep_image(struct lk_store *store, const char *sha256, const void *image, size_t n) {
    struct lk_store__conn *c = &store->writer;
    sqlite3_stmt *s = lk_store__statement(c, LK_SQL_IMAGE_EXISTS);
    int rc, step;
    if (s == NULL)
        return broke(store, store->writer.status);
    bind_text(s, 1, sha256);
    step = sqlite3_step(s);
    rc = step == SQLITE_ROW || step == SQLITE_DONE ? 0 : broke(store, lk_store__fail(c, "looking up an image"));
    lk_store__done(s);
    if (rc < 0 || step == SQLITE_ROW)
        return rc;
    if ((s = lk_store__statement(c, LK_SQL_IMAGE_INSERT)) == NULL)
        return broke(store, store->writer.status);
    bind_text(s, 1, sha256);
    (void)sqlite3_bind_blob64(s, 2, image, n, SQLITE_STATIC);
    rc = lk_store__run(c, s, "storing an image");
    return rc < 0 ? broke(store, rc) : 0;
}

static int keep_vector(struct lk_store *store, int64_t item, int64_t seq, const char *space, const float *vector,
                       int dim) {
    struct lk_store__conn *c = &store->writer;
    sqlite3_stmt *s = lk_store__statement(c, LK_SQL_SPACE_INSERT);
    int rc;
    if (s == NULL)
        return broke(store, store->writer.status);
    bind_text(s, 1, space);
    if ((rc = lk_store__run(c, s, "naming a space")) < 0)
        return broke(store, rc);
    if ((s = lk_store__statement(c, LK_SQL_VECTOR_PUT)) == NULL)
        return broke(store, store->writer.status);
    (void)sqlite3_bind_int64(s, 1, item);
    bind_text(s, 2, space);
    (void)sqlite3_bind_int64(s, 3, seq);
    (void)sqlite3_bind_int(s, 4, dim);
    (void)sqlite3_bind_blob64(s, 5, vector, (sqlite3_uint64)dim * sizeof *vector, SQLITE_STATIC);
    rc = lk_store__run(c, s, "storing a vector");
    return rc < 0 ? broke(store, rc) : 0;
}

int lk_store_put(struct lk_store *store, const char *id, const char *metadata, const char *media_type,
                 const void *image, size_t image_bytes, int width, int height, const char *space, const float *vector,
                 int dim, int *created, int64_t *seq) {
    struct lk_store__conn *c = &store->writer;
    struct lk_buf canonical = {0};
    struct lk_sha256 hash;
    struct found old = {0};
    uint8_t digest[32];
    char sha256[65];
    sqlite3_stmt *s;
    int64_t item;
    int rc, found, same_image;
    if ((rc = usable(store)) < 0 || (rc = lk_store_check_id(id, id != NULL ? strlen(id) : 0)) < 0 ||
        (vector != NULL && (rc = check_vector(space, vector, dim)) < 0))
        return rc;
    if (image == NULL || image_bytes == 0)
        return lk_err(LK_EINVAL, "an item needs an image");
    if (image_bytes > MAX_BLOB)
        return lk_err(LK_ELIMIT, "an image of %zu bytes; the limit is %d", image_bytes, MAX_BLOB);
    if (media_type == NULL || media_type[0] == '\0' || strlen(media_type) > 63 ||
        lk_store__bad_utf8(media_type, strlen(media_type), 0) != NULL)
        return lk_err(LK_EINVAL, "a media type has 1 to 63 bytes without control characters");
    if (metadata != NULL && (rc = check_object(store, metadata, "the metadata", &canonical)) < 0)
        goto done;
    lk_sha256_init(&hash);
    lk_sha256_update(&hash, image, image_bytes);
    lk_sha256_final(&hash, digest);
    lk_sha256_hex(digest, sha256);

    if ((found = rc = find(store, id, 0, &old)) < 0 || (rc = keep_image(store, sha256, image, image_bytes)) < 0)
        goto done;
    same_image = found && strcmp(old.image, sha256) == 0;
    if ((s = lk_store__statement(c, found ? LK_SQL_REPLACE : LK_SQL_INSERT)) == NULL) {
        rc = broke(store, store->writer.status);
        goto done;
    }
    if (found)
        (void)sqlite3_bind_int64(s, 1, old.item);
    else
        bind_text(s, 1, id);
    bind_text(s, 2, metadata != NULL ? (const char *)canonical.data : found ? NULL : "{}");
    bind_text(s, 3, media_type);
    bind_text(s, 4, sha256);
    (void)sqlite3_bind_int64(s, 5, (sqlite3_int64)image_bytes);
    (void)sqlite3_bind_int(s, 6, width);
    (void)sqlite3_bind_int(s, 7, height);
    (void)sqlite3_bind_int64(s, 8, now_ms());
    (void)sqlite3_bind_int64(s, 9, same_image ? old.image_seq : store->now.seq + 1);
    (void)sqlite3_bind_int64(s, 10, store->now.seq + 1);
    if ((rc = lk_store__run(c, s, "storing an item")) < 0) {
        rc = broke(store, rc);
        goto done;
    }
    item = found ? old.item : sqlite3_last_insert_rowid(c->db);
    /* Vectors of the old image say nothing about the new one, in whatever space. */
    if ((found && !same_image &&
         ((rc = run1(store, LK_SQL_VECTORS_DROP, item, "dropping vectors")) < 0 ||
          (rc = drop_image(store, old.image)) < 0)) ||
        (vector != NULL && (rc = keep_vector(store, item, store->now.seq + 1, space, vector, dim)) < 0))
        goto done;
    store->now.seq++;
    store->now.items += !found;
    if (created != NULL)
        *created = !found;
    if (seq != NULL)
        *seq = store->now.seq;
    rc = 0;
done:
    lk_buf_free(&canonical);
    return rc;
}

/* RFC 7396 as SQLite does it, over canonical texts. The result is canonical again. */
static int merge(struct lk_store *store, const char *target, const char *patch, struct lk_buf *out) {
    struct lk_store__conn *c = &store->writer;
    sqlite3_stmt *s = lk_store__statement(c, LK_SQL_JSON_PATCH);
    const unsigned char *text;
    int rc;
    if (s == NULL)
        return broke(store, store->writer.status);
    bind_text(s, 1, target);
    bind_text(s, 2, patch);
    if (sqlite3_step(s) != SQLITE_ROW || (text = sqlite3_column_text(s, 0)) == NULL)
        rc = broke(store, lk_store__fail(c, "merging metadata"));
    else
        rc = lk_buf_append(out, text, (size_t)sqlite3_column_bytes(s, 0) + 1);
    lk_store__done(s);
    return rc;
}

/* Each patch is small, but many of them add up. */
static int check_growth(const struct lk_store *store, const struct found *old, size_t n) {
    return store->max_metadata > 0 && n > store->max_metadata && n > (old->metadata != NULL ? strlen(old->metadata) : 0)
               ? lk_err(LK_EINVAL, "the metadata would have %zu bytes; the limit is %zu", n, store->max_metadata)
               : 0;
}

int lk_store_patch(struct lk_store *store, const char *id, const char *merge_patch, int64_t *seq) {
    struct lk_buf patch = {0}, merged = {0};
    struct found old = {0};
    sqlite3_stmt *s;
    int rc;
    if ((rc = usable(store)) < 0)
        return rc;
    if (merge_patch == NULL)
        return lk_err(LK_EINVAL, "a merge patch is missing");
    if ((rc = check_object(store, merge_patch, "the merge patch", &patch)) < 0 ||
        (rc = find_or_refuse(store, id, 1, &old)) < 0 ||
        (rc = merge(store, old.metadata, (const char *)patch.data, &merged)) < 0 ||
        (rc = check_growth(store, &old, merged.size - 1)) < 0)
        goto done;
    if ((s = lk_store__statement(&store->writer, LK_SQL_PATCH)) == NULL) {
        rc = broke(store, store->writer.status);
        goto done;
    }
    (void)sqlite3_bind_int64(s, 1, old.item);
    bind_text(s, 2, (const char *)merged.data);
    (void)sqlite3_bind_int64(s, 3, now_ms());
    (void)sqlite3_bind_int64(s, 4, store->now.seq + 1);
    if ((rc = lk_store__run(&store->writer, s, "patching an item")) < 0) {
        rc = broke(store, rc);
        goto done;
    }
    store->now.seq++;
    if (seq != NULL)
        *seq = store->now.seq;
done:
    free(old.metadata);
    lk_buf_free(&patch);
    lk_buf_free(&merged);
    return rc;
}

int lk_store_delete(struct lk_store *store, const char *id, int64_t *seq) {
    struct found old = {0};
    sqlite3_stmt *s;
    int rc;
    if ((rc = usable(store)) < 0 || (rc = find_or_refuse(store, id, 0, &old)) < 0 ||
        (rc = run1(store, LK_SQL_VECTORS_DROP, old.item, "dropping vectors")) < 0 ||
        (rc = run1(store, LK_SQL_DELETE, old.item, "deleting an item")) < 0 || (rc = drop_image(store, old.image)) < 0)
        return rc;
    if ((s = lk_store__statement(&store->writer, LK_SQL_DELETED)) == NULL)
        return broke(store, store->writer.status);
    (void)sqlite3_bind_int64(s, 1, store->now.seq + 1);
    bind_text(s, 2, id);
    if ((rc = lk_store__run(&store->writer, s, "recording a delete")) < 0)
        return broke(store, rc);
    store->now.seq++;
    store->now.items--;
    store->now.deletes++;
    if (seq != NULL)
        *seq = store->now.seq;
    return 0;
}

int lk_store_put_vector(struct lk_store *store, const char *id, int64_t seq, const char *space, const float *vector,
                        int dim) {
    struct found old = {0};
    int rc;
    if ((rc = usable(store)) < 0)
        return rc;
    if (vector == NULL)
        return lk_err(LK_EINVAL, "a vector is missing");
    if ((rc = check_vector(space, vector, dim)) < 0 || (rc = find_or_refuse(store, id, 0, &old)) < 0)
        return rc;
    if (old.image_seq > seq)
        return lk_err(LK_ECONFLICT, "the image of '%s' was replaced meanwhile", id);
    if ((rc = keep_vector(store, old.item, store->now.seq + 1, space, vector, dim)) < 0)
        return rc;
    store->now.seq++;
    return 0;
}

int lk_store_drop_vectors(struct lk_store *store, const char *keep, int limit, int *dropped) {
    struct lk_store__conn *c = &store->writer;
    sqlite3_stmt *s;
    int rc;
    *dropped = 0;
    if ((rc = usable(store)) < 0)
        return rc;
    if ((s = lk_store__statement(c, LK_SQL_VECTORS_DROP_OTHERS)) == NULL)
        return broke(store, c->status);
    bind_text(s, 1, keep);
    (void)sqlite3_bind_int(s, 2, limit);
    if ((rc = lk_store__run(c, s, "dropping the vectors of other models")) < 0)
        return broke(store, rc);
    *dropped = sqlite3_changes(c->db);
    return 0;
}

int lk_store_set_serving(struct lk_store *store, struct lk_store_serving *serving) {
    struct lk_store__conn *c = &store->writer;
    sqlite3_stmt *s;
    int64_t generation = 0;
    int rc;
    if (serving->space[0] == '\0' || serving->precision[0] == '\0')
        return lk_err(LK_EINVAL, "a generation needs its space and its precision class");
    if ((rc = lk_store_begin(store)) < 0)
        return rc;
    if ((s = lk_store__statement(c, LK_SQL_SERVING_SET)) == NULL) {
        (void)broke(store, store->writer.status);
    } else {
        bind_text(s, 1, serving->space);
        bind_text(s, 2, serving->model_name);
        bind_text(s, 3, serving->model_file_sha256);
        bind_text(s, 4, serving->precision);
        (void)sqlite3_bind_int64(s, 5, now_ms());
        bind_text(s, 6, serving->started_with);
        if ((rc = lk_store__run(c, s, "recording a generation")) < 0)
            (void)broke(store, rc);
        generation = sqlite3_last_insert_rowid(c->db);
    }
    if ((rc = lk_store_commit(store)) < 0) /* a broken batch says why here */
        return rc;
    serving->generation = generation;
    return 0;
}
