#include "auth.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/sha256.h"

#define FILE_LIMIT ((size_t)1 << 20)
#define SHORTEST_KEY 16 /* characters: a shorter one can be guessed */
#define SPACES " \t\r"
#define HASHED "sha256:"

struct key {
    enum lk_role role;
    char name[LK_AUTH_NAME];
    uint8_t digest[32];
};

struct lk_auth {
    char *path;
    pthread_rwlock_t lock;
    struct key *keys;
    size_t count;
};

static const char *const role_names[] = {"none", "read", "write", "admin"};

const char *lk_role_name(enum lk_role role) { return role_names[role]; }

static void digest_of(uint8_t digest[32], const char *key, size_t n) {
    struct lk_sha256 hash;
    lk_sha256_init(&hash);
    lk_sha256_update(&hash, key, n);
    lk_sha256_final(&hash, digest);
}

/* --- the file ------------------------------------------------------------------------------------------------------- */

struct reading {
    const char *path;
    size_t line;
    struct lk_buf keys; /* of struct key */
};

static int parse_role(enum lk_role *role, const char *word) {
    for (enum lk_role r = LK_ROLE_READ; r <= LK_ROLE_ADMIN; r++)
        if (strcmp(word, role_names[r]) == 0) {
            *role = r;
            return 0;
        }
    return LK_EINVAL;
}

static int parse_hex(uint8_t digest[32], const char *hex) {
    if (strlen(hex) != 64 || strspn(hex, "0123456789abcdefABCDEF") != 64)
        return LK_EINVAL;
    for (int i = 0; i < 32; i++) {
        const char byte[3] = {hex[2 * i], hex[2 * i + 1], 0};
        digest[i] = (uint8_t)strtoul(byte, NULL, 16);
    }
    return 0;
}

/* The characters of RFC 6750's b64token. */
static int is_token(const char *text, size_t n) {
    static const char characters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=";
    return strspn(text, characters) == n;
}

static int check_new(const struct reading *r, const struct key *key) {
    const struct key *before = (const struct key *)(const void *)r->keys.data;
    for (size_t i = 0; i < r->keys.size / sizeof *before; i++) {
        if (strcmp(before[i].name, key->name) == 0)
            return lk_err(LK_EINVAL, "%s:%zu: the name \"%s\" is taken by another key", r->path, r->line, key->name);
        if (memcmp(before[i].digest, key->digest, sizeof key->digest) == 0)
            return lk_err(LK_EINVAL, "%s:%zu: \"%s\" and \"%s\" are the same key", r->path, r->line, before[i].name,
                          key->name);
    }
    return 0;
}

/* "read phone 3q2-7w..." */
static int parse_line(struct reading *r, char *line) {
    static const char name_characters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    line[strcspn(line, "#")] = 0;
    char *rest = NULL, *role = strtok_r(line, SPACES, &rest), *name = strtok_r(NULL, SPACES, &rest);
    char *text = strtok_r(NULL, SPACES, &rest);
    if (!role)
        return 0;
    struct key key = {0};
    size_t n = text ? strlen(text) : 0;
    if (parse_role(&key.role, role))
        return lk_err(LK_EINVAL, "%s:%zu: a line begins with read, write or admin", r->path, r->line);
    if (!text || strtok_r(NULL, SPACES, &rest))
        return lk_err(LK_EINVAL, "%s:%zu: a line has three words: a role, a name and a key", r->path, r->line);
    if (strlen(name) >= sizeof key.name || strspn(name, name_characters) != strlen(name))
        return lk_err(LK_EINVAL, "%s:%zu: a name has 1 to %zu of A-Z a-z 0-9 . _ -", r->path, r->line,
                      sizeof key.name - 1);
    snprintf(key.name, sizeof key.name, "%s", name);
    if (strncmp(text, HASHED, strlen(HASHED)) == 0) {
        if (parse_hex(key.digest, text + strlen(HASHED)))
            return lk_err(LK_EINVAL, "%s:%zu: \"%s\" has no 64 hexadecimal digits behind " HASHED, r->path, r->line,
                          name);
    } else if (n < SHORTEST_KEY || !is_token(text, n)) {
        return lk_err(LK_EINVAL, "%s:%zu: the key of \"%s\" has to be %d or more of A-Z a-z 0-9 - . _ ~ + / =", r->path,
                      r->line, name, SHORTEST_KEY);
    } else {
        digest_of(key.digest, text, n);
    }
    int rc = check_new(r, &key);
    return rc ? rc : lk_buf_append(&r->keys, &key, sizeof key);
}

static void warn_of_mode(const char *path) {
    struct stat about;
    if (stat(path, &about) == 0 && about.st_mode & (S_IROTH | S_IWOTH | S_IWGRP))
        lk_log_warn("%s: others can %s the keys (chmod 600)", path, about.st_mode & S_IROTH ? "read" : "change");
}

static int read_keys(struct reading *r) {
    struct lk_buf text = {0};
    int rc = lk_fs_read(&text, r->path, FILE_LIMIT);
    if (rc == 0 && memchr(text.data ? (const void *)text.data : "", 0, text.size))
        rc = lk_err(LK_EINVAL, "%s: this is no text", r->path);
    if (rc == 0)
        rc = lk_buf_append(&text, "", 1);
    char *line = (char *)text.data;
    while (rc == 0 && line) {
        char *end = strchr(line, '\n');
        if (end)
            *end = 0;
        r->line++;
        rc = parse_line(r, line);
        line = end ? end + 1 : NULL;
    }
    if (rc == 0 && r->keys.size == 0)
        rc = lk_err(LK_EINVAL, "%s: there is no key in it", r->path);
    if (text.data)
        explicit_bzero(text.data, text.size);
    lk_buf_free(&text);
    return rc;
}

/* --- use ------------------------------------------------------------------------------------------------------------ */

int lk_auth_open(struct lk_auth **out, const char *path) {
    *out = NULL;
    struct lk_auth *auth = lk_calloc(1, sizeof *auth);
    if (!auth)
        return LK_ENOMEM;
    pthread_rwlock_init(&auth->lock, NULL);
    int rc = (auth->path = lk_strdup(path)) ? lk_auth_reload(auth) : LK_ENOMEM;
    if (rc) {
        lk_auth_close(auth);
        return rc;
    }
    *out = auth;
    return 0;
}

void lk_auth_close(struct lk_auth *auth) {
    if (!auth)
        return;
    pthread_rwlock_destroy(&auth->lock);
    free(auth->keys);
    free(auth->path);
    free(auth);
}

int lk_auth_reload(struct lk_auth *auth) {
    struct reading r = {.path = auth->path};
    int rc = read_keys(&r);
    if (rc) {
        lk_buf_free(&r.keys);
        return rc;
    }
    warn_of_mode(auth->path);
    pthread_rwlock_wrlock(&auth->lock);
    struct key *before = auth->keys;
    auth->keys = (struct key *)(void *)r.keys.data;
    auth->count = r.keys.size / sizeof *auth->keys;
    pthread_rwlock_unlock(&auth->lock);
    free(before);
    return 0;
}

size_t lk_auth_count(struct lk_auth *auth) {
    pthread_rwlock_rdlock(&auth->lock);
    size_t count = auth->count;
    pthread_rwlock_unlock(&auth->lock);
    return count;
}

enum lk_role lk_auth_find(struct lk_auth *auth, const char *key, size_t n, char name[LK_AUTH_NAME]) {
    uint8_t digest[32];
    enum lk_role role = LK_ROLE_NONE;
    digest_of(digest, key, n);
    pthread_rwlock_rdlock(&auth->lock);
    for (size_t i = 0; i < auth->count; i++) { /* all of them, and every byte */
        unsigned difference = 0;
        for (size_t k = 0; k < sizeof digest; k++)
            difference |= (unsigned)(digest[k] ^ auth->keys[i].digest[k]);
        if (difference == 0) {
            role = auth->keys[i].role;
            memcpy(name, auth->keys[i].name, LK_AUTH_NAME);
        }
    }
    pthread_rwlock_unlock(&auth->lock);
    return role;
}
