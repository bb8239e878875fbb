#include "json.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Length of the UTF-8 sequence at s, or 0. */
static size_t utf8_length(const unsigned char *s) {
    size_t n = s[0] < 0x80                   ? 1
               : s[0] >= 0xC2 && s[0] < 0xE0 ? 2
               : s[0] >= 0xE0 && s[0] < 0xF0 ? 3
               : s[0] >= 0xF0 && s[0] < 0xF5 ? 4
                                             : 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) || (s[0] == 0xF0 && s[1] < 0x90) ||
        (s[0] == 0xF4 && s[1] > 0x8F))
        return 0;
    return n;
}

int lk_json_string(struct lk_buf *out, const char *text) {
    int rc = lk_buf_append(out, "\"", 1);
    for (const unsigned char *s = (const unsigned char *)text; *s != '\0' && rc == 0;) {
        size_t n = utf8_length(s);
        if (n == 0) {
            rc = lk_buf_append(out, "\xEF\xBF\xBD", 3);
            n = 1;
        } else if (*s == '"' || *s == '\\') {
            rc = lk_buf_printf(out, "\\%c", *s);
        } else if (*s < 0x20) {
            rc = lk_buf_printf(out, "\\u%04x", *s);
        } else {
            rc = lk_buf_append(out, s, n);
        }
        s += n;
    }
    return rc ? rc : lk_buf_append(out, "\"", 1);
}

int lk_json_member(struct lk_buf *out, const char *name) {
    size_t at = out->size;
    while (at > 0 && (out->data[at - 1] == ' ' || out->data[at - 1] == '\n'))
        at--;
    int first = at == 0 || out->data[at - 1] == '{' || out->data[at - 1] == '[' || out->data[at - 1] == ',';
    int rc = first ? 0 : lk_buf_append(out, ", ", 2);
    if (rc == 0)
        rc = lk_json_string(out, name);
    return rc ? rc : lk_buf_append(out, ": ", 2);
}

int lk_json_text(struct lk_buf *out, const char *name, const char *value) {
    int rc = lk_json_member(out, name);
    return rc ? rc : lk_json_string(out, value);
}

int lk_json_number(struct lk_buf *out, const char *name, double value) {
    char text[40] = "null";
    int whole = fabs(value) < 1e15 && value == floor(value);
    if (whole)
        snprintf(text, sizeof text, "%.0f", value);
    for (int digits = 1; digits <= 17 && !whole && isfinite(value); digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    int rc = lk_json_member(out, name);
    return rc ? rc : lk_buf_append(out, text, strlen(text));
}

int lk_json_float(struct lk_buf *out, const char *name, float value) {
    char text[40] = "null";
    for (int digits = 1; digits <= 9 && isfinite(value); digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value)
            break;
    }
    int rc = lk_json_member(out, name);
    return rc ? rc : lk_buf_append(out, text, strlen(text));
}

int lk_json_find(double *out, const char *line, const char *name) {
    char key[64], *end = NULL;
    int n = snprintf(key, sizeof key, "\"%s\": ", name);
    const char *at = n > 0 && (size_t)n < sizeof key ? strstr(line, key) : NULL;
    if (at == NULL)
        return 0;
    double value = strtod(at + n, &end);
    if (end == at + n)
        return 0;
    *out = value;
    return 1;
}
