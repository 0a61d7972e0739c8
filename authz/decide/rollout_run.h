/*
 * rollout_run - a candidate beside the set in force, as the fronts see it.
 *
 * Purpose    While a roll-out runs, each of its requests is decided by both sets: of a shadow every
 *            request, and the set in force is what counts; of a canary those of the agents that
 *            its salted hash picks, and the candidate is what counts. What the other set says goes
 *            into the record and into the tally, and has no further effect.
 * Ownership  A roll-out is a shared object; it owns its tallies and a reference to the candidate.
 * Threads    Everything but the tallies is constant. A tally is written by the one thread that
 *            joined, without a locked instruction, and read by any.
 */
#ifndef WRIT_DECIDE_ROLLOUT_RUN_H
#define WRIT_DECIDE_ROLLOUT_RUN_H

#include "authz/base/digest.h"
#include "authz/decide/rollout_report.h"
#include "authz/policy/policy.h"

#define ROLLOUT_SALT 16

enum rollout_kind { ROLLOUT_SHADOW, ROLLOUT_CANARY };
extern const char *const rollout_kind_names[]; /* "shadow", "canary" */
extern const struct str decision_names[];      /* by enum decision: "deny", "ask", "permit" */

struct rollout_tally;

struct rollout {
	struct shared shared;
	uint64_t id;
	enum rollout_kind kind;
	uint64_t base;		      /* generation in force */
	struct policy_set *candidate; /* a reference */
	unsigned percent;	      /* of a canary: of the agents */
	uint8_t salt[ROLLOUT_SALT];
	struct rollout_gates gates;
	int64_t started_ms;
	struct rollout_report *carried; /* of runs of the process before; owned */
	_Atomic(struct rollout_tally *) tallies;
};

/* Takes over @candidate's reference and @carried (malloc'ed; NULL: nothing), also on failure (NULL:
 * no memory). The caller fills the rest before it publishes. */
struct rollout *rollout_new(struct policy_set *candidate, struct rollout_report *carried);

/* Does the canary decide for this agent? Whole agents, for as long as the roll-out lives. */
bool rollout_picks(const struct rollout *r, struct str agent, struct sha256 *sha);

/* A tally for the calling thread; NULL: no memory, and what it sees is not counted. */
struct rollout_tally *rollout_join(struct rollout *r);

/* One evaluation of @side, which took @ns. */
void rollout_count(struct rollout_tally *t, enum rollout_side side, const struct policy_result *p,
		   int64_t ns);

/* Would an agent notice: decision, reason, rule or obligations? */
bool rollout_differs(const struct policy_result *a, const struct policy_result *b);
/* A decision that is on record as @seq came out otherwise. */
void rollout_changed(struct rollout_tally *t, const struct policy_result *was,
		     const struct policy_result *is, uint64_t seq);

/* All of it: what was carried over and what every thread has added. */
void rollout_total(const struct rollout *r, struct rollout_report *out);
void rollout_total_counts(const struct rollout *r, struct rollout_counts *out);
uint64_t rollout_total_changed(const struct rollout *r);

#endif
