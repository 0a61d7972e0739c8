/*
 * file - whole small files: read within a bound, replace at once or not at all.
 *
 * Purpose    Keys, bundles, checkpoints and the VERSION file are replaced by writing a temporary
 *            file beside them, fsync, rename, fsync of the folder. A crash or a full disk at any
 *            point leaves the old file or the new one, never a part. Every system call goes
 *            through a table, so a test lets each fail in turn.
 * Ownership  Nothing is kept.
 * Threads    Any; two writers of one name at once are a bug of the caller.
 */
#ifndef WRIT_FILE_H
#define WRIT_FILE_H

#include <sys/stat.h>
#include <sys/types.h>

#include "authz/base/buf.h"
#include "include/writ/err.h"

/* The system calls used for writing, with their own signatures and errno. */
struct file_calls {
	int (*openat)(int dir, const char *name, int flags, mode_t mode);
	ssize_t (*write)(int fd, const void *p, size_t n);
	int (*fchmod)(int fd, mode_t mode);
	int (*fsync)(int fd);
	int (*close)(int fd);
	int (*renameat)(int from_dir, const char *from, int to_dir, const char *to);
	int (*unlinkat)(int dir, const char *name, int flags);
};
extern const struct file_calls file_system_calls;

/* Make @name in folder @dir (AT_FDCWD: the working folder) hold @text, with @mode. @calls may be
 * NULL for the system's. */
MUST_USE bool file_replace(const struct file_calls *calls, int dir, const char *name,
			   struct str text, mode_t mode, struct err *e);

/* The same for the file at @path, if file_is_replaceable says so. */
MUST_USE bool file_replace_path(const char *path, struct str text, mode_t mode, struct err *e);

/* Can what is at @path be replaced, as far as can be told beforehand? A file or nothing is there,
 * and its folder may be written. Never a device, a pipe or a socket, nor a link to one: replacing
 * /dev/stdout would take it from every program of the machine. */
MUST_USE bool file_is_replaceable(const char *path, struct err *e);

/* Append all of @name to @out; over @max bytes, not a regular file or a symbolic link: refused.
 * No such file: ERR_NOT_FOUND. */
MUST_USE bool file_read(int dir, const char *name, size_t max, struct buf *out, struct err *e);

/* Flush what happened to names in folder @dir. */
MUST_USE bool file_sync_folder(int dir, struct err *e);

#endif
