#include "authz/store/direct_io.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <unistd.h>

static _Thread_local bool wanted;
static _Thread_local off_t room;

/* --- in place of the system calls --- */

static bool direct(int fd, int flags)
{
	return flags != -1 && fcntl(fd, F_SETFL, flags | O_DIRECT) == 0;
}

/* Back to the ordinary way. A descriptor left direct would fail each read of SQLite's own. */
static void ordinary(int fd, int flags)
{
	int saved = errno;

	(void)fcntl(fd, F_SETFL, flags);
	errno = saved;
}

static ssize_t write_at(int fd, const void *p, size_t n, off_t at)
{
	int flags = wanted ? fcntl(fd, F_GETFL) : -1;
	ssize_t got;

	if (room && !n)
		return fallocate(fd, FALLOC_FL_KEEP_SIZE, at, room);
	if (!wanted || !direct(fd, flags))
		return pwrite(fd, p, n, at);
	got = pwrite(fd, p, n, at);
	ordinary(fd, flags);
	return got < 0 && errno == EINVAL ? pwrite(fd, p, n, at) : got;
}

static ssize_t read_at(int fd, void *p, size_t n, off_t at)
{
	int flags = wanted ? fcntl(fd, F_GETFL) : -1;
	ssize_t got;

	if (!wanted || !direct(fd, flags))
		return pread(fd, p, n, at);
	got = pread(fd, p, n, at);
	ordinary(fd, flags);
	return got < 0 && errno == EINVAL ? pread(fd, p, n, at) : got;
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

void direct_io_begin(void)
{
	installed();
	wanted = true;
}

void direct_io_end(void)
{
	wanted = false;
}

void direct_io_room(long long n)
{
	installed();
	room = n;
}
