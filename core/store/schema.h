/* The catalogue's tables and their versions (docs/formats.md describes them). For the store's own files and tests. */
#ifndef LK_STORE_SCHEMA_H
#define LK_STORE_SCHEMA_H

#include "store/store_internal.h"

#define LK_SCHEMA_APPLICATION_ID 0x4C4B4354 /* "LKCT": file(1) and SQLite show it */
#define LK_SCHEMA_PAGE_SIZE 16384

/* One step: brings a file of version `to - 1` to version `to`. Runs in one transaction with the version's change. */
struct lk_migration {
    int to;
    const char *sql;
};

extern const struct lk_migration lk_schema__migrations[];
extern const size_t lk_schema__n_migrations;

/* Looks at an open file. *version: 0 for a new one. LK_EFORMAT: no catalogue; LK_EUNSUPPORTED: a newer version. */
int lk_schema__check(struct lk_store__conn *c, int newest, int *version);
/* Applies every step above `version`, in order. */
int lk_schema__migrate(struct lk_store__conn *c, const struct lk_migration *steps, size_t n, int version);

#endif
