/* Decide one request: catalogue, index, rules, in that order. */
#include <stdio.h>

#include "authz/policy/state.h"
#include "authz/policy/value.h"

struct policy_state *policy_state_new(struct policy_set *set, const struct alloc *alloc,
				      const struct clock *clock, struct err *e)
{
	const struct set *s = set_of(set);
	struct policy_state *st = mem_zero(alloc, sizeof(*st));
	char why[WHY_MAX];

	if (!st) {
		err_set(e, ERR_NOMEM, "no memory for a policy state");
		return NULL;
	}
	st->shared = set;
	st->set = s;
	st->alloc = alloc;
	st->clock = clock;
	shared_acquire(&set->shared);
	st->bound = mem_zero(alloc, s->nfiles + 1);
	st->found = mem_zero(alloc, (2 * (size_t)s->nrules + 1) * sizeof(*st->found));
	if (!st->bound || !st->found) {
		policy_state_free(st);
		err_set(e, ERR_NOMEM, "no memory for a policy state");
		return NULL;
	}
	if (!state_open(st, why)) {
		policy_state_free(st);
		err_set(e, ERR_NOMEM, "a policy state cannot start: %s", why);
		return NULL;
	}
	return st;
}

void policy_state_free(struct policy_state *st)
{
	const struct alloc *alloc;

	if (!st)
		return;
	alloc = st->alloc;
	state_close(st);
	mem_free(alloc, st->bound, st->set->nfiles + 1);
	mem_free(alloc, st->found, (2 * (size_t)st->set->nrules + 1) * sizeof(*st->found));
	shared_release(&st->shared->shared);
	mem_free(alloc, st, sizeof(*st));
}

static void refuse(struct policy_result *out, struct str reason, struct str message)
{
	out->decision = DECISION_DENY;
	out->reason = reason;
	out->message = message;
}

/* A text that the agent sent, if it is short enough to be said back whole. */
static struct str quotable(const struct json *v)
{
	return v && v->s.n <= 128 ? v->s : STR("...");
}

static bool type_ok(enum arg_type want, const struct json *v)
{
	switch (want) {
	case ARG_STRING:
		return v->type == JSON_STRING;
	case ARG_NUMBER:
		return v->type == JSON_INT || v->type == JSON_REAL;
	case ARG_INTEGER:
		return v->type == JSON_INT;
	case ARG_BOOLEAN:
		return v->type == JSON_BOOL;
	case ARG_OBJECT:
		return v->type == JSON_OBJECT;
	case ARG_ARRAY:
		return v->type == JSON_ARRAY;
	case ARG_ANY:
		return true;
	}
	return false;
}

static const struct arg *find_arg(const struct entry *t, struct str name)
{
	uint32_t lo = 0, hi = t->nargs;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int c = str_cmp(name, t->args[mid].name);

		if (c == 0)
			return &t->args[mid];
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

/* Nearly always: all that is declared and nothing else, in the order of names that both have. False
 * may be anything; arguments_ok looks closer. */
static bool arguments_plain(const struct entry *t, const struct json *args)
{
	uint32_t at = 0;

	for (uint32_t i = 0; args && i < args->n; i++, at++) {
		const struct json *v = &args->items[i];

		while (at < t->nargs && t->args[at].optional &&
		       !str_eq_short(v->name, t->args[at].name))
			at++;
		if (at == t->nargs || !str_eq_short(v->name, t->args[at].name) ||
		    v->type == JSON_NULL || !type_ok(t->args[at].type, v))
			return false;
	}
	while (at < t->nargs && t->args[at].optional)
		at++;
	return at == t->nargs;
}

/* What a tool did not declare it must not get, and a rule must not be fooled by: "500" is no
 * amount. A null counts as absent, as it does in q. */
static bool arguments_ok(const struct entry *t, const struct json *args, struct arena *a,
			 struct str *why)
{
	static const char *const kinds[] = {
		[ARG_STRING] = "a string",    [ARG_NUMBER] = "a number",
		[ARG_INTEGER] = "an integer", [ARG_BOOLEAN] = "a boolean",
		[ARG_OBJECT] = "an object",   [ARG_ARRAY] = "an array",
		[ARG_ANY] = "any value",
	};

	for (uint32_t i = 0; args && i < args->n; i++) {
		const struct json *v = &args->items[i];
		const struct arg *arg = find_arg(t, v->name);
		struct str name = v->name.n <= 128 ? v->name : STR("...");

		if (arg && (v->type == JSON_NULL || type_ok(arg->type, v)))
			continue;
		if (!arg)
			*why = arena_printf(a, "argument \"%.*s\" is not declared for %.*s",
					    STR_FMT(name), STR_FMT(t->id));
		else
			*why = arena_printf(a, "argument \"%.*s\" of %.*s is %s, not %s",
					    STR_FMT(name), STR_FMT(t->id), json_type_name(v->type),
					    kinds[arg->type]);
		return false;
	}
	for (uint32_t i = 0; i < t->nargs; i++) {
		const struct json *v = json_get(args, t->args[i].name);

		if (t->args[i].optional || (v && v->type != JSON_NULL))
			continue;
		*why = arena_printf(a, "argument \"%.*s\" of %.*s is missing; %s is expected",
				    STR_FMT(t->args[i].name), STR_FMT(t->id),
				    kinds[t->args[i].type]);
		return false;
	}
	return true;
}

static bool text_is(const struct json *v, struct str s)
{
	return v && str_eq_short(v->s, s);
}

static const struct policy_definition *find_definition(const struct policy_request *q,
						       struct str tool)
{
	size_t lo = 0, hi = q->ndefinitions;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = str_cmp(tool, q->definitions[mid].tool);

		if (c == 0)
			return &q->definitions[mid];
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

void policy_definition_write(struct buf *b, const struct policy_definition *d)
{
	buf_lit(b, "\"definition\":{\"accepted\":");
	buf_json(b, d->accepted);
	buf_lit(b, ",\"changes\":");
	buf_json(b, d->changes);
	buf_lit(b, ",\"observed\":");
	buf_json(b, d->observed);
	buf_lit(b, ",\"pinned\":");
	buf_json(b, d->pinned);
	buf_lit(b, ",\"tool\":");
	buf_json(b, d->tool);
	buf_lit(b, "},");
}

bool policy_definition_holds(const struct policy_pin *pin, const struct policy_definition *d,
			     struct str digest)
{
	return str_eq(digest, pin->digest) || (d && d->accepted.n && str_eq(digest, d->accepted) &&
					       str_eq(d->pinned, pin->digest));
}

/* What its server listed last, and what the asker says it holds, must both be what was reviewed:
 * neither speaks for the other. */
static bool definition_ok(const struct facts *f, struct arena *a, struct policy_result *out)
{
	const struct policy_pin *pin = f->tool->pin;
	const struct policy_definition *d;
	const struct json *stated;
	bool known;

	if (!pin)
		return true;
	d = find_definition(f->q, f->tool->id);
	out->definition = d;
	if (d && d->observed.n && !policy_definition_holds(pin, d, d->observed)) {
		known = d->changes.n && str_eq(d->pinned, pin->digest);
		refuse(out, STR(REASON_TOOL_DEFINITION_CHANGED),
		       arena_printf(
			       a,
			       "the definition of %.*s is not the one that was reviewed%s%.*s; "
			       "your administrator has to look at it",
			       STR_FMT(quotable(f->id)), known ? ": " : "",
			       STR_FMT(known ? d->changes : STR(""))));
		return false;
	}
	stated = json_get(json_get(f->q->resource, STR("properties")), STR("definition_digest"));
	if (!stated || stated->type == JSON_NULL ||
	    (stated->type == JSON_STRING && policy_definition_holds(pin, d, stated->s)))
		return true;
	refuse(out, STR(REASON_TOOL_DEFINITION_CHANGED),
	       arena_printf(a,
			    "the definition_digest stated for %.*s is not that of the definition "
			    "that was reviewed; list the tools again",
			    STR_FMT(quotable(f->id))));
	return false;
}

/* Before rules: the tool or model exists, and its arguments are what it declares. */
static bool known(const struct facts *f, struct arena *a, struct policy_result *out)
{
	const struct json *args = json_get(f->q->action, STR("properties"));
	bool tool = text_is(f->type, STR("tool")) && text_is(f->action, STR("tools/call"));
	bool model = text_is(f->type, STR("model")) && text_is(f->action, STR("models/invoke"));
	const struct entry *entry = tool ? f->tool : f->model;
	struct str bad;

	if (!tool && !model)
		return true;
	if (!entry) {
		refuse(out, tool ? STR(REASON_UNKNOWN_TOOL) : STR(REASON_UNKNOWN_MODEL),
		       arena_printf(a, "%s \"%.*s\" is not in the catalogue",
				    tool ? "tool" : "model", STR_FMT(quotable(f->id))));
		return false;
	}
	if (tool && !definition_ok(f, a, out))
		return false;
	if (args && args->type == JSON_NULL)
		args = NULL;
	if (args && args->type != JSON_OBJECT) {
		refuse(out, STR(REASON_INVALID_ARGUMENTS),
		       STR("action.properties is not an object of arguments"));
		return false;
	}
	if (!entry->has_args || arguments_plain(entry, args) || arguments_ok(entry, args, a, &bad))
		return true;
	refuse(out, STR(REASON_INVALID_ARGUMENTS), bad);
	return false;
}

/* The error of a rule, for admins: rule, file, line, what. */
static void say_error(const struct policy_state *st, const struct rule *r, const char *why,
		      struct arena *a, struct policy_result *out)
{
	struct str path, rule = r ? r->full : STR("policies");
	const char *text;
	int line;

	if (r)
		out->rule = arena_dup(a, r->full);
	if (state_where(st->set, why, &path, &line, &text))
		out->error = arena_printf(a, "%.*s: %.*s:%d: %s", STR_FMT(rule), STR_FMT(path),
					  line, text);
	else if (r)
		out->error = arena_printf(a, "%.*s: %.*s:%d: %s", STR_FMT(rule),
					  STR_FMT(st->set->files[r->file].path), r->line, why);
	else
		out->error = arena_printf(a, "%.*s: %s", STR_FMT(rule), why);
}

static void failed(struct policy_state *st, const struct rule *r, const char *why, struct arena *a,
		   struct policy_result *out)
{
	bool budget = st->sb.trip != TRIP_NONE;

	refuse(out, budget ? STR(REASON_POLICY_BUDGET) : STR(REASON_POLICY_ERROR),
	       budget ? STR("the policies took too long over this request")
		      : STR("the policies failed on this request"));
	say_error(st, r, why, a, out);
	if (budget) /* poisoned: unwound at no particular place */
		state_close(st);
}

static size_t body_of(const struct policy_request *q)
{
	const struct json *parts[] = { q->subject, q->action, q->resource, q->context };
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		n += parts[i] ? parts[i]->raw.n : 0;
	return n;
}

/* Run the rules in Lua. False: @out says why not. */
static bool run(struct policy_state *st, struct evaluation *ev, struct arena *a,
		struct policy_result *out)
{
	char why[WHY_MAX];

	st->sb.trip = TRIP_NONE;
	if (!state_open(st, why)) {
		failed(st, NULL, why, a, out);
		return false;
	}
	for (uint32_t i = 0; i < ev->n; i++) {
		const struct rule *r = &ev->set->rules[ev->rules[i]];

		if (r->has_when && !st->bound[r->file] && !state_bind(st, r->file, why)) {
			failed(st, r, why, a, out);
			return false;
		}
	}
	if (!state_run(st, ev, body_of(ev->facts->q), why)) {
		out->instructions = (uint32_t)st->sb.steps;
		failed(st, ev->current, why, a, out);
		return false;
	}
	out->instructions = (uint32_t)st->sb.steps;
	return true;
}

/* Rules without `when` are decided by their `on` alone. */
static void run_plain(struct evaluation *ev)
{
	for (uint32_t i = 0; i < ev->n && !ev->deny; i++) {
		const struct rule *r = &ev->set->rules[ev->rules[i]];

		if (ev->watch && ev->watch->seen)
			ev->watch->seen[ev->rules[i]] |= WATCH_TRUE;
		if (r->effect == DECISION_DENY)
			ev->deny = r;
		else if (r->effect == DECISION_ASK && !ev->ask)
			ev->ask = r;
		else if (r->effect == DECISION_PERMIT && !ev->permit)
			ev->permit = r;
	}
}

/* The strongest hit, copied: the set may be gone before the answer is. */
static void decide(const struct evaluation *ev, struct arena *a, struct policy_result *out)
{
	const struct rule *r = ev->deny ? ev->deny : ev->ask ? ev->ask : ev->permit;
	struct policy_result made = *out;

	if (!r) {
		refuse(out, STR(REASON_NO_RULE), STR("no rule permits this"));
		return;
	}
	made.decision = r->effect;
	made.rule = arena_dup(a, r->full);
	made.reason = arena_dup(a, r->reason);
	made.message = r->message.n ? arena_dup(a, r->message) : r->message;
	made.obligations = r->obligations.n ? arena_dup(a, r->obligations) : r->obligations;
	made.approvers = r->approvers.n ? arena_dup(a, r->approvers) : r->approvers;
	if (!made.rule.p || !made.reason.p || made.message.n != r->message.n ||
	    made.obligations.n != r->obligations.n || made.approvers.n != r->approvers.n) {
		/* a permit without its obligations is not the permit that was meant */
		refuse(out, STR(REASON_POLICY_ERROR), STR("the policies failed on this request"));
		out->error = STR("no memory for the result");
		return;
	}
	*out = made;
}

/* The tool that is asked for. A bare name gets the server that the caller or the route stands for
 * (design 12, AuthZEN to q); q.resource stays as it was sent. */
static const struct entry *find_tool(const struct set *s, const struct facts *f, struct arena *a)
{
	struct str id = f->id->s;

	if (f->q->server.n && id.n && !memchr(id.p, '/', id.n))
		id = arena_printf(a, "%.*s/%.*s", STR_FMT(f->q->server), STR_FMT(id));
	return id.p ? catalogue_find(&s->tools, id) : NULL;
}

void policy_evaluate(struct policy_state *st, const struct policy_request *q, struct arena *a,
		     struct policy_result *out)
{
	const struct set *s = st->set;
	struct facts f = { .q = q,
			   .action = json_get_type(q->action, STR("name"), JSON_STRING),
			   .type = json_get_type(q->resource, STR("type"), JSON_STRING),
			   .id = json_get_type(q->resource, STR("id"), JSON_STRING) };
	struct evaluation ev = { .facts = &f, .set = s, .rules = st->found, .watch = st->watch };
	bool lua = false;

	*out = (struct policy_result){ .decision = DECISION_DENY, .reason = STR(REASON_NO_RULE) };
	if (f.id && text_is(f.type, STR("tool")))
		f.tool = find_tool(s, &f, a);
	if (f.id && text_is(f.type, STR("model")))
		f.model = catalogue_find(&s->models, f.id->s);
	if (f.tool)
		out->tool = arena_dup(a, f.tool->id);
	if (f.model)
		out->model = arena_dup(a, f.model->id);
	if (!known(&f, a, out))
		return;
	ev.n = index_find(s->index, &f, st->found);
	if (st->watch)
		st->watch->ran = true;
	for (uint32_t i = 0; i < ev.n; i++) {
		const struct rule *r = &s->rules[st->found[i]];

		if (r->effect == DECISION_DENY && !r->has_when)
			ev.n = i + 1; /* what follows cannot change the outcome */
		lua = lua || r->has_when;
	}
	if (!lua)
		run_plain(&ev);
	else if (!run(st, &ev, a, out))
		return;
	decide(&ev, a, out);
}
