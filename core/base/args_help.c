/* --help: two columns, the second wrapped, nothing past column 100. */
#include <stdio.h>
#include <string.h>

#include "base/args_internal.h"

enum { WIDTH = 100, COLUMN = 30, TEXT_SIZE = 2048 };

/* Prints words of `text` between columns `indent` and WIDTH; the cursor stands at `at`. '\n' in the text is kept. */
static void print_wrapped(const char *text, size_t indent, size_t at) {
    for (;;) {
        size_t n = strcspn(text, " \n");
        if (n > 0) {
            if (at > indent && at + 1 + n > WIDTH) {
                printf("\n%*s", (int)indent, "");
                at = indent;
            } else if (at > indent) {
                putchar(' ');
                at++;
            }
            printf("%.*s", (int)n, text);
            at += n;
        }
        text += n;
        if (*text == '\n') {
            printf("\n%*s", text[1] == '\n' || text[1] == '\0' ? 0 : (int)indent, "");
            at = indent;
        }
        if (*text == '\0')
            break;
        text++;
    }
    putchar('\n');
}

/* The default as it would be typed; "" when there is none worth saying. */
static void default_text(char *text, size_t size, const struct lk_arg *a) {
    const char *s;
    text[0] = '\0';
    switch (a->kind) {
    case LK_ARG_FLAG: snprintf(text, size, "%s", *(const int *)a->value ? "on" : ""); break;
    case LK_ARG_INT: snprintf(text, size, "%lld", *(const long long *)a->value); break;
    case LK_ARG_SIZE: lk_args__size(text, size, *(const long long *)a->value); break;
    case LK_ARG_REAL: snprintf(text, size, "%.6g", *(const double *)a->value); break;
    case LK_ARG_STRING:
    case LK_ARG_CHOICE:
        s = *(const char *const *)a->value;
        snprintf(text, size, "%s", s != NULL ? s : "");
        break;
    case LK_ARG_HEADING: break;
    }
}

static const char *placeholder(const struct lk_arg *a) {
    if (a->placeholder != NULL)
        return a->placeholder;
    return a->kind == LK_ARG_INT ? "N" : a->kind == LK_ARG_SIZE ? "BYTES" : a->kind == LK_ARG_REAL ? "X" : "TEXT";
}

static void print_option(const struct lk_arg *a) {
    char range[LK_ARGS__RANGE_TEXT], preset[256], text[TEXT_SIZE];
    int at = 0;
    if (a->kind == LK_ARG_FLAG)
        at = *(const int *)a->value ? printf("  --[no-]%s", a->name) : printf("  --%s", a->name);
    else if (a->kind == LK_ARG_CHOICE && a->placeholder == NULL)
        at = printf("  --%s %s", a->name, a->choices);
    else
        at = printf("  --%s %s", a->name, placeholder(a));
    if (at + 2 > COLUMN) {
        putchar('\n');
        at = 0;
    }
    printf("%*s", COLUMN - at, "");

    int n = snprintf(text, sizeof text, "%s", a->help != NULL ? a->help : "");
    size_t used = (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    default_text(preset, sizeof preset, a);
    lk_args__range(range, a);
    if (a->kind == LK_ARG_CHOICE && a->placeholder != NULL) {
        n = snprintf(text + used, sizeof text - used, " One of %s.", a->choices);
        used = used + (size_t)n < sizeof text ? used + (size_t)n : sizeof text - 1;
    }
    if (preset[0] != '\0' || range[0] != '\0')
        snprintf(text + used, sizeof text - used, "%s(%s%s%s%s)", used ? " " : "", range,
                 range[0] && preset[0] ? "; " : "", preset[0] ? "default " : "", preset);
    print_wrapped(text, COLUMN, COLUMN);
}

void lk_args_help(const struct lk_arg *args, size_t n, const char *usage, const char *description) {
    printf("Usage: ");
    print_wrapped(usage, 7, 7);
    if (description != NULL && description[0] != '\0') {
        putchar('\n');
        print_wrapped(description, 0, 0);
    }
    if (n > 0 && args[0].kind != LK_ARG_HEADING)
        putchar('\n');
    for (size_t i = 0; i < n; i++) {
        if (args[i].kind == LK_ARG_HEADING)
            printf("\n%s:\n", args[i].help);
        else
            print_option(&args[i]);
    }
    fflush(stdout);
}
