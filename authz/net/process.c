#include "authz/net/process.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "authz/base/text.h"

#define STAT_MAX 2048 /* a stat line: a name of 64 bytes at most, and some 50 numbers */
#define STARTTIME 20  /* fields after the name's closing parenthesis */

/* The name may hold blanks and parentheses, so fields are counted from the last one. */
static bool parse(struct str line, uint64_t *ticks)
{
	const char *end = line.n ? memrchr(line.p, ')', line.n) : NULL;
	struct str rest, field = { NULL, 0 };

	if (!end)
		return false;
	rest = str_from(line, (size_t)(end - line.p) + 2);
	for (int i = 0; i < STARTTIME; i++)
		if (!str_cut(rest, ' ', &field, &rest))
			return false;
	return text_u64(field, UINT64_MAX, ticks) && *ticks > 0;
}

bool process_started(pid_t pid, uint64_t *ticks)
{
	char path[64], line[STAT_MAX];
	ssize_t n;
	int fd;

	if (pid <= 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, line, sizeof(line));
	close(fd);
	return n > 0 && parse((struct str){ line, (size_t)n }, ticks);
}
