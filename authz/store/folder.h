/*
 * folder - the data folder: made, locked, checked.
 *
 * Purpose    Everything a server keeps lives in one folder (0711, so that clients reach the
 *            sockets in it; files 0600, keys/ 0700). It belongs to one running server: LOCK holds
 *            its pid, and a second one is refused by that number. VERSION names the format; another
 *            format is refused before anything is touched. Files that others could change, or
 *            secrets that others could read, are refused: what they say could not be trusted.
 *            A log whose keys or whose registry are gone is refused too.
 * Ownership  A folder owns its descriptors; closing it gives up the lock.
 * Threads    After opening it is only read: any.
 */
#ifndef WRIT_FOLDER_H
#define WRIT_FOLDER_H

#include <sys/types.h>

#include "authz/store/file.h"
#include "include/writ/err.h"

#define FOLDER_FORMAT 1 /* of the data folder; raise it when an older writ could do harm */

struct folder {
	int dir;      /* the folder, O_PATH-like use: openat and friends */
	int keys;     /* keys/ in it */
	int lock;     /* LOCK, held */
	char *path;   /* absolute */
	bool created; /* by this very call: first start */
};

/* Make (parents must exist) or open the data folder at @path and take its lock. @calls may be
 * NULL. On failure nothing is held and *f is untouched. */
MUST_USE bool folder_open(const struct file_calls *calls, const char *path, struct folder *f,
			  struct err *e);
void folder_close(struct folder *f);

/* "<folder>/<name>", malloc'ed; for libraries that want a path. NULL: no memory. */
char *folder_path(const struct folder *f, const char *name);

/* Refuse @name in @dir if it belongs to someone else, is no regular file, is writable by others
 * or, if @secret, readable by them. Absent: fine. @shown is its path for messages. */
MUST_USE bool folder_check_file(int dir, const char *name, const char *shown, bool secret,
				struct err *e);

/* AUTO_FOLDER f = FOLDER_NONE; */
#define FOLDER_NONE                               \
	{                                         \
		.dir = -1, .keys = -1, .lock = -1 \
	}
#define AUTO_FOLDER __attribute__((cleanup(folder_close))) struct folder

#endif
