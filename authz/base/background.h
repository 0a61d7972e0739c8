/*
 * background - a thread whose work gives way to decisions.
 *
 * Purpose    Compiling policies, answering operators, indexing and sending records on take
 *            milliseconds of a core at a time; a decision takes microseconds and somebody waits for
 *            it. Linux gives each thread a nice value and, from 6.12 on, a slice: how long it may
 *            go on before one that wakes up takes its place. A low priority alone leaves the slice
 *            at milliseconds, which is what a decision then waits; older kernels let whoever has
 *            the better priority in at once.
 * Threads    Of the one that calls. There is no way back: priority is only given up without rights.
 */
#ifndef WRIT_BACKGROUND_H
#define WRIT_BACKGROUND_H

/* If it is refused the thread is only less polite. */
void background_thread(void);

#endif
