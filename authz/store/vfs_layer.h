/*
 * vfs_layer - writ's own way with some of SQLite's files, over the VFS that has them all.
 *
 * Purpose    A layer passes every call on to the VFS below it, but for the files that are opened
 *            with one of the ways here: the write-ahead log (wal_vfs.h), the database (run_vfs.h).
 * Ownership  Layers are registered once and stay. What a way keeps of a file belongs to the file.
 * Threads    As the VFS below: a file is its connection's. Registering is safe from any thread.
 */
#ifndef WRIT_VFS_LAYER_H
#define WRIT_VFS_LAYER_H

#include <sqlite3.h>

#include "include/writ/err.h"

/* Longer pieces are cut: SQLite's own unix VFS takes a write of 128 KiB and more for a full
 * disk. A multiple of every page size up to 8 KiB. */
#define VFS_PIECE (120 * 1024)

enum vfs_way {
	VFS_WAL = 1,  /* wal_vfs.h */
	VFS_RUNS = 2, /* run_vfs.h */
};

/* The name of the VFS over that called @below (NULL: the system's) with the ways @ways, for
 * sqlite3_open_v2. */
MUST_USE bool vfs_layer_over(const char *below, unsigned ways, const char **name, struct err *e);

/* --- for the ways --- */

/* SQLite allocates a file; that of the VFS below lies behind this. */
struct vfs_file {
	sqlite3_file base;
	void *own; /* the way's; freed when the file is closed */
};

static inline void *vfs_own(sqlite3_file *f)
{
	return ((struct vfs_file *)f)->own;
}

static inline sqlite3_file *vfs_below(sqlite3_file *f)
{
	return (sqlite3_file *)((struct vfs_file *)f + 1);
}

/* A file of a way: what it keeps, which free() frees, and its methods. */
struct vfs_way_file {
	void *own;
	const sqlite3_io_methods *methods;
};
/* No memory: own is NULL. */
struct vfs_way_file wal_vfs_file(void);
struct vfs_way_file run_vfs_file(void);

/* Methods that pass the call on. */
int vfs_pass_close(sqlite3_file *f);
int vfs_pass_lock(sqlite3_file *f, int how);
int vfs_pass_unlock(sqlite3_file *f, int how);
int vfs_pass_reserved(sqlite3_file *f, int *out);
int vfs_pass_control(sqlite3_file *f, int op, void *arg);
int vfs_pass_sector(sqlite3_file *f);
int vfs_pass_device(sqlite3_file *f);
int vfs_pass_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out);
void vfs_pass_shm_barrier(sqlite3_file *f);
int vfs_pass_shm_unmap(sqlite3_file *f, int delete_it);

#endif
