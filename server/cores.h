/* The processor's cores, shared between the engine and the work pool: together they never compute on more cores than
 * there are. Where engine threads + pool threads fit the cores nobody ever waits here. On small machines they do not
 * fit (2 cores: an engine of 2 threads, a pool of 1), and then pictures are decoded between two batches instead of
 * beside them, which costs nothing: the work is the same, and OpenMP's threads are not torn apart in the middle.
 *
 * Turns go by arrival. Waits block. Any thread may call. */
#ifndef LK_SERVER_CORES_H
#define LK_SERVER_CORES_H

struct lk_cores;

int lk_cores_open(struct lk_cores **out, int cores);
void lk_cores_close(struct lk_cores *cores); /* NULL is fine */

/* Waits for n cores (cut to all of them; 0: returns at once) and takes them. cores NULL: no limit. */
void lk_cores_take(struct lk_cores *cores, int n);
void lk_cores_give(struct lk_cores *cores, int n);

#endif
