/*
 * What has not reached the file is one run of bytes. A write that continues it is copied to its
 * end; anything that has to do with the file itself sends it first.
 *
 * O_DIRECT writes whole blocks. What the file has in the first block before the run is known from
 * the run before, or read. What it has in the last block after the run is overwritten with zeros:
 * frames that lie behind the last one of a commit are left over from transactions that were rolled
 * back or moved into the database, and SQLite never asks for them. Only within a transaction it may
 * go back to a frame that has others behind it; such a run, and one that makes the file longer,
 * goes the ordinary way. That some other connection began the WAL anew and wrote just as much as
 * was there before is seen by the salt in a frame's header, which is another one then.
 *
 * A failed send is reported by the call that SQLite made. If that was a write or a sync, SQLite
 * gives up the whole transaction (its pager goes into the error state), and the bytes are
 * forgotten with it: the next transaction writes the same place of the file anew. If it was a
 * read, the transaction may go on, and the bytes are kept for the next try.
 */
#include "authz/store/wal_vfs.h"

#include <stdlib.h>
#include <string.h>

#include "authz/store/direct_io.h"
#include "authz/store/run_vfs.h"

#define BLOCK DIRECT_IO_ALIGN
#define FRAME_HEAD 24 /* bytes: page, size, two salts, two checksums */
#define FRAME_SALT 8  /* where the salts are, and how long both */

struct wal {
	char bytes[WAL_VFS_BUFFER]; /* first: aligned */
	sqlite3_int64 at;	    /* of bytes[0] in the file; whole blocks */
	size_t from, n;		    /* bytes[from, n) are to be written */
	bool known;		    /* bytes[0, from) are what the file has there */
	char salt[FRAME_SALT];	    /* of the last frame */
	sqlite3_int64 end;	    /* nothing of use is behind it */
	sqlite3_int64 size;	    /* the file has so much at least; -1: not asked yet */
	sqlite3_file *db;
	size_t ahead;	    /* bytes[0, ahead) were read ahead; then nothing is to be written */
	unsigned long move; /* for that checkpoint */
	struct vfs_walk walk;
};

/* Nothing is to be written, and what comes goes to @at. */
static void begin_at(struct wal *w, sqlite3_int64 at)
{
	w->ahead = 0;
	w->from = w->n = (size_t)(at % BLOCK);
	w->at = at - (sqlite3_int64)w->n;
	w->known = w->n == 0;
}

/* --- sending --- */

static size_t whole_blocks(size_t n)
{
	return (n + BLOCK - 1) / BLOCK * BLOCK;
}

static bool overwrites(sqlite3_file *f)
{
	struct wal *w = vfs_own(f);
	sqlite3_file *below = vfs_below(f);

	if (w->at + (sqlite3_int64)w->n < w->end)
		return false;
	if (w->size < 0 && below->pMethods->xFileSize(below, &w->size) != SQLITE_OK)
		return false;
	if (w->at + (sqlite3_int64)whole_blocks(w->n) > w->size)
		return false;
	if (!w->known)
		w->known = below->pMethods->xRead(below, w->bytes, (int)w->from, w->at) ==
			   SQLITE_OK;
	return w->known;
}

/* The run is in the file. The bytes of its last block stay for the next one. */
static void sent(struct wal *w)
{
	sqlite3_int64 end = w->at + (sqlite3_int64)w->n;
	size_t done = w->n - w->n % BLOCK;

	if (end > w->end)
		w->end = end;
	if (w->size >= 0 && end > w->size)
		w->size = end;
	if (done) {
		w->n -= done;
		memmove(w->bytes, w->bytes + done, w->n);
		w->at += (sqlite3_int64)done;
		w->known = true;
	}
	w->from = w->n;
}

static int send_bytes(sqlite3_file *f)
{
	struct wal *w = vfs_own(f);
	int code;

	if (w->n == w->from)
		return SQLITE_OK;
	if (overwrites(f)) {
		size_t n = whole_blocks(w->n);

		memset(w->bytes + w->n, 0, n - w->n);
		code = direct_io_write(vfs_below(f), w->bytes, n, w->at);
	} else {
		code = vfs_write(vfs_below(f), w->bytes + w->from, w->n - w->from,
				 w->at + (sqlite3_int64)w->from);
	}
	if (code == SQLITE_OK)
		sent(w);
	return code;
}

/* For the calls whose failure ends the transaction. */
static int send_or_forget(sqlite3_file *f)
{
	int code = send_bytes(f);

	if (code != SQLITE_OK)
		begin_at(vfs_own(f), 0);
	return code;
}

/* --- writing --- */

/* Does the write go on where the last one ended, in the same WAL? */
static bool goes_on(struct wal *w, const void *p, int n, sqlite3_int64 at)
{
	bool same = true;

	if (n == FRAME_HEAD) {
		const char *salt = (const char *)p + FRAME_SALT;

		same = w->n > w->from || memcmp(w->salt, salt, sizeof(w->salt)) == 0;
		memcpy(w->salt, salt, sizeof(w->salt));
	}
	return same && !w->ahead && at == w->at + (sqlite3_int64)w->n;
}

static int wal_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	struct wal *w = vfs_own(f);
	bool on = goes_on(w, p, n, at);

	if (!on || (size_t)n > WAL_VFS_BUFFER - w->n) {
		int code = send_or_forget(f);

		if (code != SQLITE_OK)
			return code;
	}
	if (!on)
		begin_at(w, at);
	if (!at)
		w->end = 0; /* a WAL begun anew */
	memcpy(w->bytes + w->n, p, (size_t)n);
	w->n += (size_t)n;
	return SQLITE_OK;
}

static int wal_truncate(sqlite3_file *f, sqlite3_int64 n)
{
	struct wal *w = vfs_own(f);
	int code = send_bytes(f);

	if (code == SQLITE_OK) {
		begin_at(w, 0);
		w->size = -1;
		code = vfs_below(f)->pMethods->xTruncate(vfs_below(f), n);
	}
	return code;
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

/* --- reading --- */

static bool holds(const struct wal *w, int n, sqlite3_int64 at)
{
	return at >= w->at && at + n <= w->at + (sqlite3_int64)w->ahead;
}

/* Whole blocks from that of @at on. Nothing, if that fails: then SQLite's own read says why. */
static void read_ahead(sqlite3_file *f, sqlite3_int64 at)
{
	struct wal *w = vfs_own(f);
	sqlite3_int64 size, n;

	begin_at(w, at - at % BLOCK);
	if (vfs_below(f)->pMethods->xFileSize(vfs_below(f), &size) != SQLITE_OK)
		return;
	n = size - w->at < VFS_RUN ? size - w->at : VFS_RUN;
	n -= n % BLOCK;
	if (n > 0 && direct_io_read(vfs_below(f), w->bytes, (size_t)n, w->at) == SQLITE_OK)
		w->ahead = (size_t)n;
}

static int wal_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
	struct wal *w = vfs_own(f);
	unsigned long move = run_vfs_move(w->db);
	int code = SQLITE_OK;

	/* What is read ahead serves one checkpoint: behind its last frame others will come. */
	if (w->ahead && w->move != move)
		begin_at(w, 0);
	if (w->n > w->from && at < w->at + (sqlite3_int64)w->n &&
	    w->at + (sqlite3_int64)w->from < at + n)
		code = send_bytes(f);
	if (code != SQLITE_OK)
		return code;
	if (vfs_walks(&w->walk, n, at) && move && w->n == w->from && !holds(w, n, at)) {
		w->move = move;
		read_ahead(f, at);
	}
	if (!holds(w, n, at))
		return vfs_below(f)->pMethods->xRead(vfs_below(f), p, n, at);
	memcpy(p, w->bytes + (at - w->at), (size_t)n);
	return SQLITE_OK;
}

/* --- the file --- */

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

struct vfs_way_file wal_vfs_file(sqlite3_file *db)
{
	struct wal *w = aligned_alloc(BLOCK, whole_blocks(sizeof(*w)));

	if (w) {
		begin_at(w, 0);
		w->db = db;
		w->end = 0;
		w->size = -1;
		w->move = 0;
		w->walk = (struct vfs_walk){ 0 };
		memset(w->salt, 0, sizeof(w->salt));
	}
	return (struct vfs_way_file){ w, &methods };
}
