/* The graph's file, docs/formats.md: a first page of text, the ids of the slots, FAISS's own bytes, and the SHA-256 of all
 * that. It is checked in full before FAISS reads a byte of it, since FAISS's reader believes what it reads. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/sha256.h"
#include "index_internal.h"
#include "json.h"

#define MAGIC "likeness-hnsw-1\n"

enum {
    PAGE = 4096,  /* of text, padded with blanks */
    TRAILER = 72, /* "sha256 ", 64 digits, a line's end */
    PIECE = 1 << 20,
    ID_BYTES = 255
};

/* --- Writing ------------------------------------------------------------------------------------------------------ */

struct sink {
    struct lk_fs_writer file;
    struct lk_sha256 hash;
    int status;
    char error[256];
};

static int put(struct sink *s, const void *bytes, size_t n) {
    lk_sha256_update(&s->hash, bytes, n);
    return lk_fs_writer_append(&s->file, bytes, n);
}

/* What FAISS writes arrives here, through a FILE. */
static ssize_t put_cookie(void *cookie, const char *bytes, size_t n) {
    struct sink *s = cookie;
    if (s->status == 0 && (s->status = put(s, bytes, n)) < 0)
        snprintf(s->error, sizeof s->error, "%s", lk_error());
    if (s->status == 0)
        return (ssize_t)n;
    errno = EIO;
    return 0;
}

static int write_page(struct sink *out, const struct lk_index *index, const struct lk_segment *s) {
    const struct lk_index_options *o = &index->options;
    char page[PAGE + 1];
    const int n = snprintf(page, sizeof page,
                           MAGIC "{\"space\": \"%s\", \"dim\": %d, \"m\": %d, \"ef_construction\": %d, \"count\": %zu, "
                                 "\"seq\": %lld}",
                           o->space, index->dim, o->m, o->ef_construction, s->count, (long long)s->seq);
    if (n < 0 || n >= PAGE)
        return lk_err(LK_EINVAL, "the name of the space is too long");
    memset(page + n, ' ', (size_t)(PAGE - n));
    page[PAGE - 1] = '\n';
    return put(out, page, PAGE);
}

/* A byte that counts the id's bytes, and these; 0 for a tombstone. */
static int write_ids(struct sink *out, struct lk_index *index, const struct lk_segment *s) {
    struct lk_buf piece = {0};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < s->count; i++) {
        (void)pthread_rwlock_rdlock(&index->gate);
        const char *id = s->died[i] == LK_ALIVE ? s->ids[i] : "";
        (void)pthread_rwlock_unlock(&index->gate);
        const size_t n = strlen(id);
        const unsigned char length = (unsigned char)n;
        if (n > ID_BYTES)
            rc = lk_err(LK_EINVAL, "an id of %zu bytes", n);
        else if ((rc = lk_buf_append(&piece, &length, 1)) == 0 && (rc = lk_buf_append(&piece, id, n)) == 0 &&
                 (piece.size > PIECE || i + 1 == s->count)) {
            rc = put(out, piece.data, piece.size);
            piece.size = 0;
        }
    }
    lk_buf_free(&piece);
    return rc;
}

static int write_graph(struct sink *out, const struct lk_segment *s) {
    FILE *file = fopencookie(out, "w", (cookie_io_functions_t){.write = put_cookie});
    int rc;
    if (file == NULL)
        return lk_err(LK_ENOMEM, "no memory to write a file");
    (void)setvbuf(file, NULL, _IOFBF, PIECE);
    rc = lk_vectors_write(s->vectors, file);
    if (fclose(file) != 0 && rc == 0)
        rc = LK_EIO;
    return out->status < 0 ? lk_err(out->status, "%s", out->error) : rc;
}

static int write_trailer(struct sink *out) {
    uint8_t digest[32];
    char hex[65], line[TRAILER + 1];
    lk_sha256_final(&out->hash, digest);
    lk_sha256_hex(digest, hex);
    snprintf(line, sizeof line, "sha256 %s\n", hex);
    return lk_fs_writer_append(&out->file, line, TRAILER);
}

int lk_index_file_write(struct lk_index *index) {
    struct sink out = {0};
    struct lk_view *v;
    const struct lk_segment *s;
    int rc = 0;
    (void)pthread_rwlock_rdlock(&index->gate);
    v = lk_index_pin(index);
    (void)pthread_rwlock_unlock(&index->gate);
    lk_sha256_init(&out.hash);
    if ((s = lk_view_graph(v)) != NULL && (rc = lk_fs_writer_begin(&out.file, index->options.path)) == 0) {
        if ((rc = write_page(&out, index, s)) == 0 && (rc = write_ids(&out, index, s)) == 0 &&
            (rc = write_graph(&out, s)) == 0 && (rc = write_trailer(&out)) == 0)
            rc = lk_fs_writer_commit(&out.file);
        if (rc == 0)
            lk_log_info("the graph of %zu vectors is kept in \"%s\"", s->count, index->options.path);
        lk_fs_writer_abort(&out.file);
    }
    lk_view_release(v);
    return rc;
}

/* --- Reading ------------------------------------------------------------------------------------------------------ */

/* Whether the trailer's hash is that of what stands before it. */
static int check_hash(FILE *file, size_t size) {
    unsigned char *piece = lk_calloc(PIECE, 1);
    struct lk_sha256 hash;
    uint8_t digest[32];
    char hex[65], want[TRAILER + 1], line[TRAILER + 1] = {0};
    size_t left = size - TRAILER, n = 1;
    if (piece == NULL)
        return LK_ENOMEM;
    lk_sha256_init(&hash);
    for (; left > 0 && n > 0; left -= n) {
        n = fread(piece, 1, left < PIECE ? left : PIECE, file);
        lk_sha256_update(&hash, piece, n);
    }
    free(piece);
    if (left > 0 || fread(line, 1, TRAILER, file) != TRAILER)
        return lk_err(LK_EIO, "it cannot be read");
    lk_sha256_final(&hash, digest);
    lk_sha256_hex(digest, hex);
    snprintf(want, sizeof want, "sha256 %s\n", hex);
    return strcmp(line, want) == 0 ? 0 : lk_err(LK_EFORMAT, "it is damaged: its hash is another one");
}

static int same_number(const json_t *page, const char *name, long long want) {
    const json_t *v = json_object_get(page, name);
    return json_is_integer(v) && json_integer_value(v) == want
               ? 0
               : lk_err(LK_EFORMAT, "its %s is %lld, not %lld", name, (long long)json_integer_value(v), want);
}

static int read_page(FILE *file, const struct lk_index *index, size_t *count, int64_t *seq) {
    const struct lk_index_options *o = &index->options;
    char page[PAGE];
    const size_t magic = sizeof MAGIC - 1;
    if (fread(page, 1, PAGE, file) != PAGE || memcmp(page, MAGIC, magic) != 0)
        return lk_err(LK_EFORMAT, "it is no file of a graph");
    struct lk_fault fault;
    json_t *fields;
    if (lk_json_parse_object(&fields, page + magic, PAGE - magic, 64, NULL, &fault) < 0)
        return lk_err(LK_EFORMAT, "its first page is no JSON");
    const char *space = json_string_value(json_object_get(fields, "space"));
    const json_int_t slots = json_integer_value(json_object_get(fields, "count"));
    int rc = 0;
    if (space == NULL || strcmp(space, o->space) != 0)
        rc = lk_err(LK_EFORMAT, "it is of another space");
    else if (slots < 1 || slots > UINT32_MAX / 2)
        rc = lk_err(LK_EFORMAT, "its count is %lld", (long long)slots);
    else if ((rc = same_number(fields, "dim", index->dim)) == 0 && (rc = same_number(fields, "m", o->m)) == 0)
        rc = same_number(fields, "ef_construction", o->ef_construction);
    *count = (size_t)slots;
    *seq = json_integer_value(json_object_get(fields, "seq"));
    json_decref(fields);
    return rc;
}

static int read_ids(FILE *file, struct lk_segment *s) {
    for (size_t i = 0; i < s->slots; i++) {
        char id[ID_BYTES + 1] = {0};
        const int length = fgetc(file);
        if (length == EOF || fread(id, 1, (size_t)length, file) != (size_t)length)
            return lk_err(LK_EFORMAT, "its ids end early");
        s->count = i + 1;
        s->died[i] = length > 0 ? LK_ALIVE : 0;
        s->dead += length == 0;
        if (length > 0 && (s->ids[i] = lk_strdup(id)) == NULL)
            return LK_ENOMEM;
    }
    return 0;
}

static int read_file(struct lk_segment **out, FILE *file, const struct lk_index *index) {
    struct stat st;
    size_t count = 0;
    int64_t seq = 0;
    int rc;
    if (fstat(fileno(file), &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < PAGE + TRAILER)
        return lk_err(LK_EFORMAT, "it is too short");
    /* The page first: of a file that is not wanted, not all has to be read. */
    if ((rc = read_page(file, index, &count, &seq)) < 0)
        return rc;
    if (count > (size_t)st.st_size)
        return lk_err(LK_EFORMAT, "it is too short for %zu vectors", count);
    rewind(file);
    if ((rc = check_hash(file, (size_t)st.st_size)) < 0)
        return rc;
    if (fseek(file, PAGE, SEEK_SET) != 0 || (rc = lk_segment_open(out, count)) < 0)
        return rc < 0 ? rc : lk_err(LK_EIO, "it cannot be read");
    (*out)->is_graph = 1;
    (*out)->seq = seq;
    if ((rc = read_ids(file, *out)) == 0)
        rc = lk_vectors_read(&(*out)->vectors, file, index->dim, count);
    return rc;
}

int lk_index_file_read(struct lk_segment **out, const struct lk_index *index) {
    const char *path = index->options.path;
    FILE *file = fopen(path, "rb");
    int rc;
    *out = NULL;
    if (file == NULL) {
        if (errno != ENOENT)
            lk_log_warn("the graph in \"%s\" cannot be opened and is built again: %s", path, strerror(errno));
        return 0;
    }
    (void)setvbuf(file, NULL, _IOFBF, PIECE);
    rc = read_file(out, file, index);
    (void)fclose(file);
    if (rc == 0 && *out != NULL) {
        lk_log_info("the graph of %zu vectors in \"%s\" is as it was written, after write %lld", (*out)->count, path,
                    (long long)(*out)->seq);
        return 0;
    }
    lk_segment_release(*out);
    *out = NULL;
    if (rc == LK_ENOMEM)
        return rc;
    lk_log_warn("the graph in \"%s\" is not used, and built again: %s", path, lk_error());
    return 0;
}
