/* Look over the tokens of a policy file. */
#include <stdio.h>

#include "authz/base/text.h"
#include "authz/policy/scan.h"
#include "authz/policy/scan_tokens.h"

struct subjects {
	struct str names[16]; /* that stand for the request: q, and parameters of when */
	size_t n;
};

/* Members of q */

static const char *const q_members[] = { "subject", "action", "resource", "context", "args",
					 "agent",   "tool",   "model",	  "pep",     "now",
					 "http",    "user",   "chain",	  NULL };
static const char *const q_later[] = { "session", "budget", "approval", NULL };
static const char *const user_members[] = { "id", "issuer", "scope", NULL };

/* What fronts put into q.http (authz/extauthz); nothing in it comes from a client by name. */
static const char *const http_members[] = {
	"method",     "host",	     "path",	       "query",	  "scheme",
	"headers",    "server",	     "protocol",       "version", "body",
	"body_bytes", "body_sha256", "retry",	       "task",	  "conversation",
	"prompt",     "container",   "cached_content", NULL
};

static bool listed(const char *const *names, struct str name)
{
	for (; *names; names++)
		if (name.n && **names == *name.p && str_eq(str_c(*names), name))
			return true;
	return false;
}

static bool is_subject(const struct subjects *s, struct str name)
{
	for (size_t i = 0; i < s->n; i++)
		if (str_eq(s->names[i], name))
			return true;
	return false;
}

static void collect_subjects(const struct tokens *t, struct subjects *s)
{
	s->names[s->n++] = STR("q");
	for (size_t i = 0; i < t->n; i++) {
		const struct token *at = &t->items[i];

		if (token_is(at, "when") && token_is(at + 1, "=") && token_is(at + 2, "function") &&
		    token_is(at + 3, "(") && at[4].kind == TOKEN_NAME &&
		    !is_subject(s, at[4].text) && s->n < ARRAY_LEN(s->names))
			s->names[s->n++] = at[4].text;
	}
}

/* At ".name" or ["name"]: the name and how many tokens it took, or 0. */
static size_t member(const struct token *at, struct str *name)
{
	if (token_is(at, ".") && at[1].kind == TOKEN_NAME) {
		*name = at[1].text;
		return 2;
	}
	if (token_is(at, "[") && at[1].kind == TOKEN_TEXT && token_is(at + 2, "]")) {
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
		for (uint32_t k = 0; k < c->items[i].nargs; k++, n++)
			if (str_eq(c->items[i].args[k].name, name))
				return;
	names = arena_alloc(&j->set->arena, (n + 1) * sizeof(*names));
	if (!names)
		return;
	for (uint32_t i = 0; i < c->n; i++)
		for (uint32_t k = 0; k < c->items[i].nargs; k++)
			names[at++] = c->items[i].args[k].name.p;
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
	else if (more && str_eq(name, STR("http")) && !listed(http_members, inner))
		job_error(j, at->line, "q.http has no \"%.*s\"%s", STR_FMT(inner),
			  did_you_mean(inner, http_members, near));
	else if (more && str_eq(name, STR("user")) && !listed(user_members, inner))
		job_error(j, at->line, "q.user has no \"%.*s\"%s", STR_FMT(inner),
			  did_you_mean(inner, user_members, near));
	else if (more && str_eq(name, STR("chain")))
		job_error(j, at->line,
			  "q.chain is a list of SPIFFE IDs and has no \"%.*s\"; q.chain[1] is who "
			  "acted first",
			  STR_FMT(inner));
	else if (more && str_eq(name, STR("agent")))
		declared_check(j, inner, at->line, NULL);
	while (more) {
		used += more;
		more = member(at + used, &inner);
	}
	if (token_is(at + used, "="))
		job_error(j, at->line, "q is read-only; keep what you compute in a local");
}

/* Words of the vocabulary: str.lowr, time.beetween */
static void check_vocabulary(struct job *j, const struct tokens *t, const struct token *at)
{
	const char *const *members = prelude_members(at->text);
	struct str name;
	char near[100];

	if (!members || !member(at + 1, &name) || listed(members, name))
		return;
	for (size_t i = 0; i < t->n; i++) /* local url = url.parse(...) */
		if (token_is(&t->items[i], "local") && str_eq(t->items[i + 1].text, at->text))
			return;
	job_error(j, at->line, "%.*s has no \"%.*s\"%s", STR_FMT(at->text), STR_FMT(name),
		  did_you_mean(name, members, near));
}

/* time.between(now, "09:00", "18:00", "Europe/Berlin"): the zone is the last argument. */
static bool is_zone_argument(const struct token *t, size_t i)
{
	int depth = 0, commas = 0;
	size_t k = i;

	if (!token_is(&t[i + 1], ")") || i == 0 || !token_is(&t[i - 1], ","))
		return false;
	while (k-- > 0) {
		if (token_is(&t[k], ")") || token_is(&t[k], "}") || token_is(&t[k], "]"))
			depth++;
		else if ((token_is(&t[k], "(") || token_is(&t[k], "{") || token_is(&t[k], "[")) &&
			 depth-- == 0)
			break;
		else if (token_is(&t[k], ",") && depth == 0)
			commas++;
	}
	if (k == SIZE_MAX || k < 3 || !token_is(&t[k], "(") || !token_is(&t[k - 2], ".") ||
	    !token_is(&t[k - 3], "time"))
		return false;
	return token_is(&t[k - 1], "between") ? commas == 3 : commas == 1;
}

/* Does the parenthesis at @i hold arguments? Else it groups, and what it holds is the value. */
static bool is_call(const struct token *t, size_t i)
{
	static const char *const operators[] = { "and", "or", "not", NULL };
	const struct token *before = &t[i - 1];

	return (before->kind == TOKEN_NAME && !listed(operators, before->text)) ||
	       before->kind == TOKEN_TEXT || token_is(before, ")") || token_is(before, "]");
}

/* This Lua (5.4.4) compiles T[a < b] wrongly when T is a variable of an enclosing function, and so
 * it does T[(a < b)] and T[not (a < b)]. */
static void check_index(struct job *j, const struct token *t, size_t i)
{
	static const char *const comparisons[] = { "<", ">", "<=", ">=", "==", "~=", NULL };
	const struct token *before = i ? &t[i - 1] : &t[i];
	int depth = 0, groups = 0;

	if (i == 0 || !(before->kind == TOKEN_NAME || before->kind == TOKEN_TEXT ||
			token_is(before, ")") || token_is(before, "]")))
		return;
	for (size_t k = i + 1; t[k].kind != TOKEN_END; k++) {
		if (depth == 0 && token_is(&t[k], "(") && !is_call(t, k))
			groups++;
		else if (depth == 0 && groups && token_is(&t[k], ")"))
			groups--;
		else if (token_is(&t[k], "(") || token_is(&t[k], "[") || token_is(&t[k], "{"))
			depth++;
		else if ((token_is(&t[k], ")") || token_is(&t[k], "]") || token_is(&t[k], "}")) &&
			 depth-- == 0)
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

	if (at->kind == TOKEN_NAME && token_is(at, "_ENV"))
		job_error(j, at->line, "_ENV is not for policies");
	else if (at->kind == TOKEN_MARK && listed(bits, at->text))
		job_error(j, at->line,
			  "bit operators are not for policies (this Lua compiles some "
			  "of them wrongly)");
	else if (token_is(at, "<") && token_is(at + 1, "close") && token_is(at + 2, ">"))
		job_error(j, at->line, "variables to be closed are not for policies");
}

void scan_source(struct job *j, struct str text,
		 void (*zone)(struct job *j, struct str name, int line, bool literal))
{
	struct tokens t = { 0 };
	struct subjects s = { 0 };

	if (!tokens_read(text, &j->set->arena, &t)) {
		j->out_of_memory = true;
		return;
	}
	collect_subjects(&t, &s);
	for (size_t i = 0; i < t.n; i++) {
		const struct token *at = &t.items[i];
		bool named = at->kind == TOKEN_NAME &&
			     (i == 0 || !(token_is(at - 1, ".") || token_is(at - 1, ":")));

		check_banned(j, at);
		if (named && is_subject(&s, at->text) && !token_is(at + 1, "="))
			check_member(j, at + 1);
		if (named)
			check_vocabulary(j, &t, at);
		if (token_is(at, "["))
			check_index(j, t.items, i);
		if (at->kind == TOKEN_TEXT)
			zone(j, at->text, at->line, is_zone_argument(t.items, i));
	}
}
