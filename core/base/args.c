/* Parsing command lines. --help's text is in args_help.c. */
#include "base/args.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/args_internal.h"
#include "base/err.h"

enum { NAME_SIZE = 64 };

/* --- The nearest name ---------------------------------------------------------------------------------------- */

/* Edits that turn a into b (Levenshtein; a swap of neighbours counts as two); words are cut at NAME_SIZE - 1. */
static size_t distance(const char *a, const char *b) {
    size_t na = strnlen(a, NAME_SIZE - 1), nb = strnlen(b, NAME_SIZE - 1), row[NAME_SIZE];
    for (size_t j = 0; j <= nb; j++)
        row[j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t above = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
            best = above + 1 < best ? above + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = above;
            row[j] = best;
        }
    }
    return row[nb];
}

/* Near enough to be a slip of the hand: a third of the letters, and at least two. */
static int is_near(size_t edits, const char *word) {
    size_t n = strlen(word);
    return edits <= (n / 3 > 2 ? n / 3 : 2) && edits < n;
}

static int unknown_option(const struct lk_arg *args, size_t n, const char *name) {
    const char *best = NULL;
    size_t edits = 0;
    const int negated = strncmp(name, "no-", 3) == 0;
    int best_negated = 0;
    for (size_t i = 0; i < n; i++) {
        if (args[i].kind == LK_ARG_HEADING)
            continue;
        size_t d = distance(name, args[i].name);
        if (best == NULL || d < edits)
            best = args[i].name, edits = d, best_negated = 0;
        if (negated && args[i].kind == LK_ARG_FLAG && (d = distance(name + 3, args[i].name)) < edits)
            best = args[i].name, edits = d, best_negated = 1;
    }
    if (best != NULL && is_near(edits, name))
        return lk_err(LK_EINVAL, "unknown option --%s; did you mean --%s%s?", name, best_negated ? "no-" : "", best);
    return lk_err(LK_EINVAL, "unknown option --%s; --help lists what there is", name);
}

/* --- Values -------------------------------------------------------------------------------------------------- */

void lk_args__size(char *text, size_t size, long long value) {
    static const char units[] = "kMG";
    char unit[2] = "";
    for (int i = 0; i < 3 && value > 0 && value % 1024 == 0; i++) {
        value /= 1024;
        unit[0] = units[i];
    }
    snprintf(text, size, "%lld%s", value, unit);
}

/* A limit as it would be typed. */
static void limit_text(char *text, size_t size, const struct lk_arg *a, double limit) {
    if (a->kind == LK_ARG_SIZE && fabs(limit) < 9e18)
        lk_args__size(text, size, (long long)limit);
    else
        snprintf(text, size, "%.15g", limit);
}

int lk_args__range(char text[LK_ARGS__RANGE_TEXT], const struct lk_arg *a) {
    const double endless = 1e15; /* nobody means such a limit */
    char low[LK_ARGS__RANGE_TEXT / 3], high[LK_ARGS__RANGE_TEXT / 3];
    text[0] = '\0';
    if (a->minimum == 0 && a->maximum == 0)
        return 0;
    limit_text(low, sizeof low, a, a->minimum);
    limit_text(high, sizeof high, a, a->maximum);
    if (a->maximum >= endless)
        snprintf(text, LK_ARGS__RANGE_TEXT, "at least %s", low);
    else if (a->minimum <= -endless)
        snprintf(text, LK_ARGS__RANGE_TEXT, "at most %s", high);
    else
        snprintf(text, LK_ARGS__RANGE_TEXT, "%s to %s", low, high);
    return 1;
}

static int check_range(const struct lk_arg *a, double value, const char *text) {
    char range[LK_ARGS__RANGE_TEXT];
    if (lk_args__range(range, a) && !(value >= a->minimum && value <= a->maximum))
        return lk_err(LK_EINVAL, "--%s is %s, not %s", a->name, range, text);
    return 0;
}

static int set_integer(const struct lk_arg *a, const char *text) {
    const int is_size = a->kind == LK_ARG_SIZE;
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10), unit = 1;
    int bad = end == text || errno == ERANGE;
    if (is_size && !bad && *end != '\0') {
        unit = *end == 'k' || *end == 'K'   ? 1LL << 10
               : *end == 'M' || *end == 'm' ? 1LL << 20
               : *end == 'G' || *end == 'g' ? 1LL << 30
                                            : 0;
        end++;
        bad = unit == 0;
    }
    if (bad || *end != '\0' || (is_size && value < 0))
        return lk_err(LK_EINVAL,
                      is_size ? "--%s takes a number of bytes such as 4096, 64k, 16M or 2G, not \"%s\""
                              : "--%s takes a whole number, not \"%s\"",
                      a->name, text);
    if (value > 0x7FFFFFFFFFFFFFFFLL / unit)
        return lk_err(LK_EINVAL, "--%s: %s is too large", a->name, text);
    value *= unit;
    int rc = check_range(a, (double)value, text);
    if (rc == 0)
        *(long long *)a->value = value;
    return rc;
}

static int set_real(const struct lk_arg *a, const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value))
        return lk_err(LK_EINVAL, "--%s takes a number, not \"%s\"", a->name, text);
    int rc = check_range(a, value, text);
    if (rc == 0)
        *(double *)a->value = value;
    return rc;
}

int lk_args__choice(char *word, size_t size, const char *choices, size_t i) {
    for (; i > 0; i--) {
        choices = strchr(choices, '|');
        if (choices == NULL)
            return 0;
        choices++;
    }
    snprintf(word, size, "%.*s", (int)strcspn(choices, "|"), choices);
    return 1;
}

static int set_choice(const struct lk_arg *a, const char *text) {
    char word[NAME_SIZE], best[NAME_SIZE] = "", all[512];
    size_t edits = 0, used = 0;
    for (size_t i = 0; lk_args__choice(word, sizeof word, a->choices, i); i++) {
        if (strcmp(word, text) == 0) {
            *(const char **)a->value = text;
            return 0;
        }
        size_t d = distance(text, word);
        if (i == 0 || d < edits) {
            edits = d;
            strcpy(best, word);
        }
        int n = snprintf(all + used, sizeof all - used, "%s%s", i ? ", " : "", word);
        used = used + (size_t)n < sizeof all ? used + (size_t)n : sizeof all - 1;
    }
    if (is_near(edits, text))
        return lk_err(LK_EINVAL, "--%s is one of %s, not \"%s\"; did you mean %s?", a->name, all, text, best);
    return lk_err(LK_EINVAL, "--%s is one of %s, not \"%s\"", a->name, all, text);
}

static int set_value(struct lk_arg *a, const char *text) {
    int rc = 0;
    switch (a->kind) {
    case LK_ARG_INT:
    case LK_ARG_SIZE: rc = set_integer(a, text); break;
    case LK_ARG_REAL: rc = set_real(a, text); break;
    case LK_ARG_CHOICE: rc = set_choice(a, text); break;
    case LK_ARG_STRING: *(const char **)a->value = text; break;
    case LK_ARG_FLAG:
    case LK_ARG_HEADING: break;
    }
    if (rc == 0)
        a->was_set = 1;
    return rc;
}

/* --- The line ------------------------------------------------------------------------------------------------ */

static struct lk_arg *find(struct lk_arg *args, size_t n, const char *name, size_t length) {
    for (size_t i = 0; i < n; i++)
        if (args[i].kind != LK_ARG_HEADING && strlen(args[i].name) == length && memcmp(args[i].name, name, length) == 0)
            return &args[i];
    return NULL;
}

/* One "--name..." whose own value may be the next word: *used is 1 or 2. */
static int parse_option(struct lk_arg *args, size_t n, const char *name, const char *next, int *used) {
    size_t length = strcspn(name, "=");
    const char *text = name[length] == '=' ? name + length + 1 : NULL;
    int on = 1;
    struct lk_arg *a = find(args, n, name, length);
    if (a == NULL && length > 3 && strncmp(name, "no-", 3) == 0) {
        a = find(args, n, name + 3, length - 3);
        if (a != NULL && a->kind != LK_ARG_FLAG)
            a = NULL;
        on = 0;
    }
    *used = 1;
    if (a == NULL) {
        char word[NAME_SIZE];
        snprintf(word, sizeof word, "%.*s", (int)(length < NAME_SIZE ? length : NAME_SIZE), name);
        return unknown_option(args, n, word);
    }
    if (a->kind == LK_ARG_FLAG) {
        if (text != NULL)
            return lk_err(LK_EINVAL, "--%s takes no value; use --%s or --no-%s", a->name, a->name, a->name);
        *(int *)a->value = on;
        a->was_set = 1;
        return 0;
    }
    if (text == NULL) {
        if (next == NULL)
            return lk_err(LK_EINVAL, "--%s needs a value", a->name);
        text = next;
        *used = 2;
    }
    return set_value(a, text);
}

int lk_args_parse(struct lk_arg *args, size_t n, int argc, char **argv, const char **words, size_t max_words,
                  size_t *n_words) {
    if (n_words != NULL)
        *n_words = 0;
    /* first, so that --help shows the defaults and helps someone whose line is wrong elsewhere */
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return 1;
    int options = 1;
    size_t count = 0;
    for (int i = 1; i < argc;) {
        const char *word = argv[i];
        if (options && strcmp(word, "--") == 0) {
            options = 0;
            i++;
        } else if (options && strncmp(word, "--", 2) == 0) {
            int used = 1, rc = parse_option(args, n, word + 2, i + 1 < argc ? argv[i + 1] : NULL, &used);
            if (rc != 0)
                return rc;
            i += used;
        } else if (options && word[0] == '-' && word[1] != '\0') {
            return lk_err(LK_EINVAL, "unknown option %s; options begin with two dashes, --help lists them", word);
        } else {
            if (count == max_words)
                return lk_err(LK_EINVAL,
                              max_words ? "\"%s\" is one word too many; --help shows how"
                                        : "\"%s\" is no option; --help lists them",
                              word);
            words[count++] = word;
            if (n_words != NULL)
                *n_words = count;
            i++;
        }
    }
    return 0;
}
