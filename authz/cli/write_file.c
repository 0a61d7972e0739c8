/* A file that a command leaves behind: at once or not at all. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "authz/cli/api.h"
#include "authz/store/file.h"

bool api_write_file(const char *path, struct str text, struct err *e)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	char folder[4096];
	int dir;
	bool ok;

	if (snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path) + 1 : 1,
		     slash ? path : ".") >= (int)sizeof(folder))
		return err_set(e, ERR_INVALID, "%.100s...: the name is too long", path);
	dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_set(e, ERR_IO, "%s: %s", folder, strerror(errno));
	ok = file_replace(NULL, dir, name, text, 0644, e);
	close(dir);
	return ok;
}
