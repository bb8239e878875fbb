/* The lock file. SQLite's own locks would let two processes write in turn, and then each would serve an index that
 * lacks the other's items. The lock is flock(2) on a file of its own: SQLite keeps POSIX locks on the database, which
 * any close() of a second descriptor of that file in this process would drop. The kernel releases it with the process,
 * so a left-over file means nothing. */
#include "store/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

enum { RETRY_MS = 20 };

/* Taken on a file that its last holder has unlinked, a lock guards nothing. */
static int still_there(int fd, const char *path) {
    struct stat ours, named;
    return fstat(fd, &ours) == 0 && stat(path, &named) == 0 && ours.st_ino == named.st_ino &&
           ours.st_dev == named.st_dev;
}

static long holder(int fd) {
    char text[32] = {0};
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    return n > 0 ? strtol(text, NULL, 10) : 0;
}

/* A catalogue has one lock by whatever link it is reached; SQLite puts its own files beside the link's target too. */
static char *path_of_lock(const char *catalogue) {
    char *target = realpath(catalogue, NULL); /* NULL: not there yet */
    const char *name = target != NULL ? target : catalogue;
    size_t n = strlen(name) + sizeof "-lock";
    char *path = lk_calloc(n, 1);
    if (path != NULL)
        (void)snprintf(path, n, "%s-lock", name);
    free(target);
    return path;
}

int lk_store__lock_take(struct lk_store__lock *lock, const char *catalogue, int wait_ms) {
    int waited = 0;
    lock->fd = -1;
    if ((lock->path = path_of_lock(catalogue)) == NULL)
        return LK_ENOMEM;
    for (;;) {
        int fd = open(lock->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0)
            return lk_err(errno == ENOSPC ? LK_ENOSPACE : LK_EIO, "%s: creating the lock file %s: %s", catalogue,
                          lock->path, strerror(errno));
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            char text[32];
            int length;
            if (!still_there(fd, lock->path)) {
                (void)close(fd);
                continue;
            }
            length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
            if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)length, 0) != length) {
                /* The number only helps people; the lock holds without it. */
            }
            lock->fd = fd;
            return 0;
        }
        int why = errno;
        long pid = holder(fd);
        (void)close(fd);
        if (why != EWOULDBLOCK && why != EINTR)
            return lk_err(LK_EIO, "%s: locking %s: %s", catalogue, lock->path, strerror(why));
        if (waited >= wait_ms)
            return lk_err(LK_EBUSY, "%s is open for writing in another process (%ld)", catalogue, pid);
        (void)nanosleep(&(struct timespec){.tv_nsec = RETRY_MS * 1000000L}, NULL);
        waited += RETRY_MS;
    }
}

void lk_store__lock_drop(struct lk_store__lock *lock) {
    if (lock->path != NULL && lock->fd >= 0) {
        (void)unlink(lock->path); /* before the lock goes, so that nobody else's file is removed */
        (void)close(lock->fd);
    }
    free(lock->path);
    lock->path = NULL;
    lock->fd = -1;
}
