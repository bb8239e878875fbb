/* An SQLite VFS that forgets what was not synced, and a disk that refuses, for the tests of the store and of the server.
 *
 * It stands over the system's VFS and keeps every write in memory until the file is synced; only then does the real file get
 * it. A process that ends at a cut, or by kill -9, has thus lost what a power cut would lose. Names are modelled too: a
 * file that was created is there after a cut only if its folder was synced since (as SQLite does with the first sync of a
 * journal or -wal file), and one that was deleted comes back. Locks and the -shm file pass through: a power cut ends all
 * processes, and SQLite rebuilds that file. */
#ifndef LK_TESTS_POWER_VFS_H
#define LK_TESTS_POWER_VFS_H

#include <stdint.h>

enum power_fault {
    POWER_NO_FAULT,
    POWER_DISK_FULL,  /* files cannot grow: ENOSPC */
    POWER_READ_ONLY,  /* nothing can be written: EROFS */
    POWER_SYNC_FAILS, /* EIO */
    POWER_READ_FAILS  /* EIO */
};

struct power_control { /* in memory that the test shares with the process; python packs it as "<iiiiiiQ" */
    int32_t syncs;     /* so many were asked for so far */
    int32_t cut_at;    /* the sync, from 1, that does not happen any more: the process ends with POWER_CUT; 0: none */
    int32_t torn;  /* 0: all that was not synced is lost; 1: a random part of it, in sectors of 512 bytes, is there */
    int32_t fault; /* enum power_fault, at any time */
    int32_t lies;  /* 1: a sync of a -wal file does nothing, though it says so: to see that the tests notice */
    int32_t unused;
    uint64_t seed; /* of `torn` */
};

enum { POWER_CUT = 99 }; /* exit status */

/* Makes it the default VFS of this process. shared stays valid. */
void power_vfs_install(struct power_control *shared);

#endif
