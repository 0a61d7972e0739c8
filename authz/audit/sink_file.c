/* Sinks that are a file or standard output: lines. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/audit/sink_out.h"

#define SLICE_MS 100

bool sink_wait(const struct sink_out *o, int fd, short events, int64_t deadline_ns, struct err *e)
{
	struct pollfd p = { .fd = fd, .events = events };

	for (;;) {
		int rc = poll(&p, 1, SLICE_MS);

		if (rc > 0)
			return true;
		if (rc < 0 && errno != EINTR)
			return err_set(e, ERR_IO, "poll: %s", strerror(errno));
		if (atomic_load(o->stop))
			return err_set(e, ERR_UNAVAILABLE, "given up, writ is stopping");
		if (clock_mono_ns(o->config->clock) >= deadline_ns)
			return err_set(e, ERR_TIMEOUT, "the other end took nothing for %d s",
				       SINK_SEND_MS / 1000);
	}
}

void sink_out_close(struct sink_out *o)
{
	if (o->fd >= 0)
		close(o->fd);
	o->fd = -1;
	dial_close(&o->conn);
}

static void append_line(const struct sink_out *o, const struct format_record *r,
			struct sink_page *page)
{
	audit_format_line(o->settings->format, r, &page->text);
}

/* ---- file ---- */

/* Whoever rotates the file renames it: the name then is another file, or none. */
static bool is_open(const struct sink_out *o)
{
	struct stat st;

	return o->fd >= 0 && stat(o->settings->target, &st) == 0 && st.st_dev == o->dev &&
	       st.st_ino == o->ino;
}

/* A line that a crash left without its end must not swallow the next one. */
static bool end_line(int fd, off_t size)
{
	char last;

	return size == 0 ||
	       (pread(fd, &last, 1, size - 1) == 1 && (last == '\n' || write(fd, "\n", 1) == 1));
}

static bool open_file(struct sink_out *o, struct err *e)
{
	const char *head = o->settings->format->head, *path = o->settings->target;
	struct stat st;

	if (is_open(o))
		return true;
	sink_out_close(o);
	o->fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
	if (o->fd < 0 || fstat(o->fd, &st) != 0)
		return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode)) {
		sink_out_close(o);
		return err_set(e, ERR_IO, "%s is not a regular file", path);
	}
	o->dev = st.st_dev;
	o->ino = st.st_ino;
	if (!end_line(o->fd, st.st_size) ||
	    (st.st_size == 0 && head &&
	     write(o->fd, head, strlen(head)) != (ssize_t)strlen(head))) {
		err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
		sink_out_close(o);
		return false;
	}
	return true;
}

static bool send_file(struct sink_out *o, struct sink_page *page, struct err *e)
{
	struct str left = buf_str(&page->text);
	off_t before;

	if (!open_file(o, e))
		return false;
	before = lseek(o->fd, 0, SEEK_END);
	while (left.n) {
		ssize_t n = write(o->fd, left.p, left.n);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		left = str_from(left, (size_t)n);
	}
	if (!left.n && fdatasync(o->fd) == 0)
		return true;
	err_set(e, ERR_IO, "%s: %s", o->settings->target, strerror(errno));
	/* Disk full: what fitted is taken back, so that no half of a page stays. */
	if (before >= 0 && ftruncate(o->fd, before) != 0)
		err_prefix(e, "half a page was written");
	sink_out_close(o);
	return false;
}

const struct sink_ops sink_file_ops = { append_line, send_file };

/* ---- standard output ---- */

/* A reader that stands still must not keep writ from stopping: a pipe that is ready takes PIPE_BUF
 * bytes without blocking. */
static bool send_stdout(struct sink_out *o, struct sink_page *page, struct err *e)
{
	struct str left = buf_str(&page->text);

	while (left.n) {
		int64_t deadline = clock_mono_ns(o->config->clock) +
				   SINK_SEND_MS * INT64_C(1000000);
		size_t most = left.n < PIPE_BUF ? left.n : PIPE_BUF;
		ssize_t n;

		if (!sink_wait(o, STDOUT_FILENO, POLLOUT, deadline, e))
			return err_prefix(e, "standard output");
		n = write(STDOUT_FILENO, left.p, most);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return err_set(e, ERR_IO, "standard output: %s", strerror(errno));
		if (n > 0)
			left = str_from(left, (size_t)n);
	}
	return true;
}

const struct sink_ops sink_stdout_ops = { append_line, send_stdout };
