/*
 * What has not reached the file is one run of bytes. A write that continues it is copied to its
 * end; anything that has to do with the file itself sends it first.
 *
 * A failed send is reported by the call that SQLite made. If that was a write or a sync, SQLite
 * gives up the whole transaction (its pager goes into the error state), and the bytes are
 * forgotten with it: the next transaction writes the same place of the file anew. If it was a
 * read, the transaction may go on, and the bytes are kept for the next try.
 */
#include "authz/store/wal_vfs.h"

#include <stdlib.h>
#include <string.h>

struct wal {
	sqlite3_int64 at; /* where in the file the buffer belongs */
	size_t n;
	char bytes[WAL_VFS_BUFFER];
};

static int send_bytes(sqlite3_file *f)
{
	struct wal *w = vfs_own(f);
	int code = SQLITE_OK;

	if (w->n)
		code = vfs_below(f)->pMethods->xWrite(vfs_below(f), w->bytes, (int)w->n, w->at);
	if (code == SQLITE_OK)
		w->n = 0;
	return code;
}

/* For the calls whose failure ends the transaction. */
static int send_or_forget(sqlite3_file *f)
{
	int code = send_bytes(f);

	((struct wal *)vfs_own(f))->n = 0;
	return code;
}

static int wal_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
	struct wal *w = vfs_own(f);
	int code = SQLITE_OK;

	if (at < w->at + (sqlite3_int64)w->n && w->at < at + n)
		code = send_bytes(f);
	return code == SQLITE_OK ? vfs_below(f)->pMethods->xRead(vfs_below(f), p, n, at) : code;
}

static int wal_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	struct wal *w = vfs_own(f);

	if (w->n && (at != w->at + (sqlite3_int64)w->n || (size_t)n > WAL_VFS_BUFFER - w->n)) {
		int code = send_or_forget(f);

		if (code != SQLITE_OK)
			return code;
	}
	if ((size_t)n > WAL_VFS_BUFFER)
		return vfs_below(f)->pMethods->xWrite(vfs_below(f), p, n, at);
	if (!w->n)
		w->at = at;
	memcpy(w->bytes + w->n, p, (size_t)n);
	w->n += (size_t)n;
	return SQLITE_OK;
}

static int wal_truncate(sqlite3_file *f, sqlite3_int64 n)
{
	int code = send_bytes(f);

	return code == SQLITE_OK ? vfs_below(f)->pMethods->xTruncate(vfs_below(f), n) : code;
}

static int wal_sync(sqlite3_file *f, int flags)
{
	int code = send_or_forget(f);

	return code == SQLITE_OK ? vfs_below(f)->pMethods->xSync(vfs_below(f), flags) : code;
}

static int wal_size(sqlite3_file *f, sqlite3_int64 *n)
{
	int code = send_bytes(f);

	return code == SQLITE_OK ? vfs_below(f)->pMethods->xFileSize(vfs_below(f), n) : code;
}

static const sqlite3_io_methods methods = {
	.iVersion = 1,		  /* shared memory and mmap are the database file's */
	.xClose = vfs_pass_close, /* what is left was never committed */
	.xRead = wal_read,
	.xWrite = wal_write,
	.xTruncate = wal_truncate,
	.xSync = wal_sync,
	.xFileSize = wal_size,
	.xLock = vfs_pass_lock,
	.xUnlock = vfs_pass_unlock,
	.xCheckReservedLock = vfs_pass_reserved,
	.xFileControl = vfs_pass_control,
	.xSectorSize = vfs_pass_sector,
	.xDeviceCharacteristics = vfs_pass_device,
};

struct vfs_way_file wal_vfs_file(void)
{
	struct wal *w = malloc(sizeof(*w));

	if (w)
		w->n = 0;
	return (struct vfs_way_file){ w, &methods };
}
