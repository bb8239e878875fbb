/* Files that are part of the program: the web page and the API description. Made at build time by EmbedFiles.cmake. */
#ifndef LK_SERVER_ASSETS_H
#define LK_SERVER_ASSETS_H

#include <stddef.h>

struct lk_asset {
    const char *name; /* "index.html" */
    const char *type; /* Content-Type */
    const char *etag; /* quoted */
    const unsigned char *data;
    size_t size;
};

extern const struct lk_asset lk_assets[];
extern const size_t lk_assets_count;

#endif
