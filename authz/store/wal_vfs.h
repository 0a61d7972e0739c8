/*
 * wal_vfs - SQLite's write-ahead log with one system call per commit instead of two per page.
 *
 * Purpose    SQLite appends a commit to the WAL as header, page, header, page, each with a write
 *            of its own, and then syncs. Here they gather in memory and go to the file in one
 *            piece when the sync comes. Everything else, also every other file, is the VFS below.
 * Ownership  The buffer belongs to the open file. VFSs are registered once and stay.
 * Threads    As the VFS below: a file is its connection's. Registering is safe from any thread.
 *
 * Only for connections with synchronous=FULL (db.c sees to that): there each commit syncs before
 * other connections are told about its frames, so what they read is in the file.
 */
#ifndef WRIT_WAL_VFS_H
#define WRIT_WAL_VFS_H

#include "include/writ/err.h"

/* Below 128 KiB: SQLite's own unix VFS takes a longer write for a full disk. */
#define WAL_VFS_BUFFER (124 * 1024)

/* The name of the VFS over that called @below (NULL: the system's), for sqlite3_open_v2. */
MUST_USE bool wal_vfs_over(const char *below, const char **name, struct err *e);

#endif
