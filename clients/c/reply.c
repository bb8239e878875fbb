#include "reply.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int not_ours(const char *what) {
    return likeness__fail(LIKENESS_EPROTOCOL, "the answer is none of a Likeness server (%s)", what);
}

static json_t *parse(const char *json, size_t size) {
    json_error_t error;
    return json_loadb(json ? json : "", size, JSON_REJECT_DUPLICATES, &error);
}

static void copy(char *to, size_t size, const char *from) { snprintf(to, size, "%s", from ? from : ""); }

static const char *text_of(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

static int64_t number_of(const json_t *object, const char *key) {
    return json_integer_value(json_object_get(object, key));
}

/* The text itself, for what our structs leave out, without the newline that it ends in. */
static char *keep(const char *json, size_t size) {
    while (size > 0 && (json[size - 1] == '\n' || json[size - 1] == '\r')) {
        size--;
    }
    char *kept = malloc(size + 1);
    if (kept) {
        memcpy(kept, json, size);
        kept[size] = '\0';
    }
    return kept;
}

/* --- Errors ------------------------------------------------------------------------------------------------------- */

int likeness__status_of_http(int http) {
    if (http >= 200 && http < 300) {
        return 0;
    }
    switch (http) {
    case 404: return LIKENESS_ENOTFOUND;
    case 413:
    case 415:
    case 422: return LIKENESS_EPICTURE;
    case 429:
    case 503: return LIKENESS_EBUSY;
    default: return LIKENESS_EREFUSED;
    }
}

static int read_error_object(const json_t *error, char code[64], char message[256]) {
    if (!text_of(error, "code") || !text_of(error, "message")) {
        return LIKENESS_EPROTOCOL;
    }
    copy(code, 64, text_of(error, "code"));
    copy(message, 256, text_of(error, "message"));
    return 0;
}

int likeness__read_error(const char *json, size_t size, char code[64], char message[256]) {
    code[0] = message[0] = '\0';
    json_t *root = parse(json, size);
    const int rc = read_error_object(json_object_get(root, "error"), code, message);
    json_decref(root);
    return rc;
}

/* A bad picture among many is told by its code alone. */
static int status_of_code(const char *code) {
    static const struct {
        const char *code;
        int status;
    } known[] = {
        {"overloaded", LIKENESS_EBUSY},
        {"draining", LIKENESS_EBUSY},
        {"not_ready", LIKENESS_EBUSY},
        {"body_too_large", LIKENESS_EPICTURE},
        {"unsupported_image_format", LIKENESS_EPICTURE},
        {"undecodable_image", LIKENESS_EPICTURE},
        {"image_too_large", LIKENESS_EPICTURE},
        {"empty_body", LIKENESS_EPICTURE},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(code, known[i].code) == 0) {
            return known[i].status;
        }
    }
    return LIKENESS_EREFUSED;
}

/* --- What serves -------------------------------------------------------------------------------------------------- */

int likeness__read_model(const char *json, size_t size, struct likeness_model *out) {
    memset(out, 0, sizeof *out);
    json_t *root = parse(json, size);
    const json_t *limits = json_object_get(root, "limits");
    int rc = 0;
    if (!text_of(root, "model") || number_of(root, "dim") < 1) {
        rc = not_ours("GET /model without model and dim");
    } else if (!(out->json = keep(json, size))) {
        rc = likeness__no_memory();
    } else {
        copy(out->name, sizeof out->name, text_of(root, "model"));
        out->generation = number_of(root, "generation");
        out->dim = (int)number_of(root, "dim");
        out->items = number_of(root, "items");
        out->max_body = number_of(limits, "max_body_bytes");
        out->max_images = number_of(limits, "max_images");
        out->max_upload = number_of(limits, "upload_images");
        out->max_page = number_of(limits, "page_limit");
        out->max_k = number_of(limits, "max_k");
    }
    json_decref(root);
    return rc;
}

void likeness_model_free(struct likeness_model *model) {
    free(model->json);
    memset(model, 0, sizeof *model);
}

/* --- Vectors ------------------------------------------------------------------------------------------------------ */

static int read_row(const json_t *entry, struct likeness_vectors *out, unsigned char *seen) {
    const json_t *position = json_object_get(entry, "index");
    const json_int_t index = json_integer_value(position);
    if (!json_is_integer(position) || index < 0 || (size_t)index >= out->n || seen[index]) {
        return not_ours("an index that was not asked for");
    }
    seen[index] = 1;
    const json_t *row = json_object_get(entry, "embedding");
    if (!row) {
        struct likeness_outcome *outcome = &out->outcomes[index];
        if (read_error_object(json_object_get(entry, "error"), outcome->code, outcome->message)) {
            return not_ours("neither embedding nor error");
        }
        outcome->status = status_of_code(outcome->code);
        return 0;
    }
    if (json_array_size(row) != (size_t)out->dim) {
        return not_ours("a vector whose length is not dim");
    }
    for (size_t i = 0; i < (size_t)out->dim; i++) {
        const json_t *value = json_array_get(row, i);
        if (!json_is_number(value)) {
            return not_ours("a vector of other things than numbers");
        }
        out->values[(size_t)index * (size_t)out->dim + i] = (float)json_number_value(value);
    }
    return 0;
}

int likeness__read_vectors(const char *json, size_t size, size_t n, struct likeness_vectors *out) {
    memset(out, 0, sizeof *out);
    json_t *root = parse(json, size);
    const json_t *rows = json_object_get(root, "embeddings");
    const int64_t dim = number_of(root, "dim");
    unsigned char *seen = calloc(n, 1);
    int rc = 0;
    if (!text_of(root, "model") || dim < 1 || dim > 1 << 20 || json_array_size(rows) != n) {
        rc = not_ours("POST /embed without model, dim and an embedding for each picture");
        goto done;
    }
    copy(out->model, sizeof out->model, text_of(root, "model"));
    out->generation = number_of(root, "generation");
    out->dim = (int)dim;
    out->n = n;
    out->values = calloc(n * (size_t)dim, sizeof *out->values);
    out->outcomes = calloc(n, sizeof *out->outcomes);
    if (!seen || !out->values || !out->outcomes) {
        rc = likeness__no_memory();
        goto done;
    }
    for (size_t i = 0; i < n && !rc; i++) {
        rc = read_row(json_array_get(rows, i), out, seen);
    }
done:
    free(seen);
    json_decref(root);
    if (rc) {
        likeness_vectors_free(out);
    }
    return rc;
}

void likeness_vectors_free(struct likeness_vectors *vectors) {
    free(vectors->values);
    free(vectors->outcomes);
    memset(vectors, 0, sizeof *vectors);
}

/* --- Neighbours --------------------------------------------------------------------------------------------------- */

/* The id, and the metadata as text, of one object in a list. */
static int read_id_metadata(const json_t *entry, char **id, char **metadata) {
    const json_t *object = json_object_get(entry, "metadata");
    if (!text_of(entry, "id")) {
        return not_ours("an entry without id");
    }
    *id = strdup(text_of(entry, "id"));
    *metadata = json_is_object(object) ? json_dumps(object, JSON_COMPACT) : NULL;
    return !*id || (json_is_object(object) && !*metadata) ? likeness__no_memory() : 0;
}

int likeness__read_neighbors(const char *json, size_t size, struct likeness_neighbors *out) {
    memset(out, 0, sizeof *out);
    json_t *root = parse(json, size);
    const json_t *list = json_object_get(root, "neighbors");
    const size_t n = json_array_size(list);
    int rc = 0;
    if (!text_of(root, "model") || !json_is_array(list)) {
        rc = not_ours("neighbours without model and list");
        goto done;
    }
    copy(out->model, sizeof out->model, text_of(root, "model"));
    out->generation = number_of(root, "generation");
    out->json = keep(json, size);
    out->items = calloc(n + 1, sizeof *out->items);
    if (!out->json || !out->items) {
        rc = likeness__no_memory();
        goto done;
    }
    for (size_t i = 0; i < n && !rc; i++) {
        const json_t *entry = json_array_get(list, i), *score = json_object_get(entry, "score");
        struct likeness_neighbor *to = &out->items[out->n++];
        to->score = json_number_value(score);
        rc = json_is_number(score) ? read_id_metadata(entry, &to->id, &to->metadata) : not_ours("no score");
    }
done:
    json_decref(root);
    if (rc) {
        likeness_neighbors_free(out);
    }
    return rc;
}

void likeness_neighbors_free(struct likeness_neighbors *neighbors) {
    for (size_t i = 0; i < neighbors->n; i++) {
        free(neighbors->items[i].id);
        free(neighbors->items[i].metadata);
    }
    free(neighbors->items);
    free(neighbors->json);
    memset(neighbors, 0, sizeof *neighbors);
}

/* --- The catalogue ------------------------------------------------------------------------------------------------ */

int likeness__read_items(const char *json, size_t size, struct likeness_items *out) {
    memset(out, 0, sizeof *out);
    json_t *root = parse(json, size);
    const json_t *list = json_object_get(root, "items");
    const size_t n = json_array_size(list);
    int rc = 0;
    if (!json_is_array(list)) {
        rc = not_ours("GET /items without items");
        goto done;
    }
    out->items = calloc(n + 1, sizeof *out->items);
    out->next = text_of(root, "next") ? strdup(text_of(root, "next")) : NULL;
    if (!out->items || (text_of(root, "next") && !out->next)) {
        rc = likeness__no_memory();
        goto done;
    }
    for (size_t i = 0; i < n && !rc; i++) {
        const json_t *entry = json_array_get(list, i);
        struct likeness_item *to = &out->items[out->n++];
        to->bytes = number_of(entry, "bytes");
        to->width = (int)number_of(entry, "width");
        to->height = (int)number_of(entry, "height");
        rc = read_id_metadata(entry, &to->id, &to->metadata);
        if (!rc && !(to->json = json_dumps(entry, JSON_COMPACT))) {
            rc = likeness__no_memory();
        }
    }
done:
    json_decref(root);
    if (rc) {
        likeness_items_free(out);
    }
    return rc;
}

void likeness_items_free(struct likeness_items *items) {
    for (size_t i = 0; i < items->n; i++) {
        free(items->items[i].id);
        free(items->items[i].metadata);
        free(items->items[i].json);
    }
    free(items->items);
    free(items->next);
    memset(items, 0, sizeof *items);
}

static int read_result(const json_t *line, const char *id, struct likeness_outcome *out) {
    const char *told = text_of(line, "id");
    const int http = (int)number_of(line, "status");
    if (!told || strcmp(told, id) != 0) {
        return not_ours("a result for another item than the one sent");
    }
    memset(out, 0, sizeof *out);
    if (http >= 200 && http < 300) {
        out->created = http == 201;
        return 0;
    }
    if (read_error_object(json_object_get(line, "error"), out->code, out->message)) {
        return not_ours("a result with neither success nor error");
    }
    out->status = likeness__status_of_http(http);
    return 0;
}

int likeness__read_results(const char *lines, size_t size, size_t n, const char *const *ids,
                           struct likeness_outcome *outcomes, size_t *answered) {
    int rc = 0;
    *answered = 0;
    for (const char *p = lines, *end = lines + size; p < end && !rc;) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        const char *stop = newline ? newline : end;
        if (stop > p) {
            json_t *line = parse(p, (size_t)(stop - p));
            char code[64], message[256];
            if (!line || (*answered == n && text_of(line, "id"))) {
                rc = not_ours("a result line that was not asked for");
            } else if (!json_object_get(line, "id") &&
                       read_error_object(json_object_get(line, "error"), code, message) == 0) {
                rc = likeness__fail_http(status_of_code(code), 200, code, "%s", message);
            } else {
                rc = read_result(line, ids[*answered], &outcomes[*answered]);
                *answered += rc == 0;
            }
            json_decref(line);
        }
        p = stop + 1;
    }
    return rc || *answered == n ? rc : not_ours("fewer results than pictures");
}

int likeness__check_object(const char *text) {
    json_error_t error;
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    const int good = json_is_object(object);
    json_decref(object);
    return good ? 0 : likeness__fail(LIKENESS_EINVAL, "metadata must be a JSON object, not '%.80s'", text);
}
