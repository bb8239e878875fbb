/* Errors: every fallible function returns 0 or one of the negative codes below, and leaves a sentence for people in
 * thread-local text. A code exists for what a caller can act on; all else is LK_EFAIL. Nothing in the library rooms
 * exits or prints. */
#ifndef LK_BASE_ERR_H
#define LK_BASE_ERR_H

enum lk_status {
    LK_OK = 0,
    LK_EFAIL = -1,        /* anything that no caller can act on */
    LK_ENOMEM = -2,       /* memory ran out */
    LK_EINVAL = -3,       /* an argument or a file's content is wrong */
    LK_ENOTFOUND = -4,    /* no such item, file, device */
    LK_EEXISTS = -5,      /* it is there already */
    LK_ELIMIT = -6,       /* a configured limit (bytes, pixels, queue, k) is exceeded */
    LK_EFORMAT = -7,      /* bytes that are no valid file of their kind (image, safetensors, database) */
    LK_EUNSUPPORTED = -8, /* valid, but not something this build or device can do */
    LK_EIO = -9,          /* the operating system failed to read or write */
    LK_ENOSPACE = -10,    /* the disk is full */
    LK_EBUSY = -11,       /* try again later */
    LK_ECANCELLED = -12,  /* the client left, the deadline passed, or a stop was asked for */
    LK_ECONFLICT = -13    /* another generation or version serves */
};

/* Sets this thread's error text (printf style, at most 1023 bytes, no newline at the end) and returns `code`, so that
 * a failing branch is one line: return lk_err(LK_ELIMIT, "%zu pixels exceed the limit of %zu", n, limit); */
int lk_err(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "prefix: " before this thread's text, to say which file or layer it was; returns `code` unchanged. */
int lk_err_prefix(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The sentence of this thread's last lk_err(); "" if none. Valid until the next lk_err() on this thread. */
const char *lk_error(void);

/* A constant name of a status ("invalid argument", "limit exceeded", ...), never NULL. */
const char *lk_status_name(int code);

#endif
