/*
 * vfs_fault - a SQLite file system that fails at the Nth call, for tests.
 *
 * Purpose    Register it once, open databases with .vfs = "fault", then let each write, sync,
 *            truncation or open fail in turn and look for damage.
 * Threads    Arming: the test's own. Databases may be used by any thread meanwhile.
 */
#ifndef WRIT_TEST_VFS_FAULT_H
#define WRIT_TEST_VFS_FAULT_H

#include <stdbool.h>

enum vfs_call {
	VFS_WRITE = 1,
	VFS_SYNC = 2,
	VFS_TRUNCATE = 4,
	VFS_OPEN = 8,
	VFS_READ = 16,
	VFS_DELETE = 32,
	VFS_SHM = 64,
	VFS_ALL = 127,
};

/* Make "fault" known, over the system's file system. */
void vfs_fault_register(void);

/* From now on count calls of the kinds in @which; the @nth of them (from 1) returns the SQLite
 * code @code. With @stays all later ones do, too: a disk that is gone. nth 0: none fails. */
void vfs_fault_arm(unsigned which, long nth, int code, bool stays);

/* Only files whose name contains @part count from now on; NULL: all. The text must last. */
void vfs_fault_only(const char *part);

/* Have every database that names no file system use "fault". */
void vfs_fault_default(void);

/* From now on calls of the kinds in @which hang until vfs_fault_release. */
void vfs_fault_hang(unsigned which);
void vfs_fault_release(void);
/* Wait until a call hangs. */
void vfs_fault_await(void);

/* Calls counted and failures given since vfs_fault_arm. */
long vfs_fault_calls(void);
long vfs_fault_hits(void);

#endif
