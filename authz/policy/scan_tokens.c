/* The reader knows just enough of Lua to tell names, texts and operators apart. */
#include "authz/policy/scan_tokens.h"

struct reader {
	const char *p, *end;
	int line;
};

static bool name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_';
}

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

/* At "[", "[=", ...: the level of a long bracket, or -1. */
static int long_level(const struct reader *r)
{
	const char *p = r->p + 1;
	int level = 0;

	for (; p < r->end && *p == '='; p++)
		level++;
	return p < r->end && *p == '[' ? level : -1;
}

/* Past a long bracket of @level; returns what stands inside. */
static struct str long_text(struct reader *r, int level)
{
	const char *start = r->p + level + 2;

	for (r->p = start; r->p < r->end; r->p++) {
		if (*r->p == '\n')
			r->line++;
		if (*r->p == ']' && r->end - r->p >= level + 2 && r->p[level + 1] == ']') {
			int i = 1;

			while (i <= level && r->p[i] == '=')
				i++;
			if (i > level) {
				struct str s = { start, (size_t)(r->p - start) };

				r->p += level + 2;
				return s;
			}
		}
	}
	return (struct str){ start, 0 };
}

static void skip_blank(struct reader *r)
{
	while (r->p < r->end) {
		if (*r->p == '\n') {
			r->line++;
			r->p++;
		} else if (*r->p == ' ' || (*r->p >= '\t' && *r->p <= '\r')) {
			r->p++;
		} else if (r->end - r->p >= 2 && r->p[0] == '-' && r->p[1] == '-') {
			int level;

			r->p += 2;
			level = r->p < r->end && *r->p == '[' ? long_level(r) : -1;
			if (level >= 0)
				long_text(r, level);
			else
				while (r->p < r->end && *r->p != '\n')
					r->p++;
		} else {
			return;
		}
	}
}

static struct str short_text(struct reader *r)
{
	char quote = *r->p++;
	const char *start = r->p;
	struct str s;

	while (r->p < r->end && *r->p != quote) {
		if (*r->p == '\\' && r->end - r->p >= 2)
			r->p++;
		if (*r->p == '\n')
			r->line++;
		r->p++;
	}
	s = (struct str){ start, (size_t)(r->p - start) };
	if (r->p < r->end)
		r->p++;
	return s;
}

static struct token next(struct reader *r)
{
	static const char *const marks[] = { "...", "<<", ">>", "//", "==", "~=",
					     "<=",  ">=", "::", "..", NULL };
	struct token t;
	const char *start;

	skip_blank(r);
	t = (struct token){ TOKEN_MARK, { r->p, 1 }, r->line };
	start = r->p;
	if (r->p >= r->end) {
		t.kind = TOKEN_END;
		t.text.n = 0;
	} else if (digit(*r->p) || (*r->p == '.' && r->end - r->p > 1 && digit(r->p[1]))) {
		t.kind = TOKEN_NUMBER;
		while (r->p < r->end &&
		       (name_char(*r->p) || *r->p == '.' ||
			((*r->p == '+' || *r->p == '-') && strchr("eEpP", r->p[-1]))))
			r->p++;
		t.text.n = (size_t)(r->p - start);
	} else if (name_char(*r->p)) {
		t.kind = TOKEN_NAME;
		while (r->p < r->end && name_char(*r->p))
			r->p++;
		t.text.n = (size_t)(r->p - start);
	} else if (*r->p == '"' || *r->p == '\'') {
		t.kind = TOKEN_TEXT;
		t.text = short_text(r);
	} else if (*r->p == '[' && long_level(r) >= 0) {
		t.kind = TOKEN_TEXT;
		t.text = long_text(r, long_level(r));
	} else {
		/* Each mark of several characters has one of these second. */
		for (size_t i = 0; r->end - r->p > 1 && strchr(".<>/=:", r->p[1]) && marks[i]; i++)
			if (str_starts((struct str){ r->p, (size_t)(r->end - r->p) },
				       str_c(marks[i]))) {
				t.text.n = strlen(marks[i]);
				break;
			}
		r->p += t.text.n;
	}
	return t;
}

bool tokens_read(struct str text, struct arena *a, struct tokens *out)
{
	struct reader r = { text.p, text.p + text.n, 1 };
	size_t n = 1;

	while (next(&r).kind != TOKEN_END)
		n++;
	out->items = arena_alloc(a, (n + 8) * sizeof(*out->items));
	if (!out->items)
		return false;
	r = (struct reader){ text.p, text.p + text.n, 1 };
	for (out->n = 0; out->n + 1 < n; out->n++)
		out->items[out->n] = next(&r);
	for (size_t i = 0; i < 9; i++) /* so that looking ahead needs no check */
		out->items[out->n + i] = (struct token){ TOKEN_END, { "", 0 }, r.line };
	return true;
}
