/* A light reader of tokens: strings and comments are passed over, braces counted. It never decides
 * what a value is; that is Lua's business. */
#include "authz/cli/import_lines.h"

#include <ctype.h>

struct reader {
	const char *p, *end;
	int line;
};

/* "[[", "[==[": the number of signs between, or -1. */
static int long_bracket(const struct reader *r)
{
	const char *p = r->p;
	int n = 0;

	if (p == r->end || *p++ != '[')
		return -1;
	for (; p < r->end && *p == '='; p++)
		n++;
	return p < r->end && *p == '[' ? n : -1;
}

static void step(struct reader *r)
{
	if (r->p < r->end && *r->p++ == '\n')
		r->line++;
}

static void skip_long(struct reader *r, int level)
{
	for (int i = 0; i < level + 2; i++)
		step(r);
	while (r->p < r->end) {
		const char *p = r->p;
		int n = 0;

		if (*p++ == ']') {
			for (; p < r->end && *p == '='; p++)
				n++;
			if (n == level && p < r->end && *p == ']') {
				r->p = p + 1;
				return;
			}
		}
		step(r);
	}
}

static void skip_string(struct reader *r)
{
	char quote = *r->p;

	step(r);
	while (r->p < r->end && *r->p != quote) {
		if (*r->p == '\\')
			step(r);
		step(r);
	}
	step(r);
}

static void skip_comment(struct reader *r)
{
	int level;

	r->p += 2;
	level = long_bracket(r);
	if (level >= 0) {
		skip_long(r, level);
		return;
	}
	while (r->p < r->end && *r->p != '\n')
		r->p++;
}

/* Pass over what is neither a name nor a brace; false at the end. */
static bool next(struct reader *r)
{
	while (r->p < r->end) {
		int level = long_bracket(r);

		if (r->p + 1 < r->end && r->p[0] == '-' && r->p[1] == '-')
			skip_comment(r);
		else if (level >= 0)
			skip_long(r, level);
		else if (*r->p == '"' || *r->p == '\'')
			skip_string(r);
		else if (*r->p == '{' || *r->p == '}' || *r->p == '=' || *r->p == '_' ||
			 isalpha((unsigned char)*r->p))
			return true;
		else
			step(r);
	}
	return false;
}

static struct str name(struct reader *r)
{
	const char *from = r->p;

	while (r->p < r->end && (*r->p == '_' || isalnum((unsigned char)*r->p)))
		r->p++;
	return (struct str){ from, (size_t)(r->p - from) };
}

/* Behind "agents = {" at the outermost level. */
static bool find_list(struct reader *r)
{
	int depth = 0, matched = 0; /* 1: agents, 2: and "=" */

	while (next(r)) {
		char c = *r->p;

		if (c == '{' || c == '}' || c == '=') {
			step(r);
			if (c == '{' && depth == 0 && matched == 2)
				return true;
			depth += (c == '{') - (c == '}');
			matched = c == '=' && matched == 1 ? 2 : 0;
		} else {
			matched = str_eq(name(r), STR("agents")) && depth == 0;
		}
	}
	return false;
}

int import_line_of(struct str text, uint64_t index)
{
	struct reader r = { text.p, text.p + text.n, 1 };
	uint64_t n = 0;
	int depth = 1;

	if (!text.n || !find_list(&r))
		return 0;
	while (depth > 0 && next(&r)) {
		char c = *r.p;

		if (c == '{' && depth++ == 1 && ++n == index)
			return r.line;
		if (c == '}')
			depth--;
		if (c == '{' || c == '}' || c == '=')
			step(&r);
		else
			(void)name(&r);
	}
	return 0;
}
