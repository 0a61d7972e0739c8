/*
 * worker - what one thread needs to decide: its Lua state, its view of the world, its records.
 *
 * Purpose    Everything mutable on the path of a decision belongs to one thread. Shared things
 *            (policy set, trust bundle, registry, caller rules) are snapshots that are brought up
 *            to date at the start of a loop turn. Records staged during a turn are handed to the
 *            committer at its end: one lock per turn.
 * Ownership  A worker owns its states and its pending records; the core outlives all workers.
 * Threads    One thread each. The core's members are shared and say how.
 */
#ifndef WRIT_DECIDE_WORKER_H
#define WRIT_DECIDE_WORKER_H

#include "authz/audit/audit.h"
#include "authz/base/snapshot.h"
#include "authz/decide/caller.h"
#include "authz/decide/limit.h"
#include "authz/decide/refusals.h"
#include "authz/decide/rollout_run.h"
#include "authz/policy/policy.h"
#include "spiffe/bundle.h"
#include "spiffe/jwt_svid.h"
#include "spiffe/registry.h"
#include "spiffe/signer.h"

struct control;
struct definition_view;
struct mask;
struct revocations;

/* Where in Envoy's dynamic metadata a filter keeps what a model call used: a namespace, and the
 * names of numbers in it. Empty: nothing is looked for. */
struct usage_keys {
	struct str space, input, output, cost;
};

/* What all workers share. */
struct core {
	const struct clock *clock;
	struct str trust_domain;
	struct str server_id;	 /* "spiffe://<td>/writ/server": writ's own ID and JWT audience */
	struct str issuer;	 /* of JWT-SVIDs for OpenID relying parties; empty: none */
	struct str token_issuer; /* of delegated tokens */
	struct slot policies;	 /* struct policy_set; empty: no_policy */
	struct slot bundles;	 /* struct bundle_set */
	struct slot callers;	 /* struct caller_rules */
	struct slot agents;	 /* struct registry_view */
	struct slot rollouts;	 /* struct rollout; empty: none runs */
	struct slot definitions; /* struct definition_view */
	struct slot revocations; /* struct revocations */
	struct audit *audit;
	char log_key_id[9];
	struct limit *agent_limit, *attest_limit;
	struct refusals refusals;
	const struct mask *mask; /* what records leave out (audit/mask.h); NULL: nothing */
	uint8_t search_key[32];	 /* of page tokens, made at the start */
	struct control *control;
	struct json_limits json;	   /* of request bodies */
	int64_t decision_ns;		   /* deadline of a record */
	int64_t x509_ttl, jwt_ttl;	   /* seconds, where the registration says nothing */
	int64_t x509_ttl_max, jwt_ttl_max; /* whatever it says; the signer's own bound */
	int64_t delegated_ttl;		   /* seconds, at most, of a delegated token */
	uint32_t delegation_depth;	   /* agents in one chain, at most */
	int64_t join_token_ttl, leeway_s;
	int64_t orphan_ms; /* an agent not seen for so long is listed as an orphan */
	size_t token_max;  /* bytes of a bearer token */
	struct usage_keys usage_keys;
	size_t reports_max; /* of access logs, that one worker has under way: decisions come first
			     */
};

/* Counters of one worker; read by /metrics while the worker adds. */
struct worker_counters {
	atomic_uint_fast64_t decisions[3]; /* by enum decision */
	atomic_uint_fast64_t unrecorded, refused, issued_x509, issued_jwt, issued_wit;
	/* Entries of access logs: that closed a decision (also again), that name none of ours or
	 * are not the last of their request, and reports that were refused. */
	atomic_uint_fast64_t log_closed, log_passed, log_refused;
	atomic_uint_fast64_t evaluate_ns; /* sum */
};

/* One more. Only the worker's own thread adds, so this takes no locked instruction. */
static inline void worker_count(atomic_uint_fast64_t *counter)
{
	uint_fast64_t n = atomic_load_explicit(counter, memory_order_relaxed);

	atomic_store_explicit(counter, n + 1, memory_order_relaxed);
}

struct pending;
struct closings;
struct peer_cache;

struct worker {
	struct core *core;
	struct home *home;
	struct held policy, bundle, rules, registry, rollout, definitions, revocations;
	struct policy_state *state; /* of the held policy set; NULL: no_policy or not buildable */
	struct err no_state;	    /* why there is none */
	struct policy_state *candidate; /* of the held roll-out's set; NULL: as above */
	struct err no_candidate;
	struct rollout_tally *tally; /* of the held roll-out; NULL: none, or no memory */
	struct sha256 *sha;
	struct jwt_verifier *jwt;
	struct signer_client *signer; /* NULL on threads that do not issue */
	int64_t turn_ns;	      /* when this turn began, monotonic */
	struct chain staged;	      /* of pending->job.task.link */
	struct chain patient;	      /* the same, of those that nobody waits for */
	int64_t patient_ns,
		hurry_ns; /* since when they wait; the last turn with one that does not */
	struct pending *oldest, *newest, *spare;
	size_t spares;
	bool taking;		   /* the inbox is being emptied before records are given up */
	struct closings *closings; /* outcome.h: opened when first needed, or NULL */
	struct peer_cache *peers;  /* made when first needed, or NULL: see worker_peers */
	size_t logs, reports;	   /* access logs open here, and their reports under way */
	struct worker_counters counters;
};

MUST_USE bool worker_init(struct worker *w, struct core *core, struct home *home,
			  struct signer_client *signer, struct err *e);
void worker_clear(struct worker *w);

/* Bring the snapshots up to date; give up on records past their deadline, after a look whether they
 * are in the inbox: then its tasks run here and now. */
void worker_turn_begin(struct worker *w);
/* Hand what was staged to the committer; of what is patient, as much as goes along. */
void worker_turn_end(struct worker *w);
/* When the next turn must begin at the latest, by the monotonic clock: somebody waits for a record
 * until then. 0: nobody does. */
int64_t worker_deadline(const struct worker *w);

/* Snapshots of this turn; NULL if there is none. */
struct policy_set *worker_policy(const struct worker *w);
struct rollout *worker_rollout(const struct worker *w);
struct bundle_set *worker_bundle(const struct worker *w);
const struct caller_rules *worker_rules(const struct worker *w);
const struct registry_view *worker_registry(const struct worker *w);
const struct definition_view *worker_definitions(const struct worker *w);
const struct revocations *worker_revocations(const struct worker *w);

/* What the certificates of clients behind proxies say (spiffe/peer_cache.h). NULL: no memory, so
 * they are to be read. */
struct peer_cache *worker_peers(struct worker *w);

/* ---- records in the making ---- */

/* What became of a record. */
struct recorded {
	bool ok;
	uint64_t seq;
	uint8_t leaf[32];
	int64_t time_ms;
	struct err err; /* if not ok: why, for people; else unset */
};

/* A record that outlives the request it belongs to: it is committed even if the client has gone,
 * and it may come back after the request was answered by its deadline. */
struct pending {
	struct audit_job job;
	struct arena arena; /* holds the record's bytes and openings */
	struct buf text;
	struct worker *worker;
	struct pending *before, *after; /* in order of deadline */
	int64_t deadline_ns;
	void (*done)(void *owner, const struct recorded *r);
	void *owner; /* NULL: answered already */
};

/* A fresh one with record_begin done, or NULL: out of memory. */
struct pending *pending_new(struct worker *w, struct err *e);

/* Stage it. @done runs exactly once on this thread: when the record is on disk, has failed, or at
 * the deadline. */
void pending_stage(struct pending *p, void (*done)(void *owner, const struct recorded *r),
		   void *owner);
/* The same for a record that nobody waits for: while decisions come it waits for the next of them,
 * some milliseconds at most, and for no flush of its own. */
void pending_stage_patient(struct pending *p, void (*done)(void *owner, const struct recorded *r),
			   void *owner);

/* Give it back unused. */
void pending_drop(struct pending *p);

/* Record that an authenticated caller was refused (403, 429, a malformed request): kind
 * "request.refused". @done runs as with pending_stage, at once if no record can be made. */
void worker_refuse(struct worker *w, const struct caller *c, const struct err *why,
		   void (*done)(void *owner, const struct recorded *r), void *owner);

#endif
