/* OpenMP's threads wait for one another by spinning: with GNU libgomp's default 300,000 rounds of the pause instruction,
 * about 15 ms on a recent Xeon. While another process holds a core, every parallel loop then burns whole time slices;
 * measured here, a training step beside a compiler took ten times as long as with a short spin. */
#ifndef LK_BASE_SPIN_H
#define LK_BASE_SPIN_H

/* Call first in main(). Unless the user's environment decides (OMP_WAIT_POLICY or GOMP_SPINCOUNT), sets a short spin and
 * starts this program again with the same arguments, since libgomp reads its environment before main(). Returns where
 * nothing is to do, or where the program cannot be started again. */
void lk_spin_limit(char **argv);

#endif
