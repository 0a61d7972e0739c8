#include "authz/policy/lint.h"

#include "authz/policy/index.h"
#include "authz/policy/scan_tokens.h"
#include "authz/policy/value.h"

#define PAIRS_MAX \
	4000000 /* comparisons of one check; a set of thousands of walls is not compared */
#define BLOCKS_MAX 64

/* Every value that @r asks for is one that @w takes. */
static bool within(const struct condition *r, const struct condition *w)
{
	for (uint32_t i = 0; i < r->n; i++) {
		bool found = false;

		for (uint32_t k = 0; k < w->n && !found; k++)
			found = value_equal(&r->values[i], &w->values[k]);
		if (!found)
			return false;
	}
	return true;
}

/* Whenever @r applies, @w does. */
static bool covers(const struct rule *w, const struct rule *r)
{
	for (uint32_t i = 0; i < w->non; i++) {
		bool found = false;

		for (uint32_t k = 0; k < r->non && !found; k++)
			found = r->on[k].dim == w->on[i].dim &&
				str_eq(r->on[k].name, w->on[i].name) &&
				within(&r->on[k], &w->on[i]);
		if (!found)
			return false;
	}
	return true;
}

static const char *effect_name(enum decision effect)
{
	return effect == DECISION_DENY ? "deny" : effect == DECISION_ASK ? "ask" : "permit";
}

static void compare(struct job *j, const struct rule *w, const struct rule *r)
{
	struct str path = j->set->files[w->file].path;

	j->file = r->file;
	if (r->effect > w->effect && covers(w, r)) {
		j->findings->code = "unreachable";
		job_warn(j, r->line,
			 "rule \"%.*s\" never decides: the %s \"%.*s\" (%.*s:%d) has no when and "
			 "applies wherever it does; narrow that one, or remove this",
			 STR_FMT(r->full), effect_name(w->effect), STR_FMT(w->full), STR_FMT(path),
			 w->line);
	} else if (r->effect == w->effect && r > w && !r->has_when && covers(w, r) &&
		   covers(r, w)) {
		j->findings->code = "duplicate";
		job_warn(j, r->line,
			 "rule \"%.*s\" says the same as \"%.*s\" (%.*s:%d); remove one",
			 STR_FMT(r->full), STR_FMT(w->full), STR_FMT(path), w->line);
	}
}

static void compare_all(struct job *j)
{
	const struct set *s = j->set;
	uint64_t pairs = 0;

	for (uint32_t i = 0; i < s->nrules; i++) {
		if (s->rules[i].has_when)
			continue;
		for (uint32_t k = 0; k < s->nrules && pairs < PAIRS_MAX; k++, pairs++)
			if (k != i)
				compare(j, &s->rules[i], &s->rules[k]);
	}
}

static bool attribute_is(const struct json *have, const struct condition *c)
{
	const struct json *list = have && have->type == JSON_ARRAY ? have->items : have;
	uint32_t n = !have ? 0 : have->type == JSON_ARRAY ? have->n : 1;

	for (uint32_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < c->n; k++)
			if (value_equal(&list[i], &c->values[k]))
				return true;
	return false;
}

/* Is there an entry that meets all that the rule says of @dim? */
static bool met(const struct rule *r, const struct catalogue *c, enum dim dim)
{
	for (uint32_t i = 0; i < c->n; i++) {
		bool all = true;

		for (uint32_t k = 0; k < r->non && all; k++)
			all = r->on[k].dim != dim ||
			      attribute_is(json_get(c->items[i].attributes, r->on[k].name),
					   &r->on[k]);
		if (all)
			return true;
	}
	return false;
}

static bool speaks_of(const struct rule *r, enum dim dim)
{
	for (uint32_t k = 0; k < r->non; k++)
		if (r->on[k].dim == dim)
			return true;
	return false;
}

static void check_reach(struct job *j, const struct rule *r)
{
	const struct set *s = j->set;
	bool tool = speaks_of(r, DIM_TOOL), model = speaks_of(r, DIM_MODEL);

	j->file = r->file;
	j->findings->code = "unreachable";
	if (tool && model)
		job_warn(j, r->line,
			 "rule \"%.*s\" never applies: no request is for a tool and for a model; "
			 "write two rules",
			 STR_FMT(r->full));
	else if ((tool && !met(r, &s->tools, DIM_TOOL)) ||
		 (model && !met(r, &s->models, DIM_MODEL)))
		job_warn(
			j, r->line,
			"rule \"%.*s\" applies to nothing in the catalogue: no %s meets all of its "
			"on (%.*s)",
			STR_FMT(r->full), tool ? "tool" : "model",
			STR_FMT(str_first(r->on_text, 120)));
}

/* Functions in the source */

/* The tokens after "function": parameters and body, up to its end. */
struct body {
	const struct token *first, *end; /* after the parameters; the last `end` */
	struct str parameter;
};

static bool opens(const struct token *t)
{
	return t->kind == TOKEN_NAME && (token_is(t, "function") || token_is(t, "if") ||
					 token_is(t, "do") || token_is(t, "repeat"));
}

static bool closes(const struct token *t)
{
	return t->kind == TOKEN_NAME && (token_is(t, "end") || token_is(t, "until"));
}

/* @at: the parenthesis after "function". */
static bool find_body(const struct token *at, struct body *b)
{
	int depth = 1;

	if (!token_is(at, "("))
		return false;
	b->parameter = at[1].kind == TOKEN_NAME ? at[1].text : STR("");
	while (at->kind != TOKEN_END && !token_is(at, ")"))
		at++;
	for (b->first = at + 1; at->kind != TOKEN_END; at++) {
		depth += opens(at);
		depth -= closes(at);
		if (depth == 0) {
			b->end = at;
			return true;
		}
	}
	return false;
}

static bool names(const struct body *b, struct str name)
{
	for (const struct token *t = b->first; t < b->end; t++)
		if (t->kind == TOKEN_NAME && str_eq(t->text, name))
			return true;
	return false;
}

/* q.args.force, and every tool that takes it says that it is a boolean and always there. */
static bool sure_boolean(const struct job *j, const struct token *t)
{
	const struct catalogue *c = &j->set->tools;
	bool any = false;

	if (!token_is(t + 1, ".") || !token_is(t + 2, "args") || !token_is(t + 3, ".") ||
	    !token_is(t + 5, "end"))
		return false;
	for (uint32_t i = 0; i < c->n; i++)
		for (uint32_t k = 0; k < c->items[i].nargs; k++) {
			const struct arg *arg = &c->items[i].args[k];

			if (!str_eq(arg->name, t[4].text))
				continue;
			any = true;
			if (arg->type != ARG_BOOLEAN || arg->optional)
				return false;
		}
	return any;
}

/* At "return": is what follows, up to the end of its block, no boolean on the face of it? */
static void check_return(struct job *j, const struct token *t, struct str parameter)
{
	const struct token *v = t + 1;
	bool constant = v->kind == TOKEN_NUMBER || v->kind == TOKEN_TEXT || token_is(v, "nil");

	if (closes(v) || (constant && closes(v + 1)) || token_is(v, "{")) {
		job_warn(j, t->line,
			 "this when returns %s, and that is an error at run time: return true or "
			 "false was expected",
			 closes(v)	    ? "nothing"
			 : token_is(v, "{") ? "a table"
					    : "a constant");
		return;
	}
	if (v->kind != TOKEN_NAME || !str_eq(v->text, parameter) || sure_boolean(j, v))
		return;
	while (token_is(v + 1, ".") && v[2].kind == TOKEN_NAME)
		v += 2;
	if (closes(v + 1))
		job_warn(j, t->line,
			 "this when returns \"%.*s\" as it is; if it is absent or no boolean, that "
			 "is an error at run time; write a comparison such as == true",
			 (int)(v->text.p + v->text.n - t[1].text.p), t[1].text.p);
}

/* The returns of the function itself, not those of functions inside. */
static void check_returns(struct job *j, const struct body *b)
{
	bool inside[BLOCKS_MAX] = { false }; /* is this block a function? */
	int depth = 0, functions = 0;
	bool any = false;

	for (const struct token *t = b->first; t < b->end && depth < BLOCKS_MAX - 1; t++) {
		if (opens(t)) {
			inside[++depth] = token_is(t, "function");
			functions += inside[depth];
		} else if (closes(t) && depth > 0) {
			functions -= inside[depth--];
		} else if (token_is(t, "return") && functions == 0) {
			any = true;
			check_return(j, t, b->parameter);
		}
	}
	if (!any)
		job_warn(j, b->end->line,
			 "this when has no return, and that is an error at run time: return true "
			 "or false was expected");
}

static void check_when(struct job *j, const struct body *b, int line)
{
	j->findings->code = "constant-when";
	if (!names(b, b->parameter) || b->parameter.n == 0)
		job_warn(j, line,
			 "this \"when\" never reads the request: leave it out, or look at q");
	j->findings->code = "not-boolean";
	check_returns(j, b);
}

/* @name as a function of this file: local function NAME(q). */
static const struct token *find_function(const struct tokens *t, struct str name)
{
	for (size_t i = 0; i + 1 < t->n; i++)
		if (token_is(&t->items[i], "function") && t->items[i + 1].kind == TOKEN_NAME &&
		    str_eq(t->items[i + 1].text, name))
			return &t->items[i + 2];
	return NULL;
}

void lint_source(struct job *j, struct str text)
{
	struct tokens t = { 0 };

	if (!tokens_read(text, &j->set->arena, &t)) {
		j->out_of_memory = true;
		return;
	}
	for (size_t i = 0; t.items && i < t.n; i++) {
		const struct token *at = &t.items[i], *function = NULL;
		struct body b;

		if (!token_is(at, "when") || !token_is(at + 1, "="))
			continue;
		if (token_is(at + 2, "function"))
			function = at + 3;
		else if (at[2].kind == TOKEN_NAME &&
			 (token_is(at + 3, ",") || token_is(at + 3, "}")))
			function = find_function(&t, at[2].text);
		if (function && find_body(function, &b))
			check_when(j, &b, at->line);
	}
}

void lint_set(struct job *j)
{
	const struct set *s = j->set;

	for (uint32_t i = 0; i < s->nfiles; i++) {
		j->file = i;
		if (s->files[i].kind == FILE_RULES && s->files[i].dump.p)
			lint_source(j, s->files[i].text);
	}
	compare_all(j);
	for (uint32_t i = 0; i < s->nrules; i++)
		check_reach(j, &s->rules[i]);
	j->file = 0;
	j->findings->code = "policy";
}
