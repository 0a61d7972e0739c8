#include "authz/net/sse.h"

/* The line at @at without its end; false: it has not ended yet. */
static bool read_line(struct str body, size_t at, struct str *line, size_t *next)
{
	struct str rest = str_from(body, at);
	const char *end = rest.n ? memchr(rest.p, '\n', rest.n) : NULL;

	if (!end)
		return false;
	*line = str_first(rest, (size_t)(end - rest.p));
	*next = at + line->n + 1;
	if (line->n && line->p[line->n - 1] == '\r')
		line->n--;
	return true;
}

static void take_line(struct str line, struct buf *data, bool *any)
{
	if (!str_starts(line, STR("data")) || (line.n > 4 && line.p[4] != ':'))
		return;
	line = str_from(line, 5);
	if (line.n && line.p[0] == ' ')
		line = str_from(line, 1);
	if (*any)
		buf_char(data, '\n');
	buf_add(data, line);
	*any = true;
}

bool sse_next(struct sse *s, struct str body, struct buf *data)
{
	size_t at = s->at, next;
	struct str line;
	bool any = false;

	if (at == 0 && str_starts(body, STR("\xef\xbb\xbf")))
		at = 3;
	buf_reset(data);
	while (read_line(body, at, &line, &next)) {
		at = next;
		if (line.n) {
			take_line(line, data, &any);
			continue;
		}
		s->at = at;
		if (any)
			return true;
	}
	return false;
}
