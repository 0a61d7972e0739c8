#include "tests/fault/vfs_fault.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

/* Guarded by `lock`, since a database is used on another thread than the one that plans. */
static struct {
	unsigned which, hangs;
	long nth, calls, hits, hanging;
	int code;
	bool stays;
	const char *only;
} plan;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static sqlite3_vfs vfs, *below;

/* Our file: SQLite allocates szOsFile bytes; the real file lies behind our head. */
struct file {
	sqlite3_file base;
	const char *name; /* SQLite's, lives as long as the file; the real file follows */
};

static sqlite3_file *real(sqlite3_file *f)
{
	return (sqlite3_file *)((struct file *)f + 1);
}

void vfs_fault_arm(unsigned which, long nth, int code, bool stays)
{
	pthread_mutex_lock(&lock);
	plan.which = which;
	plan.nth = nth;
	plan.code = code;
	plan.stays = stays;
	plan.calls = plan.hits = 0;
	pthread_mutex_unlock(&lock);
}

void vfs_fault_only(const char *part)
{
	pthread_mutex_lock(&lock);
	plan.only = part;
	pthread_mutex_unlock(&lock);
}

void vfs_fault_hang(unsigned which)
{
	pthread_mutex_lock(&lock);
	plan.hangs = which;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

void vfs_fault_release(void)
{
	vfs_fault_hang(0);
}

void vfs_fault_await(void)
{
	pthread_mutex_lock(&lock);
	while (!plan.hanging)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

static long read_locked(const long *n)
{
	long value;

	pthread_mutex_lock(&lock);
	value = *n;
	pthread_mutex_unlock(&lock);
	return value;
}

long vfs_fault_calls(void)
{
	return read_locked(&plan.calls);
}

long vfs_fault_hits(void)
{
	return read_locked(&plan.hits);
}

/* SQLITE_OK: the call goes through. */
static int verdict(enum vfs_call call)
{
	if (plan.hangs & call) {
		plan.hanging++;
		pthread_cond_broadcast(&changed);
		while (plan.hangs & call)
			pthread_cond_wait(&changed, &lock);
		plan.hanging--;
	}
	if (!(plan.which & call))
		return SQLITE_OK;
	plan.calls++;
	if (!plan.nth || plan.calls < plan.nth || (plan.calls > plan.nth && !plan.stays))
		return SQLITE_OK;
	plan.hits++;
	return plan.code;
}

static int fails(enum vfs_call call, const char *name)
{
	int code = SQLITE_OK;

	pthread_mutex_lock(&lock);
	if (!plan.only || (name && strstr(name, plan.only)))
		code = verdict(call);
	pthread_mutex_unlock(&lock);
	return code;
}

static int fails_on(enum vfs_call call, sqlite3_file *f)
{
	return fails(call, ((struct file *)f)->name);
}

static int io_close(sqlite3_file *f)
{
	return real(f)->pMethods->xClose(real(f));
}
static int io_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
	int code = fails_on(VFS_READ, f);

	return code ? code : real(f)->pMethods->xRead(real(f), p, n, at);
}
static int io_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	int code = fails_on(VFS_WRITE, f);

	if (code) { /* a torn write: half of it arrives */
		real(f)->pMethods->xWrite(real(f), p, n / 2, at);
		return code;
	}
	return real(f)->pMethods->xWrite(real(f), p, n, at);
}
static int io_truncate(sqlite3_file *f, sqlite3_int64 n)
{
	int code = fails_on(VFS_TRUNCATE, f);

	return code ? code : real(f)->pMethods->xTruncate(real(f), n);
}
static int io_sync(sqlite3_file *f, int flags)
{
	int code = fails_on(VFS_SYNC, f);

	return code ? code : real(f)->pMethods->xSync(real(f), flags);
}
static int io_size(sqlite3_file *f, sqlite3_int64 *n)
{
	return real(f)->pMethods->xFileSize(real(f), n);
}
static int io_lock(sqlite3_file *f, int how)
{
	return real(f)->pMethods->xLock(real(f), how);
}
static int io_unlock(sqlite3_file *f, int how)
{
	return real(f)->pMethods->xUnlock(real(f), how);
}
static int io_reserved(sqlite3_file *f, int *out)
{
	return real(f)->pMethods->xCheckReservedLock(real(f), out);
}
static int io_control(sqlite3_file *f, int op, void *arg)
{
	return real(f)->pMethods->xFileControl(real(f), op, arg);
}
static int io_sector(sqlite3_file *f)
{
	return real(f)->pMethods->xSectorSize(real(f));
}
static int io_device(sqlite3_file *f)
{
	return real(f)->pMethods->xDeviceCharacteristics(real(f));
}
static int io_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
	int code = fails_on(VFS_SHM, f);

	return code ? code : real(f)->pMethods->xShmMap(real(f), page, size, extend, out);
}
static int io_shm_lock(sqlite3_file *f, int at, int n, int flags)
{
	return real(f)->pMethods->xShmLock(real(f), at, n, flags);
}
static void io_shm_barrier(sqlite3_file *f)
{
	real(f)->pMethods->xShmBarrier(real(f));
}
static int io_shm_unmap(sqlite3_file *f, int delete_it)
{
	return real(f)->pMethods->xShmUnmap(real(f), delete_it);
}

static const sqlite3_io_methods methods = {
	.iVersion = 2, /* no mmap: reads and writes come by here */
	.xClose = io_close,
	.xRead = io_read,
	.xWrite = io_write,
	.xTruncate = io_truncate,
	.xSync = io_sync,
	.xFileSize = io_size,
	.xLock = io_lock,
	.xUnlock = io_unlock,
	.xCheckReservedLock = io_reserved,
	.xFileControl = io_control,
	.xSectorSize = io_sector,
	.xDeviceCharacteristics = io_device,
	.xShmMap = io_shm_map,
	.xShmLock = io_shm_lock,
	.xShmBarrier = io_shm_barrier,
	.xShmUnmap = io_shm_unmap,
};

static int open_file(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
	int code;

	(void)v;
	f->pMethods = NULL;
	((struct file *)f)->name = name;
	code = fails(VFS_OPEN, name);
	if (code != SQLITE_OK)
		return code;
	code = below->xOpen(below, name, real(f), flags, out);
	if (code == SQLITE_OK)
		f->pMethods = &methods;
	return code;
}

static int delete_file(sqlite3_vfs *v, const char *name, int sync)
{
	int code = fails(VFS_DELETE, name);

	(void)v;
	return code ? code : below->xDelete(below, name, sync);
}

void vfs_fault_register(void)
{
	if (vfs.zName)
		return;
	below = sqlite3_vfs_find(NULL);
	if (!below)
		abort();
	vfs = *below; /* the rest is the system's own; it takes its context from its own vfs */
	vfs.pNext = NULL;
	vfs.zName = "fault";
	vfs.szOsFile = (int)sizeof(struct file) + below->szOsFile;
	vfs.xOpen = open_file;
	vfs.xDelete = delete_file;
	if (sqlite3_vfs_register(&vfs, 0) != SQLITE_OK)
		abort();
}

void vfs_fault_default(void)
{
	vfs_fault_register();
	if (sqlite3_vfs_register(&vfs, 1) != SQLITE_OK)
		abort();
}
