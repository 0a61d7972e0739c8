#include "authz/decide/rollout_beside.h"

struct beside *beside_begin(struct worker *w, struct str agent, bool in_force, struct arena *a)
{
	const struct policy_set *set = worker_policy(w);
	struct rollout *r = worker_rollout(w);
	struct beside *b;
	bool canary;

	/* In the middle of a promotion the candidate is in force already. */
	if (!r || (set && set->generation == r->candidate->generation))
		return NULL;
	canary = !in_force && rollout_picks(r, agent, w->sha);
	if (r->kind == ROLLOUT_CANARY && !canary)
		return NULL;
	b = arena_zero(a, sizeof(*b));
	if (!b)
		return NULL; /* then there is no memory for the record either: denied */
	b->rollout = r;
	b->id = r->id;
	b->tally = w->tally;
	b->canary = canary;
	return b;
}

void beside_compare(struct beside *b, const struct policy_result *counts)
{
	b->differs = rollout_differs(counts, &b->result);
	if (b->differs)
		shared_acquire(&b->rollout->shared);
}

void beside_record(const struct beside *b, struct record *r)
{
	if (!b)
		return;
	record_str(r, STR("shadow_decision"), decision_names[b->result.decision]);
	record_int(r, STR("shadow_generation"), (int64_t)b->generation);
	record_str(r, STR("shadow_reason"), b->result.reason);
	record_str(r, STR("shadow_rule"), b->result.rule);
}

void beside_end(struct beside *b, const struct policy_result *counts, bool recorded, uint64_t seq)
{
	if (!b || !b->differs)
		return;
	if (recorded && b->tally)
		rollout_changed(b->tally, b->canary ? &b->result : counts,
				b->canary ? counts : &b->result, seq);
	shared_release(&b->rollout->shared);
}
