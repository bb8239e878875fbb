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

/* Decodes into to[n + 1]. */
static int decode(struct lk_text *out, char *to, const char *text, size_t n, int plus_is_space) {
    size_t size = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '%') {
            int high = i + 2 < n ? hex_digit(text[i + 1]) : -1;
            int low = i + 2 < n ? hex_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0)
                return lk_err(LK_EINVAL, "a '%%' is not followed by two hexadecimal digits");
            to[size++] = (char)(high * 16 + low);
            i += 2;
        } else {
            to[size++] = plus_is_space && text[i] == '+' ? ' ' : text[i];
        }
    }
    to[size] = 0;
    *out = (struct lk_text){to, size};
    return 0;
}

int lk_uri_decode(struct lk_text *out, const char *text, size_t n, int plus_is_space, struct lk_arena *arena) {
    *out = (struct lk_text){0};
    char *to = lk_arena_take(arena, n + 1, 1);
    int rc = to ? decode(out, to, text, n, plus_is_space) : LK_ENOMEM;
    if (rc)
        lk_arena_drop(arena, to);
    return rc;
}

#define MAX_PAIRS 64

static int is_named(const struct lk_text *name, const char *text) {
    return name->data && strcmp(name->data, text) == 0;
}

static int add_pair(struct lk_query *out, const char *text, const char *end, char **to) {
    const char *equals = memchr(text, '=', (size_t)(end - text));
    const char *name_end = equals ? equals : end, *value_begin = equals ? equals + 1 : end;
    struct lk_text *name = &out->names[out->count], *value = &out->values[out->count];
    int rc;
    if ((rc = decode(name, *to, text, (size_t)(name_end - text), 1)) ||
        (rc = decode(value, *to + name->size + 1, value_begin, (size_t)(end - value_begin), 1)))
        return rc;
    *to += name->size + value->size + 2;
    if (memchr(name->data, 0, name->size) || memchr(value->data, 0, value->size))
        return lk_err(LK_EINVAL, "the query string holds a NUL byte");
    for (size_t i = 0; i < out->count; i++)
        if (is_named(&out->names[i], name->data))
            return lk_err(LK_EINVAL, "the argument \"%s\" is given twice", name->data);
    out->count++;
    return 0;
}

int lk_query_parse(struct lk_query *out, const char *text, size_t n, struct lk_arena *arena) {
    size_t pairs = 1;
    *out = (struct lk_query){0};
    for (size_t i = 0; i < n; i++)
        pairs += text[i] == '&';
    if (pairs > MAX_PAIRS)
        return lk_err(LK_EINVAL, "the query string holds more than %d arguments", MAX_PAIRS);
    out->names = lk_arena_take(arena, pairs, sizeof *out->names);
    out->values = lk_arena_take(arena, pairs, sizeof *out->values);
    char *to = lk_arena_take(arena, n + 2 * pairs, 1); /* a NUL behind each name and value */
    int rc = out->names && out->values && to ? 0 : LK_ENOMEM;
    for (const char *end = text + n; rc == 0 && text < end;) {
        const char *amp = memchr(text, '&', (size_t)(end - text));
        if (!amp)
            amp = end;
        if (amp > text)
            rc = add_pair(out, text, amp, &to);
        text = amp + 1;
    }
    if (rc)
        *out = (struct lk_query){0};
    return rc;
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
