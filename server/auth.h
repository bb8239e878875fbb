/* Bearer keys (RFC 6750) and what each may do. A file holds one key a line: role, name and the key, or its SHA-256 as
 * sha256:HEX; # begins a comment. Kept are digests alone, and a key that comes is compared by its digest with every one
 * of them, so that the time taken tells nothing. Any thread. Knows no HTTP. */
#ifndef LK_SERVER_AUTH_H
#define LK_SERVER_AUTH_H

#include <stddef.h>

enum lk_role {
    LK_ROLE_NONE, /* of a route: nobody has to identify himself */
    LK_ROLE_READ,
    LK_ROLE_WRITE, /* and read */
    LK_ROLE_ADMIN  /* and write */
};

const char *lk_role_name(enum lk_role role); /* "read" */

#define LK_AUTH_NAME 64 /* bytes of a key's name, with its NUL */

struct lk_auth;

/* Reads the file. LK_EINVAL names the line and what is wrong with it, never a key; LK_ENOTFOUND, LK_EIO. Warns when
 * others can read or change the file. */
int lk_auth_open(struct lk_auth **out, const char *path);
void lk_auth_close(struct lk_auth *auth); /* NULL is fine */

/* Reads the file again. On failure the keys stay as they were. */
int lk_auth_reload(struct lk_auth *auth);
size_t lk_auth_count(struct lk_auth *auth);

/* The role of a key and its name; LK_ROLE_NONE when it is none of ours. */
enum lk_role lk_auth_find(struct lk_auth *auth, const char *key, size_t n, char name[LK_AUTH_NAME]);

#endif
