/* The C client of a Likeness server: pictures in, unit vectors and cosine neighbours out, over HTTP.
 *
 * For any program; the `likeness` command is its first user. It shares no header with the server: what it knows of it
 * is docs/openapi.yaml. It hides libcurl and Jansson. A struct likeness is one connection that is kept open, for one
 * thread at a time; several threads open one each. Nothing here prints, exits or reads the command line.
 *
 * Every call returns 0 or one of enum likeness_status, and then likeness_error() has a sentence for people. Answers are
 * filled into structs whose pointers the caller owns and frees with the function named beside them; on failure they
 * are left zeroed, and freeing them is allowed. Strings are UTF-8. Ids are 1 to 255 bytes without control characters;
 * any of them is fine here ("a/b", "50% off.png"), the encoding is this library's work. */
#ifndef LIKENESS_H
#define LIKENESS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LIKENESS_DEFAULT_SERVER "http://127.0.0.1:8080"

enum likeness_status {
    LIKENESS_OK = 0,
    LIKENESS_EFAIL = -1,     /* anything that no caller can act on */
    LIKENESS_ENOMEM = -2,    /* memory ran out */
    LIKENESS_EINVAL = -3,    /* an argument is wrong: nothing was sent */
    LIKENESS_ECONNECT = -4,  /* no server answers at that address */
    LIKENESS_ETIMEOUT = -5,  /* the answer did not come in time */
    LIKENESS_EREFUSED = -6,  /* the server said no: see http and code of likeness_error() */
    LIKENESS_ENOTFOUND = -7, /* no such item (HTTP 404) */
    LIKENESS_EBUSY = -8,     /* still 429 or 503 after every retry */
    LIKENESS_EPROTOCOL = -9, /* the answer is none of a Likeness server */
    LIKENESS_EPICTURE = -10, /* the bytes are no picture that the server takes (HTTP 413, 415, 422) */
    LIKENESS_ESTOPPED = -11  /* a callback of the caller asked to stop */
};

struct likeness_error {
    int status;        /* enum likeness_status */
    int http;          /* HTTP status, 0 when there was no answer */
    char code[64];     /* the server's own code ("undecodable_image"), "" without one */
    char message[512]; /* the sentence */
};

/* The last failure on this thread; never NULL. Valid until the thread's next call. */
const struct likeness_error *likeness_error(void);

const char *likeness_version(void);

/* --- A connection ------------------------------------------------------------------------------------------------- */

struct likeness;

struct likeness_options {
    const char *server; /* URL; NULL: $LIKENESS_SERVER, else LIKENESS_DEFAULT_SERVER */
    const char *key;    /* bearer key; NULL: $LIKENESS_KEY, else none */
    double timeout;     /* seconds for a whole request, and for the longest silence in a download; default 120 */
    int retries;        /* times to try again after 429 or 503; default 5, 0: never */
    double max_wait;    /* seconds; a longer Retry-After is not waited for; default 60 */
    void (*on_wait)(void *arg, double seconds, int http); /* told before each wait; may be NULL */
    void *arg;
};

void likeness_options_init(struct likeness_options *options);

/* Connects at the first request, not here. options may be NULL. Everything in options is copied. */
int likeness_open(struct likeness **out, const struct likeness_options *options);
void likeness_close(struct likeness *client);               /* NULL is fine */
const char *likeness_server(const struct likeness *client); /* the URL in use */

/* --- What serves -------------------------------------------------------------------------------------------------- */

struct likeness_model {
    char name[128];
    int64_t generation;
    int dim;
    int64_t items;
    /* The server's limits; 0: not told. */
    int64_t max_body;   /* bytes a picture, and a request other than likeness_put_many */
    int64_t max_images; /* pictures a likeness_embed */
    int64_t max_upload; /* pictures a likeness_put_many */
    int64_t max_page;   /* items a likeness_list */
    int64_t max_k;
    char *json; /* the whole answer, owned */
};
int likeness_model(struct likeness *client, struct likeness_model *out);
void likeness_model_free(struct likeness_model *model);

/* --- Pictures in -------------------------------------------------------------------------------------------------- */

struct likeness_picture { /* the encoded bytes of a PNG or JPEG file; the caller's, read during the call only */
    const void *bytes;
    size_t size;
};

struct likeness_outcome { /* of one picture among many */
    int status;           /* 0 or enum likeness_status */
    int created;          /* adding: 1 for a new item, 0 for a replaced one */
    char code[64];        /* as in likeness_error */
    char message[256];
};

struct likeness_vectors {
    char model[128];
    int64_t generation; /* vectors of two generations cannot be compared */
    int dim;
    size_t n;
    float *values;                     /* [n][dim], owned; the row of a failed picture is zero */
    struct likeness_outcome *outcomes; /* [n], owned */
};
/* One request. Returns 0 when the server answered for every picture, also when some are bad: see outcomes. */
int likeness_embed(struct likeness *client, const struct likeness_picture *pictures, size_t n,
                   struct likeness_vectors *out);
void likeness_vectors_free(struct likeness_vectors *vectors);

/* Adds or replaces one item. metadata is a JSON object, or NULL for none (an old item keeps its own). created may be
 * NULL. */
int likeness_put(struct likeness *client, const char *id, const struct likeness_picture *picture, const char *metadata,
                 int *created);

/* 0, or LIKENESS_EINVAL when the text is no JSON object: what the calls above and below would say of it. */
int likeness_check_metadata(const char *metadata);

/* 1 when the id can go into a request of many; 0 when only likeness_put carries it: a quote, a backslash and a per cent
 * sign have no spelling in a multipart file name that all agree on (RFC 7578, section 2). */
int likeness_id_fits_many(const char *id);

/* Adds or replaces n items in one request; metadata[i] as in likeness_put, metadata may be NULL. A bad picture does not
 * stop the rest: outcomes[n] says. Returns 0 when the server answered for all; else outcomes still tell what is stored
 * for sure, and all others carry the failure. */
int likeness_put_many(struct likeness *client, const char *const *ids, const struct likeness_picture *pictures,
                      const char *const *metadata, size_t n, struct likeness_outcome *outcomes);

/* --- Neighbours out ----------------------------------------------------------------------------------------------- */

struct likeness_neighbor {
    char *id;
    double score;   /* cosine, -1..1 */
    char *metadata; /* JSON object text, or NULL */
};
struct likeness_neighbors {
    char model[128];
    int64_t generation;
    size_t n;
    struct likeness_neighbor *items; /* [n], best first, owned */
    char *json;                      /* the whole answer, owned */
};
/* filter is a JSON text as docs/openapi.yaml describes it ({"must":[{"key":"class","match":"cat"}]}), or NULL for none;
 * the server says what is wrong with one. There are k neighbours when so many items fulfil it. */
int likeness_neighbors(struct likeness *client, const struct likeness_picture *picture, int k, const char *filter,
                       struct likeness_neighbors *out);
/* Of an item, which is left out itself. */
int likeness_neighbors_of(struct likeness *client, const char *id, int k, const char *filter,
                          struct likeness_neighbors *out);
void likeness_neighbors_free(struct likeness_neighbors *neighbors);

/* --- The catalogue ------------------------------------------------------------------------------------------------ */

struct likeness_item {
    char *id;
    char *metadata; /* JSON object text */
    int64_t bytes;  /* of the picture's file */
    int width, height;
    char *json; /* the whole item */
};
struct likeness_items {
    size_t n;
    struct likeness_item *items; /* [n], ordered by id bytes, owned */
    char *next;                  /* pass as `after` for what follows; NULL at the end */
};
/* A page of at most limit items (0: the server's default) after the cursor, or from the start (NULL), of those that
 * fulfil the filter (NULL: all), which has to be the same for every page. */
int likeness_list(struct likeness *client, const char *after, int limit, const char *filter,
                  struct likeness_items *out);
void likeness_items_free(struct likeness_items *items);

int likeness_get(struct likeness *client, const char *id, char **json); /* free(*json) */
int likeness_delete(struct likeness *client, const char *id);           /* LIKENESS_ENOTFOUND */

/* Downloads in pieces: write returns 0, or anything else to stop with LIKENESS_ESTOPPED. Bytes come only from a good
 * answer; after a failure in the middle what was written is of no use. */
typedef int likeness_write(void *arg, const void *bytes, size_t n);
int likeness_image(struct likeness *client, const char *id, likeness_write *write, void *arg);
/* The whole catalogue as a tar archive, checked to be complete. */
int likeness_export(struct likeness *client, likeness_write *write, void *arg);

#ifdef __cplusplus
}
#endif

#endif
