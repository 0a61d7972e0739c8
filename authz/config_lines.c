#include "authz/config_lines.h"

#define DEPTH_MAX 16

enum kind { END, NAME, STRING, OTHER, PUNCT };

struct lexer {
	struct str rest;
	int line;
	enum kind kind; /* of the current token */
	struct str text;
	char punct;
	int at; /* line of the current token */
	struct config_lines *lines;
	struct arena *arena;
};

/* --- tokens --- */

static bool is_name(char c)
{
	return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
	       (c >= 'A' && c <= 'Z');
}

static void skip(struct lexer *x, size_t n)
{
	for (size_t i = 0; i < n && i < x->rest.n; i++)
		x->line += x->rest.p[i] == '\n';
	x->rest = str_from(x->rest, n);
}

/* The length of "[[...]]" or "[==[...]==]" at the start of @s; 0: there is none. *in: what stands
 * between the brackets. */
static size_t long_bracket(struct str s, struct str *in)
{
	size_t level = 1, from;

	while (level < s.n && s.p[level] == '=')
		level++;
	if (s.n < 2 || s.p[0] != '[' || level >= s.n || s.p[level] != '[')
		return 0;
	from = level + 1;
	for (size_t i = from; i + level < s.n; i++)
		if (s.p[i] == ']' && s.p[i + level] == ']' &&
		    (level == 1 || memcmp(s.p + i + 1, s.p + 1, level - 1) == 0)) {
			*in = (struct str){ s.p + from, i - from };
			return i + level + 1;
		}
	*in = str_from(s, from);
	return s.n;
}

static void skip_space(struct lexer *x)
{
	struct str in;
	size_t n;

	while (x->rest.n) {
		char c = x->rest.p[0];

		if (c == ' ' || (c >= '\t' && c <= '\r')) {
			skip(x, 1);
		} else if (str_starts(x->rest, STR("--"))) {
			skip(x, 2);
			n = long_bracket(x->rest, &in);
			for (size_t i = 0; !n && i <= x->rest.n; i++)
				if (i == x->rest.n || x->rest.p[i] == '\n')
					n = i + 1;
			skip(x, n);
		} else {
			return;
		}
	}
}

static size_t quoted(struct str s)
{
	size_t i = 1;

	while (i < s.n && s.p[i] != s.p[0] && s.p[i] != '\n')
		i += s.p[i] == '\\' ? 2 : 1;
	return i < s.n ? i + 1 : s.n;
}

static void next(struct lexer *x)
{
	size_t n = 0;
	char c;

	skip_space(x);
	x->at = x->line;
	x->text = (struct str){ 0 };
	x->kind = END;
	if (!x->rest.n)
		return;
	c = x->rest.p[0];
	if (c == '"' || c == '\'') {
		n = quoted(x->rest);
		x->kind = STRING;
		x->text = (struct str){ x->rest.p + 1, n >= 2 ? n - 2 : 0 };
	} else if (c == '[' && (n = long_bracket(x->rest, &x->text)) > 0) {
		x->kind = STRING;
	} else if (is_name(c)) {
		while (n < x->rest.n && is_name(x->rest.p[n]))
			n++;
		x->kind = c >= '0' && c <= '9' ? OTHER : NAME;
		x->text = str_first(x->rest, n);
	} else {
		n = x->rest.n > 1 && x->rest.p[1] == '=' && strchr("=~<>", c) ? 2 : 1;
		x->kind = n == 2 ? OTHER : PUNCT;
		x->punct = c;
	}
	skip(x, n);
}

static bool at_punct(const struct lexer *x, char c)
{
	return x->kind == PUNCT && x->punct == c;
}

/* --- constructors --- */

static void note(struct lexer *x, struct str path, int line, size_t since)
{
	struct config_lines *l = x->lines;

	if (!path.p || l->n == CONFIG_LINES_MAX)
		return;
	for (size_t i = since; i < l->n && !l->twice.n; i++)
		if (str_eq(l->items[i].path, path)) {
			l->twice = path;
			l->twice_line = line;
		}
	l->items[l->n++] = (struct config_line){ path, line };
}

/* Skip to the end of a value: a comma, semicolon or closing brace of this level, or, at the top
 * level, what cannot go on a value. */
static void skip_value(struct lexer *x)
{
	size_t depth = 0;

	for (; x->kind != END; next(x)) {
		if (depth == 0 && (at_punct(x, ',') || at_punct(x, ';') || at_punct(x, '}')))
			return;
		if (at_punct(x, '{') || at_punct(x, '(') || at_punct(x, '['))
			depth++;
		if (depth && (at_punct(x, '}') || at_punct(x, ')') || at_punct(x, ']')))
			depth--;
	}
}

/* A key at the current token, with its "=" consumed: "name =" or "["name"] =". Otherwise nothing is
 * consumed that a value would need for its lines. */
static bool key(struct lexer *x, struct str *name)
{
	struct lexer ahead = *x;
	bool bracket = at_punct(&ahead, '[');

	if (bracket)
		next(&ahead);
	if (ahead.kind != (bracket ? STRING : NAME))
		return false;
	*name = ahead.text;
	next(&ahead);
	if (bracket) {
		if (!at_punct(&ahead, ']'))
			return false;
		next(&ahead);
	}
	if (!at_punct(&ahead, '='))
		return false;
	next(&ahead);
	*x = ahead;
	return true;
}

static void table(struct lexer *x, struct str path, unsigned depth)
{
	size_t since = x->lines->n, index = 0;

	next(x); /* the brace */
	while (x->kind != END && !at_punct(x, '}')) {
		struct str name, child;
		int line = x->at;

		if (key(x, &name))
			child = arena_printf(x->arena, "%.*s.%.*s", STR_FMT(path),
					     STR_FMT(str_first(name, 64)));
		else
			child = arena_printf(x->arena, "%.*s[%zu]", STR_FMT(path), ++index);
		note(x, child, line, since);
		if (at_punct(x, '{') && depth < DEPTH_MAX && child.p)
			table(x, child, depth + 1);
		skip_value(x);
		if (at_punct(x, ',') || at_punct(x, ';'))
			next(x);
	}
	next(x);
}

void config_lines_read(struct config_lines *l, struct str text, struct arena *a)
{
	struct lexer x = { .rest = text, .line = 1, .lines = l, .arena = a };

	*l = (struct config_lines){ 0 };
	l->items = arena_alloc(a, CONFIG_LINES_MAX * sizeof(*l->items));
	if (!l->items)
		return;
	next(&x);
	while (x.kind != END) {
		struct str name;
		int line = x.at;

		if (!key(&x, &name)) {
			next(&x);
			continue;
		}
		note(&x, str_first(name, 64), line, l->n); /* twice: config.c sees that itself */
		if (at_punct(&x, '{'))
			table(&x, str_first(name, 64), 0);
	}
}

int config_lines_find(const struct config_lines *l, struct str path)
{
	while (path.n) {
		for (size_t i = 0; i < l->n; i++)
			if (str_eq(l->items[i].path, path))
				return l->items[i].line;
		do
			path.n--;
		while (path.n && path.p[path.n] != '.' && path.p[path.n] != '[');
	}
	return 0;
}
