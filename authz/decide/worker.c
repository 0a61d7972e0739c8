#include "authz/decide/worker.h"

#include <stdlib.h>

#include "authz/audit/outcome.h"
#include "authz/decide/pending.h"
#include "spiffe/peer_cache.h"

bool worker_init(struct worker *w, struct core *core, struct home *home,
		 struct signer_client *signer, struct err *e)
{
	*w = (struct worker){ .core = core, .home = home, .signer = signer };
	chain_init(&w->staged);
	chain_init(&w->patient);
	w->sha = sha256_new(e);
	w->jwt = w->sha ? jwt_verifier_new(&mem_system, JWT_CACHE_DEFAULT, e) : NULL;
	if (!w->jwt) {
		worker_clear(w);
		return false;
	}
	jwt_verifier_leeway(w->jwt, core->leeway_s);
	home->worker = w;
	worker_turn_begin(w);
	return true;
}

void worker_clear(struct worker *w)
{
	while (w->spare) {
		struct pending *p = w->spare;

		w->spare = p->after;
		arena_clear(&p->arena);
		free(p);
	}
	closings_close(w->closings);
	peer_cache_free(w->peers);
	policy_state_free(w->state);
	policy_state_free(w->candidate);
	held_clear(&w->policy);
	held_clear(&w->rollout);
	held_clear(&w->bundle);
	held_clear(&w->rules);
	held_clear(&w->registry);
	held_clear(&w->definitions);
	held_clear(&w->revocations);
	jwt_verifier_free(w->jwt);
	sha256_free(w->sha);
	*w = (struct worker){ 0 };
}

/* A new set gets a new state. If that cannot be built, every answer is deny until it can. */
static void refresh_policy(struct worker *w)
{
	bool changed;
	struct policy_set *set = (struct policy_set *)slot_refresh(&w->core->policies, &w->policy,
								   &changed);

	if (!changed && (w->state || !set))
		return;
	policy_state_free(w->state);
	w->state = set ? policy_state_new(set, &mem_system, w->core->clock, &w->no_state) : NULL;
}

static void refresh_rollout(struct worker *w)
{
	bool changed;
	struct rollout *r = (struct rollout *)slot_refresh(&w->core->rollouts, &w->rollout,
							   &changed);

	if (changed) /* the tally went with its roll-out */
		w->tally = NULL;
	if (r && !w->tally)
		w->tally = rollout_join(r);
	if (!changed && (w->candidate || !r))
		return;
	policy_state_free(w->candidate);
	w->candidate = r ? policy_state_new(r->candidate, &mem_system, w->core->clock,
					    &w->no_candidate)
			 : NULL;
}

void worker_turn_begin(struct worker *w)
{
	w->turn_ns = clock_mono_ns(w->core->clock);
	/* In this order: a promotion publishes the policies first and ends the roll-out then, so
	 * whoever sees no roll-out sees the promoted set, and no agent goes back and forth. */
	refresh_rollout(w);
	refresh_policy(w);
	slot_refresh(&w->core->bundles, &w->bundle, NULL);
	slot_refresh(&w->core->callers, &w->rules, NULL);
	slot_refresh(&w->core->agents, &w->registry, NULL);
	slot_refresh(&w->core->definitions, &w->definitions, NULL);
	slot_refresh(&w->core->revocations, &w->revocations, NULL);
	pending_expire(w);
}

struct policy_set *worker_policy(const struct worker *w)
{
	return (struct policy_set *)w->policy.obj;
}

struct rollout *worker_rollout(const struct worker *w)
{
	return (struct rollout *)w->rollout.obj;
}

struct bundle_set *worker_bundle(const struct worker *w)
{
	return (struct bundle_set *)w->bundle.obj;
}

const struct caller_rules *worker_rules(const struct worker *w)
{
	return (const struct caller_rules *)w->rules.obj;
}

const struct registry_view *worker_registry(const struct worker *w)
{
	return (const struct registry_view *)w->registry.obj;
}

const struct definition_view *worker_definitions(const struct worker *w)
{
	return (const struct definition_view *)w->definitions.obj;
}

const struct revocations *worker_revocations(const struct worker *w)
{
	return (const struct revocations *)w->revocations.obj;
}

struct peer_cache *worker_peers(struct worker *w)
{
	if (!w->peers)
		w->peers = peer_cache_new(&mem_system, PEER_CACHE_DEFAULT);
	return w->peers;
}
