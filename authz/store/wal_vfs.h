/*
 * wal_vfs - SQLite's write-ahead log with one system call per commit instead of two per page.
 *
 * Purpose    SQLite appends a commit to the WAL as header, page, header, page, each with a write
 *            of its own, and then syncs. Here they gather in memory and go to the file in one
 *            piece when the sync comes. VFS_WAL of vfs_layer.h.
 *
 * Only for connections with synchronous=FULL (db.c sees to that): there each commit syncs before
 * other connections are told about its frames, so what they read is in the file.
 */
#ifndef WRIT_WAL_VFS_H
#define WRIT_WAL_VFS_H

#include "authz/store/vfs_layer.h"

#define WAL_VFS_BUFFER (124 * 1024) /* below 128 KiB, as VFS_PIECE */

#endif
