#include "config_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "json.h"

#define FILE_LIMIT ((size_t)1 << 20)
#define MAX_VALUES 10000

static const struct lk_arg *find(const struct lk_arg *table, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (table[i].kind != LK_ARG_HEADING && strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

static int wrong_type(const char *path, const struct lk_arg *option) {
    static const char *const takes[] = {[LK_ARG_FLAG] = "true or false",
                                        [LK_ARG_INT] = "a whole number",
                                        [LK_ARG_SIZE] = "a number of bytes, or a string such as \"64k\" or \"2G\"",
                                        [LK_ARG_REAL] = "a number",
                                        [LK_ARG_STRING] = "a string",
                                        [LK_ARG_CHOICE] = "a string"};
    return lk_err(LK_EINVAL, "%s: \"%s\" takes %s", path, option->name, takes[option->kind]);
}

/* Appends "--name=value" for one member. */
static int write_word(struct lk_buf *word, const char *path, const struct lk_arg *option, const json_t *value) {
    const char *name = option->name;
    switch (option->kind) {
    case LK_ARG_FLAG:
        if (json_is_boolean(value))
            return lk_buf_printf(word, "--%s%s", json_is_true(value) ? "" : "no-", name);
        break;
    case LK_ARG_SIZE:
        if (json_is_string(value))
            return lk_buf_printf(word, "--%s=%s", name, json_string_value(value));
        /* fall through */
    case LK_ARG_INT:
        if (json_is_integer(value))
            return lk_buf_printf(word, "--%s=%lld", name, (long long)json_integer_value(value));
        break;
    case LK_ARG_REAL:
        if (json_is_number(value))
            return lk_buf_printf(word, "--%s=%.17g", name, json_number_value(value));
        break;
    default:
        if (json_is_string(value))
            return lk_buf_printf(word, "--%s=%s", name, json_string_value(value));
    }
    return wrong_type(path, option);
}

static int unknown(const char *path, const char *name, const struct lk_arg *table, size_t n) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    char word[64];
    size_t none;
    if (name[strspn(name, letters)] || strncmp(name, "no-", 3) == 0 || strcmp(name, "help") == 0 ||
        snprintf(word, sizeof word, "--%s", name) >= (int)sizeof word)
        return lk_err(LK_EINVAL, "%s: \"%.60s\" is no setting", path, name);
    struct lk_arg *copy = lk_calloc(n, sizeof *copy); /* what a command line says of it, and what may be meant */
    char *argv[] = {word, word};
    if (!copy)
        return LK_ENOMEM;
    memcpy(copy, table, n * sizeof *copy);
    int rc = lk_args_parse(copy, n, 2, argv, NULL, 0, &none);
    free(copy);
    char sentence[512];
    snprintf(sentence, sizeof sentence, "%s", rc < 0 ? lk_error() : "this is no setting");
    return lk_err(LK_EINVAL, "%s: %s", path, sentence);
}

static int read_member(struct lk_config_words *out, const char *path, const char *name, const json_t *value,
                       const struct lk_arg *table, size_t n) {
    const struct lk_arg *option = find(table, n, name);
    struct lk_buf word = {0};
    if (!option)
        return unknown(path, name, table, n);
    if (strcmp(name, "config") == 0 || strcmp(name, "print-config") == 0)
        return lk_err(LK_EINVAL, "%s: \"%s\" has no place in a file", path, name);
    if (json_is_null(value) && (option->kind == LK_ARG_STRING || option->kind == LK_ARG_CHOICE))
        return 0;
    int rc = write_word(&word, path, option, value);
    if (rc == 0)
        rc = lk_buf_append(&word, "", 1);
    if (rc) {
        lk_buf_free(&word);
        return rc;
    }
    out->words[out->count++] = (char *)word.data;
    return 0;
}

int lk_config_words_read(struct lk_config_words *out, const char *path, const struct lk_arg *table, size_t n) {
    *out = (struct lk_config_words){0};
    struct lk_buf text = {0};
    struct lk_fault f = {0};
    json_t *object = NULL;
    int rc = lk_fs_read(&text, path, FILE_LIMIT);
    if (rc == 0 && lk_json_parse_object(&object, text.data, text.size, MAX_VALUES, NULL, &f))
        rc = lk_err(LK_EINVAL, "%s: %s", path, f.message);
    lk_buf_free(&text);
    if (rc == 0 && (!(out->words = lk_calloc(json_object_size(object) + 1, sizeof *out->words)) ||
                    !(out->words[out->count++] = lk_strdup(path))))
        rc = LK_ENOMEM;
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value) {
        if (rc == 0)
            rc = read_member(out, path, name, value, table, n);
    }
    json_decref(object);
    if (rc)
        lk_config_words_free(out);
    return rc;
}

void lk_config_words_free(struct lk_config_words *words) {
    for (size_t i = 0; words->words && i < words->count; i++)
        free(words->words[i]);
    free(words->words);
    *words = (struct lk_config_words){0};
}

/* --- writing -------------------------------------------------------------------------------------------------------- */

/* The shortest text that reads back as the same number. */
static int write_real(struct lk_buf *out, double value) {
    char text[40];
    snprintf(text, sizeof text, "%.0f", value); /* 30, where %g says 3e+01 */
    for (int digits = 1; digits <= 17 && strtod(text, NULL) != value; digits++)
        snprintf(text, sizeof text, "%.*g", digits, value);
    return lk_json_raw(out, text);
}

int lk_config_value_json(struct lk_buf *out, const struct lk_arg *option) {
    switch (option->kind) {
    case LK_ARG_FLAG: return lk_json_raw(out, *(const int *)option->value ? "true" : "false");
    case LK_ARG_INT:
    case LK_ARG_SIZE: return lk_json_int(out, *(const long long *)option->value);
    case LK_ARG_REAL: return write_real(out, *(const double *)option->value);
    default: {
        const char *text = *(const char *const *)option->value;
        return text ? lk_json_text(out, text) : lk_json_raw(out, "null");
    }
    }
}

int lk_config_json(struct lk_buf *out, const struct lk_arg *table, size_t n, const char *hidden) {
    int rc = lk_json_raw(out, "{"), first = 1;
    for (size_t i = 0; i < n && rc == 0; i++) {
        char name[80];
        if (table[i].kind == LK_ARG_HEADING)
            continue;
        snprintf(name, sizeof name, " %s ", table[i].name);
        if (strstr(hidden, name))
            continue;
        if ((rc = lk_buf_printf(out, "%s\n  \"%s\": ", first ? "" : ",", table[i].name)) == 0)
            rc = lk_config_value_json(out, &table[i]);
        first = 0;
    }
    return rc ? rc : lk_json_raw(out, "\n}\n");
}
