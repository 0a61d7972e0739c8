/*
 * alloc_fault - the Nth allocation of our own code or of SQLite fails, for tests.
 *
 * Purpose    Programs below tests/fault are linked with --wrap for malloc and its kin, so every
 *            call of writ's own objects comes by here; Lua's come by mem_system, SQLite's by its
 *            own hook. OpenSSL's and libc's inner calls do not.
 * Threads    Any: what is counted is the process, whoever asks.
 */
#ifndef WRIT_TEST_ALLOC_FAULT_H
#define WRIT_TEST_ALLOC_FAULT_H

#include <stdbool.h>

/* Let SQLite allocate through us. Before anything opens a database: a cmocka group's set-up. */
int alloc_fault_hook(void **state);

/* From now on the @nth allocation (from 1) fails; with @stays all later ones do, too. */
void alloc_fault_arm(long nth, bool stays);

/* Everything works again. Did one fail? */
bool alloc_fault_disarm(void);

#endif
