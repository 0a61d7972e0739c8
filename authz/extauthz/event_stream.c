#include "authz/extauthz/event_stream.h"

/* A line without its end: CR LF, LF or CR. */
static struct str next_line(struct str *text)
{
	struct str line = *text;
	size_t n = 0;

	while (n < text->n && text->p[n] != '\n' && text->p[n] != '\r')
		n++;
	line.n = n;
	if (n < text->n)
		n += text->p[n] == '\r' && n + 1 < text->n && text->p[n + 1] == '\n' ? 2 : 1;
	*text = str_from(*text, n);
	return line;
}

/* "data: x", "data:x" or "data", which is an empty one. */
static bool is_data(struct str line, struct str *value)
{
	if (str_eq(line, STR("data"))) {
		*value = (struct str){ "", 0 };
		return true;
	}
	if (!str_starts(line, STR("data:")))
		return false;
	*value = str_from(line, line.n > 5 && line.p[5] == ' ' ? 6 : 5);
	return true;
}

bool event_next(struct str *text, struct arena *a, struct event *out)
{
	struct str rest = *text, line, value;
	size_t lines = 0;
	struct buf b;

	if (!text->n)
		return false;
	out->data = (struct str){ "", 0 };
	buf_in_arena(&b, a, text->n + 1);
	do {
		line = next_line(&rest);
		if (!is_data(line, &value))
			continue;
		if (lines++)
			buf_char(&b, '\n');
		buf_add(&b, value);
	} while (line.n && rest.n);
	if (!buf_ok(&b))
		return false;
	out->raw = str_first(*text, text->n - rest.n);
	if (b.n)
		out->data = buf_str(&b);
	*text = rest;
	return true;
}

static void put_lines(struct buf *b, struct str data)
{
	do {
		buf_lit(b, "data: ");
		buf_add(b, next_line(&data));
		buf_char(b, '\n');
	} while (data.n);
}

void event_put(struct buf *b, const struct event *e, struct str data)
{
	struct str rest = e->raw, line, value;

	while (rest.n) {
		line = next_line(&rest);
		if (!line.n || is_data(line, &value))
			continue;
		buf_add(b, line);
		buf_char(b, '\n');
	}
	put_lines(b, data);
	buf_char(b, '\n');
}
