/*
 * process - is the process that connected still the one with that pid?
 *
 * Purpose    A pid is reused. With the moment its process started it is not: both are read when a
 *            Unix socket is accepted, and compared whenever the answer depends on who is there.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_NET_PROCESS_H
#define WRIT_NET_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* When process @pid started, in clock ticks after boot (field 22 of /proc/PID/stat). False: there
 * is none, or one of a pid namespace that we do not see. */
bool process_started(pid_t pid, uint64_t *ticks);

#endif
