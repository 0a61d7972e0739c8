#include "authz/audit/cosigned.h"

#include <fcntl.h>
#include <unistd.h>

#include "authz/audit/timestamp.h"
#include "authz/store/file.h"

bool cosigned_read(const char *folder, struct buf *note, uint64_t *size, struct err *e)
{
	int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct checkpoint c = { .size = 0 };
	struct note n = { .n = 0 };
	size_t at = note->n;
	bool ok;

	err_none(e);
	if (dir < 0)
		return err_set(e, ERR_IO, "cannot open %s", folder);
	ok = file_read(dir, COSIGNED_FILE, NOTE_MAX, note, e);
	close(dir);
	if (!ok) {
		if (e->class == ERR_NOT_FOUND)
			err_none(e);
		return false;
	}
	if (!note_parse(str_from(buf_str(note), at), &n, e) || !checkpoint_parse(n.text, &c, e)) {
		note->n = at;
		return err_prefix(e, COSIGNED_FILE);
	}
	*size = c.size;
	return true;
}

static void add_lines(const char *folder, struct buf *note)
{
	struct note have = { .n = 0 }, more = { .n = 0 };
	AUTO_BUF found;
	uint64_t size;
	struct err e;

	buf_init(&found, mem_system, NOTE_MAX);
	if (!cosigned_read(folder, &found, &size, &e) || !note_parse(buf_str(note), &have, &e) ||
	    !note_parse(buf_str(&found), &more, &e) || !str_eq(have.text, more.text) ||
	    found.n > note->max)
		return;
	if (!buf_room(note, found.n)) { /* it is as it was */
		note->failed = false;
		return;
	}
	note->n = 0;
	buf_add(note, buf_str(&found));
}

void cosigned_add(const char *folder, struct buf *note)
{
	add_lines(folder, note);
	timestamp_add(folder, note);
}
