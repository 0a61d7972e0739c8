#include "authz/decide/reach.h"

#define CHUNK 64 /* candidates fetched at a time */

/* A page in the making. */
struct walk {
	struct worker *w;
	struct reach *r;
	const struct policy_set *set;
	uint32_t *room;
	int64_t ends_ns;
	struct could_question q;
};

static bool short_of_memory(struct err *e)
{
	return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
}

static bool begin(struct walk *k, struct worker *w, struct reach *r, struct err *e)
{
	*k = (struct walk){ .w = w, .r = r, .set = worker_policy(w) };
	k->ends_ns = clock_mono_ns(w->core->clock) + REACH_NS;
	if (!k->set)
		return err_code(e, ERR_NOT_FOUND, REASON_NO_POLICY,
				"no policies are in force, so nobody is allowed anything");
	k->room = could_room(k->set, r->arena);
	r->results = arena_alloc(r->arena, (r->limit + 1) * sizeof(*r->results));
	return (k->room && r->results) || short_of_memory(e);
}

static void set_agent(struct could_question *q, const struct registry_entry *agent)
{
	_Static_assert(sizeof(struct policy_attribute) == sizeof(struct registry_attribute) &&
			       offsetof(struct policy_attribute, value) ==
				       offsetof(struct registry_attribute, value),
		       "one layout");
	q->agent_id = agent->id;
	q->agent_owner = agent->owner;
	q->attributes = (const struct policy_attribute *)(const void *)agent->attributes;
	q->nattributes = agent->nattributes;
}

/* Put the question that stands in @k; keep the answer unless it is no. */
static bool look(struct walk *k, struct str name, const char *kind, struct err *e)
{
	struct reach_result *to = &k->r->results[k->r->n];
	struct could_answer a;
	struct could_rule *rules;

	policy_could(k->set, &k->q, k->room, &a);
	k->r->looked++;
	if (a.could == COULD_NOT)
		return true;
	*to = (struct reach_result){ .name = name, .kind = kind, .could = a.could, .all = a.n };
	to->n = a.n < REACH_RULES ? a.n : REACH_RULES;
	rules = arena_alloc(k->r->arena, (to->n + 1) * sizeof(*rules));
	if (!rules)
		return short_of_memory(e);
	for (size_t i = 0; i < to->n; i++)
		rules[i] = could_rule_at(k->set, k->room, i);
	to->rules = rules;
	k->r->n++;
	return true;
}

/* Is the page full? Then it goes on behind @last. */
static bool full(struct walk *k, struct str last)
{
	struct reach *r = k->r;

	if (r->n < r->limit && r->looked < REACH_LOOKED &&
	    (r->looked % CHUNK || !r->looked || clock_mono_ns(k->w->core->clock) < k->ends_ns))
		return false;
	r->more = true;
	r->last = last;
	return true;
}

bool reach_who(struct worker *w, struct reach *r, struct str action, struct str type, struct str id,
	       struct err *e)
{
	const struct registry_view *agents = worker_registry(w);
	const struct registry_entry *found[CHUNK];
	int64_t now = clock_wall_ms(w->core->clock);
	bool tool = str_eq(type, STR("tool"));
	struct str last = r->after;
	struct walk k;
	size_t n;

	if (!begin(&k, w, r, e))
		return false;
	if (!policy_set_knows(k.set, tool ? POLICY_TOOLS : POLICY_MODELS, id))
		return err_code(
			e, ERR_NOT_FOUND, tool ? REASON_UNKNOWN_TOOL : REASON_UNKNOWN_MODEL,
			"%s \"%.*s\" is not in the catalogue, so every call of it is denied",
			tool ? "tool" : "model", STR_FMT(str_first(id, 200)));
	k.q.action = action;
	k.q.type = type;
	k.q.id = id;
	do {
		n = agents ? registry_scan(agents, last, now, found, CHUNK) : 0;
		for (size_t i = 0; i < n; i++) {
			if (full(&k, last))
				return true;
			set_agent(&k.q, found[i]);
			last = found[i]->id;
			if (!look(&k, last, "agent", e))
				return false;
		}
	} while (n == CHUNK);
	return true;
}

/* One kind of entry, behind the name @after. False: an error, or the page is full (r->more). */
static bool entries(struct walk *k, enum policy_names which, struct str after, struct err *e)
{
	const char *kind = which == POLICY_TOOLS ? "tool" : "model";
	struct str names[CHUNK], last = after;
	size_t n;

	k->q.type = str_c(kind);
	k->q.action = which == POLICY_TOOLS ? STR("tools/call") : STR("models/invoke");
	do {
		n = policy_set_names(k->set, which, last, names, CHUNK);
		for (size_t i = 0; i < n; i++) {
			if (full(k, last)) {
				k->r->last = arena_printf(k->r->arena, "%s:%.*s", kind,
							  STR_FMT(last));
				return k->r->last.p ? false : short_of_memory(e);
			}
			k->q.id = last = names[i];
			if (!look(k, last, kind, e))
				return false;
		}
	} while (n == CHUNK);
	return true;
}

bool reach_what(struct worker *w, struct reach *r, const struct registry_entry *agent,
		struct err *e)
{
	struct str models = { "", 0 }, tools = r->after;
	bool past_tools = str_starts(r->after, STR("model:"));
	struct walk k;

	if (!begin(&k, w, r, e))
		return false;
	if (registry_state(agent, clock_wall_ms(w->core->clock)) != ENTRY_ACTIVE)
		return true;
	set_agent(&k.q, agent);
	if (past_tools)
		models = str_from(r->after, 6);
	else if (str_starts(r->after, STR("tool:")))
		tools = str_from(r->after, 5);
	else if (r->after.n)
		return err_code(e, ERR_INVALID, "invalid_request",
				"after must be what `next` of the page before said");
	if (!past_tools && !entries(&k, POLICY_TOOLS, tools, e))
		return e->class == ERR_NONE;
	return entries(&k, POLICY_MODELS, models, e) || e->class == ERR_NONE;
}

bool reach_begin(struct reach_one *r, struct worker *w, struct str agent, struct arena *a,
		 struct err *e)
{
	const struct registry_view *agents = worker_registry(w);
	const struct registry_entry *entry = agents ? registry_find(agents, agent) : NULL;

	*r = (struct reach_one){ .set = worker_policy(w) };
	if (!entry || registry_state(entry, clock_wall_ms(w->core->clock)) != ENTRY_ACTIVE)
		return err_code(e, ERR_FORBIDDEN, "unknown_agent",
				"\"%.*s\" is no registered and active agent",
				STR_FMT(str_first(agent, 200)));
	if (!r->set)
		return err_code(e, ERR_FORBIDDEN, REASON_NO_POLICY,
				"no policies are in force, so nobody is allowed anything");
	r->room = could_room(r->set, a);
	set_agent(&r->q, entry);
	return r->room || short_of_memory(e);
}

bool reach_id(struct reach_one *r, struct str action, struct str type, struct str id)
{
	struct could_answer a;

	r->q.action = action;
	r->q.type = type;
	r->q.id = id;
	policy_could(r->set, &r->q, r->room, &a);
	return a.could != COULD_NOT;
}

bool reach_tool(struct reach_one *r, struct str id)
{
	return policy_set_knows(r->set, POLICY_TOOLS, id) &&
	       reach_id(r, STR("tools/call"), STR("tool"), id);
}
