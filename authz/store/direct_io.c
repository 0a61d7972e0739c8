#include "authz/store/direct_io.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <unistd.h>

/* What the next system call on this thread is to be instead of what SQLite asks for: SQLite's
 * request is known by its buffer and its length. */
static _Thread_local struct {
	const void *p; /* NULL: nothing */
	size_t told, n;
	bool taken;
} wish;
static _Thread_local off_t room;

/* --- in place of the system calls --- */

static bool is_wish(const void *p, size_t n)
{
	return p && p == wish.p && n == wish.told;
}

static ssize_t move(int fd, const void *out, char *in, size_t n, off_t at)
{
	return out ? pwrite(fd, out, n, at) : pread(fd, in, n, at);
}

/* All of @n bytes, from @out or to @in, or as many as there are. */
static ssize_t move_all(int fd, const char *out, char *in, size_t n, off_t at, bool *refused)
{
	size_t done = 0;

	while (done < n) {
		ssize_t got = move(fd, out ? out + done : NULL, in ? in + done : NULL, n - done,
				   at + (off_t)done);

		if (got < 0 && errno == EINTR)
			continue;
		*refused = got < 0 && errno == EINVAL;
		if (got < 0)
			return -1;
		if (!got)
			break;
		done += (size_t)got;
	}
	return (ssize_t)done;
}

/* Wished for: what SQLite hears is of the part that it knows. A descriptor left direct would fail
 * each read of SQLite's own. */
static ssize_t move_direct(int fd, const char *out, char *in, off_t at)
{
	int flags = fcntl(fd, F_GETFL), saved;
	bool refused = true;
	ssize_t got = -1;

	wish.taken = true;
	if (flags != -1 && fcntl(fd, F_SETFL, flags | O_DIRECT) == 0) {
		got = move_all(fd, out, in, wish.n, at, &refused);
		saved = errno;
		(void)fcntl(fd, F_SETFL, flags);
		errno = saved;
	}
	if (got < 0 && refused)
		got = move_all(fd, out, in, wish.n, at, &refused);
	if (got < 0)
		return -1;
	return (size_t)got == wish.n ? (ssize_t)wish.told : 0;
}

static ssize_t write_at(int fd, const void *p, size_t n, off_t at)
{
	if (room && !n)
		return fallocate(fd, FALLOC_FL_KEEP_SIZE, at, room);
	return is_wish(p, n) ? move_direct(fd, p, NULL, at) : pwrite(fd, p, n, at);
}

static ssize_t read_at(int fd, void *p, size_t n, off_t at)
{
	return is_wish(p, n) ? move_direct(fd, NULL, p, at) : pread(fd, p, n, at);
}

/* --- their installation --- */

/* SQLite lets its unix VFS be given other system calls. Which of the names it uses was settled
 * when it was built; one that it does not use is NULL. */
static void install(void)
{
	static const struct {
		const char *name;
		sqlite3_syscall_ptr call;
	} calls[] = {
		{ "pread64", (sqlite3_syscall_ptr)read_at },
		{ "pread", (sqlite3_syscall_ptr)read_at },
		{ "pwrite64", (sqlite3_syscall_ptr)write_at },
		{ "pwrite", (sqlite3_syscall_ptr)write_at },
	};
	sqlite3_vfs *v = sqlite3_vfs_find("unix");

	for (size_t i = 0; v && v->iVersion >= 3 && i < sizeof(calls) / sizeof(*calls); i++)
		if (v->xGetSystemCall(v, calls[i].name))
			(void)v->xSetSystemCall(v, calls[i].name, calls[i].call);
}

static void installed(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	(void)pthread_once(&once, install);
}

/* --- calls --- */

static size_t begin(const void *p, size_t n)
{
	installed();
	wish.p = p;
	wish.told = n < DIRECT_IO_TOLD ? n : DIRECT_IO_TOLD;
	wish.n = n;
	wish.taken = false;
	return wish.told;
}

/* How many bytes were moved by a call that went well: those that were told of, if it came to other
 * system calls than ours. */
static size_t end(void)
{
	wish.p = NULL;
	return wish.taken ? wish.n : wish.told;
}

int direct_io_write(sqlite3_file *f, const void *p, size_t n, sqlite3_int64 at)
{
	const char *from = p;
	size_t told = begin(p, n), done;
	int code = f->pMethods->xWrite(f, p, (int)told, at);

	for (done = end(); code == SQLITE_OK && done < n; done += told) {
		told = n - done < DIRECT_IO_TOLD ? n - done : DIRECT_IO_TOLD;
		code = f->pMethods->xWrite(f, from + done, (int)told, at + (sqlite3_int64)done);
	}
	return code;
}

int direct_io_read(sqlite3_file *f, void *p, size_t n, sqlite3_int64 at)
{
	char *to = p;
	size_t told = begin(p, n), done;
	int code = f->pMethods->xRead(f, p, (int)told, at);

	for (done = end(); code == SQLITE_OK && done < n; done += told) {
		told = n - done < DIRECT_IO_TOLD ? n - done : DIRECT_IO_TOLD;
		code = f->pMethods->xRead(f, to + done, (int)told, at + (sqlite3_int64)done);
	}
	return code;
}

int direct_io_room(sqlite3_file *f, sqlite3_int64 n, sqlite3_int64 at)
{
	int code;

	installed();
	room = n;
	code = f->pMethods->xWrite(f, "", 0, at);
	room = 0;
	return code;
}
