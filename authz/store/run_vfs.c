/*
 * One buffer per file holds one of two things: the last pages of a checkpoint that have not been
 * handed down yet, or what was read ahead. Pages gather between SQLITE_FCNTL_CKPT_START and
 * ..._DONE only; anything else that has to do with the file's bytes hands them down first.
 *
 * A failed hand-down is reported by the call that SQLite made, and the checkpoint ends there; its
 * pages are in the WAL still. Only ..._DONE cannot report one (see run_vfs.h), so the run that
 * holds the file's last page is handed down with that page. In a log, that is nearly always the
 * last run.
 */
#include "authz/store/run_vfs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "authz/store/direct_io.h"

#define STEPS 3 /* reads after one another make a walk */
#define STEP_MAX (VFS_PIECE / 2)

struct runs {
	char *bytes; /* NULL: not needed yet */
	sqlite3_int64 at;
	size_t n;
	enum { NOTHING, TO_WRITE, READ_AHEAD } holds;
	bool gathers;	    /* a checkpoint is on, and there is room for all its pages */
	sqlite3_int64 end;  /* of the file then: no page comes after the one that reaches it */
	sqlite3_int64 next; /* where the last read ended */
	int steps;	    /* reads that went on from there */
};

static bool have_bytes(struct runs *r)
{
	if (!r->bytes)
		r->bytes = aligned_alloc(DIRECT_IO_ALIGN, VFS_PIECE);
	return r->bytes != NULL;
}

static bool is_aligned(sqlite3_int64 at, int n)
{
	return at % DIRECT_IO_ALIGN == 0 && n % DIRECT_IO_ALIGN == 0 && n > 0 && n <= VFS_PIECE;
}

/* --- writing --- */

static int hand_down(sqlite3_file *f)
{
	struct runs *r = vfs_own(f);
	int code;

	if (r->holds != TO_WRITE)
		return SQLITE_OK;
	r->holds = NOTHING;
	direct_io_begin();
	code = vfs_below(f)->pMethods->xWrite(vfs_below(f), r->bytes, (int)r->n, r->at);
	direct_io_end();
	return code;
}

/* The end of a checkpoint in which the file's last page was not moved: SQLite hears nothing of
 * what happens here and takes every page for moved. */
static void hand_down_last(sqlite3_file *f)
{
	struct runs *r = vfs_own(f);

	if (hand_down(f) == SQLITE_OK ||
	    vfs_below(f)->pMethods->xWrite(vfs_below(f), r->bytes, (int)r->n, r->at) == SQLITE_OK)
		return;
	fputs("the disk failed while pages were moved from the write-ahead log into the database; "
	      "nothing is lost, but the server must be restarted, and the disk looked after\n",
	      stderr);
	abort();
}

/* Does a page of @n bytes at @at go on where the gathered ones end? */
static bool goes_on(const struct runs *r, int n, sqlite3_int64 at)
{
	return r->holds == TO_WRITE && at == r->at + (sqlite3_int64)r->n &&
	       (size_t)n <= VFS_PIECE - r->n;
}

static int run_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	struct runs *r = vfs_own(f);
	int code = goes_on(r, n, at) ? SQLITE_OK : hand_down(f);

	if (code != SQLITE_OK)
		return code;
	if (!r->gathers || !is_aligned(at, n) || !have_bytes(r)) {
		r->holds = NOTHING;
		return vfs_below(f)->pMethods->xWrite(vfs_below(f), p, n, at);
	}
	if (r->holds != TO_WRITE) {
		r->holds = TO_WRITE;
		r->at = at;
		r->n = 0;
	}
	memcpy(r->bytes + r->n, p, (size_t)n);
	r->n += (size_t)n;
	return at + n == r->end ? hand_down(f) : SQLITE_OK;
}

static int run_truncate(sqlite3_file *f, sqlite3_int64 n)
{
	int code = hand_down(f);

	((struct runs *)vfs_own(f))->holds = NOTHING;
	return code == SQLITE_OK ? vfs_below(f)->pMethods->xTruncate(vfs_below(f), n) : code;
}

static int run_sync(sqlite3_file *f, int flags)
{
	int code = hand_down(f);

	return code == SQLITE_OK ? vfs_below(f)->pMethods->xSync(vfs_below(f), flags) : code;
}

static int run_size(sqlite3_file *f, sqlite3_int64 *n)
{
	int code = hand_down(f);

	return code == SQLITE_OK ? vfs_below(f)->pMethods->xFileSize(vfs_below(f), n) : code;
}

/* For a file that grows to @size. */
static bool take_room(sqlite3_file *f, sqlite3_int64 size)
{
	struct runs *r = vfs_own(f);
	int code = SQLITE_OK;

	if (size > r->end) {
		direct_io_room(size - r->end);
		code = vfs_below(f)->pMethods->xWrite(vfs_below(f), "", 0, r->end);
		direct_io_room(0);
		r->end = size;
	}
	return code == SQLITE_OK;
}

static int run_control(sqlite3_file *f, int op, void *arg)
{
	struct runs *r = vfs_own(f);

	if (op == SQLITE_FCNTL_CKPT_DONE) {
		hand_down_last(f);
		r->gathers = false;
	}
	if (op == SQLITE_FCNTL_CKPT_START)
		r->gathers = vfs_below(f)->pMethods->xFileSize(vfs_below(f), &r->end) == SQLITE_OK;
	if (op == SQLITE_FCNTL_SIZE_HINT && r->gathers) /* said if the file must grow */
		r->gathers = take_room(f, *(sqlite3_int64 *)arg);
	return vfs_pass_control(f, op, arg);
}

/* --- reading --- */

static bool holds(const struct runs *r, int n, sqlite3_int64 at)
{
	return r->holds == READ_AHEAD && at >= r->at && at + n <= r->at + (sqlite3_int64)r->n;
}

/* Whole pages from @at on, as many as there are. Nothing, if that fails: then SQLite's own read
 * says why. */
static void read_ahead(sqlite3_file *f, int page, sqlite3_int64 at)
{
	struct runs *r = vfs_own(f);
	sqlite3_int64 size, n;
	int code;

	if (vfs_below(f)->pMethods->xFileSize(vfs_below(f), &size) != SQLITE_OK)
		return;
	n = size - at < VFS_PIECE ? size - at : VFS_PIECE;
	n -= n % page;
	if (n <= page || !have_bytes(r))
		return;
	direct_io_begin();
	code = vfs_below(f)->pMethods->xRead(vfs_below(f), r->bytes, (int)n, at);
	direct_io_end();
	if (code != SQLITE_OK)
		return;
	r->holds = READ_AHEAD;
	r->at = at;
	r->n = (size_t)n;
}

static int run_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
	struct runs *r = vfs_own(f);
	int code = hand_down(f);

	if (code != SQLITE_OK)
		return code;
	r->steps = at >= r->next && at - r->next <= STEP_MAX ? r->steps + 1 : 0;
	r->next = at + n;
	if (r->steps >= STEPS && is_aligned(at, n) && !holds(r, n, at))
		read_ahead(f, n, at);
	if (!holds(r, n, at))
		return vfs_below(f)->pMethods->xRead(vfs_below(f), p, n, at);
	memcpy(p, r->bytes + (at - r->at), (size_t)n);
	return SQLITE_OK;
}

/* Where a transaction begins or ends. */
static void forget_reads(sqlite3_file *f)
{
	struct runs *r = vfs_own(f);

	if (r->holds == READ_AHEAD)
		r->holds = NOTHING;
}

static int run_lock(sqlite3_file *f, int how)
{
	forget_reads(f);
	return vfs_pass_lock(f, how);
}

static int run_shm_lock(sqlite3_file *f, int at, int n, int flags)
{
	forget_reads(f);
	return vfs_below(f)->pMethods->xShmLock(vfs_below(f), at, n, flags);
}

/* --- the file --- */

static int run_close(sqlite3_file *f)
{
	struct runs *r = vfs_own(f);

	free(r->bytes);
	return vfs_pass_close(f);
}

static const sqlite3_io_methods methods = {
	.iVersion = 2, /* no mmap: reads and writes come by here */
	.xClose = run_close,
	.xRead = run_read,
	.xWrite = run_write,
	.xTruncate = run_truncate,
	.xSync = run_sync,
	.xFileSize = run_size,
	.xLock = run_lock,
	.xUnlock = vfs_pass_unlock,
	.xCheckReservedLock = vfs_pass_reserved,
	.xFileControl = run_control,
	.xSectorSize = vfs_pass_sector,
	.xDeviceCharacteristics = vfs_pass_device,
	.xShmMap = vfs_pass_shm_map,
	.xShmLock = run_shm_lock,
	.xShmBarrier = vfs_pass_shm_barrier,
	.xShmUnmap = vfs_pass_shm_unmap,
};

struct vfs_way_file run_vfs_file(void)
{
	return (struct vfs_way_file){ calloc(1, sizeof(struct runs)), &methods };
}
