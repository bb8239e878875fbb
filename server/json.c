#include "json.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "base/err.h"

int lk_json_raw(struct lk_buf *out, const char *text) { return lk_buf_append(out, text, strlen(text)); }

/* Length of the valid UTF-8 sequence at s, 0 when it is none (RFC 3629: no overlong forms, no surrogates). */
static size_t utf8_length(const unsigned char *s, size_t n) {
    if (s[0] < 0x80)
        return 1;
    size_t length = s[0] >= 0xC2 && s[0] <= 0xDF   ? 2
                    : s[0] >= 0xE0 && s[0] <= 0xEF ? 3
                    : s[0] >= 0xF0 && s[0] <= 0xF4 ? 4
                                                   : 0;
    if (length == 0 || length > n)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) || (s[0] == 0xF0 && s[1] < 0x90) ||
        (s[0] == 0xF4 && s[1] > 0x8F))
        return 0;
    return length;
}

int lk_json_text_n(struct lk_buf *out, const char *text, size_t n) {
    const unsigned char *s = (const unsigned char *)text;
    int rc = lk_buf_append(out, "\"", 1);
    size_t plain = 0; /* where the run that needs no escape begins */
    size_t i = 0;
    while (i < n && rc == 0) {
        size_t length = utf8_length(s + i, n - i);
        if (length >= 2 || (length == 1 && s[i] >= 0x20 && s[i] != '"' && s[i] != '\\' && s[i] != 0x7F)) {
            i += length;
            continue;
        }
        rc = lk_buf_append(out, s + plain, i - plain);
        if (rc)
            break;
        if (length == 0)
            rc = lk_json_raw(out, "\xEF\xBF\xBD");
        else if (s[i] == '"' || s[i] == '\\')
            rc = lk_buf_printf(out, "\\%c", s[i]);
        else if (s[i] == '\n')
            rc = lk_json_raw(out, "\\n");
        else if (s[i] == '\t')
            rc = lk_json_raw(out, "\\t");
        else
            rc = lk_buf_printf(out, "\\u%04x", (unsigned)s[i]);
        plain = ++i;
    }
    if (rc == 0)
        rc = lk_buf_append(out, s + plain, n - plain);
    return rc ? rc : lk_buf_append(out, "\"", 1);
}

int lk_json_text(struct lk_buf *out, const char *text) { return lk_json_text_n(out, text, strlen(text)); }

int lk_json_int(struct lk_buf *out, int64_t value) { return lk_buf_printf(out, "%lld", (long long)value); }

/* Writes `value` with `decimals` decimals, |value| < 1; returns the length. Enough decimals make it exact: the text is
 * then nearer to this float than half the distance to the next one. */
static size_t write_fraction(char *to, double value, int decimals, double scale) {
    char *p = to;
    if (value < 0) {
        *p++ = '-';
        value = -value;
    }
    uint64_t digits = (uint64_t)(value * scale + 0.5);
    *p++ = (char)('0' + digits / (uint64_t)scale); /* 0.9999999999... may round to 1 */
    digits %= (uint64_t)scale;
    if (digits == 0)
        return (size_t)(p - to);
    *p++ = '.';
    for (int i = decimals - 1; i >= 0; i--) {
        p[i] = (char)('0' + digits % 10);
        digits /= 10;
    }
    p += decimals;
    while (p[-1] == '0')
        p--;
    return (size_t)(p - to);
}

int lk_json_float(struct lk_buf *out, float value) {
    float size = fabsf(value);
    if (!(size <= 3.4028235e38f))
        return lk_json_raw(out, "null");
    if (size >= 0.00390625f && size < 1.0f) { /* 2^-8: spacing of floats is 2^-32 or more, 10 decimals suffice */
        char text[32];
        return lk_buf_append(out, text, write_fraction(text, (double)value, 10, 1e10));
    }
    if (size >= 3.814697265625e-6f && size < 1.0f) { /* 2^-18: spacing 2^-42 or more, 13 decimals */
        char text[32];
        return lk_buf_append(out, text, write_fraction(text, (double)value, 13, 1e13));
    }
    if (size == 0)
        return lk_json_raw(out, "0");
    return lk_buf_printf(out, "%.9g", (double)value);
}

int lk_json_floats(struct lk_buf *out, const float *values, size_t n) {
    int rc = lk_buf_reserve(out, out->size + 14 * n + 2);
    if (rc == 0)
        rc = lk_buf_append(out, "[", 1);
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (i)
            rc = lk_buf_append(out, ",", 1);
        if (rc == 0)
            rc = lk_json_float(out, values[i]);
    }
    return rc ? rc : lk_buf_append(out, "]", 1);
}

int lk_json_time(struct lk_buf *out, int64_t unix_ms) {
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm t;
    char text[40];
    if (!gmtime_r(&seconds, &t) || strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &t) == 0)
        return lk_json_raw(out, "null");
    return lk_buf_printf(out, "\"%s.%03dZ\"", text, (int)(unix_ms % 1000));
}

/* An upper bound of the values in a JSON text: every value but the first follows '[', '{', ',' or ':'. */
static size_t count_values(const char *text, size_t n) {
    size_t count = 1;
    int in_string = 0;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = 0;
        } else if (c == '"') {
            in_string = 1;
        } else if (c == '[' || c == '{' || c == ',' || c == ':') {
            count++;
        }
    }
    return count;
}

int lk_json_parse(json_t **out, const void *text, size_t n, size_t max_values, const char *param, struct lk_fault *f) {
    *out = NULL;
    size_t values = count_values(text, n);
    if (values > max_values)
        return lk_fault_set(f, LK_API_INVALID_JSON, param, "the JSON text holds more than %zu values", max_values);
    json_error_t error;
    *out = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (!*out)
        return lk_fault_set(f, LK_API_INVALID_JSON, param, "no valid JSON at line %d, column %d: %s", error.line,
                            error.column, error.text);
    return 0;
}

int lk_json_parse_object(json_t **out, const void *text, size_t n, size_t max_values, const char *param,
                         struct lk_fault *f) {
    int rc = lk_json_parse(out, text, n, max_values, param, f);
    if (rc)
        return rc;
    if (json_is_object(*out))
        return 0;
    json_decref(*out);
    *out = NULL;
    return lk_fault_set(f, LK_API_INVALID_JSON, param, "the JSON text has to be an object");
}

static int dump_to_buf(const char *text, size_t n, void *out) { return lk_buf_append(out, text, n) ? -1 : 0; }

int lk_json_dump(struct lk_buf *out, const json_t *value) {
    if (json_dump_callback(value, dump_to_buf, out, JSON_COMPACT | JSON_ENCODE_ANY))
        return lk_err(LK_ENOMEM, "out of memory while writing JSON");
    return 0;
}

int lk_json_only(const json_t *object, const char *const *names, size_t n, struct lk_fault *f) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        size_t i = 0;
        while (i < n && strcmp(key, names[i]) != 0)
            i++;
        if (i == n)
            return lk_fault_set(f, LK_API_INVALID_ARGUMENT, key, "unknown member \"%s\"", key);
    }
    return 0;
}
