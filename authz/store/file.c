#include "authz/store/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "authz/base/digest.h"

static int call_openat(int dir, const char *name, int flags, mode_t mode)
{
	return openat(dir, name, flags, mode);
}

const struct file_calls file_system_calls = {
	.openat = call_openat,
	.write = write,
	.fchmod = fchmod,
	.fsync = fsync,
	.close = close,
	.renameat = renameat,
	.unlinkat = unlinkat,
};

static bool fail(const char *name, const char *what, struct err *e)
{
	if (errno == ENOSPC || errno == EDQUOT)
		return err_code(e, ERR_UNAVAILABLE, "disk_full", "%s: the disk is full", name);
	return err_set(e, ERR_IO, "%s: cannot be %s: %s", name, what, strerror(errno));
}

static bool write_all(const struct file_calls *c, int fd, struct str text)
{
	while (text.n) {
		ssize_t n = c->write(fd, text.p, text.n);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			errno = n ? errno : ENOSPC;
			return false;
		}
		text = str_from(text, (size_t)n);
	}
	return true;
}

/* Fill the new file. Its mode is set by fchmod, since the umask has its say at open. */
static bool fill(const struct file_calls *c, int fd, struct str text, mode_t mode, const char *name,
		 struct err *e)
{
	bool ok;

	if (c->fchmod(fd, mode))
		ok = fail(name, "protected", e);
	else if (!write_all(c, fd, text))
		ok = fail(name, "written", e);
	else if (c->fsync(fd))
		ok = fail(name, "flushed to disk", e);
	else
		ok = true;
	if (c->close(fd) && ok) /* network file systems tell of a failed write only here */
		ok = fail(name, "closed", e);
	return ok;
}

static bool sync_folder(const struct file_calls *c, int dir, const char *name, struct err *e)
{
	int fd = c->openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	bool ok;

	if (fd < 0)
		return fail(name, "flushed to disk (its folder cannot be opened)", e);
	ok = c->fsync(fd) == 0 || fail(name, "flushed to disk (its folder)", e);
	c->close(fd);
	return ok;
}

bool file_sync_folder(int dir, struct err *e)
{
	return sync_folder(&file_system_calls, dir, "folder", e);
}

bool file_replace(const struct file_calls *calls, int dir, const char *name, struct str text,
		  mode_t mode, struct err *e)
{
	const struct file_calls *c = calls ? calls : &file_system_calls;
	uint64_t random;
	char tmp[300];
	int fd;

	random_bytes(&random, sizeof(random));
	if (strchr(name, '/') || snprintf(tmp, sizeof(tmp), ".%s.%016llx", name,
					  (unsigned long long)random) >= (int)sizeof(tmp))
		return err_set(e, ERR_INVALID, "%s: is no name of a file in a folder", name);
	/* O_EXCL: what is there under this name was not put there by us. */
	fd = c->openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail(name, "written (a new file in its folder)", e);
	if (!fill(c, fd, text, mode, name, e)) {
		c->unlinkat(dir, tmp, 0);
		return false;
	}
	if (c->renameat(dir, tmp, dir, name)) {
		fail(name, "replaced", e);
		c->unlinkat(dir, tmp, 0);
		return false;
	}
	return sync_folder(c, dir, name, e);
}

/* The folder of @path, and its *@name in there; -1 on failure. */
static int open_folder(const char *path, const char **name, struct err *e)
{
	const char *slash = strrchr(path, '/');
	char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	int dir = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	free(folder);
	*name = slash ? slash + 1 : path;
	if (dir < 0)
		fail(path, "written (its folder cannot be opened)", e);
	return dir;
}

static bool is_replaceable(int dir, const char *name, const char *path, struct err *e)
{
	struct stat st;

	if (!*name)
		return err_set(e, ERR_INVALID, "%s: is no name of a file", path);
	if (fstatat(dir, name, &st, 0) == 0 && !S_ISREG(st.st_mode))
		return err_set(e, ERR_INVALID,
			       "%s: is no regular file, and will not be replaced by one; name a "
			       "file that is there or is to be made",
			       path);
	return faccessat(dir, ".", W_OK | X_OK, AT_EACCESS) == 0 ||
	       fail(path, "written (a new file in its folder)", e);
}

bool file_is_replaceable(const char *path, struct err *e)
{
	const char *name;
	int dir = open_folder(path, &name, e);
	bool ok = dir >= 0 && is_replaceable(dir, name, path, e);

	if (dir >= 0)
		close(dir);
	return ok;
}

bool file_replace_path(const char *path, struct str text, mode_t mode, struct err *e)
{
	const char *name;
	int dir = open_folder(path, &name, e);
	bool ok = dir >= 0 && is_replaceable(dir, name, path, e) &&
		  file_replace(NULL, dir, name, text, mode, e);

	if (dir >= 0)
		close(dir);
	return ok;
}

static bool read_all(int fd, size_t max, const char *name, struct buf *out, struct err *e)
{
	size_t start = out->n;

	for (;;) {
		char *room = buf_room(out, 4096);
		ssize_t n;

		if (!room)
			return err_set(e, ERR_NOMEM, "%s: no memory to read it", name);
		n = read(fd, room, 4096);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(name, "read", e);
		if (n == 0)
			return true;
		out->n += (size_t)n;
		if (out->n - start > max)
			return err_set(e, ERR_TOO_LARGE, "%s: is larger than %zu bytes", name, max);
	}
}

bool file_read(int dir, const char *name, size_t max, struct buf *out, struct err *e)
{
	/* O_NONBLOCK: a FIFO put in our way must not hang the start. */
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	size_t start = out->n;
	struct stat st;
	bool ok;

	if (fd < 0 && errno == ENOENT)
		return err_set(e, ERR_NOT_FOUND, "%s: no such file", name);
	if (fd < 0 && errno == ELOOP)
		return err_set(e, ERR_IO, "%s: is a symbolic link; it must be a file", name);
	if (fd < 0)
		return fail(name, "opened", e);
	if (fstat(fd, &st))
		ok = fail(name, "looked at", e);
	else if (!S_ISREG(st.st_mode))
		ok = err_set(e, ERR_IO, "%s: is not a regular file", name);
	else
		ok = read_all(fd, max, name, out, e);
	close(fd);
	if (!ok)
		out->n = start;
	return ok;
}
