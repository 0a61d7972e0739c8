/* All of a file or of standard input; apart from api.c, since the verifier needs no server. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "authz/base/text.h"
#include "authz/cli/api.h"

bool api_read_file(const char *path, size_t max, struct buf *out, struct err *e)
{
	bool is_stdin = strcmp(path, "-") == 0, ok = true;
	int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", path,
			       strerror(errno));
	for (;;) {
		char some[16384];
		ssize_t n = read(fd, some, sizeof(some));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			ok = err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
		if (n <= 0)
			break;
		buf_add(out, (struct str){ some, (size_t)n });
		if (out->n > max || !buf_ok(out)) {
			ok = err_set(e, ERR_TOO_LARGE, "%s: longer than %zu bytes", path, max);
			break;
		}
	}
	if (!is_stdin)
		close(fd);
	return ok;
}

bool api_read_token(const char *option, const char *given, struct buf *out, struct err *e)
{
	if (given[0] != '@') {
		buf_add(out, str_c(given));
	} else if (!api_read_file(given + 1, out->max - 1, out, e)) {
		return false;
	}
	while (out->n && strchr(" \r\n", out->p[out->n - 1]))
		out->n--;
	if (out->n == 0 || !text_is_printable(buf_str(out)))
		return err_code(e, ERR_INVALID, "wrong_usage", "%s: no token in it", option);
	return true;
}
