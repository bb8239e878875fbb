/* Follows Jansson's API as of 2.13. */
#include "document.h"

#include <jansson.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"

/* struct lk_document is json_t by another name: there is nothing to add to it. */
static json_t *as_json(const struct lk_document *d) { return (json_t *)(uintptr_t)d; }

int lk_document_open(struct lk_document **out, const void *text, size_t n) {
    json_error_t error;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    *out = NULL;
    if (root == NULL)
        return lk_err(LK_EFORMAT, "no JSON: %s, line %d", error.text, error.line);
    if (!json_is_object(root)) {
        json_decref(root);
        return lk_err(LK_EFORMAT, "JSON, but no object");
    }
    *out = (struct lk_document *)root;
    return 0;
}

void lk_document_close(struct lk_document *d) { json_decref(as_json(d)); }

static const json_t *find(const struct lk_document *d, const char *in, const char *name) {
    const json_t *from = in != NULL ? json_object_get(as_json(d), in) : as_json(d);
    return json_object_get(from, name); /* NULL from what is no object */
}

const char *lk_document_text(const struct lk_document *d, const char *in, const char *name) {
    return json_string_value(find(d, in, name));
}

int lk_document_number(const struct lk_document *d, const char *in, const char *name, double *out) {
    const json_t *value = find(d, in, name);
    if (!json_is_number(value))
        return 0;
    *out = json_number_value(value);
    return 1;
}

int lk_document_label(const struct lk_document *d, const char *in, const char *name, char **out) {
    const json_t *value = find(d, in, name);
    char number[32];
    const char *text = json_string_value(value);
    if (json_is_integer(value)) {
        snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        text = number;
    } else if (json_is_boolean(value)) {
        text = json_is_true(value) ? "true" : "false";
    }
    *out = NULL;
    if (text != NULL && text[0] != '\0' && (*out = lk_strdup(text)) == NULL)
        return LK_ENOMEM;
    return 0;
}
