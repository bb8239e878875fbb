/* Evaluating a filter on the text of an item's metadata, without building a tree of it: a search asks about many items,
 * and most are left after a few bytes. The text was checked when it was stored; should it be damaged, the answer is of no
 * use, but nothing outside of it is read. */
#include <stdlib.h>
#include <string.h>

#include "filter_internal.h"

#define MAX_NESTING 2048 /* as Jansson's: nothing deeper was ever accepted */

static const char *skip_space(const char *s) {
    while (*s == ' ' || *s == '\t' || *s == '\n' || *s == '\r')
        s++;
    return s;
}

/* From behind the opening quote to behind the closing one. */
static const char *skip_string(const char *s) {
    for (; *s && *s != '"'; s++)
        if (*s == '\\' && s[1])
            s++;
    return *s ? s + 1 : s;
}

static const char *skip_value(const char *s) {
    size_t open = 0;
    s = skip_space(s);
    do {
        if (*s == '"') {
            s = skip_string(s + 1);
        } else if (*s == '{' || *s == '[') {
            open++;
            s++;
        } else if (*s == '}' || *s == ']') {
            if (open == 0)
                return s;
            open--;
            s++;
        } else if (open == 0) {
            s += strcspn(s, ",]} \t\n\r");
        } else {
            s += strcspn(s, "\"{[}]");
        }
    } while (open > 0 && *s);
    return s;
}

static int hex4(const char *s, unsigned *out) {
    *out = 0;
    for (int i = 0; i < 4; i++) {
        char c = s[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return 0;
        *out = *out << 4 | (unsigned)digit;
    }
    return 1;
}

/* The bytes that the escape at *s (behind the backslash) stands for; 0: it is none. */
static size_t read_escape(const char **s, char to[4]) {
    static const char names[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
    const char *name = **s ? strchr(names, **s) : NULL;
    unsigned code, low;
    if (name) {
        ++*s;
        to[0] = bytes[name - names];
        return 1;
    }
    if (**s != 'u' || !hex4(*s + 1, &code))
        return 0;
    *s += 5;
    if (code >= 0xD800 && code <= 0xDFFF) {
        if (code > 0xDBFF || (*s)[0] != '\\' || (*s)[1] != 'u' || !hex4(*s + 2, &low) || low < 0xDC00 || low > 0xDFFF)
            return 0;
        *s += 6;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    if (code < 0x80) {
        to[0] = (char)code;
        return 1;
    }
    size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n; i-- > 1; code >>= 6)
        to[i] = (char)(0x80 | (code & 0x3F));
    to[0] = (char)(lead[n] | code);
    return n;
}

/* Whether the string from behind its opening quote on is these bytes. */
static int string_is(const char *s, const char *want, size_t n) {
    while (*s != '"') {
        char bytes[4];
        size_t length = 1;
        if (*s == 0)
            return 0;
        if (*s != '\\') {
            bytes[0] = *s++;
        } else {
            s++;
            if ((length = read_escape(&s, bytes)) == 0)
                return 0;
        }
        if (n < length || memcmp(want, bytes, length) != 0)
            return 0;
        want += length;
        n -= length;
    }
    return n == 0;
}

/* --- values -------------------------------------------------------------------------------------------------------- */

/* An integer that fits is kept exactly; what is no number gives LK_V_NONE. */
static struct lk_filter__value read_number(const char *s) {
    struct lk_filter__value v = {0};
    const char *digits = s + (*s == '-');
    char *end;
    if (*digits < '0' || *digits > '9')
        return v;
    size_t n = strspn(digits, "0123456789");
    if (n <= 18 && (digits[n] == 0 || !strchr(".eE", digits[n]))) {
        v.type = LK_V_INT;
        v.integer = strtoll(s, &end, 10);
        return v;
    }
    if (digits[n] == 0 || !strchr(".eE", digits[n])) {
        /* 19 digits may fit, and more only with zeros in front, which JSON has not */
        uint64_t value = 0;
        for (size_t i = 0; n == 19 && i < n; i++)
            value = value * 10 + (uint64_t)(digits[i] - '0');
        if (n == 19 && value <= (uint64_t)INT64_MAX + (*s == '-')) {
            v.type = LK_V_INT;
            v.integer = *s == '-' ? -(int64_t)(value - 1) - 1 : (int64_t)value;
            return v;
        }
    }
    v.type = LK_V_REAL;
    v.real = strtod(s, &end);
    return v;
}

static int compare_int_real(int64_t a, double b) {
    if (b >= 9223372036854775808.0)
        return -1;
    if (b < -9223372036854775808.0)
        return 1;
    int64_t whole = (int64_t)b;
    if (a != whole)
        return a < whole ? -1 : 1;
    double rest = b - (double)whole; /* exact: there is none past 2^53 */
    return (rest < 0) - (rest > 0);
}

/* Of two numbers. */
static int compare_numbers(const struct lk_filter__value *a, const struct lk_filter__value *b) {
    if (a->type == LK_V_INT)
        return b->type == LK_V_INT ? (a->integer > b->integer) - (a->integer < b->integer)
                                   : compare_int_real(a->integer, b->real);
    return b->type == LK_V_INT ? -compare_int_real(b->integer, a->real) : (a->real > b->real) - (a->real < b->real);
}

static int is_number(const struct lk_filter__value *v) { return v->type == LK_V_INT || v->type == LK_V_REAL; }

static int equals_any(const struct lk_filter__condition *c, const char *s) {
    struct lk_filter__value number = read_number(s);
    for (size_t i = 0; i < c->n_values; i++) {
        const struct lk_filter__value *v = &c->values[i];
        switch (v->type) {
        case LK_V_STRING:
            if (*s == '"' && string_is(s + 1, v->text, v->size))
                return 1;
            break;
        case LK_V_NULL:
            if (*s == 'n')
                return 1;
            break;
        case LK_V_BOOL:
            if (*s == (v->integer ? 't' : 'f'))
                return 1;
            break;
        default:
            if (is_number(&number) && compare_numbers(&number, v) == 0)
                return 1;
            break;
        }
    }
    return 0;
}

static int in_range(const struct lk_filter__condition *c, const char *s) {
    struct lk_filter__value v = read_number(s);
    if (*s == '"') {
        size_t n = strcspn(s + 1, "\"\\");
        v.type = s[1 + n] == '"' && lk_rfc3339_parse(&v.time, s + 1, n) ? LK_V_TIME : LK_V_NONE;
    }
    if (v.type == LK_V_NONE)
        return 0;
    for (int i = 0; i < LK_BOUNDS; i++) {
        const struct lk_filter__value *bound = &c->values[i];
        if (bound->type == LK_V_NONE)
            continue;
        if ((bound->type == LK_V_TIME) != (v.type == LK_V_TIME))
            return 0;
        int order = v.type == LK_V_TIME ? lk_instant_compare(&v.time, &bound->time) : compare_numbers(&v, bound);
        if (!(i == LK_BOUND_GT    ? order > 0
              : i == LK_BOUND_GTE ? order >= 0
              : i == LK_BOUND_LT  ? order < 0
                                  : order <= 0))
            return 0;
    }
    return 1;
}

static int holds_for(const struct lk_filter__condition *c, const char *s) {
    switch (c->test) {
    case LK_TEST_ANY: return equals_any(c, s);
    case LK_TEST_RANGE: return in_range(c, s);
    default: return *s && *s != 'n'; /* exists */
    }
}

/* --- the walk ------------------------------------------------------------------------------------------------------ */

static int visit(const struct lk_filter__condition *c, const char **text, size_t step, int nesting);

static int visit_array(const struct lk_filter__condition *c, const char **text, size_t step, int nesting) {
    const char *s = skip_space(*text + 1);
    while (*s && *s != ']') {
        const char *before = s;
        if (visit(c, &s, step, nesting + 1))
            return 1;
        s = skip_space(s);
        if (*s == ',')
            s = skip_space(s + 1);
        if (s == before)
            break; /* damaged */
    }
    *text = *s ? s + 1 : s;
    return 0;
}

static int visit_object(const struct lk_filter__condition *c, const char **text, size_t step, int nesting) {
    const char *s = skip_space(*text + 1);
    while (*s == '"') {
        int wanted = string_is(s + 1, c->steps[step].text, c->steps[step].size);
        s = skip_space(skip_string(s + 1));
        if (*s != ':')
            break; /* damaged */
        s++;
        if (!wanted)
            s = skip_value(s);
        else if (visit(c, &s, step + 1, nesting + 1))
            return 1;
        s = skip_space(s);
        if (*s == ',')
            s = skip_space(s + 1);
    }
    *text = *s ? s + 1 : s;
    return 0;
}

/* 1: a value at the rest of the path fulfils the condition. 0: none does, and *text is behind the value. */
static int visit(const struct lk_filter__condition *c, const char **text, size_t step, int nesting) {
    const char *s = skip_space(*text);
    if (nesting > MAX_NESTING) {
        *text = skip_value(s);
        return 0;
    }
    *text = s;
    if (*s == '[')
        return visit_array(c, text, step, nesting);
    if (step < c->n_steps && *s == '{')
        return visit_object(c, text, step, nesting);
    if (step == c->n_steps && holds_for(c, s))
        return 1;
    *text = skip_value(s);
    return 0;
}

static int holds(const struct lk_filter__condition *c, const char *metadata) {
    if (c->test == LK_TEST_FILTER)
        return lk_filter_match(c->filter, metadata);
    int found = visit(c, &metadata, 0, 0);
    return c->test == LK_TEST_EXISTS ? found == c->exists : found;
}

int lk_filter_match(const struct lk_filter *filter, const char *metadata) {
    for (size_t i = 0; i < filter->must.count; i++)
        if (!holds(&filter->must.conditions[i], metadata))
            return 0;
    for (size_t i = 0; i < filter->must_not.count; i++)
        if (holds(&filter->must_not.conditions[i], metadata))
            return 0;
    for (size_t i = 0; i < filter->should.count; i++)
        if (holds(&filter->should.conditions[i], metadata))
            return 1;
    return filter->should.count == 0;
}
