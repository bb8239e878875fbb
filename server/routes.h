/* The routes: one table, which a test compares with docs/openapi.yaml, and what their files share. Handlers are called by
 * http.c and answer through lk_reply_...(). */
#ifndef LK_SERVER_ROUTES_H
#define LK_SERVER_ROUTES_H

#include "auth.h"
#include "collection.h"
#include "config.h"
#include "filter.h"
#include "http.h"
#include "json.h"
#include "prober.h"

#define LK_VERSION "0.1.0"

/* The context of every request. */
struct lk_server {
    const struct lk_config *config;
    struct lk_collection *collection;
    struct lk_prober *prober;
    struct lk_auth *auth; /* NULL: there are no keys, and everybody may do everything */
    int asking;           /* requests that wait for the engine, or may come to; changed atomically */
    int uploads;          /* POST /items that run; changed atomically */
    int arrivals;         /* PUT /model that have begun; changed atomically */
};

extern const struct lk_route lk_routes[];
extern const size_t lk_routes_count;

/* lk_http_app.admit: a request that would wait behind more others than the queue has places is refused before its body is
 * read, so that refusing costs next to nothing. */
int lk_routes_admit(struct lk_request *r, struct lk_fault *f);

void lk_route_embed(struct lk_request *r);
void lk_route_neighbors(struct lk_request *r);
void lk_route_neighbors_of_item(struct lk_request *r);
void lk_route_list_items(struct lk_request *r);
void lk_route_upload(struct lk_request *r);
void lk_route_upload_chunk(struct lk_request *r, const void *bytes, size_t n);
void lk_route_put_item(struct lk_request *r);
void lk_route_get_item(struct lk_request *r);
void lk_route_patch_item(struct lk_request *r);
void lk_route_delete_item(struct lk_request *r);
void lk_route_item_image(struct lk_request *r);
void lk_route_export(struct lk_request *r);
void lk_route_make_snapshot(struct lk_request *r);
void lk_route_list_snapshots(struct lk_request *r);
void lk_route_get_snapshot(struct lk_request *r);
void lk_route_delete_snapshot(struct lk_request *r);
void lk_route_model(struct lk_request *r);
void lk_route_put_model(struct lk_request *r);
void lk_route_put_model_chunk(struct lk_request *r, const void *bytes, size_t n);
void lk_route_reload_model(struct lk_request *r);
void lk_route_model_status(struct lk_request *r);
void lk_route_model_weights(struct lk_request *r);
void lk_route_live(struct lk_request *r);
void lk_route_ready(struct lk_request *r);
void lk_route_metrics(struct lk_request *r);
void lk_route_openapi(struct lk_request *r);
void lk_route_page(struct lk_request *r);
void lk_route_page_file(struct lk_request *r);

/* An lk_http_app's finished(): logs and counts. */
void lk_request_finished(struct lk_request *r, const struct lk_http_record *record);

/* --- shared ------------------------------------------------------------------------------------------------------- */

struct lk_server *lk_request_server(const struct lk_request *r);
/* The collection that the request is about. Today there is one. */
struct lk_collection *lk_request_collection(const struct lk_request *r);

/* The generation that answers it: the one that served when this was first asked. Held until the answer was sent. */
struct lk_generation *lk_request_generation(struct lk_request *r);
/* The same for a request that lasts: from now on the one that serves now. Nothing of the old one may be in use. */
struct lk_generation *lk_request_next_generation(struct lk_request *r);

enum lk_body_form { LK_FORM_PICTURE, LK_FORM_JSON, LK_FORM_MULTIPART };
/* From an explicit Content-Type; everything else is a picture, if its first bytes say so. */
enum lk_body_form lk_request_form(struct lk_request *r);

/* Refuses query arguments other than the n names: invalid_argument. */
int lk_query_only(const struct lk_request *r, const char *const *names, size_t n, struct lk_fault *f);
/* Arguments of the query string; *out keeps its value when the name is not there. */
int lk_query_int(const struct lk_request *r, const char *name, int64_t least, int64_t most, int64_t *out,
                 struct lk_fault *f);
int lk_query_real(const struct lk_request *r, const char *name, double least, double most, double *out,
                  struct lk_fault *f);
int lk_query_bool(const struct lk_request *r, const char *name, int *out, struct lk_fault *f);

/* The argument "filter"; *out stays NULL when it is not there. */
int lk_query_filter(const struct lk_request *r, struct lk_filter **out, struct lk_fault *f);

/* invalid_id; the bytes come from a path or a JSON text. */
int lk_check_id(const char *id, size_t n, const char *param, struct lk_fault *f);
/* Metadata or a merge patch given by a client: a JSON object within the limits; appended to out in compact form, with a
 * NUL behind it. */
int lk_check_metadata(const struct lk_server *s, const char *text, size_t n, struct lk_buf *out, struct lk_fault *f);

/* Appends the object of GET /items/{id}. */
int lk_item_json(struct lk_buf *out, const struct lk_item *item);
/* The same for an id; LK_ENOTFOUND. */
int lk_item_json_of(struct lk_buf *out, struct lk_collection *c, const char *id);

/* Appends "model":"...","generation":N and sets the header X-Likeness-Generation. */
int lk_reply_generation(struct lk_request *r, struct lk_buf *out);
/* The same without the JSON. */
void lk_reply_generation_header(struct lk_request *r);

/* The fault of a write that failed. */
void lk_write_fault(struct lk_fault *f, const struct lk_write *w);

/* lk_request_gone() in the shape of lk_embedding.gone. */
int lk_route_gone(void *request);
/* Answers 500 after memory ran out, or what lk_error() says for `rc`. */
#define lk_reply_failed(r, rc) lk_reply_status(r, rc, NULL)

#endif
