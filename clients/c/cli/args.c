#include "args.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NAMES 32

/* Levenshtein's distance, for words up to 31 bytes; longer ones are far from everything. */
static size_t distance(const char *a, const char *b) {
    size_t row[32];
    const size_t na = strlen(a), nb = strlen(b);
    if (na > 31 || nb > 31) {
        return 32;
    }
    for (size_t j = 0; j <= nb; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= na; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            const size_t swap = diagonal + (a[i - 1] != b[j - 1]);
            const size_t edit = 1 + (row[j] < row[j - 1] ? row[j] : row[j - 1]);
            diagonal = row[j];
            row[j] = swap < edit ? swap : edit;
        }
    }
    return row[nb];
}

const char *args_nearest(const char *word, const char *const *names, size_t n) {
    const char *best = NULL;
    size_t least = 3; /* farther than two edits is another word */
    for (size_t i = 0; i < n; i++) {
        const size_t d = distance(word, names[i]);
        if (d < least && d < strlen(names[i])) {
            least = d;
            best = names[i];
        }
    }
    return best;
}

static const struct option_entry *find(const struct option_table *tables, size_t n_tables, const char *name,
                                       size_t length, char letter) {
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t i = 0; i < tables[t].count; i++) {
            const struct option_entry *o = &tables[t].options[i];
            if (letter ? o->letter == letter : strlen(o->name) == length && strncmp(o->name, name, length) == 0) {
                return o;
            }
        }
    }
    return NULL;
}

static int unknown(const struct option_table *tables, size_t n_tables, const char *word) {
    const char *names[MAX_NAMES];
    size_t n = 0;
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t i = 0; i < tables[t].count && n < MAX_NAMES; i++) {
            names[n++] = tables[t].options[i].name;
        }
    }
    char name[64];
    snprintf(name, sizeof name, "%s", word + strspn(word, "-"));
    name[strcspn(name, "=")] = '\0';
    const char *near = args_nearest(name, names, n);
    fprintf(stderr, "likeness: there is no option %s", word);
    fprintf(stderr, near ? " (did you mean --%s?)\n" : "; see --help\n", near ? near : "");
    return -1;
}

static int set(const struct option_entry *o, const char *text) {
    char *end;
    errno = 0;
    switch (o->kind) {
    case OPTION_FLAG: *(int *)o->value = 1; return 0;
    case OPTION_TEXT: *(const char **)o->value = text; return 0;
    case OPTION_INT: {
        const long value = strtol(text, &end, 10);
        if (!*text || *end || errno || (double)value < o->minimum || (double)value > o->maximum) {
            break;
        }
        *(int *)o->value = (int)value;
        return 0;
    }
    case OPTION_REAL: {
        const double value = strtod(text, &end);
        if (!*text || *end || !isfinite(value) || value < o->minimum || value > o->maximum) {
            break;
        }
        *(double *)o->value = value;
        return 0;
    }
    }
    fprintf(stderr, "likeness: --%s takes a number from %.12g to %.12g, not '%s'\n", o->name, o->minimum, o->maximum,
            text);
    return -1;
}

/* One option at argv[*at]; moves *at past its value. */
static int parse_one(const struct option_table *tables, size_t n_tables, int argc, char **argv, int *at) {
    const char *word = argv[*at];
    const int is_long = word[1] == '-';
    const char *name = word + 2, *value = NULL;
    size_t length = is_long ? strcspn(name, "=") : 0;
    const struct option_entry *o = find(tables, n_tables, name, length, is_long ? 0 : word[1]);
    if (!o) {
        return unknown(tables, n_tables, word);
    }
    if (is_long && name[length] == '=') {
        value = name + length + 1;
    } else if (!is_long && word[2]) {
        value = word + 2;
    }
    if (o->kind == OPTION_FLAG && value) {
        fprintf(stderr, "likeness: --%s takes no value\n", o->name);
        return -1;
    }
    if (o->kind != OPTION_FLAG && !value) {
        if (*at + 1 >= argc) {
            fprintf(stderr, "likeness: --%s needs a value (%s)\n", o->name, o->placeholder);
            return -1;
        }
        value = argv[++*at];
    }
    return set(o, value);
}

int args_parse(const struct option_table *tables, size_t n_tables, int argc, char **argv, int stop_at_word) {
    int words = 0, options_over = 0;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (!options_over && strcmp(word, "--") == 0) {
            options_over = 1;
        } else if (!options_over && word[0] == '-' && word[1]) {
            if (parse_one(tables, n_tables, argc, argv, &i)) {
                return -1;
            }
        } else {
            options_over = options_over || stop_at_word;
            argv[words++] = argv[i];
        }
    }
    return words;
}

void args_print(const struct option_table *table) {
    for (size_t i = 0; i < table->count; i++) {
        const struct option_entry *o = &table->options[i];
        char left[64];
        snprintf(left, sizeof left, "%s%c%s--%s%s%s", o->letter ? "-" : "  ", o->letter ? o->letter : ' ',
                 o->letter ? ", " : " ", o->name, o->placeholder ? " " : "", o->placeholder ? o->placeholder : "");
        printf("  %-28s %s\n", left, o->help);
    }
}
