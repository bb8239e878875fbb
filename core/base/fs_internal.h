/* For fs*.c alone. */
#ifndef LK_BASE_FS_INTERNAL_H
#define LK_BASE_FS_INTERNAL_H

/* The status and the sentence of errno: "PATH: cannot ACTION: reason". */
int lk_fs__error(const char *path, const char *action);

#endif
