#include "authz/store/vfs_layer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define LAYERS_MAX 8

struct layer {
	sqlite3_vfs vfs, *below;
	unsigned ways;
	char name[64];
};

static struct layer layers[LAYERS_MAX]; /* guarded by lock until they are registered */
static size_t layer_count;		/* guarded by lock */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* --- files --- */

int vfs_pass_close(sqlite3_file *f)
{
	free(vfs_own(f));
	return vfs_below(f)->pMethods->xClose(vfs_below(f));
}

int vfs_pass_lock(sqlite3_file *f, int how)
{
	return vfs_below(f)->pMethods->xLock(vfs_below(f), how);
}

int vfs_pass_unlock(sqlite3_file *f, int how)
{
	return vfs_below(f)->pMethods->xUnlock(vfs_below(f), how);
}

int vfs_pass_reserved(sqlite3_file *f, int *out)
{
	return vfs_below(f)->pMethods->xCheckReservedLock(vfs_below(f), out);
}

int vfs_pass_control(sqlite3_file *f, int op, void *arg)
{
	return vfs_below(f)->pMethods->xFileControl(vfs_below(f), op, arg);
}

int vfs_pass_sector(sqlite3_file *f)
{
	return vfs_below(f)->pMethods->xSectorSize(vfs_below(f));
}

int vfs_pass_device(sqlite3_file *f)
{
	return vfs_below(f)->pMethods->xDeviceCharacteristics(vfs_below(f));
}

int vfs_pass_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
	return vfs_below(f)->pMethods->xShmMap(vfs_below(f), page, size, extend, out);
}

void vfs_pass_shm_barrier(sqlite3_file *f)
{
	vfs_below(f)->pMethods->xShmBarrier(vfs_below(f));
}

int vfs_pass_shm_unmap(sqlite3_file *f, int delete_it)
{
	return vfs_below(f)->pMethods->xShmUnmap(vfs_below(f), delete_it);
}

static int open_way(const struct vfs_way_file *way, sqlite3_vfs *below, const char *name,
		    sqlite3_file *f, int flags, int *out)
{
	int code;

	if (!way->own)
		return SQLITE_NOMEM;
	((struct vfs_file *)f)->own = way->own;
	code = below->xOpen(below, name, vfs_below(f), flags, out);
	if (code == SQLITE_OK) {
		f->pMethods = way->methods;
		return SQLITE_OK;
	}
	/* A VFS may fail and still have something to close. */
	if (vfs_below(f)->pMethods)
		vfs_below(f)->pMethods->xClose(vfs_below(f));
	free(way->own);
	return code;
}

static int open_file(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
	const struct layer *l = v->pAppData;
	struct vfs_way_file way;

	f->pMethods = NULL;
	if ((flags & SQLITE_OPEN_WAL) && (l->ways & VFS_WAL))
		way = wal_vfs_file();
	else if ((flags & SQLITE_OPEN_MAIN_DB) && (l->ways & VFS_RUNS))
		way = run_vfs_file();
	else
		return l->below->xOpen(l->below, name, f, flags, out);
	return open_way(&way, l->below, name, f, flags, out);
}

/* --- layers --- */

/* The context of the VFS below is reached through itself, so each call is passed on by name. */
static int delete_file(sqlite3_vfs *v, const char *name, int sync)
{
	sqlite3_vfs *below = ((struct layer *)v->pAppData)->below;

	return below->xDelete(below, name, sync);
}

static bool add_layer(struct layer *l, sqlite3_vfs *below, unsigned ways, struct err *e)
{
	snprintf(l->name, sizeof(l->name), "writ-%u-%.40s", ways, below->zName);
	l->below = below;
	l->ways = ways;
	l->vfs = *below;
	l->vfs.pNext = NULL;
	l->vfs.zName = l->name;
	l->vfs.pAppData = l;
	l->vfs.szOsFile = (int)sizeof(struct vfs_file) + below->szOsFile;
	l->vfs.xOpen = open_file;
	l->vfs.xDelete = delete_file;
	return sqlite3_vfs_register(&l->vfs, 0) == SQLITE_OK ||
	       err_set(e, ERR_NOMEM, "no memory for SQLite's files");
}

bool vfs_layer_over(const char *below, unsigned ways, const char **name, struct err *e)
{
	sqlite3_vfs *found = sqlite3_vfs_find(below);
	bool ok = true;
	size_t i = 0;

	if (!found)
		return err_set(e, ERR_INTERNAL, "SQLite knows no files called %s", below);
	pthread_mutex_lock(&lock);
	while (i < layer_count && (layers[i].below != found || layers[i].ways != ways))
		i++;
	if (i == LAYERS_MAX)
		ok = err_set(e, ERR_INTERNAL, "too many kinds of files for SQLite");
	else if (i == layer_count)
		ok = add_layer(&layers[i], found, ways, e);
	if (ok && i == layer_count)
		layer_count++;
	pthread_mutex_unlock(&lock);
	if (ok)
		*name = layers[i].name;
	return ok;
}
