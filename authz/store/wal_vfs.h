/*
 * wal_vfs - SQLite's write-ahead log with one write per commit, around the page cache.
 *
 * Purpose    SQLite appends a commit to the WAL as header, page, header, page, each with a write
 *            of its own, and then syncs. Here they gather in memory and go to the file in one
 *            piece when the sync comes. Where the file is overwritten, which is nearly always, the
 *            piece goes by O_DIRECT (direct_io.h): what was copied into the page cache would be
 *            looked for, page by page, and written by the sync a moment later. The sync stays what
 *            it was, and with it what a commit promises.
 *            A checkpoint reads such a WAL from the disk, so it gets it in long runs, too.
 *            VFS_WAL of vfs_layer.h.
 *
 * Only for connections with synchronous=FULL (db.c sees to that): there each commit syncs before
 * other connections are told about its frames, so what they read is in the file.
 */
#ifndef WRIT_WAL_VFS_H
#define WRIT_WAL_VFS_H

#include "authz/store/vfs_layer.h"

#define WAL_VFS_BUFFER (1024 * 1024)

#endif
