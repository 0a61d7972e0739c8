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

#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAYERS_MAX 4

struct layer {
	sqlite3_vfs vfs, *below;
	char name[64];
};

static struct layer layers[LAYERS_MAX]; /* guarded by lock until they are registered */
static size_t layer_count;		/* guarded by lock */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* An open WAL. SQLite allocates szOsFile bytes; the file of the VFS below lies behind this. */
struct wal_file {
	sqlite3_file base;
	sqlite3_int64 at; /* where in the file the buffer belongs */
	size_t n;
	char *bytes;
};

static struct wal_file *ours(sqlite3_file *f)
{
	return (struct wal_file *)f;
}

static sqlite3_file *real(sqlite3_file *f)
{
	return (sqlite3_file *)((struct wal_file *)f + 1);
}

static int send_bytes(sqlite3_file *f)
{
	struct wal_file *w = ours(f);
	int code = SQLITE_OK;

	if (w->n)
		code = real(f)->pMethods->xWrite(real(f), w->bytes, (int)w->n, w->at);
	if (code == SQLITE_OK)
		w->n = 0;
	return code;
}

/* For the calls whose failure ends the transaction. */
static int send_or_forget(sqlite3_file *f)
{
	int code = send_bytes(f);

	ours(f)->n = 0;
	return code;
}

static int wal_close(sqlite3_file *f)
{
	/* What is left was never committed. */
	free(ours(f)->bytes);
	return real(f)->pMethods->xClose(real(f));
}

static int wal_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
	struct wal_file *w = ours(f);
	int code = SQLITE_OK;

	if (at < w->at + (sqlite3_int64)w->n && w->at < at + n)
		code = send_bytes(f);
	return code == SQLITE_OK ? real(f)->pMethods->xRead(real(f), p, n, at) : code;
}

static int wal_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	struct wal_file *w = ours(f);

	if (w->n && (at != w->at + (sqlite3_int64)w->n || (size_t)n > WAL_VFS_BUFFER - w->n)) {
		int code = send_or_forget(f);

		if (code != SQLITE_OK)
			return code;
	}
	if ((size_t)n > WAL_VFS_BUFFER)
		return real(f)->pMethods->xWrite(real(f), p, n, at);
	if (!w->n)
		w->at = at;
	memcpy(w->bytes + w->n, p, (size_t)n);
	w->n += (size_t)n;
	return SQLITE_OK;
}

static int wal_truncate(sqlite3_file *f, sqlite3_int64 n)
{
	int code = send_bytes(f);

	return code == SQLITE_OK ? real(f)->pMethods->xTruncate(real(f), n) : code;
}

static int wal_sync(sqlite3_file *f, int flags)
{
	int code = send_or_forget(f);

	return code == SQLITE_OK ? real(f)->pMethods->xSync(real(f), flags) : code;
}

static int wal_size(sqlite3_file *f, sqlite3_int64 *n)
{
	int code = send_bytes(f);

	return code == SQLITE_OK ? real(f)->pMethods->xFileSize(real(f), n) : code;
}

static int wal_lock(sqlite3_file *f, int how)
{
	return real(f)->pMethods->xLock(real(f), how);
}

static int wal_unlock(sqlite3_file *f, int how)
{
	return real(f)->pMethods->xUnlock(real(f), how);
}

static int wal_reserved(sqlite3_file *f, int *out)
{
	return real(f)->pMethods->xCheckReservedLock(real(f), out);
}

static int wal_control(sqlite3_file *f, int op, void *arg)
{
	return real(f)->pMethods->xFileControl(real(f), op, arg);
}

static int wal_sector(sqlite3_file *f)
{
	return real(f)->pMethods->xSectorSize(real(f));
}

static int wal_device(sqlite3_file *f)
{
	return real(f)->pMethods->xDeviceCharacteristics(real(f));
}

static const sqlite3_io_methods methods = {
	.iVersion = 1, /* shared memory and mmap are the database file's, which is not wrapped */
	.xClose = wal_close,
	.xRead = wal_read,
	.xWrite = wal_write,
	.xTruncate = wal_truncate,
	.xSync = wal_sync,
	.xFileSize = wal_size,
	.xLock = wal_lock,
	.xUnlock = wal_unlock,
	.xCheckReservedLock = wal_reserved,
	.xFileControl = wal_control,
	.xSectorSize = wal_sector,
	.xDeviceCharacteristics = wal_device,
};

static int open_file(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
	sqlite3_vfs *below = ((struct layer *)v->pAppData)->below;
	struct wal_file *w = ours(f);
	int code;

	if (!(flags & SQLITE_OPEN_WAL))
		return below->xOpen(below, name, f, flags, out);
	*w = (struct wal_file){ .bytes = malloc(WAL_VFS_BUFFER) };
	if (!w->bytes)
		return SQLITE_NOMEM;
	code = below->xOpen(below, name, real(f), flags, out);
	if (code == SQLITE_OK) {
		f->pMethods = &methods;
		return SQLITE_OK;
	}
	/* A VFS may fail and still have something to close. */
	if (real(f)->pMethods)
		real(f)->pMethods->xClose(real(f));
	free(w->bytes);
	return code;
}

/* The context of the VFS below is reached through itself, so each call is passed on by name. */
static int delete_file(sqlite3_vfs *v, const char *name, int sync)
{
	sqlite3_vfs *below = ((struct layer *)v->pAppData)->below;

	return below->xDelete(below, name, sync);
}

static bool add_layer(struct layer *l, sqlite3_vfs *below, struct err *e)
{
	snprintf(l->name, sizeof(l->name), "writ-wal-%.40s", below->zName);
	l->below = below;
	l->vfs = *below;
	l->vfs.pNext = NULL;
	l->vfs.zName = l->name;
	l->vfs.pAppData = l;
	l->vfs.szOsFile = (int)sizeof(struct wal_file) + below->szOsFile;
	l->vfs.xOpen = open_file;
	l->vfs.xDelete = delete_file;
	return sqlite3_vfs_register(&l->vfs, 0) == SQLITE_OK ||
	       err_set(e, ERR_NOMEM, "no memory for SQLite's files");
}

bool wal_vfs_over(const char *below, const char **name, struct err *e)
{
	sqlite3_vfs *found = sqlite3_vfs_find(below);
	bool ok = true;
	size_t i = 0;

	if (!found)
		return err_set(e, ERR_INTERNAL, "SQLite knows no files called %s", below);
	pthread_mutex_lock(&lock);
	while (i < layer_count && layers[i].below != found)
		i++;
	if (i == LAYERS_MAX)
		ok = err_set(e, ERR_INTERNAL, "too many kinds of files for SQLite");
	else if (i == layer_count)
		ok = add_layer(&layers[i], found, e);
	if (ok && i == layer_count)
		layer_count++;
	pthread_mutex_unlock(&lock);
	if (ok)
		*name = layers[i].name;
	return ok;
}
