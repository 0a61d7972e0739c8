/* Look over the tokens of a policy file. It has been compiled before, so the text is Lua; the
 * reader here knows just enough of it to tell names, texts and operators apart. */
#include <stdio.h>

#include "authz/base/text.h"
#include "authz/policy/scan.h"

enum kind { TOKEN_END, TOKEN_NAME, TOKEN_TEXT, TOKEN_NUMBER, TOKEN_MARK };

struct token {
	enum kind kind;
	struct str text; /* of a text: between its quotes, as written */
	int line;
};

struct tokens {
	struct token *items;
	size_t n;
	struct str subject[16]; /* names that stand for the request: q, and parameters of when */
	size_t nsubjects;
};

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
		for (size_t i = 0; marks[i]; i++)
			if (str_starts((struct str){ r->p, (size_t)(r->end - r->p) },
				       str_c(marks[i]))) {
				t.text.n = strlen(marks[i]);
				break;
			}
		r->p += t.text.n;
	}
	return t;
}

static bool read_tokens(struct job *j, struct str text, struct tokens *out)
{
	struct reader r = { text.p, text.p + text.n, 1 };
	size_t n = 1;

	while (next(&r).kind != TOKEN_END)
		n++;
	out->items = arena_alloc(&j->set->arena, (n + 8) * sizeof(*out->items));
	if (!out->items) {
		j->out_of_memory = true;
		return false;
	}
	r = (struct reader){ text.p, text.p + text.n, 1 };
	for (out->n = 0; out->n + 1 < n; out->n++)
		out->items[out->n] = next(&r);
	for (size_t i = 0; i < 9; i++) /* so that looking ahead needs no check */
		out->items[out->n + i] = (struct token){ TOKEN_END, { "", 0 }, r.line };
	return true;
}

static bool is(const struct token *t, const char *text)
{
	return t->kind != TOKEN_TEXT && str_eq(t->text, str_c(text));
}

/* Members of q */

static const char *const q_members[] = { "subject", "action", "resource", "context",
					 "args",    "agent",  "tool",	  "model",
					 "pep",	    "now",    NULL };
static const char *const q_later[] = { "user",	   "chain", "session", "budget",
				       "approval", "http",  NULL };

static bool listed(const char *const *names, struct str name)
{
	for (; *names; names++)
		if (str_eq(str_c(*names), name))
			return true;
	return false;
}

static bool is_subject(const struct tokens *t, struct str name)
{
	for (size_t i = 0; i < t->nsubjects; i++)
		if (str_eq(t->subject[i], name))
			return true;
	return false;
}

static void collect_subjects(struct tokens *t)
{
	t->subject[t->nsubjects++] = STR("q");
	for (size_t i = 0; i < t->n; i++) {
		const struct token *at = &t->items[i];

		if (is(at, "when") && is(at + 1, "=") && is(at + 2, "function") &&
		    is(at + 3, "(") && at[4].kind == TOKEN_NAME && !is_subject(t, at[4].text) &&
		    t->nsubjects < ARRAY_LEN(t->subject))
			t->subject[t->nsubjects++] = at[4].text;
	}
}

/* At ".name" or ["name"]: the name and how many tokens it took, or 0. */
static size_t member(const struct token *at, struct str *name)
{
	if (is(at, ".") && at[1].kind == TOKEN_NAME) {
		*name = at[1].text;
		return 2;
	}
	if (is(at, "[") && at[1].kind == TOKEN_TEXT && is(at + 2, "]")) {
		*name = at[1].text;
		return 3;
	}
	return 0;
}

static void check_attribute(struct job *j, const struct catalogue *c, const char *what,
			    struct str name, int line)
{
	const char *near;

	if (catalogue_knows(c, name))
		return;
	near = catalogue_near(c, name, &j->set->arena);
	job_error(j, line, "no %s in the catalogue has \"%.*s\"%s%s%s", what, STR_FMT(name),
		  near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

/* Arguments are the PEP's words and some tools declare none, so this can only be a hint. */
static void check_argument(struct job *j, struct str name, int line)
{
	const struct catalogue *c = &j->set->tools;
	const char **names;
	size_t n = 0, at = 0;
	char near[100];

	for (uint32_t i = 0; i < c->n; i++)
		n += c->items[i].nargs;
	names = arena_alloc(&j->set->arena, (n + 1) * sizeof(*names));
	if (!names)
		return;
	for (uint32_t i = 0; i < c->n; i++)
		for (uint32_t k = 0; k < c->items[i].nargs; k++) {
			if (str_eq(c->items[i].args[k].name, name))
				return;
			names[at++] = c->items[i].args[k].name.p;
		}
	names[at] = NULL;
	if (*did_you_mean(name, names, near))
		job_warn(j, line, "no tool declares an argument \"%.*s\"%s", STR_FMT(name), near);
}

static void check_member(struct job *j, const struct token *at)
{
	struct str name, inner;
	size_t used = member(at, &name), more;
	char near[100];

	if (!used)
		return;
	if (listed(q_later, name)) {
		job_error(j, at->line, "this version of writ has no q.%.*s yet", STR_FMT(name));
		return;
	}
	if (!listed(q_members, name)) {
		job_error(j, at->line, "q has no \"%.*s\"%s", STR_FMT(name),
			  did_you_mean(name, q_members, near));
		return;
	}
	more = member(at + used, &inner);
	if (more && str_eq(name, STR("tool")))
		check_attribute(j, &j->set->tools, "tool", inner, at->line);
	else if (more && str_eq(name, STR("model")))
		check_attribute(j, &j->set->models, "model", inner, at->line);
	else if (more && str_eq(name, STR("args")))
		check_argument(j, inner, at->line);
	while (more) {
		used += more;
		more = member(at + used, &inner);
	}
	if (is(at + used, "="))
		job_error(j, at->line, "q is read-only; keep what you compute in a local");
}

/* Words of the vocabulary: str.lowr, time.beetween */
static void check_vocabulary(struct job *j, const struct token *at)
{
	const char *const *members = prelude_members(at->text);
	struct str name;
	char near[100];

	if (members && member(at + 1, &name) && !listed(members, name))
		job_error(j, at->line, "%.*s has no \"%.*s\"%s", STR_FMT(at->text), STR_FMT(name),
			  did_you_mean(name, members, near));
}

/* time.between(now, "09:00", "18:00", "Europe/Berlin"): the zone is the last argument. */
static bool is_zone_argument(const struct token *t, size_t i)
{
	int depth = 0, commas = 0;
	size_t k = i;

	if (!is(&t[i + 1], ")") || i == 0 || !is(&t[i - 1], ","))
		return false;
	while (k-- > 0) {
		if (is(&t[k], ")") || is(&t[k], "}") || is(&t[k], "]"))
			depth++;
		else if ((is(&t[k], "(") || is(&t[k], "{") || is(&t[k], "[")) && depth-- == 0)
			break;
		else if (is(&t[k], ",") && depth == 0)
			commas++;
	}
	if (k == SIZE_MAX || k < 3 || !is(&t[k], "(") || !is(&t[k - 2], ".") ||
	    !is(&t[k - 3], "time"))
		return false;
	return is(&t[k - 1], "between") ? commas == 3 : commas == 1;
}

/* This Lua (5.4.4) compiles T[a < b] wrongly when T is a variable of an enclosing function. */
static void check_index(struct job *j, const struct token *t, size_t i)
{
	static const char *const comparisons[] = { "<", ">", "<=", ">=", "==", "~=", NULL };
	const struct token *before = i ? &t[i - 1] : &t[i];
	int depth = 0;

	if (i == 0 || !(before->kind == TOKEN_NAME || before->kind == TOKEN_TEXT ||
			is(before, ")") || is(before, "]")))
		return;
	for (size_t k = i + 1; t[k].kind != TOKEN_END; k++) {
		if (is(&t[k], "(") || is(&t[k], "[") || is(&t[k], "{"))
			depth++;
		else if ((is(&t[k], ")") || is(&t[k], "]") || is(&t[k], "}")) && depth-- == 0)
			return;
		else if (depth == 0 && t[k].kind == TOKEN_MARK && listed(comparisons, t[k].text)) {
			job_error(
				j, t[k].line,
				"a comparison as an index is compiled wrongly by this Lua; put it "
				"into a local first");
			return;
		}
	}
}

static void check_banned(struct job *j, const struct token *at)
{
	static const char *const bits[] = { "&", "|", "~", "<<", ">>", NULL };

	if (at->kind == TOKEN_NAME && is(at, "_ENV"))
		job_error(j, at->line, "_ENV is not for policies");
	else if (at->kind == TOKEN_MARK && listed(bits, at->text))
		job_error(j, at->line,
			  "bit operators are not for policies (this Lua compiles some "
			  "of them wrongly)");
	else if (is(at, "<") && is(at + 1, "close") && is(at + 2, ">"))
		job_error(j, at->line, "variables to be closed are not for policies");
}

void scan_source(struct job *j, struct str text,
		 void (*zone)(struct job *j, struct str name, int line, bool literal))
{
	struct tokens t = { 0 };

	if (!read_tokens(j, text, &t))
		return;
	collect_subjects(&t);
	for (size_t i = 0; i < t.n; i++) {
		const struct token *at = &t.items[i];
		bool named = at->kind == TOKEN_NAME &&
			     (i == 0 || !(is(at - 1, ".") || is(at - 1, ":")));

		check_banned(j, at);
		if (named && is_subject(&t, at->text) && !is(at + 1, "="))
			check_member(j, at + 1);
		if (named)
			check_vocabulary(j, at);
		if (is(at, "["))
			check_index(j, t.items, i);
		if (at->kind == TOKEN_TEXT)
			zone(j, at->text, at->line, is_zone_argument(t.items, i));
	}
}
