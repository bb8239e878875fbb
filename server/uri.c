#include "uri.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int lk_uri_decode(struct lk_text *out, const char *text, size_t n, int plus_is_space) {
    *out = (struct lk_text){0};
    char *data = lk_calloc(n + 1, 1);
    if (!data)
        return LK_ENOMEM;
    size_t size = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '%') {
            int high = i + 2 < n ? hex_digit(text[i + 1]) : -1;
            int low = i + 2 < n ? hex_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0) {
                free(data);
                lk_err(LK_EINVAL, "a '%%' is not followed by two hexadecimal digits");
                return LK_EINVAL;
            }
            data[size++] = (char)(high * 16 + low);
            i += 2;
        } else {
            data[size++] = plus_is_space && text[i] == '+' ? ' ' : text[i];
        }
    }
    out->data = data;
    out->size = size;
    return 0;
}

#define MAX_PAIRS 64

static int is_named(const struct lk_text *name, const char *text) {
    return name->data && strcmp(name->data, text) == 0;
}

int lk_query_parse(struct lk_query *out, const char *text, size_t n) {
    *out = (struct lk_query){0};
    int rc = 0;
    size_t pairs = 1;
    for (size_t i = 0; i < n; i++)
        pairs += text[i] == '&';
    if (pairs > MAX_PAIRS)
        return lk_err(LK_EINVAL, "the query string holds more than %d arguments", MAX_PAIRS);
    out->names = lk_calloc(pairs, sizeof *out->names);
    out->values = lk_calloc(pairs, sizeof *out->values);
    if (!out->names || !out->values) {
        rc = LK_ENOMEM;
        goto fail;
    }
    const char *end = text + n;
    while (text < end) {
        const char *amp = memchr(text, '&', (size_t)(end - text));
        if (!amp)
            amp = end;
        if (amp > text) {
            const char *equals = memchr(text, '=', (size_t)(amp - text));
            const char *name_end = equals ? equals : amp;
            const char *value = equals ? equals + 1 : amp;
            struct lk_text *name = &out->names[out->count], *to = &out->values[out->count];
            if ((rc = lk_uri_decode(name, text, (size_t)(name_end - text), 1)))
                goto fail;
            out->count++; /* from here lk_query_free frees the name */
            if ((rc = lk_uri_decode(to, value, (size_t)(amp - value), 1)))
                goto fail;
            if (memchr(name->data, 0, name->size) || memchr(to->data, 0, to->size)) {
                rc = lk_err(LK_EINVAL, "the query string holds a NUL byte");
                goto fail;
            }
            for (size_t i = 0; i + 1 < out->count; i++)
                if (is_named(&out->names[i], name->data)) {
                    rc = lk_err(LK_EINVAL, "the argument \"%s\" is given twice", name->data);
                    goto fail;
                }
        }
        text = amp + 1;
    }
    return 0;
fail:
    lk_query_free(out);
    return rc;
}

void lk_query_free(struct lk_query *q) {
    for (size_t i = 0; q->names && q->values && i < q->count; i++) {
        free(q->names[i].data);
        free(q->values[i].data);
    }
    free(q->names);
    free(q->values);
    *q = (struct lk_query){0};
}

const char *lk_query_get(const struct lk_query *q, const char *name) {
    for (size_t i = 0; i < q->count; i++)
        if (is_named(&q->names[i], name))
            return q->values[i].data;
    return NULL;
}

int lk_uri_encode_name(struct lk_buf *out, const char *id, size_t n) {
    static const char kept[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    int dots = (n == 1 && id[0] == '.') || (n == 2 && id[0] == '.' && id[1] == '.');
    for (size_t i = 0; i < n; i++) {
        int rc;
        if (!dots && id[i] && strchr(kept, id[i]))
            rc = lk_buf_append(out, id + i, 1);
        else
            rc = lk_buf_printf(out, "%%%02X", (unsigned)(unsigned char)id[i]);
        if (rc)
            return rc;
    }
    return 0;
}
