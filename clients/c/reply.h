/* Inside the client library: the server's JSON into structs. The only file that includes jansson.h is reply.c. Every
 * function checks what it reads; an answer that is not what docs/openapi.yaml says is LIKENESS_EPROTOCOL. On failure
 * the outs are zeroed. `json` need not end in NUL. */
#ifndef LIKENESS_REPLY_H
#define LIKENESS_REPLY_H

#include "text.h"

/* {"error":{"code","message"}}: 0, or LIKENESS_EPROTOCOL when it is not one (a proxy's page). Sets no error text. */
int likeness__read_error(const char *json, size_t size, char code[64], char message[256]);

int likeness__read_model(const char *json, size_t size, struct likeness_model *out);
/* n: how many pictures were sent. */
int likeness__read_vectors(const char *json, size_t size, size_t n, struct likeness_vectors *out);
int likeness__read_neighbors(const char *json, size_t size, struct likeness_neighbors *out);
int likeness__read_items(const char *json, size_t size, struct likeness_items *out);
/* The result lines of POST /items, in the order sent. Fills outcomes[0..] as far as lines go; *answered of the n. A
 * last line that is an error without id becomes the return value. */
int likeness__read_results(const char *lines, size_t size, size_t n, const char *const *ids,
                           struct likeness_outcome *outcomes, size_t *answered);
/* 0, or LIKENESS_EINVAL with a sentence: text is no JSON object. */
int likeness__check_object(const char *text);

/* What an HTTP status means for the caller: 0 for 2xx, else one of enum likeness_status. */
int likeness__status_of_http(int http);

#endif
