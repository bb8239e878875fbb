/* Settings as a JSON object with the names of the flags, {"model":"m.safetensors","max-k":100,"log-requests":false}: read
 * by --config, written by --print-config. A member becomes a word of a command line, so that the file has the same names,
 * ranges and errors. For config.c. */
#ifndef LK_SERVER_CONFIG_FILE_H
#define LK_SERVER_CONFIG_FILE_H

#include <stddef.h>

#include "base/args.h"
#include "base/buf.h"

struct lk_config_words {
    char **words; /* [count], owned; as main's argv, with the file's path as the first */
    size_t count;
};

/* LK_EINVAL with a sentence that names the file and what is wrong with it: no JSON, a name that is unknown or there twice,
 * a value of another type; LK_ENOTFOUND, LK_EIO, LK_ENOMEM. null is a setting that was not made. */
int lk_config_words_read(struct lk_config_words *out, const char *path, const struct lk_arg *table, size_t n);
void lk_config_words_free(struct lk_config_words *words); /* accepts a zeroed one */

/* The value of an option as JSON, appended. LK_ENOMEM. */
int lk_config_value_json(struct lk_buf *out, const struct lk_arg *option);
/* The whole object, a line an option, without those of `hidden` (space before and behind each: " config "). LK_ENOMEM. */
int lk_config_json(struct lk_buf *out, const struct lk_arg *table, size_t n, const char *hidden);

#endif
