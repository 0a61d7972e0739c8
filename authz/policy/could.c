#include "authz/policy/could.h"

#include "authz/policy/index.h"

const char *const could_names[] = {
	[COULD_NOT] = "no",
	[COULD_DEPENDS] = "depends",
	[COULD_ASK] = "ask",
	[COULD_PERMIT] = "permit",
};

static const char *const effect_names[] = {
	[DECISION_DENY] = "deny", [DECISION_ASK] = "ask", [DECISION_PERMIT] = "permit"
};

uint32_t *could_room(const struct policy_set *set, struct arena *a)
{
	return arena_alloc(a, (2 * (size_t)set_of(set)->nrules + 1) * sizeof(uint32_t));
}

/* How often rules of each effect apply, and how often they hit for certain. */
struct tally {
	bool may[3], must[3]; /* by enum decision */
};

static enum could weigh(const struct tally *t)
{
	bool may_deny = t->may[DECISION_DENY], may_ask = t->may[DECISION_ASK];

	if (t->must[DECISION_DENY] || (!may_ask && !t->may[DECISION_PERMIT]))
		return COULD_NOT;
	if (may_deny)
		return COULD_DEPENDS;
	if (t->must[DECISION_ASK])
		return COULD_ASK;
	return t->must[DECISION_PERMIT] && !may_ask ? COULD_PERMIT : COULD_DEPENDS;
}

void policy_could(const struct policy_set *set, const struct could_question *q, uint32_t *room,
		  struct could_answer *out)
{
	const struct set *s = set_of(set);
	const struct json action = { .type = JSON_STRING, .s = q->action },
			  type = { .type = JSON_STRING, .s = q->type },
			  id = { .type = JSON_STRING, .s = q->id };
	const struct policy_request who = { .agent_id = q->agent_id,
					    .agent_owner = q->agent_owner,
					    .agent_state = STR("active"),
					    .attributes = q->attributes,
					    .nattributes = q->nattributes };
	struct facts f = { .q = &who, .action = &action, .type = &type, .id = &id };
	struct tally t = { 0 };

	if (str_eq(q->type, STR("tool")))
		f.tool = catalogue_find(&s->tools, q->id);
	if (str_eq(q->type, STR("model")))
		f.model = catalogue_find(&s->models, q->id);
	out->n = index_find(s->index, &f, room);
	for (size_t i = 0; i < out->n; i++) {
		const struct rule *r = &s->rules[room[i]];

		t.may[r->effect] = true;
		t.must[r->effect] = t.must[r->effect] || !r->has_when;
	}
	out->could = weigh(&t);
}

struct could_rule could_rule_at(const struct policy_set *set, const uint32_t *room, size_t i)
{
	const struct set *s = set_of(set);
	const struct rule *r = &s->rules[room[i]];

	return (struct could_rule){ .rule = r->full,
				    .file = s->files[r->file].path,
				    .effect = effect_names[r->effect],
				    .line = r->line,
				    .when_line = r->when_line };
}
