#include "authz/policy/explain.h"

#include "authz/policy/state.h"

const char *const trace_when_names[] = {
	[TRACE_NOT_ASKED] = "not asked", [TRACE_NONE] = "none",	  [TRACE_TRUE] = "true",
	[TRACE_FALSE] = "false",	 [TRACE_ERROR] = "error",
};

static const char *const effect_names[] = {
	[DECISION_DENY] = "deny", [DECISION_ASK] = "ask", [DECISION_PERMIT] = "permit"
};

static struct str condition_text(const struct condition *c, struct arena *a)
{
	static const char *const dims[] = {
		[DIM_ACTION] = "action",   [DIM_RESOURCE] = "resource", [DIM_ID] = "id",
		[DIM_SUBJECT] = "subject", [DIM_AGENT] = "agent",	[DIM_TOOL] = "tool",
		[DIM_MODEL] = "model",
	};
	struct buf b;

	buf_in_arena(&b, a, 65536);
	buf_add(&b, str_c(dims[c->dim]));
	if (c->name.n) {
		buf_char(&b, '.');
		buf_add(&b, c->name);
	}
	buf_lit(&b, " = ");
	for (uint32_t i = 0; i < c->n; i++) {
		if (i)
			buf_lit(&b, " or ");
		if (c->values[i].type == JSON_STRING)
			buf_add(&b, c->values[i].s);
		else
			json_canonical(&b, &c->values[i]);
	}
	return buf_ok(&b) ? buf_str(&b) : STR("...");
}

/* The body that the memory of an evaluation is measured by. */
static size_t body_of(const struct policy_request *q)
{
	const struct json *parts[] = { q->subject, q->action, q->resource, q->context };
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		n += parts[i] ? parts[i]->raw.n : 0;
	return n;
}

/* One `when` by itself, within the budget of a whole evaluation. */
static void ask_when(struct policy_state *st, const struct facts *f, uint32_t number,
		     struct arena *a, struct trace_rule *out)
{
	const struct rule *r = &st->set->rules[number];
	struct evaluation ev = { .facts = f, .set = st->set, .rules = &number, .n = 1 };
	char why[WHY_MAX];
	struct str path;
	const char *text;
	int line;

	st->sb.trip = TRIP_NONE;
	if (state_open(st, why) && state_bind(st, r->file, why) &&
	    state_run(st, &ev, body_of(f->q), why)) {
		out->when = ev.deny || ev.ask || ev.permit ? TRACE_TRUE : TRACE_FALSE;
		return;
	}
	out->when = TRACE_ERROR;
	if (state_where(st->set, why, &path, &line, &text))
		out->error = arena_printf(a, "%.*s:%d: %s", STR_FMT(path), line, text);
	else
		out->error = arena_printf(a, "%s", why);
	if (st->sb.trip != TRIP_NONE) /* poisoned: unwound at no particular place */
		state_close(st);
}

static bool look_at(struct policy_state *st, const struct facts *f, uint32_t number,
		    struct arena *a, struct trace_rule *out)
{
	const struct rule *r = &st->set->rules[number];
	struct trace_condition *list = arena_zero(a, (r->non + 1) * sizeof(*list));

	if (!list)
		return false;
	*out = (struct trace_rule){ .rule = r->full,
				    .file = st->set->files[r->file].path,
				    .on = r->on_text,
				    .effect = effect_names[r->effect],
				    .line = r->line,
				    .applies = true,
				    .conditions = list,
				    .nconditions = r->non };
	for (uint32_t i = 0; i < r->non; i++) {
		list[i] = (struct trace_condition){ condition_text(&r->on[i], a),
						    index_meets(&r->on[i], f) };
		out->applies = out->applies && list[i].met;
	}
	return true;
}

/* Refused before the rules: no rule decided, and it is not that none did. */
static bool reached_rules(const struct policy_result *r)
{
	static const char *const before[] = { REASON_UNKNOWN_TOOL, REASON_UNKNOWN_MODEL,
					      REASON_TOOL_DEFINITION_CHANGED,
					      REASON_INVALID_ARGUMENTS };

	for (size_t i = 0; !r->rule.n && i < ARRAY_LEN(before); i++)
		if (str_eq(r->reason, str_c(before[i])))
			return false;
	return true;
}

bool policy_explain(struct policy_state *st, const struct policy_request *q, struct arena *a,
		    struct policy_trace *out, struct err *e)
{
	const struct set *s = st->set;
	struct trace_rule *rules = arena_zero(a, ((size_t)s->nrules + 1) * sizeof(*rules));
	struct facts f = { .q = q,
			   .action = json_get_type(q->action, STR("name"), JSON_STRING),
			   .type = json_get_type(q->resource, STR("type"), JSON_STRING),
			   .id = json_get_type(q->resource, STR("id"), JSON_STRING) };
	struct trace_rule one;
	size_t last = s->nrules;

	if (!rules)
		return err_set(e, ERR_NOMEM, "no memory to explain a decision");
	*out = (struct policy_trace){ .rules = rules, .n = s->nrules };
	policy_evaluate(st, q, a, &out->result);
	/* Which tool is meant is found out in one place. */
	if (out->result.tool.n)
		f.tool = catalogue_find(&s->tools, out->result.tool);
	if (out->result.model.n)
		f.model = catalogue_find(&s->models, out->result.model);
	out->reached = reached_rules(&out->result);
	for (uint32_t i = 0; i < s->nrules; i++) {
		if (!look_at(st, &f, i, a, &one))
			return err_set(e, ERR_NOMEM, "no memory to explain a decision");
		if (!one.applies || !out->reached) {
			rules[--last] = one;
			continue;
		}
		one.when = TRACE_NONE;
		if (s->rules[i].has_when)
			ask_when(st, &f, i, a, &one);
		one.decides = str_eq(one.rule, out->result.rule);
		rules[out->napply++] = one;
	}
	/* Those that do not apply were put in from the end. */
	for (size_t i = out->napply, k = s->nrules; i + 1 < k; i++) {
		one = rules[i];
		rules[i] = rules[--k];
		rules[k] = one;
	}
	return true;
}
