#include "authz/cli/pins_file.h"

#include "authz/cli/print.h"

#define HEAD "-- writ tool pin "

/* ---- JSON for people ---- */

static void put_unit(struct buf *b, uint32_t unit)
{
	buf_printf(b, "\\u%04x", unit);
}

/* What cannot be seen is written as its number: a reviewer has to see it. The value is the same. */
static void put_string(struct buf *b, struct str s)
{
	buf_char(b, '"');
	while (s.n) {
		uint32_t c;
		bool shown;
		size_t n = print_char(s, &c, &shown);

		if (c == '"' || c == '\\')
			buf_printf(b, "\\%c", (char)c);
		else if (c == '\n')
			buf_lit(b, "\\n");
		else if (shown)
			buf_add(b, str_first(s, n));
		else if (c < 0x10000)
			put_unit(b, c);
		else {
			put_unit(b, 0xd7c0 + (c >> 10));
			put_unit(b, 0xdc00 | (c & 0x3ff));
		}
		s = str_from(s, n);
	}
	buf_char(b, '"');
}

static void put_line(struct buf *b, int depth)
{
	buf_char(b, '\n');
	for (int i = 0; i < depth; i++)
		buf_lit(b, "  ");
}

/* As deep as the reader let it be. */
static void put_value(struct buf *b, const struct json *v, int depth)
{
	bool object = v->type == JSON_OBJECT;

	if (v->type == JSON_STRING) {
		put_string(b, v->s);
		return;
	}
	if ((!object && v->type != JSON_ARRAY) || !v->n) {
		json_canonical(b, v);
		return;
	}
	buf_char(b, object ? '{' : '[');
	for (uint32_t i = 0; i < v->n; i++) {
		if (i)
			buf_char(b, ',');
		put_line(b, depth + 1);
		if (object) {
			put_string(b, v->items[i].name);
			buf_lit(b, ": ");
		}
		put_value(b, &v->items[i], depth + 1);
	}
	put_line(b, depth);
	buf_char(b, object ? '}' : ']');
}

/* ---- Lua ---- */

/* "]==]" with so many signs does not stand in the text. */
static int level_of(struct str text)
{
	char close[64] = "]=]";

	for (int level = 1; level < 60; level++) {
		if (!memmem(text.p, text.n, close, (size_t)level + 2))
			return level;
		close[level + 1] = '=';
		close[level + 2] = ']';
	}
	return 60; /* the text ends there, and the loader says so */
}

static void put_bracket(struct buf *b, char c, int level)
{
	buf_char(b, c);
	for (int i = 0; i < level; i++)
		buf_char(b, '=');
	buf_char(b, c);
}

static void put_definition(struct buf *b, const struct json *v)
{
	AUTO_BUF text;
	int level;

	buf_init(&text, mem_system, (size_t)64 * 1024 * 1024);
	put_value(&text, v, 0);
	level = level_of(buf_str(&text));
	buf_lit(b, "    definition = ");
	put_bracket(b, '[', level);
	buf_char(b, '\n');
	buf_add(b, buf_str(&text));
	put_bracket(b, ']', level);
	buf_lit(b, ",\n");
	b->failed |= !buf_ok(&text);
}

void pins_write(struct buf *out, struct str server, const struct pins_tool *tools, size_t n,
		bool full)
{
	buf_lit(out, HEAD);
	buf_add(out, server);
	buf_lit(out, ": written as a whole, so do not edit it. Review what changes in it: this is\n"
		     "-- what agents are told of these tools.\n"
		     "pins ");
	print_lua(out, server);
	buf_lit(out, " {\n");
	for (size_t i = 0; i < n; i++) {
		const struct definition *d = &tools[i].definition;

		buf_lit(out, "  [");
		print_lua(out, d->name);
		buf_add(out, full ? STR("] = {\n    digest = ") : STR("] = "));
		print_lua(out, d->digest);
		buf_lit(out, ",\n");
		if (!full)
			continue;
		put_definition(out, tools[i].value);
		buf_lit(out, "  },\n");
	}
	buf_lit(out, "}\n");
}

bool pins_are_ours(struct str text, struct str server)
{
	struct str rest = str_from(text, strlen(HEAD));

	return str_starts(text, STR(HEAD)) && str_starts(rest, server) &&
	       str_starts(str_from(rest, server.n), STR(": "));
}

bool pins_read(struct str text, struct policy_set **set, struct err *e)
{
	const struct policy_file file = { STR_INIT("catalogue/pins.lua"), text };
	struct policy_sources s;
	bool ok;

	if (!policy_sources_from(&s, &file, 1, e))
		return false;
	ok = policy_set_load(&s, NULL, set, NULL, e);
	policy_sources_clear(&s);
	return ok;
}
